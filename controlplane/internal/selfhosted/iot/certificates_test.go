package iot_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/iot"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/pki"
)

func (k *kit) dump() map[string]string {
	k.t.Helper()
	p, err := k.store.List(k.t.Context(), "", "", 0)
	require.NoError(k.t, err)
	out := map[string]string{}
	for _, e := range p.Entries {
		out[strings.TrimPrefix(e.Key, state.Root+"iot/")] = string(e.Value)
	}
	return out
}

// spare registers a certificate that nothing is attached to.
func (k *kit) spare(s cloud.CertificateStatus) iot.Certificate {
	k.t.Helper()
	n, _, _ := k.issue("spare", time.Hour)
	c, err := k.AddCertificate(k.t.Context(), n, s)
	require.NoError(k.t, err)
	return c
}

func TestCreatedKeysAreInTheAnswerOnly(t *testing.T) {
	k := newKit(t)
	c, keys, err := k.CreateKeys(t.Context(), cloud.Active)
	require.NoError(t, err)
	certs, err := pki.ParseCerts([]byte(c.PEM))
	require.NoError(t, err)
	assert.Equal(t, c.ID, pki.ID(certs[0].Raw))
	assert.Equal(t, "AWS IoT Certificate", certs[0].Subject.CommonName)
	assert.Equal(t, k.CA().ID, c.CAID)
	assert.Equal(t, k.CA().Issuer.Cert.NotAfter, certs[0].NotAfter, "as long as the CA")
	block, _ := pem.Decode([]byte(keys.Private))
	require.Equal(t, "RSA PRIVATE KEY", block.Type)
	key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	require.NoError(t, err)
	assert.Equal(t, 2048, key.N.BitLen())
	assert.True(t, key.PublicKey.Equal(certs[0].PublicKey))
	block, _ = pem.Decode([]byte(keys.Public))
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	require.NoError(t, err)
	assert.True(t, key.PublicKey.Equal(public))
	for key, v := range k.dump() {
		assert.NotContains(t, v, "RSA PRIVATE", "the key is stored at %s", key)
	}
}

func TestACSRGivesSubjectAndKey(t *testing.T) {
	k := newKit(t)
	key, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	require.NoError(t, err)
	csr, err := pki.NewCSR(key, "gateway 7")
	require.NoError(t, err)
	c, err := k.SignCSR(t.Context(), string(csr), cloud.Inactive)
	require.NoError(t, err)
	certs, err := pki.ParseCerts([]byte(c.PEM))
	require.NoError(t, err)
	assert.Equal(t, "gateway 7", certs[0].Subject.CommonName)
	assert.True(t, key.PublicKey.Equal(certs[0].PublicKey))
	assert.Equal(t, cloud.Inactive, c.Status)

	none, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	require.NoError(t, err)
	c, err = k.SignCSR(t.Context(), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: none})), cloud.Inactive)
	require.NoError(t, err)
	certs, err = pki.ParseCerts([]byte(c.PEM))
	require.NoError(t, err)
	assert.Equal(t, "AWS IoT Certificate", certs[0].Subject.CommonName)

	_, err = k.SignCSR(t.Context(), "no CSR", cloud.Inactive)
	require.ErrorIs(t, err, fault.Invalid)
	assert.Equal(t, "certificateSigningRequest", fault.FieldOf(err))
}

