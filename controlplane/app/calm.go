package app

import (
	"context"
	"crypto/tls"
	"errors"
	"sync"
	"time"

	"github.com/ggfleet/ggfleet/shared/run"
)

// calm is when devices' TLS handshakes are carried out. A deployment makes every
// core open several connections at once; ten thousand of them, all a little further
// each time, would keep the processors from telling the other cores and from
// taking reports, until all of them give up and begin anew. So new connections wait
// while many devices are still to be told of a deployment, and only so many
// handshakes are under way that each is soon over.
type calm struct {
	busy  func() bool // many are still to be told
	slots chan struct{}

	mu    sync.Mutex    // guards all below
	over  chan struct{} // closed when what is waited for is over; nil: nobody waits
	until time.Time     // nobody waits before: the last time took too long
}

const (
	calmLook = 5 * time.Millisecond // how often one looks whether it is over
	calmMost = 6 * time.Second      // then connections go on all the same, for as long

	handshakes = 128             // under way at once
	slotMost   = 2 * time.Second // a client that is slower does not keep others waiting
	patience   = 9 * time.Second // the server gives a handshake ten; who waited longer begins anew
)

func newCalm(busy func() bool) *calm {
	return &calm{busy: busy, slots: make(chan struct{}, handshakes)}
}

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

// enter returns when a handshake may go on, and how to say that it is over; that is
// said by itself after slotMost.
func (c *calm) enter(ctx context.Context) (leave func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c.wait(ctx)
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, errors.New("the server has too many handshakes to do; try again")
	}
	free := sync.OnceFunc(func() { <-c.slots })
	slow := time.AfterFunc(slotMost, free)
	return func() { slow.Stop(); free() }, nil
}

// before makes the handshakes of cfg wait. The slot is left with the last step that
// costs: when the client's certificate is looked at.
func (c *calm) before(cfg *tls.Config) {
	choose := cfg.GetConfigForClient
	cfg.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		leave, err := c.enter(hello.Context())
		if err != nil {
			return nil, err
		}
		chosen, err := choose(hello)
		if err != nil {
			leave()
			return nil, err
		}
		if chosen == nil {
			chosen = cfg
		}
		chosen = chosen.Clone()
		verify := chosen.VerifyConnection
		chosen.VerifyConnection = func(cs tls.ConnectionState) error {
			defer leave()
			return verify(cs)
		}
		return chosen, nil
	}
}
