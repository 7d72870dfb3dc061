package fleet_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/fleet"
	"github.com/ggfleet/ggfleet/controlplane/internal/provisioning"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/pki"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

func TestAClientDeviceWhoseKeyIsMadeOnIt(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		k.cores("gw")
		k.provisioningTemplate("device-key", string(provisioning.DeviceKeyTemplate))
		n := newDevice("sensor")
		n.ProvisioningTemplate = "device-key"
		require.Equal(t, fleet.TaskSuccess, k.devices("gw", n).Status)
		core, pending, certs, err := k.EnrollDevice(k.ctx, "sensor")
		require.NoError(t, err)
		assert.Equal(t, "gw", core)
		assert.True(t, pending)
		assert.Empty(t, certs)

		request := csr(t)
		first, err := k.CompleteDevice(k.ctx, "sensor", request)
		require.NoError(t, err)
		again, err := k.CompleteDevice(k.ctx, "sensor", request)
		require.NoError(t, err)
		assert.Equal(t, first, again, "a lost answer costs nothing")
		_, err = k.CompleteDevice(k.ctx, "sensor", csr(t))
		require.ErrorIs(t, err, fault.Conflict, "another key")
		_, err = k.CompleteDevice(k.ctx, "sensor", "x")
		require.ErrorIs(t, err, fault.Invalid)
		_, err = k.CompleteDevice(k.ctx, "none", request)
		require.ErrorIs(t, err, fault.NotFound)
		list, err := pki.ParseCerts([]byte(first))
		require.NoError(t, err)
		id, err := k.cloud.Registry.Identify(k.ctx, list[0])
		require.NoError(t, err)
		assert.Equal(t, "sensor", id.Thing)
		_, pending, _, err = k.EnrollDevice(k.ctx, "sensor")
		require.NoError(t, err)
		assert.False(t, pending)
	})
}

func TestTheAgentOfAClientDeviceGoesWithIt(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		k.cores("gw")
		require.Equal(t, fleet.TaskSuccess, k.devices("gw", newDevice("sensor")).Status)
		agent := protocol.AgentThing("sensor")
		require.NoError(t, k.cloud.Register(k.ctx, cloud.Registration{Thing: agent}, func(b *state.Batch) error {
			_, err := k.store.Commit(k.ctx, b)
			return err
		}))
		require.NoError(t, k.DeleteDevice(k.ctx, "sensor", fleet.DeleteDevice{Deprovision: true, Disassociate: true}))
		assert.Empty(t, k.things("sensor", agent))
	})
}