func TestACertificateIsDeletedWhenNothingHangsOnIt(t *testing.T) {
	k, ctx := newKit(t), t.Context()
	before := k.dump()
	c := k.spare(cloud.Active)
	_, err := k.CreatePolicy(ctx, "p", allowAll, nil)
	require.NoError(t, err)
	_, err = k.register(cloud.Registration{Thing: "gw"})
	require.NoError(t, err)
	require.NoError(t, k.AttachPolicy(ctx, "p", iot.Target{Certificate: c.ID}))
	require.NoError(t, k.AttachPrincipal(ctx, "gw", c.ID, nil))

	require.ErrorIs(t, k.DeleteCertificate(ctx, c.ID, true), iot.WrongStatus)
	require.NoError(t, k.UpdateCertificate(ctx, c.ID, cloud.Revoked))
	require.ErrorIs(t, k.DeleteCertificate(ctx, c.ID, true), iot.WrongStatus, "INACTIVE is the status for it")
	require.NoError(t, k.UpdateCertificate(ctx, c.ID, cloud.Inactive))
	require.ErrorIs(t, k.DeleteCertificate(ctx, c.ID, true), iot.Attached, "a thing is never forced")
	require.NoError(t, k.DetachPrincipal(ctx, "gw", c.ID))
	require.ErrorIs(t, k.DeleteCertificate(ctx, c.ID, false), iot.Attached)
	require.ErrorIs(t, k.DeletePolicy(ctx, "p"), iot.Attached)
	require.NoError(t, k.DeleteCertificate(ctx, c.ID, true))
	require.ErrorIs(t, k.DeleteCertificate(ctx, c.ID, true), fault.NotFound)
	require.NoError(t, k.DeletePolicy(ctx, "p"))
	after := k.dump()
	delete(after, "thing/gw")
	assert.Equal(t, before, after, "nothing is left")
}

func TestStatusesThatNobodySets(t *testing.T) {
	k := newKit(t)
	c := k.spare(iot.PendingActivation)
	for _, s := range []cloud.CertificateStatus{"PENDING_TRANSFER", iot.PendingActivation, "REGISTER_INACTIVE"} {
		require.ErrorIs(t, k.UpdateCertificate(t.Context(), c.ID, s), iot.WrongStatus)
	}
	require.NoError(t, k.UpdateCertificate(t.Context(), c.ID, cloud.Active))
	require.NoError(t, k.UpdateCertificate(t.Context(), c.ID, cloud.Active))
	now, err := k.Certificate(t.Context(), c.ID)
	require.NoError(t, err)
	assert.Equal(t, 2, now.Value.Number(), "a status that stays changes nothing")
	require.ErrorIs(t, k.UpdateCertificate(t.Context(), strings.Repeat("0", 64), cloud.Active), fault.NotFound)
	_, err = k.AddCertificate(t.Context(), cloud.Issued{ID: c.ID}, cloud.Active)
	require.ErrorIs(t, err, fault.Exists)
}

// authority makes a CA of somebody else.
func authority(t *testing.T, name string, now time.Time) *pki.Authority {
	t.Helper()
	a, err := pki.NewRoot(name, now, 24*time.Hour)
	require.NoError(t, err)
	return a
}

func (k *kit) signed(a *pki.Authority, cn string) string {
	k.t.Helper()
	key, err := pki.NewKey(pki.P256)
	require.NoError(k.t, err)
	der, err := a.SignClient(pki.Client{Subject: pkix.Name{CommonName: cn}, Public: key.Public(), NotAfter: k.now.Add(time.Hour)}, k.now)
	require.NoError(k.t, err)
	return string(pki.EncodeCert(der))
}

