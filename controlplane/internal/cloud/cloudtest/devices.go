package cloudtest

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// deviceTests are about core devices, their client devices and groups.
var deviceTests = map[string]func(*testing.T, subject){
	"a device belongs to the cores that it was associated with":      associate,
	"a device that is no thing is associated with nothing":           associateNothing,
	"a core device that is forgotten comes back when it reports":     forgetCore,
	"a core that leaves a group has no more to do for it":            leave,
	"a core leaves groups that it is not in, or is not there itself": leaveNothing,
}

func (s subject) associate(core, device string) {
	s.t.Helper()
	calls := 0
	require.NoError(s.t, s.Associate(s.t.Context(), core, device, func(b *state.Batch) error {
		calls++
		return s.Commit(s.t.Context(), b)
	}))
	require.Equal(s.t, 1, calls)
}

func (s subject) disassociate(core, device string) {
	s.t.Helper()
	calls := 0
	require.NoError(s.t, s.Disassociate(s.t.Context(), core, device, func(b *state.Batch) error {
		calls++
		return s.Commit(s.t.Context(), b)
	}))
	require.Equal(s.t, 1, calls)
}

func (s subject) associated(core string) []string {
	s.t.Helper()
	out := []string{}
	require.NoError(s.t, s.Associated(s.t.Context(), core, func(device string) error {
		out = append(out, device)
		return nil
	}))
	return out
}

func associate(t *testing.T, s subject) {
	for _, n := range []string{"core", "core2", "b", "a"} {
		s.register(n)
	}
	assert.Empty(t, s.associated("core"))
	s.associate("core", "b")
	s.associate("core", "a")
	s.associate("core", "a")
	s.associate("core2", "a")
	assert.Equal(t, []string{"a", "b"}, s.associated("core"))
	stop := errors.New("stop")
	require.ErrorIs(t, s.Associated(t.Context(), "core", func(string) error { return stop }), stop)
	s.disassociate("core", "a")
	s.disassociate("core", "a")
	assert.Equal(t, []string{"b"}, s.associated("core"))
	assert.Equal(t, []string{"a"}, s.associated("core2"), "the other core keeps it")
	assert.Empty(t, s.associated("never-was-one"), "Q-02")
}

func associateNothing(t *testing.T, s subject) {
	s.register("core")
	s.register("device")
	err := s.Associate(t.Context(), "core", "stranger", func(*state.Batch) error { t.Error("nothing may be committed"); return nil })
	require.ErrorIs(t, err, fault.NotFound)
	assert.Contains(t, fault.Message(err), "stranger")
	assert.Empty(t, s.associated("core"))
	s.disassociate("core", "stranger")
	if s.Atomic {
		lost := errors.New("lost")
		require.ErrorIs(t, s.Associate(t.Context(), "core", "device", func(*state.Batch) error { return lost }), lost)
		assert.Empty(t, s.associated("core"))
		s.associate("core", "device")
		require.ErrorIs(t, s.Disassociate(t.Context(), "core", "device", func(*state.Batch) error { return lost }), lost)
		assert.Equal(t, []string{"device"}, s.associated("core"))
	}
}

func forgetCore(t *testing.T, s subject) {
	s.register("core")
	s.register("device")
	require.NoError(t, s.ForgetCore(t.Context(), "core"), "one that is not known")
	require.NoError(t, s.Appear(t.Context(), "core"))
	s.associate("core", "device")
	require.NoError(t, s.ForgetCore(t.Context(), "core"))
	known, err := s.HasCore(t.Context(), "core")
	require.NoError(t, err)
	assert.False(t, known)
	_, err = s.Core(t.Context(), "core")
	require.ErrorIs(t, err, fault.NotFound)
	assert.Equal(t, []string{"device"}, s.associated("core"))
	require.NoError(t, s.Appear(t.Context(), "core"))
	known, err = s.HasCore(t.Context(), "core")
	require.NoError(t, err)
	assert.True(t, known)
}

func leave(t *testing.T, s subject) {
	s.register("core")
	s.ensure(prefix+"v1", "1.0.0")
	s.ensure("plant", "1.0.0")
	s.move("core", "plant", false)
	first := s.move("core", prefix+"v1", false)
	require.NoError(t, s.Leave(t.Context(), "core", ours))
	require.NoError(t, s.Leave(t.Context(), "core", ours))
	assert.Equal(t, []string{"plant"}, s.groups())
	ended, _ := s.follow("", "core", nil)
	assert.Equal(t, first.JobID, ended[len(ended)-1].JobID)
	assert.Equal(t, "REMOVED", ended[len(ended)-1].Status)
	require.Error(t, s.Finish(t.Context(), "core", first.JobID, "SUCCEEDED"), "there is nothing to report on any more")
}

func leaveNothing(t *testing.T, s subject) {
	s.register("core")
	require.NoError(t, s.Leave(t.Context(), "core", ours))
	require.NoError(t, s.Leave(t.Context(), "stranger", ours))
}
