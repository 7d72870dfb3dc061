package device_test

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/test/internal/world"
)

// OpenSSL is the TLS library of most device SDKs.
func TestOpenSSLIsServed(t *testing.T) {
	_, err := exec.LookPath("openssl")
	peer(t, err != nil, "openssl is not installed (Debian package openssl)")
	w := world.Start(t, world.Options{})
	core := w.CreateCores(t, "press-07")[0]
	cert, key := core.Files(t, t.TempDir())
	client := func(stdin, addr string, more ...string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, "openssl", append([]string{
			"s_client", "-connect", addr, "-CAfile", w.CAFile, "-verify_return_error", "-verify_hostname", "localhost", "-servername", "localhost",
		}, more...)...)
		cmd.Stdin = strings.NewReader(stdin)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	own := []string{"-cert", cert, "-key", key}

	t.Run("the certificate of the broker and its ALPN name", func(t *testing.T) {
		for _, version := range []string{"-tls1_2", "-tls1_3"} {
			out, err := client("", w.MQTT, append(own, version, "-alpn", "x-amzn-mqtt-ca")...)
			require.NoError(t, err, out)
			assert.Contains(t, out, "Verify return code: 0 (ok)")
			assert.Contains(t, out, "ALPN protocol: x-amzn-mqtt-ca")
		}
		out, err := client("", w.MQTT, append(own, "-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0")...)
		assert.Error(t, err, out)
	})
	t.Run("a request to the data plane", func(t *testing.T) {
		const get = "GET /greengrass/v2/coreDevices/press-07/thingGroups HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
		for _, alpn := range []string{"x-amzn-http-ca", "http/1.1"} {
			out, err := client(get, w.Device, append(own, "-quiet", "-ign_eof", "-alpn", alpn)...)
			require.NoError(t, err, out)
			assert.Contains(t, out, "HTTP/1.1 200 OK")
			assert.Contains(t, out, `{"thingGroups":[{"thingGroupName":"press-07"}]}`)
		}
		out, err := client(get, w.Device, "-quiet", "-ign_eof")
		require.NoError(t, err, out)
		assert.Contains(t, out, "HTTP/1.1 403 ", "without a certificate")
	})
}
