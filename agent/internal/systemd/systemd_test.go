package systemd_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/ggfleet/ggfleet/agent/internal/systemd"
)

func TestWhatSystemctlShows(t *testing.T) {
	for name, tc := range map[string]struct {
		out  string
		want []systemd.Unit
	}{
		"two units":                {"Id=a.service\nMainPID=7\n\nId=b.service\nMainPID=0\n", []systemd.Unit{{"Id": "a.service", "MainPID": "7"}, {"Id": "b.service", "MainPID": "0"}}},
		"a value with an =":        {"ExecStart={ path=/bin/x ; argv[]=/bin/x -v 1 }\n", []systemd.Unit{{"ExecStart": "{ path=/bin/x ; argv[]=/bin/x -v 1 }"}}},
		"a property without value": {"Result=\n", []systemd.Unit{{"Result": ""}}},
		"empty lines at its ends":  {"\n\nId=a.service\n\n\n\n", []systemd.Unit{{"Id": "a.service"}}},
		"no answer":                {"", nil},
		"something else":           {"systemctl: what?\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, tc.want, systemd.ParseShow(tc.out))
		})
	}
}

func TestANumberThatIsNone(t *testing.T) {
	u := systemd.Unit{"NRestarts": "3", "MainPID": "[not set]", "Tasks": "99999999999999999999"}
	assert.Equal(t, 3, u.Int("NRestarts"))
	for _, none := range []string{"MainPID", "Tasks", "ExecMainPID"} {
		assert.Zero(t, u.Int(none), none)
	}
}
