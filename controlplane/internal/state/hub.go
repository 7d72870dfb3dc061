package state

import (
	"context"
	"slices"
	"sync"
)

// Hub is a Store that tells the mirrors of this process about each commit made
// through it before Commit returns: what was just written is never missing from
// the next read of a mirror here. The watch of each mirror brings what others
// write.
type Hub struct {
	Store

	mu      sync.RWMutex // guards mirrors
	mirrors []mirror
}

// mirror is what Hub tells of commits.
type mirror interface {
	committed(ops []Op, rev Rev)
}

// NewHub returns a Hub over s. It is the outermost of all wrappers: mirrors are
// made over it, and every commit goes through it.
func NewHub(s Store) *Hub { return &Hub{Store: s} }

// attach is called by NewMirror; a mirror stays attached.
func (h *Hub) attach(m mirror) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mirrors = append(slices.Clip(h.mirrors), m)
}

// Commit implements Store.
func (h *Hub) Commit(ctx context.Context, b *Batch) (Rev, error) {
	rev, err := h.Store.Commit(ctx, b)
	if err != nil || len(b.Ops()) == 0 {
		return rev, err
	}
	h.mu.RLock()
	mirrors := h.mirrors
	h.mu.RUnlock()
	for _, m := range mirrors {
		m.committed(b.Ops(), rev)
	}
	return rev, nil
}
