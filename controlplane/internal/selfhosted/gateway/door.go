package gateway

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/run"
)

// Limits of connections of which nobody knows yet what they speak.
const (
	doorWaiting = 20_000           // at once; more are closed, the longest waiting first
	doorTimeout = 10 * time.Second // from accept to a whole ClientHello
)

// mqttProtocols are what clients of MQTT offer in TLS.
func mqttProtocols() []string { return []string{"x-amzn-mqtt-ca", "mqtt"} }

// Door parts the connections of one listener as AWS does on port 443: who offers
// MQTT in TLS (ALPN) goes to the listener MQTT, everybody else to HTTPS. AWS's
// device SDKs and the provisioning plugin of classic ask port 443 unless they are
// told another (nucleus-contract §1.6, §2.6). TLS itself is up to the two servers.
type Door struct {
	MQTT, HTTPS net.Listener
	Waiting     int // how many may be here before anybody knows what they speak: 20,000

	ln          net.Listener
	mqtt, https *side
	log         *slog.Logger
	arrivals    *arrivals
	here        atomic.Int64
}

// NewDoor starts nothing; Run closes ln. log may be nil.
func NewDoor(ln net.Listener, log *slog.Logger) *Door {
	if log == nil {
		log = logx.Discard()
	}
	d := &Door{Waiting: doorWaiting, ln: ln, mqtt: newSide(ln), https: newSide(ln), log: log, arrivals: newArrivals()}
	d.MQTT, d.HTTPS = d.mqtt, d.https
	return d
}

// Run hands connections on until ctx is done. It may be called once.
func (d *Door) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = d.ln.Close() })
	defer stop()
	var work sync.WaitGroup
	defer work.Wait()
	wait := run.Backoff{Min: 5 * time.Millisecond, Max: time.Second}
	for {
		c, err := d.ln.Accept()
		switch {
		case err == nil:
			wait.Reset()
			if d.here.Add(1) > int64(d.Waiting) && d.arrivals.makeRoom() == nil {
				d.here.Add(-1)
				_ = c.Close()
				continue
			}
			leave := d.arrivals.add(c)
			work.Go(func() {
				defer d.here.Add(-1)
				d.part(ctx, c, leave)
			})
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept device connections: %w", err)
		default: // such as too many open files: it passes
			d.log.ErrorContext(ctx, "device connection not accepted", logx.Err, err)
			_ = run.Sleep(ctx, wait.Next())
		}
	}
}

// part hands one connection to the side that it asks for, and leaves the arrivals
// before that.
func (d *Door) part(ctx context.Context, raw net.Conn, leave func()) {
	_ = raw.SetDeadline(time.Now().Add(doorTimeout))
	protocols, c, err := offered(ctx, raw)
	leave()
	if err != nil {
		d.log.DebugContext(ctx, "device connection says nothing of TLS", logx.Address, raw.RemoteAddr().String(), logx.Err, err)
		_ = raw.Close()
		return
	}
	_ = raw.SetDeadline(time.Time{}) // the server has limits of its own
	to := d.https
	if slices.ContainsFunc(protocols, func(p string) bool { return slices.Contains(mqttProtocols(), p) }) {
		to = d.mqtt
	}
	select {
	case to.conns <- c:
	case <-to.closed:
		_ = raw.Close()
	case <-ctx.Done():
		_ = raw.Close()
	}
}

// errHeard ends the handshake that offered begins.
var errHeard = errors.New("client hello heard")

// offered reads what the client offers, and returns it with the connection as if
// nothing had been read of it.
func offered(ctx context.Context, raw net.Conn) (protocols []string, c net.Conn, err error) {
	var heard bytes.Buffer
	// The handshake ends at the first message: nothing is sent, not even that it ended.
	err = tls.Server(deaf{raw, io.TeeReader(raw, &heard)}, &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			protocols = hello.SupportedProtos
			return nil, errHeard
		},
	}).HandshakeContext(ctx)
	if !errors.Is(err, errHeard) {
		return nil, nil, err
	}
	return protocols, replayed{raw, io.MultiReader(&heard, raw)}, nil
}

// deaf is a connection to which nothing is written.
type deaf struct {
	net.Conn
	r io.Reader
}

func (c deaf) Read(b []byte) (int, error)  { return c.r.Read(b) }
func (c deaf) Write(b []byte) (int, error) { return len(b), nil }

// replayed is a connection whose first bytes were read before.
type replayed struct {
	net.Conn
	r io.Reader
}

func (c replayed) Read(b []byte) (int, error) { return c.r.Read(b) }

// side is the listener of one of the two servers.
type side struct {
	addr   net.Addr
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newSide(ln net.Listener) *side {
	return &side{addr: ln.Addr(), conns: make(chan net.Conn), closed: make(chan struct{})}
}

// Accept implements net.Listener.
func (s *side) Accept() (net.Conn, error) {
	select {
	case c := <-s.conns:
		return c, nil
	case <-s.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener; the other side goes on.
func (s *side) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

// Addr implements net.Listener.
func (s *side) Addr() net.Addr { return s.addr }
