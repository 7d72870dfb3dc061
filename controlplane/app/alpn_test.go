package app_test

import (
	"crypto/tls"
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestOneMorePortServesMQTTAndHTTPS(t *testing.T) {
	r := serve(t, config(t, t.TempDir(), "--alpn-addr", "127.0.0.1:0"))
	assert.ElementsMatch(t, []string{"device HTTPS", "device HTTPS by ALPN", "artifact downloads"}, r.app.Bounded(), "those that anybody reaches")
	transport, ok := r.http.Transport.(*http.Transport)
	require.True(t, ok)
	offering := func(name string) *tls.Config {
		cfg := transport.TLSClientConfig.Clone()
		cfg.ServerName, cfg.NextProtos = "127.0.0.1", []string{name}
		return cfg
	}

	// The gateway refuses who has no certificate, once it has said what it speaks.
	c, err := tls.Dial("tcp", r.addresses["alpn"], offering("x-amzn-mqtt-ca"))
	require.NoError(t, err)
	assert.Equal(t, "x-amzn-mqtt-ca", c.ConnectionState().NegotiatedProtocol)
	_, err = c.Read(make([]byte, 1))
	require.ErrorContains(t, err, "certificate required")
	require.NoError(t, c.Close())

	c, err = tls.Dial("tcp", r.addresses["alpn"], offering("x-amzn-http-ca"))
	require.NoError(t, err)
	defer c.Close()
	_, err = io.WriteString(c, "GET /greengrass/discover/thing/gauge-1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
	require.NoError(t, err)
	answer, err := io.ReadAll(c)
	require.NoError(t, err)
	assert.Contains(t, string(answer), "HTTP/1.1 403 Forbidden", "there is no certificate here either")
}
