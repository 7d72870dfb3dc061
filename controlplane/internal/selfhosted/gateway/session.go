package gateway

import (
	"crypto/x509"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
	"golang.org/x/time/rate"

	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/run"
)

// session is one connection and, after CONNECT, the MQTT session on it.
type session struct {
	g       *Gateway
	raw     net.Conn
	conn    *conn
	address string
	done    chan struct{} // closed when the connection has left the tables

	// Set before the library sees the connection.
	leaf        *x509.Certificate
	certificate string

	// Set at CONNECT, before others can find the session.
	id     string
	client atomic.Pointer[mqtt.Client]
	thing  string // under g.mu

	established atomic.Bool
	stale       atomic.Bool // its identity may have changed
	authority   atomic.Pointer[authority]

	// Of the reading goroutine alone.
	refusal    packets.Code // why CONNECT is refused
	ackID      uint16       // packet id to put back into the next acknowledgement
	asked      []asked      // filters of the SUBSCRIBE at hand
	answers    []Message    // of the request at hand, sent after its PUBACK
	answersQoS byte
	told       Session // what Events.Connected was told: Disconnected says the same
	kept       bool    // the broker keeps the session after the connection
	publishes  *rate.Limiter
	requests   *rate.Limiter // of all connections of the certificate
	denials    *rate.Limiter // log records, not decisions

	flow     flow
	checking sync.Mutex // one look at the identity at a time

	mu       sync.Mutex
	gone     bool            // the connection has left: nothing may be queued
	ended    *ending         // first reason wins
	filters  map[string]byte // granted filters and their QoS
	outbox   []outgoing
	draining bool
}

// asked is one filter of a SUBSCRIBE and what was decided about it.
type asked struct {
	sub  packets.Subscription
	code byte // 0: granted; else the reason to refuse it
}

// ending is a reason to end a session: what the device hears (MQTT 5 only) and
// what Events.Disconnected is told.
type ending struct {
	code   packets.Code
	reason string
	will   bool // the last will is published
}

//nolint:gochecknoglobals // constants in all but name
var (
	endShutdown  = ending{packets.ErrServerShuttingDown, "SERVER_INITIATED_DISCONNECT", true}
	endTakenOver = ending{packets.ErrSessionTakenOver, "DUPLICATE_CLIENTID", true}
	endKicked    = ending{packets.ErrAdministrativeAction, "API_INITIATED_DISCONNECT", false}
	endRevoked   = ending{packets.ErrNotAuthorized, "AUTH_ERROR", false}
	endForbidden = ending{packets.ErrNotAuthorized, "FORBIDDEN_ACCESS", true}
	endBusy      = ending{packets.ErrServerBusy, "SERVER_ERROR", true}
	endStalled   = ending{packets.ErrQuotaExceeded, "THROTTLED", true}
	endLost      = ending{packets.ErrUnspecifiedError, "SERVER_ERROR", true}
)

func endClient(code packets.Code) ending { return ending{code, "CLIENT_ERROR", true} }

func newSession(g *Gateway, raw net.Conn) *session {
	s := &session{
		g: g, raw: raw, address: raw.RemoteAddr().String(), done: make(chan struct{}),
		publishes: rate.NewLimiter(rate.Limit(g.limits.PublishRate), int(g.limits.PublishRate)+1),
		denials:   rate.NewLimiter(1, 20),
		filters:   map[string]byte{},
		flow:      flow{freed: run.NewBell()},
	}
	s.conn = &conn{session: s, write: g.limits.Write}
	return s
}

// end ends the session for e. It returns within lastWrite and may be called
// again.
func (s *session) end(e ending) {
	s.mu.Lock()
	first := s.ended == nil
	if first {
		s.ended = &e
	}
	s.mu.Unlock()
	if !first {
		return
	}
	cl := s.client.Load()
	if cl == nil {
		_ = s.raw.Close()
		return
	}
	s.g.count.ended.Add(1)
	s.conn.hurry()
	if cl.Properties.ProtocolVersion == 5 && s.established.Load() {
		_ = s.g.server.DisconnectClient(cl, e.code) // it answers with the code itself
	}
	cl.Stop(e.code)
}

// endedFor returns why the gateway ended the session, or nil.
func (s *session) endedFor() *ending {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// finish reports the end of the connection.
func (s *session) finish(err error) {
	if !s.established.Load() {
		if err != nil {
			s.g.count.refused.Add(1)
			s.g.log.Info("device not connected", logx.Certificate, s.certificate, logx.ClientID, s.id, logx.Address, s.address, logx.Err, err)
		}
		return
	}
	s.g.unlist(s)
	reason := disconnectReason(s.endedFor(), err)
	s.g.log.Info("device disconnected", logx.Thing, s.told.Identity.Thing, logx.ClientID, s.id, logx.Certificate, s.certificate, "reason", reason)
	if f := s.g.events.Disconnected; f != nil {
		f(s.told, reason, time.Now())
	}
}

func disconnectReason(e *ending, err error) string {
	var code packets.Code
	switch {
	case e != nil:
		return e.reason
	case err == nil:
		return "CLIENT_INITIATED_DISCONNECT"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "MQTT_KEEP_ALIVE_TIMEOUT"
	case errors.As(err, &code):
		return "CLIENT_ERROR"
	}
	return "CONNECTION_LOST"
}

// denied logs and counts a refusal; a device that keeps trying fills no disk.
func (s *session) denied(action, name, why string) {
	s.g.count.denied.Add(1)
	if !s.denials.Allow() {
		return
	}
	a := s.authority.Load()
	s.g.log.Warn("device denied", logx.Thing, a.session.Identity.Thing, logx.Certificate, s.certificate,
		logx.ClientID, s.id, "action", action, "resource", a.resource(action, name), "reason", why)
}
