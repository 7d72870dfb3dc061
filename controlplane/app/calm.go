package app

import (
	"context"
	"crypto/tls"
	"sync"
	"time"

	"github.com/ggfleet/ggfleet/shared/run"
)

// calm is when devices' TLS handshakes are carried out. A deployment makes every
// core open several connections at once; ten thousand of them, all a little further
// each time, would keep the processors from telling the other cores and from
// taking reports, until all of them give up and begin anew. So new connections wait
// while many devices are still to be told of a deployment; after that their
// handshakes take turns.
type calm struct {
	busy func() bool // many are still to be told

	mu    sync.Mutex    // guards all below
	over  chan struct{} // closed when what is waited for is over; nil: nobody waits
	until time.Time     // nobody waits before: the last time took too long
}

const (
	calmLook = 5 * time.Millisecond // how often one looks whether it is over
	calmMost = 6 * time.Second      // then connections go on all the same, for as long
)

func newCalm(busy func() bool) *calm { return &calm{busy: busy} }

// wait returns when all are told, as far as one waits for it.
func (c *calm) wait(ctx context.Context) {
	c.mu.Lock()
	if c.over == nil && (!c.busy() || time.Now().Before(c.until)) {
		c.mu.Unlock()
		return
	}
	if c.over == nil {
		c.over = make(chan struct{})
		go c.watch(c.over) //nolint:gosec // others wait with this connection
	}
	over := c.over
	c.mu.Unlock()
	select {
	case <-over:
	case <-ctx.Done():
	}
}

// watch ends by itself after calmMost at the latest.
func (c *calm) watch(over chan struct{}) {
	ctx, cancel := context.WithTimeout(context.Background(), calmMost)
	defer cancel()
	for c.busy() {
		if run.Sleep(ctx, calmLook) != nil {
			break
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if ctx.Err() != nil {
		c.until = time.Now().Add(calmMost)
	}
	c.over = nil
	close(over)
}

// before makes the handshakes of cfg wait.
func (c *calm) before(cfg *tls.Config) {
	choose := cfg.GetConfigForClient
	cfg.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		c.wait(hello.Context())
		return choose(hello)
	}
}
