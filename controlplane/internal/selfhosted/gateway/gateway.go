package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"golang.org/x/time/rate"

	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/pki"
	"github.com/ggfleet/ggfleet/shared/run"
)

// closeGrace is how long sessions may take to hear of a shutdown and to finish
// the request at hand.
const closeGrace = 500 * time.Millisecond

// Gateway serves MQTT to devices. Its methods are safe for concurrent use.
type Gateway struct {
	ids      Identities
	reserved Reserved
	changes  Changes
	events   Events
	cfg      Config
	limits   Limits
	log      *slog.Logger
	server   *mqtt.Server
	arrivals *arrivals
	turns    *Turns

	own       atomic.Pointer[own] // nil: Run has not begun
	started   atomic.Bool
	check     run.Bell        // a session is marked to be checked
	strangers *rate.Limiter   // log records about those who are not admitted
	work      sync.WaitGroup  // connections and outboxes
	base      context.Context //nolint:containedctx // the life of requests, ended after closeGrace
	cancel    context.CancelFunc

	mu       sync.Mutex
	open     map[*session]struct{}
	byClient map[string]*session
	byThing  map[string]map[*session]struct{}
	byCert   map[string]map[*session]struct{}
	stored   map[string]map[string]struct{} // certificate → client ids of disconnected sessions

	retained retainers

	count counters
}

// New checks cfg; it starts nothing.
func New(cfg Config) (*Gateway, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	g := &Gateway{
		ids: cfg.Identities, reserved: cfg.Reserved, changes: cfg.Changes, events: cfg.Events,
		cfg: cfg, limits: cfg.Limits.withDefaults(), log: cfg.Log, arrivals: newArrivals(),
		check: run.NewBell(), open: map[*session]struct{}{}, byClient: map[string]*session{},
		byThing: map[string]map[*session]struct{}{}, byCert: map[string]map[*session]struct{}{},
		stored: map[string]map[string]struct{}{}, strangers: rate.NewLimiter(10, 50),
		retained: retainers{of: map[string]map[string]struct{}{}},
	}
	g.turns = NewTurns(g.limits.Handshakes)
	if g.log == nil {
		g.log = logx.Discard()
	}
	return g, nil
}

// Run serves the listeners until ctx is done, then tells the devices and stops
// within about a second; it closes the listeners. It may be called once.
func (g *Gateway) Run(ctx context.Context, listeners ...net.Listener) error {
	if !g.started.CompareAndSwap(false, true) {
		return errors.New("gateway: Run was called before")
	}
	g.base, g.cancel = context.WithCancel(context.WithoutCancel(ctx))
	defer g.cancel()
	var err error
	if g.server, err = newServer(g); err != nil {
		return err
	}
	defer func() { _ = g.server.Close() }() // it has no listener that could fail to close
	g.own.Store(newOwn(g.server))
	defer g.own.Store(nil)

	loops := []run.Loop{{Name: "check sessions", Run: g.checkSessions}}
	if g.changes != nil {
		loops = append(loops, run.Loop{Name: "watch identities", Run: g.watchChanges})
	}
	for _, ln := range listeners {
		loops = append(loops, run.Loop{Name: "accept on " + ln.Addr().String(), Run: func(ctx context.Context) error { return g.accept(ctx, ln) }})
	}
	err = run.All(ctx, loops...)
	g.shutdown()
	return err
}

// newServer makes the library's server without a listener: connections are
// handed to it one by one.
func newServer(g *Gateway) (*mqtt.Server, error) {
	l := g.limits
	caps := mqtt.NewDefaultServerCapabilities()
	caps.MaximumMessageExpiryInterval = 0
	caps.MaximumClientWritesPending = int32(l.Outbox) //nolint:gosec // a small setting
	caps.MaximumSessionExpiryInterval = uint32(l.SessionExpiry.Seconds())
	caps.MaximumPacketSize = uint32(l.PacketBytes)                      //nolint:gosec // a small setting; 0 would be 256 MB before CONNECT (defect 6)
	caps.ReceiveMaximum = uint16(min(l.ReceiveMaximum, math.MaxUint16)) //nolint:gosec // bounded
	caps.MaximumInflight = uint16(min(l.Inflight, math.MaxUint16))      //nolint:gosec // bounded
	caps.TopicAliasMaximum = 0                                          // the ACL would see an empty topic (defect 9)
	caps.MaximumQos = 1
	caps.MinimumProtocolVersion = 4
	caps.Compatibilities.NoInheritedPropertiesOnAck = true
	s := mqtt.New(&mqtt.Options{
		Capabilities: caps,
		Logger:       logx.Discard(), // it logs whole packets, payload included
		// Its write buffer keeps small packets back when the last one queued is
		// too large for the client; one byte turns it off.
		ClientNetWriteBufferSize: 1,
		SysTopicResendInterval:   math.MaxInt32, // $SYS is not for devices
	})
	if err := s.AddHook(&hook{g: g}, nil); err != nil {
		return nil, fmt.Errorf("start broker: %w", err)
	}
	if err := s.Serve(); err != nil {
		return nil, fmt.Errorf("start broker: %w", err)
	}
	for topic := range s.Topics.Retained.GetAll() { // the $SYS values of the start
		s.Topics.Retained.Delete(topic)
	}
	return s, nil
}

