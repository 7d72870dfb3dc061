package pki_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/shared/pki"
)

func TestACertificateThatTakesThePlaceOfAnotherIsGoodWheneverThatWas(t *testing.T) {
	const day, year = 24 * time.Hour, 365 * 24 * time.Hour
	now := time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC)
	root, err := pki.NewRoot("x", now.Add(-10*year), 50*year)
	require.NoError(t, err)
	sign := func(at time.Time, life time.Duration, old *x509.Certificate) *x509.Certificate {
		key, err := pki.NewKey(pki.P256)
		require.NoError(t, err)
		der, err := root.SignClient(pki.Client{Public: key.Public(), NotAfter: at.Add(life), Replaces: old}, at)
		require.NoError(t, err)
		c, err := x509.ParseCertificate(der)
		require.NoError(t, err)
		return c
	}
	for name, wrong := range map[string]time.Duration{"right": 0, "9 years ahead": 9 * year, "9 years behind": -9 * year} {
		t.Run("the clock is "+name, func(t *testing.T) {
			first := sign(now, year, nil)
			assert.InDelta(t, year, pki.Life(first), float64(time.Hour))
			c, at := first, now
			for range 5 {
				at = at.Add(200 * day)
				old := c
				c = sign(at.Add(wrong), year, old)
				assert.False(t, c.NotBefore.After(old.NotBefore))
				assert.False(t, c.NotAfter.Before(old.NotAfter))
				assert.InDelta(t, year, pki.Life(c), float64(time.Hour), "it does not grow")
				_, err := c.Verify(x509.VerifyOptions{Roots: pool(root.Cert), CurrentTime: old.NotAfter.Add(-time.Second), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
				require.NoError(t, err, "once the clock is right")
			}
		})
	}
}

func pool(c *x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(c)
	return p
}

func FuzzLife(f *testing.F) {
	f.Add([]byte{0x30, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		c := &x509.Certificate{NotAfter: time.Unix(1000, 0), NotBefore: time.Unix(0, 0), Extensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 16}, Value: b}}}
		life := pki.Life(c)
		assert.Positive(t, life)
		assert.LessOrEqual(t, life, 1000*time.Second)
	})
}