func TestACAIsRegisteredByWhoHasItsKey(t *testing.T) {
	k, ctx := newKit(t), t.Context()
	a, other := authority(t, "plant", k.now), authority(t, "plant", k.now)
	pem := string(pki.EncodeCert(a.Cert.Raw))
	_, err := k.RegisterCA(ctx, iot.NewCA{PEM: pem, Mode: iot.ModeDefault, Verification: k.signed(a, "")})
	require.ErrorIs(t, err, iot.BadVerification, "an empty name is no code")
	code, err := k.RegistrationCode(ctx)
	require.NoError(t, err)
	again, err := k.RegistrationCode(ctx)
	require.NoError(t, err)
	assert.Equal(t, code, again)
	assert.Len(t, code, 64)

	for _, c := range []struct {
		name string
		ca   iot.NewCA
		want error
	}{
		{"without verification", iot.NewCA{PEM: pem, Mode: iot.ModeDefault}, fault.Invalid},
		{"verified by another", iot.NewCA{PEM: pem, Mode: iot.ModeDefault, Verification: k.signed(other, code)}, iot.BadCertificate},
		{"another code", iot.NewCA{PEM: pem, Mode: iot.ModeDefault, Verification: k.signed(a, code[1:])}, iot.BadVerification},
		{"not a CA", iot.NewCA{PEM: k.signed(a, "x"), Mode: iot.ModeSNIOnly}, iot.BadCertificate},
		{"not a certificate", iot.NewCA{PEM: "x", Mode: iot.ModeSNIOnly}, iot.BadCertificate},
		{"two of them", iot.NewCA{PEM: pem + pem, Mode: iot.ModeSNIOnly}, iot.BadCertificate},
		{"verified although none is wanted", iot.NewCA{PEM: pem, Mode: iot.ModeSNIOnly, Verification: k.signed(a, code)}, fault.Invalid},
		{"no mode", iot.NewCA{PEM: pem}, fault.Invalid},
		{"our own", iot.NewCA{PEM: string(pki.EncodeCert(k.CA().Issuer.Cert.Raw)), Mode: iot.ModeSNIOnly}, fault.Exists},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := k.RegisterCA(ctx, c.ca)
			require.ErrorIs(t, err, c.want)
		})
	}
	ca, err := k.RegisterCA(ctx, iot.NewCA{PEM: pem, Mode: iot.ModeDefault, Verification: k.signed(a, code), Active: true})
	require.NoError(t, err)
	_, err = k.RegisterCA(ctx, iot.NewCA{PEM: pem, Mode: iot.ModeSNIOnly})
	require.ErrorIs(t, err, fault.Exists)

	for i := 1; i < iot.MaxSameSubject; i++ {
		_, err = k.RegisterCA(ctx, iot.NewCA{PEM: string(pki.EncodeCert(authority(t, "plant", k.now).Cert.Raw)), Mode: iot.ModeSNIOnly})
		require.NoError(t, err)
	}
	_, err = k.RegisterCA(ctx, iot.NewCA{PEM: string(pki.EncodeCert(other.Cert.Raw)), Mode: iot.ModeSNIOnly})
	require.ErrorIs(t, err, fault.Exhausted)
	require.ErrorIs(t, k.DeleteCA(ctx, ca.ID), iot.WrongStatus)
	require.NoError(t, k.UpdateCA(ctx, ca.ID, iot.CAChange{Active: new(false)}))
	require.NoError(t, k.DeleteCA(ctx, ca.ID))
	require.ErrorIs(t, k.DeleteCA(ctx, ca.ID), fault.NotFound)
	_, err = k.RegisterCA(ctx, iot.NewCA{PEM: string(pki.EncodeCert(other.Cert.Raw)), Mode: iot.ModeSNIOnly})
	require.NoError(t, err, "there is room again")

	require.NoError(t, k.DeleteRegistrationCode(ctx))
	require.ErrorIs(t, k.DeleteRegistrationCode(ctx), fault.NotFound)
	changed, err := k.RegistrationCode(ctx)
	require.NoError(t, err)
	assert.NotEqual(t, code, changed)
	list, next, err := k.CACertificates(ctx, "", iot.Page{Limit: 4, Ascending: true})
	require.NoError(t, err)
	assert.Len(t, list, 4)
	assert.NotEmpty(t, next)
}

func TestOwnCAsAreShownAndStay(t *testing.T) {
	k, ctx := newKit(t), t.Context()
	for _, id := range []string{k.CA().ID, k.PrivateCAID()} {
		ca, err := k.CACertificate(ctx, id)
		require.NoError(t, err)
		assert.Equal(t, cloud.Active, ca.Status)
		assert.NotEmpty(t, ca.NotAfter)
		require.ErrorIs(t, k.UpdateCA(ctx, id, iot.CAChange{Active: new(false)}), fault.Invalid)
		require.ErrorIs(t, k.DeleteCA(ctx, id), fault.Invalid)
	}
	list, _, err := k.CACertificates(ctx, "", iot.Page{Limit: 10})
	require.NoError(t, err)
	assert.Empty(t, list)
	_, err = k.CACertificate(ctx, "none")
	require.ErrorIs(t, err, fault.NotFound)
}

