package pki_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/pki"
)

func TestChainFromRootToDevice(t *testing.T) {
	now := time.Now()
	root, err := pki.NewRoot("root", now, 20*365*24*time.Hour)
	require.NoError(t, err)
	inter, err := root.NewIntermediate("issuing", now, 10*365*24*time.Hour)
	require.NoError(t, err)

	key, err := pki.NewKey(pki.P256)
	require.NoError(t, err)
	csrPEM, err := pki.NewCSR(key, "gw-1")
	require.NoError(t, err)
	csr, err := pki.ParseCSR(csrPEM)
	require.NoError(t, err)
	der, err := inter.SignClient(pki.Client{Subject: pkix.Name{CommonName: "gw-1"}, Public: csr.PublicKey, NotAfter: now.AddDate(50, 0, 0)}, now)
	require.NoError(t, err)
	leaf, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	assert.Equal(t, inter.Cert.NotAfter.Unix(), leaf.NotAfter.Unix(), "a certificate never outlives its issuer")

	roots, inters := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(root.Cert)
	inters.AddCert(inter.Cert)
	_, err = leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: inters, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	require.NoError(t, err)
}

func TestKeysAreWrittenAsPKCS8(t *testing.T) {
	for _, a := range []pki.KeyAlgorithm{pki.P256, pki.RSA2048} {
		key, err := pki.NewKey(a)
		require.NoError(t, err)
		b, err := pki.MarshalKey(key)
		require.NoError(t, err)
		assert.Contains(t, string(b), "BEGIN PRIVATE KEY")
		back, err := pki.ParseKey(b)
		require.NoError(t, err)
		assert.Equal(t, key.Public(), back.Public())
	}
	_, err := pki.NewKey("DSA")
	assert.ErrorIs(t, err, fault.Invalid)
}

func TestACSRThatIsNotSignedByItsKeyIsRefused(t *testing.T) {
	key, err := pki.NewKey(pki.P256)
	require.NoError(t, err)
	b, err := pki.NewCSR(key, "gw-1")
	require.NoError(t, err)
	block, _ := pem.Decode(b)
	block.Bytes[len(block.Bytes)-1] ^= 1
	_, err = pki.ParseCSR(pem.EncodeToMemory(block))
	assert.ErrorIs(t, err, fault.Invalid)
	_, err = pki.ParseCSR(append(b, b...))
	assert.ErrorIs(t, err, fault.Invalid, "two blocks")
}

func TestWeakCurvesAreRefused(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	require.NoError(t, err)
	b, err := pki.NewCSR(key, "gw-1")
	require.NoError(t, err)
	_, err = pki.ParseCSR(b)
	assert.ErrorIs(t, err, fault.Invalid)
}

func FuzzParseCSR(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := pki.ParseCSR(b); err != nil {
			require.ErrorIs(t, err, fault.Invalid)
		}
	})
}
