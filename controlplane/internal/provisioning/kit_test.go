package provisioning_test

import (
	"context"
	"crypto/x509"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	objects "github.com/ggfleet/ggfleet/controlplane/internal/object/memory"
	"github.com/ggfleet/ggfleet/controlplane/internal/provisioning"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/selfhostedtest"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/state/memory"
	"github.com/ggfleet/ggfleet/controlplane/internal/task"
	"github.com/ggfleet/ggfleet/shared/pki"
)

// kit is the provisioning service on a self-hosted cloud, all in memory, in a
// bubble of virtual time.
type kit struct {
	*provisioning.Service
	t     *testing.T
	ctx   context.Context
	store state.Store
	world *selfhostedtest.World
	tpl   *provisioning.Templates
	p     *provisioning.Provisioner
}

func bubble(t *testing.T, test func(t *testing.T, k *kit)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		k := &kit{t: t, ctx: ctx, store: state.NewHub(memory.New()), tpl: provisioning.NewTemplates(objects.New("bucket"))}
		k.world = selfhostedtest.New(t, k.store)
		var err error
		k.p, err = provisioning.NewProvisioner(provisioning.Config{
			Cloud: k.world, Templates: k.tpl, Realm: k.world.Realm,
			CAAliases:  map[string]string{"mine": k.world.Realm.CACertificate(pki.ID(k.world.CA.Root.Raw))},
			PCAAliases: map[string]string{"Factory": k.world.Registry.PrivateCAARN()},
		})
		require.NoError(t, err)
		k.Service, err = provisioning.NewService(provisioning.ServiceConfig{Provisioner: k.p, Store: k.store, Deprovision: cloud.Deprovision{Certificates: true, Policies: true}})
		require.NoError(t, err)
		engine, err := task.New(task.Config{Store: k.store, Kinds: k.Kinds()})
		require.NoError(t, err)
		k.Use(engine)
		done := make(chan error, 1)
		go func() { done <- engine.Run(ctx) }()
		defer func() {
			cancel()
			assert.NoError(t, <-done)
		}()
		test(t, k)
	})
}

// put stores a template with a thing, the certificate resource and the CDF section
// that are given, and parameters for all of them.
func (k *kit) put(id, certificate, cdf string) {
	k.t.Helper()
	_, err := k.tpl.Put(k.ctx, id, []byte(template(certificate, cdf)), provisioning.Any)
	require.NoError(k.t, err)
	time.Sleep(5 * time.Second) // virtual: until an older one is forgotten
}

func template(certificate, cdf string) string {
	doc := `{"Parameters":{"ThingName":{"Type":"String"},"CSR":{"Type":"String"},"CertificateId":{"Type":"String"},"CertificateArn":{"Type":"String"},"CertificatePem":{"Type":"String"},"CaCertificatePem":{"Type":"String"}},
"Resources":{"gw":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Ref":"ThingName"}}},
"cert":{"Type":"AWS::IoT::Certificate",CERT},
"pol":{"Type":"AWS::IoT::Policy","Properties":{"PolicyName":"CDFGreengrass2CorePolicy"}}}CDF}`
	if cdf != "" {
		cdf = `,"CDF":` + cdf
	}
	return strings.NewReplacer("CERT}", certificate+"}", "CDF}", cdf+"}").Replace(doc)
}

// Certificate resources.
const (
	byID  = `"Properties":{"CertificateId":{"Ref":"CertificateId"}}`
	byPEM = `"Properties":{"CertificatePem":{"Ref":"CertificatePem"},"CACertificatePem":{"Ref":"CaCertificatePem"}}`
	byCSR = `"Properties":{"CertificateSigningRequest":{"Ref":"CSR"}}`
)

// connects returns the thing that the certificate connects as.
func (k *kit) connects(certificate string) (string, *x509.Certificate) {
	k.t.Helper()
	list, err := pki.ParseCerts([]byte(certificate))
	require.NoError(k.t, err)
	id, err := k.world.Registry.Identify(k.ctx, list[0])
	require.NoError(k.t, err)
	return id.Thing, list[0]
}

// untouched runs do and checks that it left nothing behind.
func (k *kit) untouched(do func()) {
	k.t.Helper()
	before, err := k.store.List(k.ctx, state.Root+"iot/", "", 0)
	require.NoError(k.t, err)
	do()
	after, err := k.store.List(k.ctx, state.Root+"iot/", "", 0)
	require.NoError(k.t, err)
	assert.Equal(k.t, before.Entries, after.Entries, "W-82: no thing, no certificate, no policy is left")
}

func csr(t *testing.T) string {
	t.Helper()
	key, err := pki.NewKey(pki.P256)
	require.NoError(t, err)
	b, err := pki.NewCSR(key, "whatever")
	require.NoError(t, err)
	return string(b)
}
