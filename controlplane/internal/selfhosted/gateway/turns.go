package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// DefaultHandshakes is how many handshakes of one listener are worked on at once.
const DefaultHandshakes = 128

// turnWait is how long a handshake waits for its turn: by then a client has given up
// and begun anew.
const turnWait = 10 * time.Second

// Turns bounds how many TLS handshakes are worked on at once, so that each is soon
// over when thousands of devices come together. A handshake has a turn only while
// bytes of the client are worked on: one that waits for a client, as long as it
// likes, keeps nobody else waiting. One that has begun does not queue behind those
// that begin: else all of a great many would end late.
type Turns struct{ begin, goOn chan struct{} }

// NewTurns lets n handshakes that have begun be worked on at once, and an eighth of
// that begin.
func NewTurns(n int) *Turns {
	return &Turns{begin: make(chan struct{}, max(1, n/8)), goOn: make(chan struct{}, n)}
}

// Listen makes a listener of TLS connections with cfg from l. Their handshakes take
// turns; how long a client may take for one is the caller's to say.
func (t *Turns) Listen(l net.Listener, cfg *tls.Config) net.Listener {
	cfg = cfg.Clone()
	choose := cfg.GetConfigForClient
	cfg.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		chosen := cfg
		if choose != nil {
			c, err := choose(hello)
			if err != nil {
				return nil, err
			}
			if c != nil {
				chosen = c
			}
		}
		chosen = chosen.Clone()
		verify := chosen.VerifyConnection
		chosen.VerifyConnection = func(cs tls.ConnectionState) error { // the last step that costs
			if c, ok := hello.Conn.(*shaking); ok {
				defer c.finish()
			}
			if verify == nil {
				return nil
			}
			return verify(cs)
		}
		return chosen, nil
	}
	return tls.NewListener(turnsListener{l, t}, cfg)
}

type turnsListener struct {
	net.Listener

	turns *Turns
}

func (l turnsListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.turns.shake(context.Background(), c), nil
}

// shake makes the handshake on c take turns until finish is called or ctx is done.
func (t *Turns) shake(ctx context.Context, c net.Conn) *shaking {
	ctx, cancel := context.WithCancel(ctx)
	return &shaking{Conn: c, turns: t, next: t.begin, ctx: ctx, cancel: cancel}
}

// shaking is a connection whose handshake takes turns. Reading ends one turn and
// begins the next; what is written is the end of one.
type shaking struct {
	net.Conn

	turns  *Turns
	ctx    context.Context //nolint:containedctx // the life of the handshake
	cancel context.CancelFunc
	next   chan struct{} // whose turn the next one is; of the handshake's goroutine alone
	over   atomic.Bool

	mu  sync.Mutex
	has chan struct{} // whose turn this is; nil: none
}

func (c *shaking) Read(b []byte) (int, error) {
	if c.over.Load() {
		return c.Conn.Read(b)
	}
	c.leave()
	n, err := c.Conn.Read(b)
	if err != nil {
		return n, err
	}
	ctx, cancel := context.WithTimeout(c.ctx, turnWait)
	defer cancel()
	select {
	case c.next <- struct{}{}:
	case <-ctx.Done():
		if c.ctx.Err() != nil {
			return 0, net.ErrClosed
		}
		return 0, errors.New("the server has too many handshakes to do; try again")
	}
	c.mu.Lock()
	c.has, c.next = c.next, c.turns.goOn
	c.mu.Unlock()
	if c.over.Load() { // it was closed meanwhile
		c.leave()
	}
	return n, nil
}

func (c *shaking) Write(b []byte) (int, error) {
	c.leave()
	return c.Conn.Write(b)
}

func (c *shaking) Close() error {
	c.finish()
	return c.Conn.Close()
}

// finish ends the last turn: what is read from now on takes none.
func (c *shaking) finish() {
	c.over.Store(true)
	c.cancel()
	c.leave()
}

func (c *shaking) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.has != nil {
		<-c.has
		c.has = nil
	}
}

// abandoned is how others than its server close a connection: it waits for no turn
// any more, but one that it has ends only with what is worked on.
type abandoned struct{ *shaking }

func (a abandoned) Close() error {
	a.cancel()
	return a.Conn.Close()
}
