package run

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// Backoff spaces out retries: the wait doubles from Min to Max and is spread by
// half, so that ten thousand devices that lost one server do not come back in
// one instant. The zero value waits 100 ms to 30 s. Not for concurrent use.
type Backoff struct {
	Min, Max time.Duration
	next     time.Duration
}

// Next returns the wait before the next attempt.
func (b *Backoff) Next() time.Duration {
	lo, hi := b.Min, b.Max
	if lo <= 0 {
		lo = 100 * time.Millisecond
	}
	if hi <= 0 {
		hi = 30 * time.Second
	}
	if b.next < lo {
		b.next = lo
	}
	d := min(b.next, hi)
	b.next = min(b.next*2, hi)
	return d/2 + rand.N(d/2+1)
}

// Reset starts over after a success.
func (b *Backoff) Reset() { b.next = 0 }

// Spread returns d, a tenth less to a tenth more: what many do now and then is not
// to be done by all in one instant.
func Spread(d time.Duration) time.Duration { return d*9/10 + rand.N(d/5+1) }

// Retry calls step until it succeeds, fails permanently (fault.Permanent), ctx
// is done, or attempts are used up (0: no bound). It returns step's last error.
func Retry(ctx context.Context, b Backoff, attempts int, step func(context.Context) error) error {
	for n := 1; ; n++ {
		err := step(ctx)
		if err == nil || fault.Permanent(err) || n == attempts {
			return err
		}
		if Sleep(ctx, b.Next()) != nil {
			return err
		}
	}
}
