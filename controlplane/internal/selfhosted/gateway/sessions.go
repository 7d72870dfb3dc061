package gateway

import (
	"context"
	"slices"
	"strings"

	"golang.org/x/time/rate"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// requestBurst is for how many seconds' worth of requests a certificate need not
// wait: a core that comes back has much to say at once.
const requestBurst = 5

// enter counts the connection under its certificate, before anything is asked
// about it: a change that comes meanwhile finds it. Connections of one certificate
// share the pace of requests.
func (g *Gateway) enter(s *session) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.byCert[s.certificate]) >= g.limits.PerCertificate {
		return false
	}
	for other := range g.byCert[s.certificate] {
		s.requests = other.requests
		break
	}
	if s.requests == nil {
		s.requests = rate.NewLimiter(rate.Limit(g.limits.RequestRate), int(requestBurst*g.limits.RequestRate))
	}
	put(g.byCert, s.certificate, s)
	return true
}

// claim makes s the only session of its client id: the older one is ended and
// has left when claim returns. Who has no thing takes no client id from a thing that
// is connected or whose session is kept: that is fault.Denied. The library's own take-over lets the leaving
// session remove the new one from its tables.
func (g *Gateway) claim(ctx context.Context, s *session) error {
	for {
		g.mu.Lock()
		old := g.byClient[s.id]
		if old == nil {
			defer g.mu.Unlock()
			if prev, ok := g.server.Clients.Get(s.id); ok && of(prev) != nil {
				if err := s.mayTake(of(prev)); err != nil {
					return err
				}
				drop(g.stored, of(prev).certificate, s.id) // it is resumed or replaced
			}
			kept := g.stored[s.certificate]
			if len(kept)+len(g.byCert[s.certificate]) > g.limits.PerCertificate {
				return fault.New(fault.Exhausted, "certificate %s keeps %d sessions", s.certificate, len(kept))
			}
			g.byClient[s.id] = s
			return nil
		}
		g.mu.Unlock()
		if err := s.mayTake(old); err != nil {
			return err
		}
		old.end(endTakenOver)
		select {
		case <-old.done:
		case <-ctx.Done():
			return fault.New(fault.Unavailable, "the older session of client id %q has not ended yet", s.id)
		}
	}
}

// mayTake refuses that somebody without thing ends or replaces a thing's session.
func (s *session) mayTake(old *session) error {
	a := old.authority.Load()
	if a == nil || a.session.Identity.Thing == "" || s.authority.Load().session.Identity.Thing != "" {
		return nil
	}
	return fault.New(fault.Denied, "client id %q is that of thing %s, and this certificate has none", s.id, a.session.Identity.Thing)
}

// establish makes s findable by its thing.
func (g *Gateway) establish(s *session) {
	g.count.sessions.Add(1)
	g.mu.Lock()
	defer g.mu.Unlock()
	s.thing = s.authority.Load().session.Identity.Thing
	if s.thing != "" {
		put(g.byThing, s.thing, s)
	}
}

// forget removes from the library's tables what it leaves there when a CONNACK
// cannot be written or a connection panics.
func (g *Gateway) forget(s *session) {
	cl := s.client.Load()
	if cl == nil || s.kept {
		return
	}
	if now, ok := g.server.Clients.Get(s.id); ok && now == cl {
		g.server.UnsubscribeClient(cl)
		cl.ClearInflights()
		g.server.Clients.Delete(s.id)
	}
}

// unlist makes an established session unfindable by its thing, before anybody
// hears that it ended.
func (g *Gateway) unlist(s *session) {
	g.count.sessions.Add(-1)
	g.mu.Lock()
	defer g.mu.Unlock()
	drop(g.byThing, s.thing, s)
}

// leave forgets the connection.
func (g *Gateway) leave(s *session) {
	s.mu.Lock()
	s.gone = true
	s.mu.Unlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.open, s)
	drop(g.byCert, s.certificate, s)
	if g.byClient[s.id] == s {
		delete(g.byClient, s.id)
		if s.kept {
			put(g.stored, s.certificate, s.id)
		}
	}
	close(s.done)
}

// expired forgets a stored session that the broker dropped.
func (g *Gateway) expired(s *session) {
	g.mu.Lock()
	defer g.mu.Unlock()
	drop(g.stored, s.certificate, s.id)
}

func put[K, V comparable](m map[K]map[V]struct{}, k K, v V) {
	if m[k] == nil {
		m[k] = map[V]struct{}{}
	}
	m[k][v] = struct{}{}
}

func drop[K, V comparable](m map[K]map[V]struct{}, k K, v V) {
	delete(m[k], v)
	if len(m[k]) == 0 {
		delete(m, k)
	}
}

// sessionsOf returns the established sessions of a thing.
func (g *Gateway) sessionsOf(thing string) []*session {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make([]*session, 0, len(g.byThing[thing]))
	for s := range g.byThing[thing] {
		out = append(out, s)
	}
	return out
}

// Connected tells whether the thing has a session here.
func (g *Gateway) Connected(thing string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.byThing[thing]) > 0
}

// Sessions returns the established sessions, ordered by client id.
func (g *Gateway) Sessions() []Session {
	g.mu.Lock()
	var out []Session
	for s := range g.open {
		if s.established.Load() {
			out = append(out, s.authority.Load().session)
		}
	}
	g.mu.Unlock()
	slices.SortFunc(out, func(a, b Session) int { return strings.Compare(a.ClientID, b.ClientID) })
	return out
}

// TakenOver ends the session of a client id that has a newer one elsewhere.
func (g *Gateway) TakenOver(clientID string) {
	g.mu.Lock()
	s := g.byClient[clientID]
	g.mu.Unlock()
	if s != nil {
		s.end(endTakenOver)
	}
}

// Kick ends the connections of a certificate, and returns how many there were.
func (g *Gateway) Kick(certificateID string) int {
	g.mu.Lock()
	var all []*session
	for s := range g.byCert[certificateID] {
		all = append(all, s)
	}
	g.mu.Unlock()
	for _, s := range all {
		s.end(endKicked)
	}
	return len(all)
}
