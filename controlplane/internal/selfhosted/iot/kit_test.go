package iot_test

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/seal"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/iot"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/state/memory"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/pki"
)

const allowAll = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"}]}`

type kit struct {
	*iot.Registry
	t     *testing.T
	store *memory.Store
	now   time.Time
}

func newKit(t *testing.T) *kit {
	t.Helper()
	k := &kit{t: t, store: memory.New(), now: time.Now()}
	ca, err := iot.EnsureCA(t.Context(), k.store, sealer(t, 1), t.TempDir(), k.now)
	require.NoError(t, err)
	k.Registry, err = iot.New(iot.Config{
		Store: k.store, Realm: names.Realm{Region: "us-east-1", Account: "000000000000"}, CA: ca, Now: func() time.Time { return k.now },
	})
	require.NoError(t, err)
	return k
}

func sealer(t *testing.T, fill byte) seal.Sealer {
	t.Helper()
	key := make([]byte, 32)
	for i := range key {
		key[i] = fill
	}
	s, err := seal.New(key)
	require.NoError(t, err)
	return s
}

func (k *kit) issue(cn string, life time.Duration) (cloud.Issued, *x509.Certificate, crypto.Signer) {
	k.t.Helper()
	key, err := pki.NewKey(pki.P256)
	require.NoError(k.t, err)
	c, err := k.Issue(cloud.IssueRequest{Subject: pkix.Name{CommonName: cn}, Public: key.Public(), Validity: life})
	require.NoError(k.t, err)
	list, err := pki.ParseCerts([]byte(c.PEM))
	require.NoError(k.t, err)
	require.Len(k.t, list, 1, "lite sends the first certificate of its file only")
	return c, list[0], key
}

// register carries out one registration.
func (k *kit) register(r cloud.Registration) (iot.Thing, error) {
	k.t.Helper()
	b := state.NewBatch(state.StepCoreRegister)
	t, err := k.RegisterBatch(k.t.Context(), b, r)
	if err != nil {
		return t, err
	}
	_, err = k.store.Commit(k.t.Context(), b)
	return t, err
}

// device registers a thing with an active certificate and returns that.
func (k *kit) device(thing string, policies ...string) (*x509.Certificate, cloud.Issued) {
	k.t.Helper()
	c, leaf, _ := k.issue(thing, time.Hour)
	r := cloud.Registration{Thing: thing, Certificate: &c}
	for _, p := range policies {
		r.Policies = append(r.Policies, cloud.Policy{Name: p})
	}
	_, err := k.register(r)
	require.NoError(k.t, err)
	return leaf, c
}

func (k *kit) groups(thing string) []string {
	k.t.Helper()
	t, err := k.Thing(k.t.Context(), thing)
	require.NoError(k.t, err)
	return t.Value.Groups
}

func (k *kit) members(group string) (out []string) {
	k.t.Helper()
	require.NoError(k.t, k.Members(k.t.Context(), group, func(thing string) error {
		out = append(out, thing)
		return nil
	}))
	return out
}
