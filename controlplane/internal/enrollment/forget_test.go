package enrollment_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/enrollment"
	"github.com/ggfleet/ggfleet/shared/fault"
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
