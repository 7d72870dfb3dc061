package credential_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/agent/internal/agenttest"
	"github.com/ggfleet/ggfleet/agent/internal/credential"
	"github.com/ggfleet/ggfleet/agent/internal/identity"
	"github.com/ggfleet/ggfleet/agent/internal/keystore"
	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/pki"
)

// device has its files in memory, and a control plane that signs what it is asked.
type device struct {
	t       *testing.T
	files   map[string][]byte
	zip     []byte
	refuses string // the CSR that is refused
	lose    int    // answers
	asked   []string
}

func (d *device) sign(_ context.Context, csr string) (string, error) {
	d.asked = append(d.asked, csr)
	r, err := pki.ParseCSR([]byte(csr))
	require.NoError(d.t, err)
	id := pki.ID(r.RawSubjectPublicKeyInfo)
	if id == d.refuses {
		return "", fault.Field("csr", "is for the key of a certificate that was replaced")
	}
	if d.lose > 0 {
		d.lose--
		return "", errors.New("connection reset by peer")
	}
	return string(agenttest.SelfSigned(d.t, d.files["key"])), nil
}

func (d *device) ensure(hasCertificate, zip bool) error {
	return credential.Ensure(d.t.Context(), credential.Want{
		Name: "gw", HasCertificate: hasCertificate, CertsZip: zip, CertFile: "cert", KeyFile: "key",
		Read: func(name string) ([]byte, error) { return d.files[name], nil },
		Write: func(_ localstate.Point, name string, b []byte, _ fs.FileMode) error {
			d.files[name] = b
			return nil
		},
		Do:   func(_ localstate.Point, do func() error) error { return do() },
		Sign: d.sign,
		Fetch: func(context.Context) ([]byte, error) {
			if d.zip == nil {
				return nil, fault.New(fault.NotFound, "there is no certs.zip")
			}
			return d.zip, nil
		},
	})
}

func (d *device) whole() {
	d.t.Helper()
	_, err := tls.X509KeyPair(d.files["cert"], d.files["key"])
	require.NoError(d.t, err)
}

func spki(t *testing.T, key []byte) string {
	k, err := keystore.ParseKey(key)
	require.NoError(t, err)
	id, err := identity.KeyFingerprint(k)
	require.NoError(t, err)
	return id
}

func TestWhatIsLostIsMadeGood(t *testing.T) {
	for name, lose := range map[string]func(*device){
		"nothing":                   func(*device) {},
		"the certificate":           func(d *device) { delete(d.files, "cert") },
		"the key":                   func(d *device) { delete(d.files, "key") },
		"both":                      func(d *device) { clear(d.files) },
		"the key, which is damaged": func(d *device) { d.files["key"] = []byte("-----BEGIN") },
		"the certificate, of a key that was replaced": func(d *device) {
			delete(d.files, "cert")
			d.refuses = spki(d.t, d.files["key"])
		},
		"both, and the answer": func(d *device) { clear(d.files); d.lose = 1 },
	} {
		for _, zip := range []string{"made here", "in certs.zip", "in a certs.zip that is gone"} {
			t.Run(fmt.Sprintf("%s, the key %s", name, zip), func(t *testing.T) {
				d := &device{t: t, files: map[string][]byte{}}
				_, key, err := keystore.NewKey()
				require.NoError(t, err)
				d.files["key"] = key
				d.files["cert"] = agenttest.SelfSigned(t, key)
				if zip == "in certs.zip" {
					d.zip = agenttest.CertsZip(t, d.files["cert"], key)
				}
				lose(d)
				lost := d.lose > 0 && d.zip == nil
				if lost {
					require.Error(t, d.ensure(true, zip != "made here"))
				}
				require.NoError(t, d.ensure(true, zip != "made here"))
				d.whole()
				if lost {
					a, err := pki.ParseCSR([]byte(d.asked[0]))
					require.NoError(t, err)
					b, err := pki.ParseCSR([]byte(d.asked[1]))
					require.NoError(t, err)
					assert.Equal(t, a.PublicKey, b.PublicKey, "the same key is asked for again")
				}
				if name == "nothing" || d.zip != nil {
					assert.Empty(t, d.asked)
					assert.Equal(t, key, d.files["key"])
				}
			})
		}
	}
}

func FuzzCertsZip(f *testing.F) {
	f.Add([]byte("PK"))
	f.Add(agenttest.CertsZip(f, []byte("c"), []byte("k")))
	f.Fuzz(func(t *testing.T, b []byte) {
		cert, key, err := credential.ReadCertsZip(b)
		if err != nil {
			require.ErrorIs(t, err, fault.Invalid)
			return
		}
		require.NotEmpty(t, cert)
		require.NotEmpty(t, key)
	})
}
