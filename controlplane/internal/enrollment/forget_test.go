package enrollment_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/enrollment"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

func TestTheActivationOfADeletedCoreLetsNobodyIn(t *testing.T) {
	k := newKit(t)
	a, _ := k.activate(enrollment.NewActivation{DeviceID: "gw"})
	other, _ := k.activate(enrollment.NewActivation{DeviceID: "other"})
	for range 2 { // again is no error
		require.NoError(t, k.Forget(t.Context(), "gw"))
	}
	_, err := k.Activation(t.Context(), a.ID)
	require.ErrorIs(t, err, fault.NotFound)
	_, err = k.Activation(t.Context(), other.ID)
	require.NoError(t, err)
	k.activate(enrollment.NewActivation{DeviceID: "gw"})
}

func TestTheDeviceOfADeletedCoreWaitsForAnOperator(t *testing.T) {
	k := newKit(t)
	_, err := k.PutRule(t.Context(), "all", enrollment.NewRule{Action: enrollment.ActionApprove, Names: []string{"*"}}, "ada", 0)
	require.NoError(t, err)
	d := k.device("gw")
	d.enters()
	require.NoError(t, k.Forget(t.Context(), "gw"))
	require.NoError(t, k.cloud.Deprovision(t.Context(), protocol.AgentThing("gw"), cloud.Deprovision{Certificates: true}, func(b *state.Batch) error {
		_, err := k.store.Commit(t.Context(), b)
		return err
	}))
	r, err := k.Request(t.Context(), d.waits())
	require.NoError(t, err)
	assert.Contains(t, r.Message, "only an operator", "the rule does not bring back what somebody deleted")
	other := k.device("gw")
	other.enters()
}
