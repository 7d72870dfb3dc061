package agenttest

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/shared/protocol"
)

// NucleusName is the component that Archive holds.
const NucleusName = "ggfleet.SimulatedNucleus"

// Programs for Archive: shell scripts that get the root as $2.
const (
	// Works tells that it is ready and what it runs, and stops when told.
	Works = `#!/bin/sh
cd "$2" || exit 1
trap 'exit 0' TERM
echo started "$0"
printf '{"components":[{"name":"com.example.hello","version":"%s","state":"RUNNING"}]}' "$3" > state.json.new && mv state.json.new state.json
: > ready
while :; do sleep 1 & wait $!; done
`
	// Breaks ends at once.
	Breaks = "#!/bin/sh\nexit 7\n"
	// Hangs runs, ignores SIGTERM, and is never ready.
	Hangs = "#!/bin/sh\ntrap '' TERM\nwhile :; do sleep 1; done\n"
)

// Archive is a distribution of a program.
func Archive(t testing.TB, version, program string) []byte {
	t.Helper()
	var b bytes.Buffer
	gz := gzip.NewWriter(&b)
	tw := tar.NewWriter(gz)
	manifest := fmt.Sprintf(`{"name":%q,"version":%q,"runtime":"simulated","entrypoint":"bin/sim","args":["--root","{root}",%q],"stateFile":"state.json","readyFile":"ready"}`,
		NucleusName, version, version)
	for _, f := range []struct {
		name, body string
		mode       int64
	}{{"distribution.json", manifest, 0o644}, {"bin/sim", program, 0o755}} {
		require.NoError(t, tw.WriteHeader(&tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.body))}))
		_, err := tw.Write([]byte(f.body))
		require.NoError(t, err)
	}
	require.NoError(t, tw.Close())
	require.NoError(t, gz.Close())
	return b.Bytes()
}

// CertsZip is certs.zip of a certificate and a key in PEM.
func CertsZip(t testing.TB, cert, key []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	_, err := w.Create("certs/")
	require.NoError(t, err)
	for _, f := range []struct {
		name string
		body []byte
	}{{"certs/cert.pem", cert}, {"certs/private.key", key}} {
		e, err := w.Create(f.name)
		require.NoError(t, err)
		_, err = e.Write(f.body)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

// Distribution describes an archive as the control plane would.
func Distribution(version string, archive []byte) *protocol.Distribution {
	h := sha256.Sum256(archive)
	return &protocol.Distribution{Name: NucleusName, Version: version, Digest: hex.EncodeToString(h[:]), Size: int64(len(archive)), Format: "tar.gz"}
}

// SelfSigned is a certificate for a PKCS#8 key, both in PEM.
func SelfSigned(t testing.TB, key []byte) []byte {
	t.Helper()
	block, _ := pem.Decode(key)
	require.NotNil(t, block)
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	require.NoError(t, err)
	signer, ok := k.(crypto.Signer)
	require.True(t, ok)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, signer.Public(), signer)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