func TestWhatARegisteredCASignedCanBeRegistered(t *testing.T) {
	k, ctx := newKit(t), t.Context()
	a, b := authority(t, "plant", k.now), authority(t, "plant", k.now)
	pem := k.signed(a, "device")
	register := func(q cloud.ImportRequest) (iot.Certificate, error) {
		return k.RegisterCertificate(ctx, q, cloud.Active)
	}
	_, err := register(cloud.ImportRequest{PEM: pem})
	require.ErrorIs(t, err, iot.BadCertificate, "nobody knows the CA")
	caPEM := string(pki.EncodeCert(a.Cert.Raw))
	_, err = register(cloud.ImportRequest{PEM: pem, CAPEM: caPEM})
	require.ErrorIs(t, err, iot.BadCertificate)
	ca, err := k.RegisterCA(ctx, iot.NewCA{PEM: caPEM, Mode: iot.ModeSNIOnly})
	require.NoError(t, err)
	_, err = register(cloud.ImportRequest{PEM: pem})
	require.ErrorIs(t, err, iot.WrongStatus, "the CA is INACTIVE")
	require.NotErrorIs(t, err, iot.BadCertificate)
	require.NoError(t, k.UpdateCA(ctx, ca.ID, iot.CAChange{Active: new(true), AutoRegistration: new(true)}))
	certs, err := pki.ParseCerts([]byte(pem))
	require.NoError(t, err)
	_, err = k.Identify(ctx, certs[0])
	require.ErrorIs(t, err, fault.Denied)
	require.ErrorContains(t, err, "auto registration, which this server does not do")
	_, err = k.RegisterCA(ctx, iot.NewCA{PEM: string(pki.EncodeCert(b.Cert.Raw)), Mode: iot.ModeSNIOnly, Active: true})
	require.NoError(t, err)
	_, err = register(cloud.ImportRequest{PEM: pem, CAPEM: string(pki.EncodeCert(b.Cert.Raw))})
	require.ErrorIs(t, err, iot.BadCertificate, "the other CA of this name did not sign it")
	_, err = k.RegisterCertificate(ctx, cloud.ImportRequest{PEM: pem}, iot.PendingActivation)
	require.ErrorIs(t, err, iot.WrongStatus)
	c, err := register(cloud.ImportRequest{PEM: pem})
	require.NoError(t, err)
	assert.Equal(t, ca.ID, c.CAID)
	assert.Equal(t, iot.ModeSNIOnly, c.ModeOf(), "as its CA")
	_, err = register(cloud.ImportRequest{PEM: pem, CAPEM: caPEM})
	require.ErrorIs(t, err, fault.Exists)
	assert.Equal(t, []string{c.ID}, k.listed(ca.ID, true, 10))

	// The same key under the same name twice: nobody can tell which of them signed.
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: pki.Serial(), Subject: a.Cert.Subject, NotBefore: k.now.Add(-time.Hour), NotAfter: k.now.Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}, a.Cert, a.Key.Public(), a.Key)
	require.NoError(t, err)
	_, err = k.RegisterCA(ctx, iot.NewCA{PEM: string(pki.EncodeCert(der)), Mode: iot.ModeSNIOnly, Active: true})
	require.NoError(t, err)
	second := k.signed(a, "device 2")
	_, err = register(cloud.ImportRequest{PEM: second})
	require.ErrorIs(t, err, iot.AmbiguousCA)
	_, err = register(cloud.ImportRequest{PEM: second, CAPEM: caPEM})
	require.NoError(t, err)

	// It counts for provisioning as well.
	third := k.signed(b, "device 3")
	n, err := k.Import(ctx, cloud.ImportRequest{PEM: third})
	require.NoError(t, err)
	_, err = k.register(cloud.Registration{Thing: "d3", Certificate: &n})
	require.NoError(t, err)
	certs, err = pki.ParseCerts([]byte(third))
	require.NoError(t, err)
	_, err = k.Identify(ctx, certs[0])
	require.NoError(t, err)
}

// counting counts the entries that lists read.
