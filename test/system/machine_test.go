package system_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/ggfleet/ggfleet/test/system"
)

func TestAMachineKeepsItsFilesOverARebootAndAPowerCut(t *testing.T) {
	t.Parallel()
	m := system.Boot(t)
	boot := m.Sh(t, "cat /proc/1/comm; echo kept > /var/lib/kept; sync; stat -c %Y /run/systemd/system")
	assert.Contains(t, boot, "systemd\n")
	m.Reboot(t)
	assert.Equal(t, "kept\n", m.Sh(t, "cat /var/lib/kept"))
	m.PowerCut(t)
	assert.Equal(t, "kept\n", m.Sh(t, "cat /var/lib/kept"))
	m.Refuses(t, "test -e /var/lib/nothing")
}
