package gateway

import "sync/atomic"

// Metrics are counts since the start; Connections and Sessions are the present
// numbers.
type Metrics struct {
	Connections    int64 // open sockets
	Sessions       int64 // with CONNACK
	Refused        int64 // sockets over the limit, failed handshakes, refused CONNECTs
	Published      int64 // plain publishes let through
	Served         int64 // reserved requests handed on
	ServeFailed    int64 // of those, failed for a passing reason: not acknowledged
	Denied         int64 // publishes, subscriptions, deliveries refused
	Sent           int64 // answers and notices written
	Dropped        int64 // messages lost because a device did not take them
	TooLarge       int64 // answers and notices over the client's maximum
	Ended          int64 // sessions ended by the gateway
	HandshakeError int64
	Panics         int64 // connections ended by a defect in handling their bytes
}

type counters struct {
	connections, sessions, refused, published, served, serveFailed, denied,
	sent, dropped, tooLarge, ended, handshakeError, panics atomic.Int64
}

// Metrics returns the counts.
func (g *Gateway) Metrics() Metrics {
	c := &g.count
	return Metrics{
		Connections: c.connections.Load(), Sessions: c.sessions.Load(), Refused: c.refused.Load(),
		Published: c.published.Load(), Served: c.served.Load(), ServeFailed: c.serveFailed.Load(),
		Denied: c.denied.Load(), Sent: c.sent.Load(), Dropped: c.dropped.Load(),
		TooLarge: c.tooLarge.Load(), Ended: c.ended.Load(), HandshakeError: c.handshakeError.Load(), Panics: c.panics.Load(),
	}
}
