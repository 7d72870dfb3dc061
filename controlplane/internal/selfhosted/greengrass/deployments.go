package greengrass

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/btree"

	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
)

// Header is what a list says of a deployment.
type Header struct {
	ID        string           `json:"id"`
	Name      string           `json:"name,omitempty"`
	Kind      names.TargetKind `json:"targetKind"`
	Target    string           `json:"target"`
	Revision  int              `json:"revision"`
	Status    Status           `json:"status"`
	Parent    string           `json:"parent,omitempty"`
	CreatedAt time.Time        `json:"createdAt"`
	// Components are the roots; only the versions are of them.
	Components map[string]struct {
		Version string `json:"componentVersion"`
	} `json:"components"`
	// Latest is not of the record: List fills it in.
	Latest bool `json:"-"`
}

// Filter narrows a list of deployments; its zero value selects all.
type Filter struct {
	Kind       names.TargetKind // with Target
	Target     string
	Parent     string // sub-deployments on behalf of that thing group
	LatestOnly bool   // one for each target
}

// List returns up to limit deployments that f selects, newest first, after the
// cursor of a former call ("": from the newest on), and the cursor to go on with, ""
// at the end. What is made meanwhile does not move what follows. It answers from
// memory and waits until that is complete.
func (s *Service) List(ctx context.Context, f Filter, after string, limit int) ([]Header, string, error) {
	from, err := parseCursor(after)
	if err != nil {
		return nil, "", err
	}
	if err := s.headers.Fresh(ctx); err != nil {
		return nil, "", fmt.Errorf("list deployments: %w", err)
	}
	out, more := s.listing.page(f, from, limit)
	if !more {
		return out, "", nil
	}
	last := out[len(out)-1]
	return out, strconv.FormatInt(last.CreatedAt.UnixNano(), 10) + "/" + last.ID, nil
}

func parseCursor(text string) (*Header, error) {
	if text == "" {
		return nil, nil
	}
	at, id, _ := strings.Cut(text, "/")
	n, err := strconv.ParseInt(at, 10, 64)
	if err != nil {
		return nil, fault.Field("nextToken", "is no token of this server; begin without one")
	}
	return &Header{CreatedAt: time.Unix(0, n), ID: id}, nil
}

// UsedBy names a deployment that has the component version among its roots and is
// ACTIVE, or is what a thing runs (COMPLETED and its latest), or "" if none has.
func (s *Service) UsedBy(ctx context.Context, component, version string) (string, error) {
	if err := s.headers.Fresh(ctx); err != nil {
		return "", fmt.Errorf("look for deployments of component %s: %w", component, err)
	}
	return s.listing.usedBy(component, version), nil
}

// listing is the deployments in the order of lists.
type listing struct {
	mu       sync.RWMutex // guards all below
	newest   *btree.BTreeG[*Header]
	byTarget map[aimed][]*Header // oldest revision first
}

type aimed struct {
	kind names.TargetKind
	name string
}

func newListing() *listing {
	return &listing{newest: btree.NewG(32, func(a, b *Header) bool { return newerFirst(a, b) < 0 }), byTarget: map[aimed][]*Header{}}
}

func newerFirst(a, b *Header) int {
	return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(a.ID, b.ID))
}

// change is called for each change of a deployment's record.
func (l *listing) change(_ string, before, after *Header) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if before != nil {
		l.newest.Delete(before)
		at := aimed{before.Kind, before.Target}
		if l.byTarget[at] = slices.DeleteFunc(l.byTarget[at], func(h *Header) bool { return h.ID == before.ID }); len(l.byTarget[at]) == 0 {
			delete(l.byTarget, at)
		}
	}
	if after != nil {
		l.newest.ReplaceOrInsert(after)
		at := aimed{after.Kind, after.Target}
		i, _ := slices.BinarySearchFunc(l.byTarget[at], after.Revision, func(h *Header, r int) int { return cmp.Compare(h.Revision, r) })
		l.byTarget[at] = slices.Insert(l.byTarget[at], i, after)
	}
}

// latest reports whether h is the newest revision of its target.
func (l *listing) latest(h *Header) bool {
	of := l.byTarget[aimed{h.Kind, h.Target}]
	return len(of) > 0 && of[len(of)-1].ID == h.ID
}

func (l *listing) page(f Filter, after *Header, limit int) (out []Header, more bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	take := func(h *Header) bool {
		latest := l.latest(h)
		if after != nil && newerFirst(h, after) <= 0 || f.Target != "" && (h.Kind != f.Kind || h.Target != f.Target) ||
			f.Parent != "" && h.Parent != f.Parent || f.LatestOnly && !latest {
			return true
		}
		if len(out) == limit {
			more = true
			return false
		}
		found := *h
		found.Latest = latest
		out = append(out, found)
		return true
	}
	switch {
	case f.Target != "": // a target has few beside all that there are
		own := slices.SortedFunc(slices.Values(l.byTarget[aimed{f.Kind, f.Target}]), newerFirst)
		for _, h := range own {
			if !take(h) {
				break
			}
		}
	case after != nil:
		l.newest.AscendGreaterOrEqual(after, take)
	default:
		l.newest.Ascend(take)
	}
	return out, more
}

func (l *listing) usedBy(component, version string) (id string) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	l.newest.Ascend(func(h *Header) bool {
		if c, has := h.Components[component]; has && c.Version == version && (h.Status == StatusActive || h.Status == StatusCompleted && l.latest(h)) {
			id = h.ID
		}
		return id == ""
	})
	return id
}
