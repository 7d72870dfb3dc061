package gateway

import (
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/ggfleet/ggfleet/controlplane/internal/pace"
)

// arrivals are the connections that may be closed for others, such as those whose
// handshake is not over: nobody knows yet who they are, and none of them keeps a
// device out.
type arrivals struct {
	mu      sync.Mutex
	waiting map[netip.Prefix][]net.Conn // the oldest first
}

func newArrivals() *arrivals { return &arrivals{waiting: map[netip.Prefix][]net.Conn{}} }

// add counts c among them until leave is called.
func (a *arrivals) add(c net.Conn) (leave func()) {
	var from netip.Prefix
	if at, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		from = pace.Network(at.AddrPort().Addr())
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting[from] = append(a.waiting[from], c)
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if i := slices.Index(a.waiting[from], c); i >= 0 {
			a.removeLocked(from, i)
		}
	}
}

// makeRoom closes the connection that has been waiting longest of those from the
// address with the most, and returns it; nil: there was none.
func (a *arrivals) makeRoom() net.Conn {
	a.mu.Lock()
	defer a.mu.Unlock()
	var from netip.Prefix
	most := 0
	for f, list := range a.waiting {
		if len(list) > most {
			from, most = f, len(list)
		}
	}
	if most == 0 {
		return nil
	}
	c := a.waiting[from][0]
	_ = c.Close()
	a.removeLocked(from, 0)
	return c
}

func (a *arrivals) removeLocked(from netip.Prefix, i int) {
	a.waiting[from] = slices.Delete(a.waiting[from], i, i+1)
	if len(a.waiting[from]) == 0 {
		delete(a.waiting, from)
	}
}
