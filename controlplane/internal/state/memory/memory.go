// Package memory is a state.Store in memory: the fake of tests, exact in
// virtual time. It keeps the whole history, so it is not for production.
package memory

import (
	"context"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
)

var _ state.Store = (*Store)(nil)

// Store is a state.Store. Make it with New.
type Store struct {
	// FailCommit, if set, is asked before each commit; tests use it to break one.
	FailCommit func(*state.Batch) error

	mu        sync.Mutex // guards all below
	rev       state.Rev
	m         map[string]record
	keys      []string // sorted
	log       [][]state.Event
	compacted state.Rev
	changed   chan struct{} // closed and replaced at each commit
	nextLease int64
	leases    map[int64]*lease
}

type record struct {
	value []byte
	rev   state.Rev
	lease int64
}

// New returns an empty store.
func New() *Store {
	return &Store{m: map[string]record{}, changed: make(chan struct{}), leases: map[int64]*lease{}, rev: 1}
}

// Get implements state.Store.
func (s *Store) Get(ctx context.Context, key string) (state.Entry, error) {
	if err := ctx.Err(); err != nil {
		return state.Entry{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.m[key]
	if !ok {
		return state.Entry{}, fault.New(fault.NotFound, "no record %s", key)
	}
	return state.Entry{Key: key, Value: slices.Clone(r.value), Rev: r.rev}, nil
}

// List implements state.Store.
func (s *Store) List(ctx context.Context, prefix, after string, limit int) (state.Page, error) {
	if err := ctx.Err(); err != nil {
		return state.Page{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p := state.Page{At: s.rev}
	for i := sort.SearchStrings(s.keys, prefix); i < len(s.keys) && strings.HasPrefix(s.keys[i], prefix); i++ {
		k := s.keys[i]
		if k <= after {
			continue
		}
		if limit > 0 && len(p.Entries) == limit {
			p.More = true
			break
		}
		r := s.m[k]
		p.Entries = append(p.Entries, state.Entry{Key: k, Value: slices.Clone(r.value), Rev: r.rev})
	}
	return p, nil
}

// Commit implements state.Store.
func (s *Store) Commit(ctx context.Context, b *state.Batch) (state.Rev, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if err := b.Check(); err != nil {
		return 0, err
	}
	if s.FailCommit != nil {
		if err := s.FailCommit(b); err != nil {
			return 0, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range b.Conds() {
		r, ok := s.m[c.Key]
		if c.Exists && !ok || !c.Exists && r.rev != c.Rev {
			return 0, fault.New(fault.Conflict, "record %s was changed by another writer", c.Key)
		}
	}
	for _, op := range b.Ops() {
		if op.Lease != 0 && s.leases[op.Lease] == nil {
			return 0, fault.New(fault.Conflict, "lease %d has ended", op.Lease)
		}
	}
	changes := func(op state.Op) bool { _, had := s.m[op.Key]; return had || !op.Delete }
	if !slices.ContainsFunc(b.Ops(), changes) {
		return s.rev, nil
	}
	return s.applyLocked(b.Ops()), nil
}

func (s *Store) applyLocked(ops []state.Op) state.Rev {
	s.rev++
	var events []state.Event
	for _, op := range ops {
		_, had := s.m[op.Key]
		i := sort.SearchStrings(s.keys, op.Key)
		if op.Delete {
			if had {
				delete(s.m, op.Key)
				s.keys = slices.Delete(s.keys, i, i+1)
				events = append(events, state.Event{Entry: state.Entry{Key: op.Key, Rev: s.rev}, Deleted: true})
			}
			continue
		}
		s.m[op.Key] = record{value: op.Value, rev: s.rev, lease: op.Lease}
		if !had {
			s.keys = slices.Insert(s.keys, i, op.Key)
		}
		events = append(events, state.Event{Entry: state.Entry{Key: op.Key, Value: op.Value, Rev: s.rev}})
	}
	s.log = append(s.log, events)
	close(s.changed)
	s.changed = make(chan struct{})
	return s.rev
}

// Watch implements state.Store.
func (s *Store) Watch(ctx context.Context, prefix string, from state.Rev, handle func([]state.Event) error) error {
	next := int(max(from-1, 0)) // log[i] holds revision i+2
	for {
		s.mu.Lock()
		pending, changed, compacted := s.log[min(next, len(s.log)):], s.changed, s.compacted
		s.mu.Unlock()
		if state.Rev(next)+1 < compacted {
			return state.ErrCompacted
		}
		for _, events := range pending {
			if ctx.Err() != nil {
				return nil
			}
			next++
			var mine []state.Event
			for _, e := range events {
				if strings.HasPrefix(e.Key, prefix) {
					e.Value = slices.Clone(e.Value)
					mine = append(mine, e)
				}
			}
			if len(mine) > 0 {
				if err := handle(mine); err != nil {
					return err
				}
			}
		}
		if len(pending) > 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// CatchUp implements state.Store: no other process writes here.
func (*Store) CatchUp(context.Context, string) error { return nil }

// Compact forgets the history: a watch that has not come so far ends with
// state.ErrCompacted.
func (s *Store) Compact() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.compacted = s.rev
}

type lease struct {
	s    *Store
	id   int64
	lost chan struct{}
	once sync.Once
}

// NewLease implements state.Store. The lease lives until Close, ctx's end plus
// ttl, or Expire.
func (s *Store) NewLease(ctx context.Context, ttl time.Duration) (state.Lease, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nextLease++
	l := &lease{s: s, id: s.nextLease, lost: make(chan struct{})}
	s.leases[l.id] = l
	context.AfterFunc(ctx, func() { time.AfterFunc(ttl, func() { s.Expire(l.id) }) })
	return l, nil
}

// Expire ends lease id as if its holder had died.
func (s *Store) Expire(id int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.leases[id]; l != nil {
		s.endLocked(l)
		l.once.Do(func() { close(l.lost) })
	}
}

func (s *Store) endLocked(l *lease) {
	delete(s.leases, l.id)
	var ops []state.Op
	for _, k := range s.keys {
		if s.m[k].lease == l.id {
			ops = append(ops, state.Op{Key: k, Delete: true})
		}
	}
	if len(ops) > 0 {
		s.applyLocked(ops)
	}
}

func (l *lease) ID() int64 { return l.id }

func (l *lease) Lost() <-chan struct{} { return l.lost }

func (l *lease) Close(context.Context) error {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	if l.s.leases[l.id] != nil {
		l.s.endLocked(l)
	}
	return nil
}
