package app

import (
	"context"
	"crypto/tls"
	"sync"
	"time"

	"github.com/ggfleet/ggfleet/shared/run"
)

// calm lets notifications go before what they cause. A device that is told of a
// deployment opens several TLS connections at once; ten thousand of them would
// keep the processors from telling the rest. So while many are still to be told, new
// connections wait before the part of the handshake that costs.
type calm struct {
	busy func() bool

	mu    sync.Mutex    // guards all below
	over  chan struct{} // closed when what is waited for is over; nil: nobody waits
	until time.Time     // nobody waits before: the last time took too long
}

const (
	calmLook = 5 * time.Millisecond // how often one looks whether it is over
	calmMost = 6 * time.Second      // then connections go on all the same, for as long
)

// wait returns when there is time for the connection.
func (c *calm) wait(ctx context.Context) {
	c.mu.Lock()
	if c.over == nil && (!c.busy() || time.Now().Before(c.until)) {
		c.mu.Unlock()
		return
	}
	if c.over == nil {
		c.over = make(chan struct{})
		go c.watch(c.over)
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
	for c.busy() && run.Sleep(ctx, calmLook) == nil {
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
