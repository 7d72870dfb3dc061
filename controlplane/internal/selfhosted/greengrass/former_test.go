package greengrass_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/greengrass"
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

func TestADeploymentOfTheVersionBeforeIsReadWhole(t *testing.T) {
	for _, stored := range []string{
		`{"componentVersion":"1.0.0","merge":"{\"a\":1}","reset":["/b"]}`,
		`{"componentVersion":"1.0.0","configurationUpdate":{"merge":"{\"a\":1}","reset":["/b"]}}`,
	} {
		var c greengrass.Component
		require.NoError(t, json.Unmarshal([]byte(stored), &c))
		require.NotNil(t, c.Update, stored)
		assert.JSONEq(t, `{"a":1}`, *c.Update.Merge)
		assert.Equal(t, []string{"/b"}, c.Update.Reset)
		assert.Equal(t, "1.0.0", c.Version)
	}
	var c greengrass.Component
	require.NoError(t, json.Unmarshal([]byte(`{"componentVersion":"1.0.0"}`), &c))
	assert.Nil(t, c.Update)
}
