package gateway

import (
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/ggfleet/ggfleet/controlplane/internal/pace"
)

// arrivals are the connections whose handshake is not over: nobody knows yet who
// they are, and none of them keeps a device out.
type arrivals struct {
	mu      sync.Mutex
	waiting map[netip.Prefix][]*session // the oldest first
}

func newArrivals() *arrivals { return &arrivals{waiting: map[netip.Prefix][]*session{}} }

// add counts s among them until leave is called.
func (a *arrivals) add(s *session) (leave func()) {
	var from netip.Prefix
	if at, ok := s.raw.RemoteAddr().(*net.TCPAddr); ok {
		from = pace.Network(at.AddrPort().Addr())
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting[from] = append(a.waiting[from], s)
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if i := slices.Index(a.waiting[from], s); i >= 0 {
			a.removeLocked(from, i)
		}
	}
}

// makeRoom closes the connection that has been waiting longest of those from the
// address with the most, and reports whether there was one.
func (a *arrivals) makeRoom() bool {
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
		return false
	}
	_ = a.waiting[from][0].raw.Close()
	a.removeLocked(from, 0)
	return true
}

func (a *arrivals) removeLocked(from netip.Prefix, i int) {
	a.waiting[from] = slices.Delete(a.waiting[from], i, i+1)
	if len(a.waiting[from]) == 0 {
		delete(a.waiting, from)
	}
}
