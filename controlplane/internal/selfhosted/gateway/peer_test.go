package gateway_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/shared/pki"
)

// TestMosquittosClientsAreServed drives the gateway with clients that nobody
// here wrote.
func TestMosquittosClientsAreServed(t *testing.T) {
	for _, tool := range []string{"mosquitto_pub", "mosquitto_sub"} {
		if _, err := exec.LookPath(tool); err != nil {
			require.Empty(t, os.Getenv("GGFLEET_REQUIRE_PEERS"), "%s is not installed (Debian package mosquitto-clients)", tool)
			t.Skipf("%s is not installed (Debian package mosquitto-clients)", tool)
		}
	}
	for _, version := range []string{"mqttv311", "mqttv5"} {
		t.Run(version, func(t *testing.T) {
			w := newWorld(t, nil)
			w.service.serve = echo
			d := w.device("press-07")
			at := d.files(t)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			mosquitto := func(tool string, more ...string) *exec.Cmd {
				return exec.CommandContext(ctx, tool, append(append(at, "-V", version, "-q", "1"), more...)...)
			}
			sub := mosquitto("mosquitto_sub", "-i", "press-07", "-t", "plant/#", "-C", "1", "-F", "%t %p")
			got := make(chan string, 1)
			go func() {
				out, err := sub.CombinedOutput()
				if err != nil {
					out = append(out, err.Error()...)
				}
				got <- string(out)
			}()
			require.Equal(t, "connected press-07", w.event())

			// -C 1 ends the subscriber with the first message; publish until it came.
			for done := false; !done; {
				out, err := mosquitto("mosquitto_pub", "-i", "press-07#2", "-t", "plant/a", "-m", "on").CombinedOutput()
				require.NoError(t, err, string(out))
				select {
				case line := <-got:
					assert.Equal(t, "plant/a on\n", line)
					done = true
				case <-time.After(10 * time.Millisecond):
				}
			}

			out, err := mosquitto("mosquitto_pub", "-i", "press-07", "-t", "$aws/things/press-07/jobs/get", "-m", "{}").CombinedOutput()
			require.NoError(t, err, string(out))
			assert.Contains(t, w.service.requests(), "press-07 $aws/things/press-07/jobs/get")
		})
	}
}

// files writes the device's credentials and returns mosquitto's options.
func (d *device) files(t *testing.T) []string {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		p := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(p, b, 0o600))
		return p
	}
	cert := d.tls.Certificates[0]
	key, err := pki.MarshalKey(d.key)
	require.NoError(t, err)
	_, port, err := net.SplitHostPort(d.w.addr)
	require.NoError(t, err)
	return []string{
		"-h", "localhost", "-p", port,
		"--cafile", write("ca.pem", pki.EncodeCert(d.w.ca.Cert.Raw)),
		"--cert", write("cert.pem", pki.EncodeCert(cert.Certificate[0])),
		"--key", write("key.pem", key),
	}
}
