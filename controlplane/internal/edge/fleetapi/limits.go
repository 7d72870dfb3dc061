package fleetapi

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// idle is how long a bucket is kept after its last use. It is full again long
// before.
const idle = 10 * time.Minute

// limits bounds the requests of each principal with a token bucket. It holds
// one bucket for each principal of the last minutes; only those who proved who
// they are get one.
type limits struct {
	rate  rate.Limit
	burst int

	mu      sync.Mutex
	buckets map[string]*bucket
	swept   time.Time
}

type bucket struct {
	*rate.Limiter
	used time.Time
}

func newLimits(perSecond float64, burst int) *limits {
	return &limits{rate: rate.Limit(perSecond), burst: burst, buckets: make(map[string]*bucket)}
}

func (l *limits) allow(who string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.swept) > idle {
		for name, b := range l.buckets {
			if now.Sub(b.used) > idle {
				delete(l.buckets, name)
			}
		}
		l.swept = now
	}
	b := l.buckets[who]
	if b == nil {
		b = &bucket{Limiter: rate.NewLimiter(l.rate, l.burst)}
		l.buckets[who] = b
	}
	b.used = now
	return b.AllowN(now, 1)
}
