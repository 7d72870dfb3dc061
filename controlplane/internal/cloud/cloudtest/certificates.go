package cloudtest

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/pki"
)

// certificateTests are about certificates that were made elsewhere, and all
// there is to know of a thing.
var certificateTests = map[string]func(*testing.T, subject){
	"a thing is described with all that is attached to it":          describe,
	"the status of all certificates of a thing is set at once":      setCertificates,
	"a certificate made elsewhere is imported with its CA":          importCertificate,
	"a certificate is imported without CA":                          importWithoutCA,
	"what is no client certificate, or not of its CA, is refused":   importRefused,
	"a registered certificate is attached again under the override": attachAgain,
	"a private CA signs the key of a CSR":                           issuePrivate,
}

// describe is the thing core.
func (s subject) describe() cloud.ThingDetail {
	s.t.Helper()
	d, err := s.Describe(s.t.Context(), "core")
	require.NoError(s.t, err)
	return d
}

func describe(t *testing.T, s subject) {
	_, err := s.Describe(t.Context(), "core")
	require.ErrorIs(t, err, fault.NotFound)
	s.ensure("plant", "1.0.0")
	c := s.issue("core")
	r := cloud.Registration{
		Thing: "core", Attributes: map[string]string{"site": "north"}, Groups: []string{"plant"}, Certificate: &c,
		Policies: []cloud.Policy{{Name: "Own", Document: allowNothing}, {Name: s.Policy}},
	}
	require.NoError(t, s.Register(t.Context(), r, func(b *state.Batch) error { return s.Commit(t.Context(), b) }))
	second := s.register("core")
	d := s.describe()
	assert.Equal(t, "core", d.Name)
	assert.True(t, strings.HasSuffix(d.ARN, ":thing/core"), d.ARN)
	assert.Equal(t, "north", d.Attributes["site"])
	assert.Positive(t, d.Version)
	require.Len(t, d.Certificates, 2)
	for _, x := range d.Certificates {
		want := map[string]cloud.Issued{c.ID: c, second.ID: second}[x.ID]
		assert.Equal(t, strings.TrimSpace(want.PEM), strings.TrimSpace(x.PEM))
		assert.Equal(t, cloud.Active, x.Status)
		assert.True(t, strings.HasSuffix(x.ARN, ":cert/"+x.ID), x.ARN)
	}
	require.Len(t, d.Policies, 2, "each once")
	for _, p := range d.Policies {
		assert.True(t, strings.HasSuffix(p.ARN, ":policy/"+p.Name), p.ARN)
		if p.Name == "Own" {
			assert.JSONEq(t, allowNothing, p.Document)
		}
	}
	require.Len(t, d.Groups, 1)
	assert.Equal(t, "plant", d.Groups[0].Name)
	assert.True(t, strings.HasSuffix(d.Groups[0].ARN, ":thinggroup/plant"), d.Groups[0].ARN)
}

func setCertificates(t *testing.T, s subject) {
	a, b := s.register("core"), s.register("core")
	for _, status := range []cloud.CertificateStatus{cloud.Inactive, cloud.Active, cloud.Active, cloud.Revoked} {
		require.NoError(t, s.SetCertificates(t.Context(), "core", status))
		for _, x := range s.describe().Certificates {
			assert.Equal(t, status, x.Status)
		}
		for _, pem := range []string{a.PEM, b.PEM} {
			if err := s.Connects(t.Context(), pem); status == cloud.Active {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, fault.Denied)
			}
		}
	}
	require.ErrorIs(t, s.SetCertificates(t.Context(), "stranger", cloud.Active), fault.NotFound)
	require.ErrorIs(t, s.SetCertificates(t.Context(), "core", "IN_ACTIVE"), fault.Invalid)
}

