package gateway_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/gateway"
	"github.com/ggfleet/ggfleet/shared/pki"
)

// twoServers are a server of MQTT that says mqtt and ends, and one of HTTPS that
// says https, behind one door where so many may wait. stop ends all three.
func twoServers(t *testing.T, waiting int) (addr string, roots *x509.CertPool, stop func()) {
	t.Helper()
	now := time.Now()
	ca, err := pki.NewRoot("test", now, time.Hour)
	require.NoError(t, err)
	key, err := pki.NewKey(pki.P256)
	require.NoError(t, err)
	der, err := ca.SignServer(key.Public(), []string{"localhost"}, now, time.Hour)
	require.NoError(t, err)
	with := func(names ...string) *tls.Config {
		return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pki.TLSCertificate(key, der)}, NextProtos: names}
	}
	roots = x509.NewCertPool()
	roots.AddCert(ca.Cert)

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	door := gateway.NewDoor(ln, nil)
	door.Waiting = waiting
	var work sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	var ended error
	work.Go(func() { ended = door.Run(ctx) })
	work.Go(func() {
		for mqtt := tls.NewListener(door.MQTT, with("x-amzn-mqtt-ca", "mqtt")); ; {
			c, err := mqtt.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "mqtt")
			_ = c.Close()
		}
	})
	srv := &http.Server{ReadHeaderTimeout: time.Hour, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "https") })}
	work.Go(func() { _ = srv.Serve(tls.NewListener(door.HTTPS, with("http/1.1"))) })
	return ln.Addr().String(), roots, func() {
		cancel()
		assert.NoError(t, door.MQTT.Close())
		assert.NoError(t, srv.Close())
		work.Wait()
		assert.NoError(t, ended)
	}
}

func TestOnePortServesWhatTheClientOffersToSpeak(t *testing.T) {
	addr, roots, stop := twoServers(t, 100)
	// Who says nothing, or no TLS, keeps nobody else waiting, nor the end.
	silent, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer silent.Close()
	defer stop()
	plain, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer plain.Close()
	_, err = io.WriteString(plain, "GET / HTTP/1.1\r\n\r\n")
	require.NoError(t, err)
	require.NoError(t, plain.SetDeadline(time.Now().Add(patience)))
	said, _ := io.ReadAll(plain)
	assert.Empty(t, said, "it is closed without a word")

	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for name, tt := range map[string]struct {
			offers []string
			want   string
		}{
			"MQTT, as AWS's device SDKs offer it": {[]string{"x-amzn-mqtt-ca"}, "mqtt"},
			"MQTT by its registered name":         {[]string{"mqtt"}, "mqtt"},
			"HTTP as others offer it":             {[]string{"h2", "http/1.1"}, "https"},
			"nothing":                             {nil, "https"},
		} {
			t.Run(name+", "+tls.VersionName(version), func(t *testing.T) {
				c, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: roots, ServerName: "localhost", NextProtos: tt.offers, MinVersion: version, MaxVersion: version})
				require.NoError(t, err)
				defer c.Close()
				if tt.want == "https" {
					_, err = io.WriteString(c, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
					require.NoError(t, err)
				}
				got, err := io.ReadAll(c)
				require.NoError(t, err)
				assert.Contains(t, string(got), tt.want)
			})
		}
	}
}

func TestConnectionsThatOfferNothingKeepNobodyFromTheDoor(t *testing.T) {
	addr, roots, stop := twoServers(t, 20)
	defer stop()
	for range 3 {
		flood(t, addr, 50, nil)
		c, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: roots, ServerName: "localhost", NextProtos: []string{"mqtt"}, MinVersion: tls.VersionTLS12})
		require.NoError(t, err)
		got, err := io.ReadAll(c)
		require.NoError(t, err)
		assert.Equal(t, "mqtt", string(got))
		_ = c.Close()
	}
}
