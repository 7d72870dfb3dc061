package gateway

import "sync"

// retainers are those who have messages retained, things or else certificates, and
// on which topics: one of them does not take the place of all.
type retainers struct {
	mu sync.Mutex
	of map[string]map[string]struct{}
}

// mayRetain reports whether s may have a message retained on topic, and counts it;
// an empty one takes back what is there.
func (g *Gateway) mayRetain(s *session, topic string, empty bool) bool {
	owner := s.authority.Load().session.Identity.Thing
	if owner == "" {
		owner = s.certificate
	}
	r := &g.retained
	r.mu.Lock()
	defer r.mu.Unlock()
	if empty {
		drop(r.of, owner, topic)
		return true
	}
	if _, has := r.of[owner][topic]; has {
		return true
	}
	all := g.server.Topics.Retained
	_, there := all.Get(topic)
	if len(r.of[owner]) >= g.limits.RetainedOfOne {
		for t := range r.of[owner] {
			if _, is := all.Get(t); !is { // it expired, or somebody else took it back
				drop(r.of, owner, t)
			}
		}
	}
	if len(r.of[owner]) >= g.limits.RetainedOfOne || !there && all.Len() >= g.limits.Retained {
		return false
	}
	put(r.of, owner, topic)
	return true
}
