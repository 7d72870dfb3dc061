package claims_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"maps"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/claims"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/selfhostedtest"
	"github.com/ggfleet/ggfleet/controlplane/internal/state/memory"
	"github.com/ggfleet/ggfleet/shared/pki"
)

// kit is fleet provisioning over a cloud in memory whose registrar is the caller.
type kit struct {
	*claims.Service
	t     *testing.T
	world *selfhostedtest.World
	now   time.Time
	claim string // id of a certificate of the registry that has no thing

	refuse error // what the registrar says
	check  error
	got    []call
}

// call is what the registrar was asked for.
type call struct {
	body       map[string]any
	parameters map[string]string
}

func newKit(t *testing.T) *kit {
	t.Helper()
	k := &kit{t: t, now: time.Now()}
	store := memory.New()
	k.world = selfhostedtest.New(t, store)
	var err error
	k.Service, err = claims.New(claims.Config{Store: store, Registry: k.world.Registry, Registrar: k, Now: func() time.Time { return k.now }})
	require.NoError(t, err)
	k.claim = k.holder()
	return k
}

// holder is one more certificate that may claim.
func (k *kit) holder() string {
	k.t.Helper()
	c, err := k.world.Registry.SignCSR(k.t.Context(), csr(k.t), cloud.Active)
	require.NoError(k.t, err)
	return c.ID
}

func (k *kit) CheckTemplate(body []byte) error {
	k.note(body, nil)
	return k.check
}

func (k *kit) RegisterThing(_ context.Context, body []byte, parameters map[string]string) (claims.Registered, error) {
	k.note(body, parameters)
	return claims.Registered{Thing: "thing-1"}, k.refuse
}

func (k *kit) leaf(text string) *x509.Certificate {
	k.t.Helper()
	list, err := pki.ParseCerts([]byte(text))
	require.NoError(k.t, err)
	return list[0]
}

func (k *kit) note(body []byte, parameters map[string]string) {
	c := call{parameters: maps.Clone(parameters)}
	require.NoError(k.t, json.Unmarshal(body, &c.body))
	k.got = append(k.got, c)
}

const simple = `{"Parameters":{"SerialNumber":{"Type":"String"}},"Resources":{
"thing":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Ref":"SerialNumber"}}}}}`

func (k *kit) template(name string) claims.Template {
	k.t.Helper()
	t, err := k.CreateTemplate(k.t.Context(), claims.NewTemplate{Name: name, Body: simple, RoleARN: "arn:aws:iam::000000000000:role/r", Enabled: true})
	require.NoError(k.t, err)
	return t
}
