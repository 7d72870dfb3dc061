package greengrass_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
)

func TestARolloutOfTheVersionBeforeIsFinished(t *testing.T) {
	bubble(t, func(t *testing.T, k *spread) {
		things := k.members(3)
		d := k.begin(maximum(1))
		b := state.NewBatch(state.StepRolling).Delete(state.Root + "greengrass/rollout/" + d.ID)
		former := state.Root + "greengrass/rolling/"
		b.Put(former+d.ID, struct{}{}).Put(former+"gone", struct{}{})
		_, err := k.store.Commit(k.ctx, b)
		require.NoError(t, err)
		k.lead()
		assert.Len(t, k.executions(d), len(things), "at once, as that version did")
		left, err := k.store.List(k.ctx, former, "", 0)
		require.NoError(t, err)
		assert.Empty(t, left.Entries)
	})
}
