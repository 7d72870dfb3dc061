package gateway

import (
	"context"
	"sync"
	"time"

	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/run"
)

// sweepEvery is the rest between two looks at all sessions. A revoked device is
// gone within 5 s even when the first look failed (architecture §5).
const sweepEvery = 2 * time.Second

// checkers is how many sessions are checked at once.
const checkers = 4

// watchChanges marks the sessions of changed identities, and watches again when
// the watch breaks.
func (g *Gateway) watchChanges(ctx context.Context) error {
	wait := run.Backoff{Min: 50 * time.Millisecond, Max: time.Second}
	for ctx.Err() == nil {
		err := g.changes.Watch(ctx, func(ids ...string) { g.mark(ids) })
		if ctx.Err() != nil {
			return nil
		}
		g.log.ErrorContext(ctx, "watch of identities broke", logx.Err, err)
		_ = run.Sleep(ctx, wait.Next())
	}
	return nil
}

// mark marks the sessions of the certificates, or all without ids.
func (g *Gateway) mark(certificateIDs []string) {
	g.mu.Lock()
	if len(certificateIDs) == 0 {
		for s := range g.open {
			s.stale.Store(true)
		}
	}
	for _, id := range certificateIDs {
		for s := range g.byCert[id] {
			s.stale.Store(true)
		}
	}
	g.mu.Unlock()
	g.check.Ring()
}

// checkSessions checks marked sessions as soon as they are marked, and sweeps
// over all of them.
func (g *Gateway) checkSessions(ctx context.Context) error {
	t := time.NewTicker(sweepEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-g.check:
		case <-t.C:
			g.sweep()
		}
		g.recheckMarked()
	}
}

// sweep ends sessions whose certificate ran out, and those that the library has
// lost: its expiry of an older session of the same client id can drop the new
// one. Without a port for changes, every session is marked.
func (g *Gateway) sweep() {
	now := time.Now()
	for _, s := range g.list(func(s *session) bool { return s.established.Load() }) {
		if g.changes == nil {
			s.stale.Store(true)
		}
		if cl, ok := g.server.Clients.Get(s.id); !ok || cl != s.client.Load() {
			s.end(endLost)
		}
		if now.After(s.leaf.NotAfter) {
			s.end(endRevoked)
		}
	}
}

func (g *Gateway) list(want func(*session) bool) []*session {
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []*session
	for s := range g.open {
		if want(s) {
			out = append(out, s)
		}
	}
	return out
}

// recheckMarked checks established sessions that are marked; the others look at
// their mark when they are established.
func (g *Gateway) recheckMarked() {
	marked := g.list(func(s *session) bool { return s.stale.Load() && s.established.Load() })
	next := make(chan *session, len(marked))
	for _, s := range marked {
		next <- s
	}
	close(next)
	var wg sync.WaitGroup
	for range min(checkers, len(marked)) {
		wg.Go(func() {
			for s := range next {
				if s.stale.Swap(false) {
					g.recheck(s)
				}
			}
		})
	}
	wg.Wait()
}

// recheck looks the identity up again. What it lost it loses now: a session that
// may not connect any more ends, publishes and deliveries are decided by the new
// policies from here on.
func (g *Gateway) recheck(s *session) {
	s.checking.Lock() // an older answer must not overtake a newer one
	defer s.checking.Unlock()
	ctx, cancel := context.WithTimeout(g.base, identifyTimeout)
	defer cancel()
	id, err := g.ids.Identify(ctx, s.leaf)
	old := s.authority.Load()
	switch {
	case fault.Permanent(err):
		g.log.Warn("device lost its admission", logx.Thing, old.session.Identity.Thing, logx.ClientID, s.id, logx.Certificate, s.certificate, logx.Err, err)
		s.end(endRevoked)
		return
	case err != nil:
		s.stale.Store(true) // the next sweep asks again
		return
	}
	now := newAuthority(Session{ClientID: s.id, Identity: id, Address: s.address}, s.leaf, g.cfg.Realm)
	s.authority.Store(now)
	if id.Thing != old.session.Identity.Thing || !now.may(actConnect, s.id) {
		s.denied(actConnect, s.id, "policy or thing changed")
		s.end(endForbidden)
	}
}
