package agenttest

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
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
