package provisioning_test

import (
	"context"
	"encoding/json"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/provisioning"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/selfhostedtest"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/pki"
)

const bringOwn = `{"Parameters":{"Name":{"Type":"String"},"CSR":{"Type":"String"},"Site":{"Type":"String","Default":"Berlin"}},
"Resources":{"device":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Ref":"Name"},"AttributePayload":{"site":{"Ref":"Site"}}}},
"identity":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateSigningRequest":{"Ref":"CSR"}}},
"rights":{"Type":"AWS::IoT::Policy","Properties":{"PolicyName":"` + selfhostedtest.Policy + `"}}}}`

func TestATemplateThatComesWithTheCallIsCarriedOut(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		tpl, err := provisioning.ParsePlain([]byte(bringOwn))
		require.NoError(t, err)
		out, err := k.Register(k.ctx, tpl, map[string]string{"Name": "gw-1", "CSR": csr(t), "Unknown": "is dropped"})
		require.NoError(t, err)
		certs, err := pki.ParseCerts([]byte(out.CertificatePEM))
		require.NoError(t, err)
		id := pki.ID(certs[0].Raw)
		assert.Equal(t, map[string]string{
			"device": k.world.Realm.Thing("gw-1"), "identity": k.world.Realm.Certificate(id), "rights": k.world.Realm.Policy(selfhostedtest.Policy),
		}, out.ResourceARNs, "by the logical names alone")
		thing, err := k.world.Registry.Thing(k.ctx, "gw-1")
		require.NoError(t, err)
		assert.Equal(t, map[string]string{"site": "Berlin"}, thing.Value.Attributes)
		assert.Equal(t, []string{id}, thing.Value.Principals)

		for missing, given := range map[string]map[string]string{
			"parameters.Name": {"CSR": csr(t)}, "parameters.CSR": {"Name": "gw-2"},
		} {
			_, err := k.Register(k.ctx, tpl, given)
			require.ErrorIs(t, err, fault.Invalid)
			assert.Equal(t, missing, fault.FieldOf(err))
		}
		_, err = k.world.Registry.Thing(k.ctx, "gw-2")
		require.ErrorIs(t, err, fault.NotFound, "nothing of a refused one stays")
	})
}

func TestATemplateThatComesWithTheCallHasNoExtensions(t *testing.T) {
	var doc map[string]any
	require.NoError(t, json.Unmarshal([]byte(bringOwn), &doc))
	doc["CDF"] = map[string]any{"clientIdMustMatchThingName": true}
	b, err := json.Marshal(doc)
	require.NoError(t, err)
	_, err = provisioning.ParsePlain(b)
	require.ErrorIs(t, err, fault.Invalid)
	assert.Equal(t, "CDF", fault.FieldOf(err))
}

func TestOverlappingCallsForOneThing(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		tpl, err := provisioning.ParsePlain([]byte(bringOwn))
		require.NoError(t, err)
		given := map[string]string{"Name": "gw-1", "CSR": csr(t)}
		held := &held{World: k.world, reached: make(chan struct{}), release: make(chan struct{})}
		p, err := provisioning.NewProvisioner(provisioning.Config{Cloud: held, Templates: k.tpl, Realm: k.world.Realm})
		require.NoError(t, err)
		s, err := provisioning.NewService(provisioning.ServiceConfig{Provisioner: p, Store: k.store})
		require.NoError(t, err)
		first := make(chan error, 1)
		go func() {
			_, err := s.Register(k.ctx, tpl, given)
			first <- err
		}()
		<-held.reached
		_, err = s.Register(k.ctx, tpl, given)
		require.ErrorIs(t, err, fault.Conflict)
		close(held.release)
		require.NoError(t, <-first)
		_, err = s.Register(k.ctx, tpl, given)
		require.NoError(t, err, "one after the other they do not disturb each other")
	})
}

// held is a cloud whose first registration waits.
type held struct {
	*selfhostedtest.World
	once             sync.Once
	reached, release chan struct{}
}

func (h *held) Register(ctx context.Context, r cloud.Registration, commit func(*state.Batch) error) error {
	h.once.Do(func() {
		close(h.reached)
		<-h.release
	})
	return h.World.Register(ctx, r, commit)
}
