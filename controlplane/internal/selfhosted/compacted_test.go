package selfhosted_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/selfhostedtest"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/state/memory"
)

// The one who leads after another goes on from a cursor that may be older than all
// history that is kept.
func TestChangesOfStatusOutliveTheirHistory(t *testing.T) {
	store := memory.New()
	w := selfhostedtest.New(t, store)
	for _, n := range []string{"b", "a", "c"} {
		w.Client(t, n, nil)
	}
	require.NoError(t, w.Appear(t.Context(), "c"))
	enough := errors.New("enough")
	var cursor string
	err := w.Statuses(t.Context(), "", func(_ []cloud.StatusChange, at string) error { cursor = at; return enough })
	require.ErrorIs(t, err, enough)
	require.NoError(t, w.Appear(t.Context(), "b"))
	require.NoError(t, w.Appear(t.Context(), "a"))
	require.NoError(t, w.Ail(t.Context(), "b"))
	require.NoError(t, w.Commit(t.Context(), state.NewBatch(state.StepRegistry).Put("/else", 1)))
	store.Compact()
	var told []string
	err = w.Statuses(t.Context(), cursor, func(changes []cloud.StatusChange, _ string) error {
		for _, c := range changes {
			told = append(told, c.Core+" "+c.Status)
		}
		return enough
	})
	require.ErrorIs(t, err, enough)
	assert.Equal(t, []string{"a HEALTHY", "b UNHEALTHY"}, told)
}

func TestAllResultsAreFollowedByTheCursorBehindThem(t *testing.T) {
	w := selfhostedtest.New(t, memory.New())
	enough := errors.New("enough")
	err := w.Results(t.Context(), "", func(list []cloud.Execution, cursor string) error {
		assert.Empty(t, list)
		assert.NotEmpty(t, cursor, "a restart need not read all again")
		return enough
	})
	require.ErrorIs(t, err, enough)
}