func (g *Gateway) accept(ctx context.Context, ln net.Listener) error {
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	wait := run.Backoff{Min: 5 * time.Millisecond, Max: time.Second}
	for {
		c, err := ln.Accept()
		switch {
		case err == nil:
			wait.Reset()
			g.take(c)
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept device connections: %w", err)
		default: // such as too many open files: it passes
			g.log.ErrorContext(ctx, "device connection not accepted", logx.Err, err)
			_ = run.Sleep(ctx, wait.Next())
		}
	}
}

// take starts the connection's goroutine. When too many are open, one whose
// handshake is not over makes room for it; devices do not.
func (g *Gateway) take(c net.Conn) {
	if g.count.connections.Add(1) > int64(g.limits.Connections) && g.arrivals.makeRoom() == nil {
		g.count.connections.Add(-1)
		g.count.refused.Add(1)
		_ = c.Close()
		return
	}
	raw := g.turns.shake(g.base, c)
	s := newSession(g, raw)
	g.mu.Lock()
	g.open[s] = struct{}{}
	g.mu.Unlock()
	leave := g.arrivals.add(abandoned{raw})
	g.work.Go(func() {
		defer g.count.connections.Add(-1)
		defer g.leave(s)
		defer func() { _ = raw.Close() }()
		defer g.survive(s)
		g.serve(s, raw, leave)
	})
}

// survive keeps a defect in the parser of outside bytes from ending the process.
func (g *Gateway) survive(s *session) {
	if p := recover(); p != nil {
		g.count.panics.Add(1)
		g.log.Error("device connection panicked", logx.ClientID, s.id, "panic", p, "stack", string(debug.Stack()))
	}
}

// serve runs one connection to its end, and leaves the arrivals when it is known who
// is there.
func (g *Gateway) serve(s *session, raw *shaking, leave func()) {
	defer leave()
	// One deadline from accept to a complete CONNECT (defect 5: the library has none).
	_ = raw.SetDeadline(time.Now().Add(g.limits.FirstByte))
	tc := tls.Server(raw, g.cfg.TLS)
	if err := tc.HandshakeContext(g.base); err != nil {
		g.count.handshakeError.Add(1)
		g.count.refused.Add(1)
		if g.strangers.Allow() {
			g.log.Warn("device handshake failed", logx.Address, s.address, logx.Err, err)
		}
		return
	}
	raw.finish()
	leave()
	s.conn.Conn = tc
	s.leaf = tc.ConnectionState().PeerCertificates[0]
	s.certificate = pki.ID(s.leaf.Raw)
	if !g.enter(s) {
		g.count.refused.Add(1)
		g.log.Warn("device connection refused", logx.Certificate, s.certificate, logx.Address, s.address, "reason", "too many sessions of this certificate")
		return
	}
	err := errors.New("panic")
	defer func() { g.forget(s); s.finish(err) }()
	err = g.server.EstablishConnection("devices", s.conn)
}

// shutdown ends all connections: with a word to those that have a session, and
// at once for the rest.
func (g *Gateway) shutdown() {
	g.mu.Lock()
	all := make([]*session, 0, len(g.open))
	for s := range g.open {
		all = append(all, s)
	}
	g.mu.Unlock()
	for _, s := range all {
		if s.established.Load() {
			g.work.Go(func() { s.end(endShutdown) })
			continue
		}
		_ = s.raw.Close()
	}
	done := make(chan struct{})
	go func() { g.work.Wait(); close(done) }() // ends with the connections, which are waited for below
	grace := time.NewTimer(closeGrace)
	defer grace.Stop()
	select {
	case <-done:
		return
	case <-grace.C:
	}
	g.cancel()
	for _, s := range all {
		_ = s.raw.Close()
	}
	<-done
}
