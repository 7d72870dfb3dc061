package pace

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Rate bounds how often each caller may act. Safe for concurrent use.
type Rate[K comparable] struct {
	limit       rate.Limit
	burst, keep int

	mu sync.Mutex // guards all below
	// Who acts moves to recent. When that is full, it becomes older, and the older
	// ones are forgotten: whoever acts again before keep others do never is.
	recent, older map[K]*rate.Limiter
}

// NewRate lets each caller act burst times at once and perSecond times a second
// after that. It remembers between keep and twice as many callers; one that is
// forgotten begins anew.
func NewRate[K comparable](perSecond float64, burst, keep int) *Rate[K] {
	return &Rate[K]{limit: rate.Limit(perSecond), burst: burst, keep: keep, recent: map[K]*rate.Limiter{}}
}

// Allow counts one act of k and reports whether it may be done.
func (r *Rate[K]) Allow(k K, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.recent[k]
	if l == nil {
		if l = r.older[k]; l == nil {
			l = rate.NewLimiter(r.limit, r.burst)
		}
		if len(r.recent) >= r.keep {
			r.older, r.recent = r.recent, map[K]*rate.Limiter{}
		}
		r.recent[k] = l
	}
	return l.AllowN(now, 1)
}

// Network is what counts as one caller of those that are known by their address
// alone: who has an IPv6 address has the 2^64 of its /64. It is the zero value for
// the zero address.
func Network(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 64
	if a.Is4() {
		bits = 32
	}
	p, _ := a.Prefix(bits) // fails for the zero address alone
	return p
}
