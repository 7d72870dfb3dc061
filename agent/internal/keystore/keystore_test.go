package keystore_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/agent/internal/keystore"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// files is a folder.
type files string

func (f files) Path(name string) string           { return filepath.Join(string(f), name) }
func (f files) Read(name string) ([]byte, error)  { return os.ReadFile(f.Path(name)) }
func (f files) Write(name string, b []byte) error { return os.WriteFile(f.Path(name), b, 0o600) }
func (f files) Remove(name string) error          { return os.Remove(f.Path(name)) }

func open(t *testing.T, ref string, f files) keystore.Store {
	t.Helper()
	s, err := keystore.Open(ref, f)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	return s
}

// suite is what every store promises.
func suite(t *testing.T, reopen func() keystore.Store) {
	s := reopen()
	_, err := s.Signer("key")
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoError(t, s.Remove("key"), "none is no error")

	key, err := s.Create("key")
	require.NoError(t, err)
	usable(t, key)
	again, err := reopen().Signer("key")
	require.NoError(t, err, "it survives a restart")
	assert.Equal(t, public(t, key), public(t, again))
	usable(t, again)

	other, err := s.Create("other")
	require.NoError(t, err)
	assert.NotEqual(t, public(t, key), public(t, other))
	anew, err := s.Create("key")
	require.NoError(t, err, "in place of the one that has the name")
	assert.NotEqual(t, public(t, key), public(t, anew))
	require.NoError(t, s.Remove("key"))
	_, err = s.Signer("key")
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = s.Signer("other")
	require.NoError(t, err)

	made := 0
	for range 2 {
		_, err = keystore.Ensure(s, "ensured", func(do func() error) error { made++; return do() })
		require.NoError(t, err)
	}
	assert.Equal(t, 1, made)
}

func public(t *testing.T, key crypto.Signer) string {
	b, err := x509.MarshalPKIXPublicKey(key.Public())
	require.NoError(t, err)
	return string(b)
}

// usable makes a CSR with key and speaks TLS with it, on both sides' versions.
func usable(t *testing.T, key crypto.Signer) {
	t.Helper()
	pub, ok := key.Public().(*ecdsa.PublicKey)
	require.True(t, ok)
	for _, digest := range [][]byte{sum256("x"), sum512("x")} {
		sig, err := key.Sign(rand.Reader, digest, crypto.SHA256)
		require.NoError(t, err)
		assert.True(t, ecdsa.VerifyASN1(pub, digest, sig))
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "x"}}, key)
	require.NoError(t, err)
	csr, err := x509.ParseCertificateRequest(der)
	require.NoError(t, err)
	require.NoError(t, csr.CheckSignature())

	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"x"}}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	pair := tls.Certificate{Certificate: [][]byte{cert}, PrivateKey: key}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		a, b := net.Pipe()
		server := tls.Server(a, &tls.Config{MinVersion: version, MaxVersion: version, Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAnyClientCert})
		client := tls.Client(b, &tls.Config{MinVersion: version, MaxVersion: version, Certificates: []tls.Certificate{pair}, InsecureSkipVerify: true})
		done := make(chan error, 1)
		go func() { done <- server.Handshake() }()
		require.NoError(t, client.Handshake())
		require.NoError(t, <-done)
		_ = a.Close()
		_ = b.Close()
	}
}

func sum256(s string) []byte { h := sha256.Sum256([]byte(s)); return h[:] }
func sum512(s string) []byte { h := sha512.Sum512([]byte(s)); return h[:] }

func TestKeysInFiles(t *testing.T) {
	f := files(t.TempDir())
	suite(t, func() keystore.Store { return open(t, "", f) })
	require.NoError(t, f.Write("broken.pem", []byte("-----BEGIN")))
	_, err := open(t, "file", f).Signer("broken")
	require.ErrorIs(t, err, fault.Invalid)
	require.ErrorContains(t, err, f.Path("broken.pem"))
	_, err = keystore.Ensure(open(t, "file", f), "broken", func(do func() error) error { return do() })
	require.NoError(t, err, "a damaged one is replaced")
}

func TestReferencesThatCannotBe(t *testing.T) {
	for ref, says := range map[string]string{
		"disk":                        "use file, tpm",
		"file:/etc/key.pem":           "use file, tpm",
		"pkcs11:token=a?pin-source=x": "module-path is missing",
		"pkcs11:object=a?module-path=b&pin-source=c":  "token is missing",
		"pkcs11:token=a?module-path=b":                "pin-source is missing",
		"pkcs11:token=a?module-path=b&pin-value=1234": "write it to a file",
		"pkcs11:token=%zz?module-path=b&pin-source=c": "not escaped",
		"pkcs11:slot=1?module-path=b&pin-source=c":    `"slot" is not understood`,
	} {
		_, err := keystore.Open(ref, files(t.TempDir()))
		require.ErrorIs(t, err, fault.Invalid, ref)
		require.ErrorContains(t, err, says)
		assert.NotContains(t, err.Error(), "1234")
	}
}

func FuzzPKCS11URI(f *testing.F) {
	f.Add("token=a;object=b?module-path=/nowhere&pin-source=file:/nowhere")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, s string) {
		_, err := keystore.Open("pkcs11:"+s, files(dir))
		require.Error(t, err)
		require.NotEmpty(t, fault.KindOf(err))
	})
}
