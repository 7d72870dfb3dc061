package component

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/recipe/semver"
)

// indexed is a stored version with its number parsed once.
type indexed struct {
	Version
	number semver.Version
}

// UnmarshalJSON implements json.Unmarshaler.
func (v *indexed) UnmarshalJSON(raw []byte) (err error) {
	if err := json.Unmarshal(raw, &v.Version); err != nil {
		return err
	}
	v.number, err = semver.Parse(v.Version.Version)
	return err
}

// byVersion orders by semantic version, the highest first; the text decides
// between two that differ only in their build part.
func byVersion(a, b *indexed) int {
	if c := b.number.Compare(a.number); c != 0 {
		return c
	}
	return strings.Compare(b.Version.Version, a.Version.Version)
}

// catalog is the mirror by component, in the order that answers want.
type catalog struct {
	mu    sync.RWMutex          // guards all below
	names map[string][]*indexed // by byVersion; without those that are being deleted
	own   map[string]int        // versions of this account, by component
}

func newCatalog() *catalog { return &catalog{names: map[string][]*indexed{}, own: map[string]int{}} }

// change takes over what the mirror tells.
func (c *catalog) change(before, after *indexed) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if before != nil && !before.Deleting {
		c.take(before)
	}
	if after != nil && !after.Deleting {
		c.put(after)
	}
}

func (c *catalog) put(v *indexed) {
	list := c.names[v.Name]
	if !v.Public {
		c.own[v.Name]++
	}
	at, _ := slices.BinarySearchFunc(list, v, byVersion)
	c.names[v.Name] = slices.Insert(list, at, v)
}

func (c *catalog) take(v *indexed) {
	list := c.names[v.Name]
	at, ok := slices.BinarySearchFunc(list, v, byVersion)
	if !ok {
		return
	}
	if c.names[v.Name] = slices.Delete(list, at, at+1); len(list) == 1 {
		delete(c.names, v.Name)
	}
	if v.Public {
		return
	}
	if c.own[v.Name]--; c.own[v.Name] == 0 {
		delete(c.own, v.Name)
	}
}

// of returns the versions of a component.
func (c *catalog) of(name string) []*indexed {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return slices.Clone(c.names[name])
}

// latest returns the highest version of each component that keep accepts, in
// no order.
func (c *catalog) latest(keep func(*indexed) bool) []*indexed {
	c.mu.RLock()
	defer c.mu.RUnlock()
	list := make([]*indexed, 0, len(c.names))
	for _, versions := range c.names {
		if i := slices.IndexFunc(versions, keep); i >= 0 {
			list = append(list, versions[i])
		}
	}
	return list
}

// counts returns how many components this account has, and how many versions
// the one called name.
func (c *catalog) counts(name string) (components, versions int) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.own), len(c.names[name])
}

// index returns the catalog with all that any replica has written.
func (s *Service) index(ctx context.Context) (*catalog, error) {
	c, err := s.known(ctx)
	if err == nil && c == s.catalog {
		err = s.mirror.Fresh(ctx)
	}
	return c, err
}

// known returns the catalog, which may lack what another replica wrote in this
// moment, or one read from the store while the mirror is not complete.
func (s *Service) known(ctx context.Context) (*catalog, error) {
	select {
	case <-s.mirror.Ready():
		return s.catalog, nil
	default:
		return s.read(ctx, prefix)
	}
}

// read returns what the store has under prefix.
func (s *Service) read(ctx context.Context, prefix string) (*catalog, error) {
	c := newCatalog()
	err := state.All(ctx, s.cfg.Store, prefix, func(_ string, r state.Record[indexed]) error {
		c.change(nil, &r.Value)
		return nil
	})
	return c, err
}
