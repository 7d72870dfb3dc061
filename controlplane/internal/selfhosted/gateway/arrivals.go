package gateway

import (
	"container/list"
	"net"
	"net/netip"
	"sync"

	"github.com/ggfleet/ggfleet/controlplane/internal/pace"
)

// arrivals are the connections that may be closed for others, such as those whose
// handshake is not over: nobody knows yet who they are, and none of them keeps a
// device out.
type arrivals struct {
	mu      sync.Mutex
	waiting map[netip.Prefix]*list.List // of net.Conn, the oldest first; none is empty
}

func newArrivals() *arrivals { return &arrivals{waiting: map[netip.Prefix]*list.List{}} }

// add counts c among them until leave is called.
func (a *arrivals) add(c net.Conn) (leave func()) {
	var from netip.Prefix
	if at, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		from = pace.Network(at.AddrPort().Addr())
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.waiting[from] == nil {
		a.waiting[from] = list.New()
	}
	line := a.waiting[from]
	place := line.PushBack(c)
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.removeLocked(from, line, place)
	}
}

// makeRoom closes the connection that has been waiting longest of those from the
// address with the most, and returns it; nil: there was none.
func (a *arrivals) makeRoom() net.Conn {
	a.mu.Lock()
	defer a.mu.Unlock()
	var from netip.Prefix
	var longest *list.List
	for f, line := range a.waiting {
		if longest == nil || line.Len() > longest.Len() {
			from, longest = f, line
		}
	}
	if longest == nil {
		return nil
	}
	c, _ := longest.Front().Value.(net.Conn)
	_ = c.Close()
	a.removeLocked(from, longest, longest.Front())
	return c
}

// removeLocked does nothing when place is not in line any more.
func (a *arrivals) removeLocked(from netip.Prefix, line *list.List, place *list.Element) {
	line.Remove(place)
	if line.Len() == 0 && a.waiting[from] == line {
		delete(a.waiting, from)
	}
}
