package iot_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/iot"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/state/memory"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/pki"
)

func TestAPrivateCAIsOfTheSameRoot(t *testing.T) {
	s, dir := memory.New(), t.TempDir()
	first, err := iot.EnsureCA(t.Context(), s, sealer(t, 1), dir, time.Now())
	require.NoError(t, err)
	require.NotNil(t, first.Private)
	require.NoError(t, first.Private.Cert.CheckSignatureFrom(first.Root))
	assert.NotEqual(t, first.ID, first.Private.ID)
	again, err := iot.EnsureCA(t.Context(), s, sealer(t, 1), t.TempDir(), time.Now())
	require.NoError(t, err)
	assert.Equal(t, first.Private.UUID, again.Private.UUID, "replicas share it")
	assert.Equal(t, first.Private.ID, again.Private.ID)
}

func TestDataWithoutPrivateCAGetsOneWhereTheRootIs(t *testing.T) {
	s, dir := memory.New(), t.TempDir()
	first, err := iot.EnsureCA(t.Context(), s, sealer(t, 1), dir, time.Now())
	require.NoError(t, err)
	key := state.Root + "iot/private-ca"
	_, err = s.Commit(t.Context(), state.NewBatch(state.StepSetup).Delete(key).Delete(state.Root+"iot/ca/"+first.Private.ID))
	require.NoError(t, err)

	elsewhere, err := iot.EnsureCA(t.Context(), s, sealer(t, 1), t.TempDir(), time.Now())
	require.NoError(t, err)
	assert.Nil(t, elsewhere.Private)
	r, err := iot.New(iot.Config{Store: s, Realm: newKit(t).Realm(), CA: elsewhere})
	require.NoError(t, err)
	assert.Empty(t, r.PrivateCAARN())
	_, err = r.IssuePrivate(t.Context(), "arn:aws:acm-pca:us-east-1:000000000000:certificate-authority/x", cloud.PrivateRequest{})
	require.ErrorIs(t, err, fault.NotFound)

	other := t.TempDir()
	_, err = iot.EnsureCA(t.Context(), memory.New(), sealer(t, 1), other, time.Now())
	require.NoError(t, err)
	elsewhere, err = iot.EnsureCA(t.Context(), s, sealer(t, 1), other, time.Now())
	require.NoError(t, err)
	assert.Nil(t, elsewhere.Private, "the key there is another root's")

	here, err := iot.EnsureCA(t.Context(), s, sealer(t, 1), dir, time.Now())
	require.NoError(t, err)
	require.NotNil(t, here.Private)
	require.NoError(t, here.Private.Cert.CheckSignatureFrom(first.Root))
}

func TestACertificateOfThePrivateCAIsImportedByAnyOfItsCAs(t *testing.T) {
	k := newKit(t)
	key, err := pki.NewKey(pki.P256)
	require.NoError(t, err)
	csr, err := pki.NewCSR(key, "device")
	require.NoError(t, err)
	c, err := k.IssuePrivate(t.Context(), k.PrivateCAARN(), cloud.PrivateRequest{CSR: csr, Validity: time.Hour})
	require.NoError(t, err)
	for name, id := range map[string]string{"itself": k.CA().Private.ID, "the root": k.CA().RootFingerprint()} {
		t.Run(name, func(t *testing.T) {
			got, err := k.Import(t.Context(), cloud.ImportRequest{PEM: c.PEM + "\n" + c.Chain, CAID: id})
			require.NoError(t, err)
			assert.Equal(t, id, got.CAID)
		})
	}
	got, err := k.Import(t.Context(), cloud.ImportRequest{PEM: c.PEM})
	require.NoError(t, err, "no CA is named: any that is known")
	assert.Equal(t, k.CA().Private.ID, got.CAID)
	_, err = k.Import(t.Context(), cloud.ImportRequest{PEM: c.PEM, CAID: k.CA().ID})
	require.ErrorIs(t, err, fault.Invalid)
	_, err = k.IssuePrivate(t.Context(), k.PrivateCAARN(), cloud.PrivateRequest{CSR: csr})
	require.ErrorIs(t, err, fault.Invalid, "no time at all")
}

func TestACertificateThatSignsItselfIsADevicesWithoutCAOnly(t *testing.T) {
	k := newKit(t)
	self, err := pki.NewRoot("gauge-1", time.Now(), time.Hour) // as openssl req -x509 makes it
	require.NoError(t, err)
	pem := string(pki.EncodeCert(self.Cert.Raw))
	got, err := k.Import(t.Context(), cloud.ImportRequest{PEM: pem, WithoutCA: true})
	require.NoError(t, err)
	assert.Equal(t, pki.ID(self.Cert.Raw), got.ID)

	for name, q := range map[string]cloud.ImportRequest{
		"the chain in the wrong order": {PEM: pem + pem, WithoutCA: true},
		"a CA that another one signed": {PEM: string(pki.EncodeCert(k.CA().Private.Cert.Raw)), WithoutCA: true},
		"with a CA":                    {PEM: pem, CAPEM: pem},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := k.Import(t.Context(), q)
			require.ErrorIs(t, err, fault.Invalid)
			assert.Contains(t, fault.Message(err), "certificate of a CA")
		})
	}
}

func FuzzImport(f *testing.F) {
	f.Add("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n", "", "", true)
	f.Add("", "-----BEGIN CERTIFICATE-----\n", "x", false)
	root, err := pki.NewRoot("root", time.Now(), time.Hour)
	require.NoError(f, err)
	r, err := iot.New(iot.Config{Store: memory.New(), Realm: names.Realm{Region: "r", Account: "a"}, CA: &iot.CA{ID: pki.ID(root.Cert.Raw), Root: root.Cert, Issuer: root}})
	require.NoError(f, err)
	f.Add(string(pki.EncodeCert(root.Cert.Raw)), "", "", true)
	f.Fuzz(func(t *testing.T, pem, ca, id string, without bool) {
		c, err := r.Import(t.Context(), cloud.ImportRequest{PEM: pem, CAPEM: ca, CAID: id, WithoutCA: without})
		if err != nil {
			require.True(t, errors.Is(err, fault.Invalid) || errors.Is(err, fault.NotFound), "%v", err)
			return
		}
		require.Len(t, c.ID, 64)
	})
}
