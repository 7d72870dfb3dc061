package state

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/google/btree"

	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/run"
)

// Mirror holds every record under a prefix in memory, decoded and in key order.
// It follows the store by list and watch; over a Hub it also has the commits of
// this process before Commit returns. All methods are safe for concurrent use.
//
// Values that it hands out are shared: they are read-only. A change makes a new
// value, so one that was handed out stays as it was.
type Mirror[T any] struct {
	store    Store
	prefix   string
	onChange func(key string, before, after *T)
	ready    chan struct{}
	once     sync.Once // closes ready

	mu   sync.RWMutex // guards all below
	tree *btree.BTreeG[Item[T]]
	dead map[string]Rev // keys known to be absent at a revision that the watch has not passed yet

	// passed is the revision up to which everything is in: a commit of our own
	// that arrives later than that has nothing to say.
	passed Rev
	// listing is set while the prefix is listed page by page: up to frontier,
	// everything as of listedAt is in.
	listing  bool
	frontier string
	listedAt Rev
}

// Item is one record of a Mirror.
type Item[T any] struct {
	Key   string
	Value *T // read-only
	Rev   Rev
}

// listPage is how many records one request of a listing reads. For each page etcd
// counts all that follow, so a large prefix wants few.
const listPage = 5000

// NewMirror returns an empty mirror of the records under prefix; Run fills it.
// onChange (nil: none) is called exactly once for each change that the mirror
// takes over, in the order of each key; before is nil for a new record, after
// for a removed one. It runs under the mirror's lock: it must be quick and must not
// call the mirror. If s is a Hub, the mirror is attached to it.
func NewMirror[T any](s Store, prefix string, onChange func(key string, before, after *T)) *Mirror[T] {
	if onChange == nil {
		onChange = func(string, *T, *T) {}
	}
	m := &Mirror[T]{
		store: s, prefix: prefix, onChange: onChange, ready: make(chan struct{}), dead: map[string]Rev{},
		tree: btree.NewG(32, func(a, b Item[T]) bool { return a.Key < b.Key }),
	}
	if h, ok := s.(*Hub); ok {
		h.attach(m)
	}
	return m
}

// Run lists the prefix, then watches it, until ctx is done. It tries again when
// the store is away. A record that is no T is an error: an answer without it
// would be wrong without anybody knowing.
func (m *Mirror[T]) Run(ctx context.Context) error {
	wait := run.Backoff{Max: 2 * time.Second}
	for {
		err := m.list(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if k := fault.KindOf(err); k == fault.Unavailable || k == fault.Exhausted {
			_ = run.Sleep(ctx, wait.Next())
			continue
		}
		if err != nil {
			return fmt.Errorf("mirror %s: %w", m.prefix, err)
		}
		wait.Reset()
		m.once.Do(func() { close(m.ready) })
		if err := m.store.Watch(ctx, m.prefix, m.Rev(), m.take); !errors.Is(err, ErrCompacted) {
			if err != nil {
				return fmt.Errorf("mirror %s: %w", m.prefix, err)
			}
			return nil
		}
	}
}

// Ready is closed once the first listing is complete.
func (m *Mirror[T]) Ready() <-chan struct{} { return m.ready }

// Fresh waits until the mirror has all that was committed before the call, by
// whatever process. A store that is away, or too busy to say how far the mirror is,
// is no reason not to answer: then what there is has to do. While the mirror is not
// read for the first time it is fault.Unavailable.
func (m *Mirror[T]) Fresh(ctx context.Context) error {
	select {
	case <-m.ready:
		if err := m.store.CatchUp(ctx, m.prefix); err != nil && !errors.Is(err, fault.Unavailable) {
			return err
		}
		return nil
	case <-ctx.Done():
		return fault.New(fault.Unavailable, "%s is still being read", m.prefix)
	}
}

// Rev is the revision up to which the mirror has everything. It does not grow
// by changes outside of the prefix.
func (m *Mirror[T]) Rev() Rev {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.passed
}

// Len is the number of records.
func (m *Mirror[T]) Len() int {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.tree.Len()
}

// Get returns the record at key and the revision to name in a condition.
func (m *Mirror[T]) Get(key string) (v *T, rev Rev, ok bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	it, ok := m.tree.Get(Item[T]{Key: key})
	return it.Value, it.Rev, ok
}

// Range returns at most limit (0: no limit) records that keep (nil: all)
// accepts, with keys greater than after, in key order. keep must not call the
// mirror. more tells whether there is one more.
func (m *Mirror[T]) Range(after string, limit int, keep func(key string, v *T) bool) (items []Item[T], more bool) {
	return m.RangeUnder(m.prefix, after, limit, keep)
}

// RangeUnder is Range among the keys that begin with prefix.
func (m *Mirror[T]) RangeUnder(prefix, after string, limit int, keep func(key string, v *T) bool) (items []Item[T], more bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	m.tree.AscendGreaterOrEqual(Item[T]{Key: max(prefix, after)}, func(it Item[T]) bool {
		if !strings.HasPrefix(it.Key, prefix) {
			return false
		}
		if it.Key <= after || keep != nil && !keep(it.Key, it.Value) {
			return true
		}
		if limit > 0 && len(items) == limit {
			more = true
			return false
		}
		items = append(items, it)
		return true
	})
	return items, more
}
