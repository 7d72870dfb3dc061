package memory_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/state/memory"
	"github.com/ggfleet/ggfleet/controlplane/internal/state/statetest"
)

func TestStoreKeepsTheContract(t *testing.T) {
	t.Parallel()
	statetest.Store(t, func(*testing.T) state.Store { return memory.New() })
}

func TestWatchBehindACompactionIsTold(t *testing.T) {
	t.Parallel()
	s := memory.New()
	rev, err := s.Commit(t.Context(), state.NewBatch(state.StepRegistry).Put("/a", 1))
	require.NoError(t, err)
	_, err = s.Commit(t.Context(), state.NewBatch(state.StepRegistry).Put("/a", 2))
	require.NoError(t, err)
	s.Compact()
	err = s.Watch(t.Context(), "/", rev, func([]state.Event) error { return nil })
	assert.ErrorIs(t, err, state.ErrCompacted)
}
