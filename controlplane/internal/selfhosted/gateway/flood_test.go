package gateway_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/gateway"
)

// hello is the first that a TLS client says.
func hello(t *testing.T) []byte {
	t.Helper()
	here, there := net.Pipe()
	defer func() { _, _ = here.Close(), there.Close() }()
	go func() {
		_ = tls.Client(here, &tls.Config{ServerName: "localhost", MinVersion: tls.VersionTLS13}).Handshake()
	}()
	b := make([]byte, 16<<10)
	n, err := there.Read(b)
	require.NoError(t, err)
	return b[:n]
}

// flood opens n connections that say this and no more.
func flood(t *testing.T, addr string, n int, say []byte) {
	t.Helper()
	for range n {
		c, err := net.Dial("tcp", addr)
		require.NoError(t, err)
		t.Cleanup(func() { _ = c.Close() })
		_, _ = c.Write(say) // it may be closed already: others came after it
	}
}

func TestConnectionsThatDoNotComeToAnEndKeepNoDeviceOut(t *testing.T) {
	for says, say := range map[string][]byte{"that never speak": nil, "that say hello and wait": hello(t)} {
		t.Run(says, func(t *testing.T) {
			w := newWorld(t, func(c *gateway.Config) {
				c.Limits.Connections, c.Limits.Handshakes, c.Limits.FirstByte = 20, 2, time.Hour
			})
			first := w.device("press-07").connect("press-07")
			flood(t, w.addr, 100, say)
			second := w.device("press-08").connect("press-08")
			flood(t, w.addr, 100, say)
			w.device("press-09").connect("press-09")
			first.silent()
			second.silent()
			require.Eventually(t, func() bool { return w.gw.Metrics().Connections <= 20 }, patience, time.Millisecond)
		})
	}
}

// pipes is a listener of connections in memory.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	c, ok := <-p
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (p pipes) Close() error { close(p); return nil }
func (pipes) Addr() net.Addr { return &net.TCPAddr{} }

func TestWhoMadeRoomWaitsForNoTurn(t *testing.T) {
	w := newWorld(t, nil) // for its certificates
	server := w.certificate()
	say := hello(t)
	synctest.Test(t, func(t *testing.T) {
		blocked := make(chan struct{})
		gw, err := gateway.New(gateway.Config{
			Identities: w.registry, Reserved: w.service, Realm: realm,
			TLS: gateway.MQTTConfig(w.registry, func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
				<-blocked
				return server(h)
			}),
			Limits: gateway.Limits{Connections: 2, Handshakes: 1},
		})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		ln := make(pipes)
		var run sync.WaitGroup
		run.Go(func() { assert.NoError(t, gw.Run(ctx, ln)) })
		for range 4 {
			here, there := net.Pipe()
			defer here.Close()
			ln <- there
			run.Go(func() { _, _ = here.Write(say) })
			synctest.Wait()
		}
		// The first has the only turn and made room for the third, the second for the fourth.
		assert.EqualValues(t, 3, gw.Metrics().Connections, "the second is gone, the first is being worked on")
		close(blocked)
		cancel()
		run.Wait()
	})
}

func TestADeviceWaitsForNoHandshakeOfOthersUnlessToldSo(t *testing.T) {
	w := newWorld(t, nil) // for its certificates
	server := w.certificate()
	say := hello(t)
	synctest.Test(t, func(t *testing.T) {
		var begun atomic.Int32
		blocked := make(chan struct{})
		gw, err := gateway.New(gateway.Config{
			Identities: w.registry, Reserved: w.service, Realm: realm,
			TLS: gateway.MQTTConfig(w.registry, func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
				begun.Add(1)
				<-blocked
				return server(h)
			}),
		})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		ln := make(pipes)
		var run sync.WaitGroup
		run.Go(func() { assert.NoError(t, gw.Run(ctx, ln)) })
		for range 200 {
			here, there := net.Pipe()
			defer here.Close()
			ln <- there
			run.Go(func() { _, _ = here.Write(say) })
		}
		synctest.Wait()
		assert.EqualValues(t, 200, begun.Load())
		close(blocked)
		cancel()
		run.Wait()
	})
}

// narrow counts how many certificates are looked up at once.
type narrow struct {
	gateway.Identities

	mu        sync.Mutex
	now, most int
}

func (n *narrow) count(by int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.now += by
	n.most = max(n.most, n.now)
}

func (n *narrow) Identify(ctx context.Context, leaf *x509.Certificate) (gateway.Identity, error) {
	n.count(1)
	defer n.count(-1)
	for range 20 {
		runtime.Gosched()
	}
	return n.Identities.Identify(ctx, leaf)
}

// certificate is a server's.
func (w *world) certificate() gateway.Certificate {
	var server *tls.Certificate
	made := w.device("server")
	server = &made.tls.Certificates[0]
	return func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return server, nil }
}

func TestHandshakesTakeTurns(t *testing.T) {
	w := newWorld(t, nil)
	n := &narrow{Identities: w.registry}
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	cfg := gateway.HTTPConfig(n, w.certificate())
	srv := &httptest.Server{
		Listener: gateway.NewTurns(2).Listen(raw, cfg), Config: &http.Server{ReadHeaderTimeout: time.Hour, TLSConfig: cfg, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			_, _ = rw.Write([]byte(r.Proto))
		})},
	}
	srv.Start()
	defer srv.Close()
	flood(t, raw.Addr().String(), 100, nil)
	flood(t, raw.Addr().String(), 100, hello(t))
	flood(t, raw.Addr().String(), 10, []byte("GET / HTTP/1.1\r\n\r\n"))
	var wg sync.WaitGroup
	for i := range 20 {
		d := w.device("press-07")
		wg.Go(func() {
			version := []uint16{tls.VersionTLS12, tls.VersionTLS13}[i%2]
			tr := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true, Certificates: d.tls.Certificates, MinVersion: version, MaxVersion: version}}
			defer tr.CloseIdleConnections()
			c := &http.Client{Transport: tr, Timeout: patience}
			for range 2 {
				res, err := c.Get("https://" + raw.Addr().String())
				if assert.NoError(t, err) {
					assert.Equal(t, 2, res.ProtoMajor)
					assert.NoError(t, res.Body.Close())
				}
			}
		})
	}
	wg.Wait()
	assert.LessOrEqual(t, n.most, 2)
	assert.Positive(t, n.most)
}