// sign makes a certificate by ca; change edits what is signed.
func (s subject) sign(ca *pki.Authority, change func(*x509.Certificate)) string {
	s.t.Helper()
	key, err := pki.NewKey(pki.P256)
	require.NoError(s.t, err)
	c := &x509.Certificate{
		SerialNumber: pki.Serial(), Subject: pkix.Name{CommonName: "device"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true,
	}
	if change != nil {
		change(c)
	}
	parent, signer := c, key
	if ca != nil {
		parent, signer = ca.Cert, ca.Key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	require.NoError(s.t, err)
	return string(pki.EncodeCert(der))
}

func (s subject) stranger() *pki.Authority {
	s.t.Helper()
	ca, err := pki.NewRoot("stranger", time.Now(), time.Hour)
	require.NoError(s.t, err)
	return ca
}

func (s subject) registerImported(thing string, r cloud.ImportRequest) cloud.Issued {
	s.t.Helper()
	c, err := s.Import(s.t.Context(), r)
	require.NoError(s.t, err)
	reg := cloud.Registration{Thing: thing, Certificate: &c, Policies: []cloud.Policy{{Name: s.Policy}}}
	require.NoError(s.t, s.Register(s.t.Context(), reg, func(b *state.Batch) error { return s.Commit(s.t.Context(), b) }))
	return c
}

func importCertificate(t *testing.T, s subject) {
	pem, ca := s.sign(s.CA, nil), string(pki.EncodeCert(s.CA.Cert.Raw))
	for _, r := range []cloud.ImportRequest{{PEM: pem, CAID: s.CAID}, {PEM: pem, CAPEM: ca}, {PEM: pem, CAPEM: ca, CAID: s.CAID}, {PEM: pem + "\n" + ca, CAID: s.CAID}} {
		c, err := s.Import(t.Context(), r)
		require.NoError(t, err)
		list, err := pki.ParseCerts([]byte(pem))
		require.NoError(t, err)
		assert.Equal(t, pki.ID(list[0].Raw), c.ID)
		assert.Equal(t, s.CAID, c.CAID)
		assert.Equal(t, r.PEM, c.PEM, "with the chain as it was given")
		assert.Equal(t, list[0].NotAfter, c.NotAfter)
		require.ErrorIs(t, s.Connects(t.Context(), pem), fault.Denied, "it is not registered")
	}
	c := s.registerImported("core", cloud.ImportRequest{PEM: pem, CAID: s.CAID})
	require.NoError(t, s.Connects(t.Context(), pem))
	assert.Equal(t, c.ID, s.registerImported("core", cloud.ImportRequest{PEM: pem, CAID: s.CAID}).ID, "posted again")
	assert.Len(t, s.describe().Certificates, 1)
}

func importWithoutCA(t *testing.T, s subject) {
	for thing, pem := range map[string]string{
		"stranger": s.sign(s.stranger(), nil),
		"self":     s.sign(nil, nil),
		"no-usage": s.sign(s.stranger(), func(c *x509.Certificate) { c.ExtKeyUsage = nil }),
	} {
		s.registerImported(thing, cloud.ImportRequest{PEM: pem, WithoutCA: true})
		require.NoError(t, s.Connects(t.Context(), pem))
		require.NoError(t, s.SetCertificates(t.Context(), thing, cloud.Inactive))
		require.ErrorIs(t, s.Connects(t.Context(), pem), fault.Denied)
	}
}

func importRefused(t *testing.T, s subject) {
	good, stranger := s.sign(s.CA, nil), s.stranger()
	for _, c := range []struct {
		name string
		r    cloud.ImportRequest
		kind fault.Kind
	}{
		{"nothing", cloud.ImportRequest{WithoutCA: true}, fault.Invalid},
		{"no PEM", cloud.ImportRequest{PEM: "certificate", WithoutCA: true}, fault.Invalid},
		{"a key", cloud.ImportRequest{PEM: "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", WithoutCA: true}, fault.Invalid},
		{"too much", cloud.ImportRequest{PEM: strings.Repeat(good, 100), WithoutCA: true}, fault.Invalid},
		{"too long a chain", cloud.ImportRequest{PEM: strings.Repeat(good, 11), WithoutCA: true}, fault.Invalid},
		{"a CA", cloud.ImportRequest{PEM: string(pki.EncodeCert(s.CA.Cert.Raw)), WithoutCA: true}, fault.Invalid},
		{"of a server", cloud.ImportRequest{PEM: s.sign(s.CA, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), CAID: s.CAID}, fault.Invalid},
		{"over", cloud.ImportRequest{PEM: s.sign(s.CA, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), CAID: s.CAID}, fault.Invalid},
		{"of another CA", cloud.ImportRequest{PEM: s.sign(stranger, nil), CAID: s.CAID}, fault.Invalid},
		{"signed by itself", cloud.ImportRequest{PEM: s.sign(nil, nil), CAID: s.CAID}, fault.Invalid},
		{"a CA that is no certificate", cloud.ImportRequest{PEM: good, CAPEM: "CA"}, fault.Invalid},
		{"an unknown CA by PEM", cloud.ImportRequest{PEM: s.sign(stranger, nil), CAPEM: string(pki.EncodeCert(stranger.Cert.Raw))}, fault.NotFound},
		{"an unknown CA by id", cloud.ImportRequest{PEM: good, CAID: strings.Repeat("0", 64)}, fault.NotFound},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := s.Import(t.Context(), c.r)
			require.ErrorIs(t, err, c.kind)
			assert.NotEmpty(t, fault.Message(err))
		})
	}
}

