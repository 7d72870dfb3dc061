package enroll_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/agent/internal/agenttest"
	"github.com/ggfleet/ggfleet/agent/internal/enroll"
	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

func folder(t *testing.T) *localstate.Dir {
	t.Helper()
	d, err := localstate.Open(t.TempDir(), nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func TestEnrolTwiceIsTheSameAgent(t *testing.T) {
	c := agenttest.New(t, "gw-0001")
	cfg := enroll.Config{Dir: folder(t)}
	first, fresh, err := enroll.Run(t.Context(), cfg, enroll.Intent{String: c.Enrollment.String()})
	require.NoError(t, err)
	assert.True(t, fresh)
	assert.Equal(t, "gw-0001", first.Core)
	assert.Equal(t, "gw-0001:agent", first.AgentThing)
	info, err := os.Stat(cfg.Dir.Path("key.pem"))
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	again, fresh, err := enroll.Run(t.Context(), cfg, enroll.Intent{String: c.Enrollment.String()})
	require.NoError(t, err)
	assert.False(t, fresh)
	assert.Equal(t, first, again)
	c.Change(func(s *agenttest.State) { assert.Equal(t, 1, s.Calls[protocol.PathEnroll], "nothing was sent again") })
}

func TestALostAnswerCostsOneMoreCall(t *testing.T) {
	c := agenttest.New(t, "gw-0001")
	c.Change(func(s *agenttest.State) { s.Lose[protocol.PathEnroll] = 1 })
	_, fresh, err := enroll.Run(t.Context(), enroll.Config{Dir: folder(t)}, enroll.Intent{String: c.Enrollment.String()})
	require.NoError(t, err)
	assert.True(t, fresh)
	c.Change(func(s *agenttest.State) {
		assert.Len(t, s.Agents, 1)
		assert.Equal(t, 2, s.Calls[protocol.PathEnroll])
	})
}

func TestADamagedIdentityIsMadeGoodWithTheSameKey(t *testing.T) {
	c := agenttest.New(t, "gw-0001")
	cfg := enroll.Config{Dir: folder(t)}
	want, _, err := enroll.Run(t.Context(), cfg, enroll.Intent{String: c.Enrollment.String()})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(cfg.Dir.Path("identity.json"), []byte("{"), 0o600))
	got, fresh, err := enroll.Run(t.Context(), cfg, enroll.Intent{String: c.Enrollment.String()})
	require.NoError(t, err)
	assert.True(t, fresh)
	assert.Equal(t, want, got)
}

func TestRefusalsSayWhatToDo(t *testing.T) {
	other := agenttest.New(t, "gw-0002")
	tests := map[string]struct {
		change func(*agenttest.State, *protocol.Enrollment)
		kind   fault.Kind
		text   string
		silent bool // nothing may be sent
	}{
		"a wrong code": {
			func(_ *agenttest.State, e *protocol.Enrollment) { e.Code = "wrong" }, fault.Unauthenticated, "makes a new one", false,
		},
		"an expired activation": {
			func(s *agenttest.State, _ *protocol.Enrollment) { s.Refuse = http.StatusForbidden }, fault.Denied, "the activation has expired; ", false,
		},
		"a used activation": {
			func(s *agenttest.State, _ *protocol.Enrollment) { s.Agents["somebody else"] = "x" }, fault.Denied, "used up", false,
		},
		"a server with another CA": {
			func(_ *agenttest.State, e *protocol.Enrollment) { e.CAFingerprint = other.Enrollment.CAFingerprint }, fault.Denied, "does not show the CA", true,
		},
		"a server under another name": {
			func(_ *agenttest.State, e *protocol.Enrollment) {
				e.URL = strings.Replace(e.URL, "127.0.0.1", "127.0.0.2", 1)
			}, fault.Denied, "does not fit its address", true,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			c := agenttest.New(t, "gw-0001")
			if tc.text == "does not fit its address" {
				c = agenttest.NewOn(t, "gw-0001", "127.0.0.2:0")
			}
			e := c.Enrollment
			c.Change(func(s *agenttest.State) { tc.change(s, &e) })
			d := folder(t)
			_, _, err := enroll.Run(t.Context(), enroll.Config{Dir: d}, enroll.Intent{String: e.String()})
			require.ErrorIs(t, err, tc.kind)
			require.ErrorContains(t, err, tc.text)
			assert.Equal(t, tc.silent, strings.Contains(err.Error(), enroll.ErrUntrusted.Error()))
			assert.NotContains(t, err.Error(), c.Enrollment.Code)
			assert.NoFileExists(t, d.Path("identity.json"))
			if tc.silent {
				c.Change(func(s *agenttest.State) { assert.Zero(t, s.Calls[protocol.PathEnroll], "the code was not sent") })
			}
		})
	}
}

func TestAnotherActivationDoesNotReplaceAnIdentity(t *testing.T) {
	c := agenttest.New(t, "gw-0001")
	cfg := enroll.Config{Dir: folder(t)}
	_, _, err := enroll.Run(t.Context(), cfg, enroll.Intent{String: c.Enrollment.String()})
	require.NoError(t, err)
	e := c.Enrollment
	e.ActivationID = "another"
	_, _, err = enroll.Run(t.Context(), cfg, enroll.Intent{String: e.String()})
	require.ErrorIs(t, err, fault.Exists)
	assert.ErrorContains(t, err, "--root")
}

func TestAFolderThatCannotBeWrittenIsNamed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err := localstate.Open(filepath.Join(file, "root"), nil)
	require.ErrorContains(t, err, file)
	require.ErrorContains(t, err, "--root")
}
