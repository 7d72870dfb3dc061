package gateway

import (
	"crypto/tls"
	"net"
	"net/http"
	"sync"
)

// DefaultHTTPConnections is how many connections of one HTTP server are open at once.
const DefaultHTTPConnections = 20_000

// BoundConnections keeps srv, which does not serve yet, within n open connections.
// A newcomer takes the place of one that waits for its first or next request: the
// longest waiting of the address with the most. When all have one under way, the
// newcomer is closed. It sets srv.ConnState.
func BoundConnections(srv *http.Server, n int) {
	b := &bound{most: n, open: map[net.Conn]func(){}, arrivals: newArrivals()}
	srv.ConnState = b.change
}

type bound struct {
	most     int
	arrivals *arrivals // those that wait for a request

	mu   sync.Mutex
	open map[net.Conn]func() // by what is below TLS; the function ends the wait, nil: it does not wait
}

// change is called in order for one connection. One that was closed here is not in
// the table any more, and what it still does is of no account.
func (b *bound) change(c net.Conn, to http.ConnState) {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn() // closing TLS would wait for a client that does not read
	}
	if s, ok := c.(*shaking); ok {
		c = abandoned{s}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if to == http.StateNew {
		b.admitLocked(c)
		return
	}
	leave, ok := b.open[c]
	if !ok {
		return
	}
	if leave != nil {
		leave()
	}
	switch {
	case to == http.StateIdle:
		b.open[c] = b.arrivals.add(c)
	case to == http.StateClosed, to == http.StateHijacked:
		delete(b.open, c)
	default:
		b.open[c] = nil
	}
}

func (b *bound) admitLocked(c net.Conn) {
	if len(b.open) >= b.most {
		old := b.arrivals.makeRoom()
		if old == nil {
			_ = c.Close()
			return
		}
		delete(b.open, old)
	}
	b.open[c] = b.arrivals.add(c)
}