func attachAgain(t *testing.T, s subject) {
	c := s.register("core")
	err := s.Register(t.Context(), cloud.Registration{Thing: "core", CertificateID: strings.Repeat("0", 64)}, func(*state.Batch) error { t.Error("nothing may be committed"); return nil })
	require.ErrorIs(t, err, fault.NotFound)
	for _, x := range []struct {
		override cloud.Override
		status   cloud.CertificateStatus
		fails    bool
		then     cloud.CertificateStatus
	}{
		{"", cloud.Inactive, false, cloud.Active},
		{cloud.DoNothing, cloud.Inactive, false, cloud.Active},
		{cloud.Fail, cloud.Inactive, true, cloud.Active},
		{cloud.Fail, cloud.Active, false, cloud.Active},
		{cloud.Replace, cloud.Inactive, false, cloud.Inactive},
		{cloud.Replace, "", false, cloud.Active},
	} {
		r := cloud.Registration{Thing: "core", CertificateID: c.ID, OverrideStatus: x.override, Status: x.status, Policies: []cloud.Policy{{Name: s.Policy}}}
		err := s.Register(t.Context(), r, func(b *state.Batch) error { return s.Commit(t.Context(), b) })
		if x.fails {
			require.ErrorIs(t, err, fault.Exists)
		} else {
			require.NoError(t, err)
		}
		d := s.describe()
		require.Len(t, d.Certificates, 1)
		assert.Equal(t, x.then, d.Certificates[0].Status, "%s %s", x.override, x.status)
	}
}

func issuePrivate(t *testing.T, s subject) {
	key, err := pki.NewKey(pki.P256)
	require.NoError(t, err)
	csr, err := pki.NewCSR(key, "ignored")
	require.NoError(t, err)
	r := cloud.PrivateRequest{CSR: csr, Subject: pkix.Name{CommonName: "device", Country: []string{"DE"}}, Validity: 24 * time.Hour}
	c, err := s.IssuePrivate(t.Context(), s.PrivateCAARN, r)
	require.NoError(t, err)
	leaf, err := pki.ParseCerts([]byte(c.PEM))
	require.NoError(t, err)
	require.Len(t, leaf, 1)
	assert.Equal(t, "device", leaf[0].Subject.CommonName)
	assert.Equal(t, key.Public(), leaf[0].PublicKey)
	assert.WithinDuration(t, time.Now().Add(r.Validity), leaf[0].NotAfter, time.Hour)
	chain, err := pki.ParseCerts([]byte(c.Chain))
	require.NoError(t, err)
	require.NoError(t, leaf[0].CheckSignatureFrom(chain[0]), "the leaf's issuer comes first")
	require.ErrorIs(t, s.Connects(t.Context(), c.PEM), fault.Denied, "it is not registered")
	s.registerImported("device", cloud.ImportRequest{PEM: c.PEM + "\n" + c.Chain, WithoutCA: true})
	require.NoError(t, s.Connects(t.Context(), c.PEM))

	_, err = s.IssuePrivate(t.Context(), strings.Replace(s.PrivateCAARN, "certificate-authority/", "certificate-authority/0", 1), r)
	require.ErrorIs(t, err, fault.NotFound)
	r.CSR = []byte(strings.Replace(string(csr), "M", "N", 1))
	_, err = s.IssuePrivate(t.Context(), s.PrivateCAARN, r)
	require.ErrorIs(t, err, fault.Invalid)
}
