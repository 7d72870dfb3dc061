package state_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/state/memory"
)

// gate is a Store whose List and Watch stop before each step until the test
// lets them go on, and whose Commit can return late: so that a test chooses the
// order in which things reach a mirror.
type gate struct {
	*memory.Store
	at   chan string   // List or Watch waits here
	pass chan struct{} // and goes on
	page int           // the most entries of a page

	mu        sync.Mutex
	last      state.Rev
	queue     [][]state.Event // the history that a watch can still get
	compacted state.Rev
	pos       state.Rev // of the running watch
}

var errOne = errors.New("one")

func (g *gate) wait(where string) {
	g.at <- where
	<-g.pass
}

type lateKey struct{}

// late makes a commit return only after release was closed.
type late struct{ committed, release chan struct{} }

func (g *gate) Commit(ctx context.Context, b *state.Batch) (state.Rev, error) {
	g.mu.Lock()
	before := g.last
	rev, err := g.Store.Commit(ctx, b)
	if err == nil && rev > max(before, 1) {
		g.last = rev
		err = g.record(ctx, max(before, 1))
	}
	g.mu.Unlock()
	if l, ok := ctx.Value(lateKey{}).(*late); ok {
		close(l.committed)
		<-l.release
	}
	return rev, err
}

// record queues the events of the commit after from.
func (g *gate) record(ctx context.Context, from state.Rev) error {
	err := g.Store.Watch(ctx, "", from, func(events []state.Event) error {
		g.queue = append(g.queue, events)
		return errOne
	})
	if errors.Is(err, errOne) {
		return nil
	}
	return err
}

func (g *gate) compact() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.queue, g.compacted = nil, g.last
}

func (g *gate) List(ctx context.Context, prefix, after string, limit int) (state.Page, error) {
	g.wait("list")
	p, err := g.Store.List(ctx, prefix, after, min(limit, g.page))
	g.wait("listed")
	return p, err
}

// pending reports whether the running watch has something to do.
func (g *gate) pending() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.pos < g.compacted || len(g.queue) > 0 && g.queue[len(g.queue)-1][0].Rev > g.pos
}

func (g *gate) Watch(ctx context.Context, prefix string, from state.Rev, handle func([]state.Event) error) error {
	g.mu.Lock()
	g.pos = from
	g.mu.Unlock()
	for {
		select {
		case g.at <- "watch":
		case <-ctx.Done():
			return nil
		}
		select {
		case <-g.pass:
		case <-ctx.Done():
			return nil
		}
		var mine []state.Event
		g.mu.Lock()
		if g.pos < g.compacted {
			g.mu.Unlock()
			return state.ErrCompacted
		}
		for _, events := range g.queue {
			if events[0].Rev <= g.pos {
				continue
			}
			g.pos = events[0].Rev
			for _, e := range events {
				if strings.HasPrefix(e.Key, prefix) {
					mine = append(mine, e)
				}
			}
			break
		}
		g.mu.Unlock()
		if len(mine) > 0 {
			if err := handle(mine); err != nil {
				return err
			}
		}
	}
}

// driver moves the mirror's Run from gate to gate.
type driver struct {
	gate *gate
	at   string // where Run waits
}

// step lets Run take one step; it reports false when there is nothing to do.
func (d *driver) step() bool {
	if d.at == "watch" && !d.gate.pending() {
		return false
	}
	d.gate.pass <- struct{}{}
	d.at = <-d.gate.at
	return true
}

func (d *driver) drain() {
	for d.step() {
	}
}

// Whatever the order in which own commits, late answers of own commits, commits
// of others, pages and watch events reach a mirror, it ends equal to the store,
// tells each change once, never goes back, and has own commits at once.
func TestMirrorEndsEqualToTheStoreInAnyOrder(t *testing.T) {
	t.Parallel()
	for range 10 { // some guards of the mirror are needed in one of a thousand orders
		rapid.Check(t, endsEqual)
	}
}

func endsEqual(t *rapid.T) {
	g := &gate{Store: memory.New(), at: make(chan string), pass: make(chan struct{}), page: 2}
	hub := state.NewHub(g)
	told, newest := map[string]rec{}, map[string]int{}
	m := state.NewMirror(hub, under, func(key string, before, after *rec) {
		had, ok := told[key]
		if ok != (before != nil) || ok && had != *before {
			t.Errorf("%s: before is %v, told last was %v", key, before, had)
		}
		if after == nil {
			delete(told, key)
			return
		}
		if after.N <= newest[key] {
			t.Errorf("%s goes back from %d to %d", key, newest[key], after.N)
		}
		told[key], newest[key] = *after, after.N
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	d := &driver{gate: g, at: <-g.at}

	n := 0
	change := func() *state.Batch {
		b := batch()
		for range rapid.IntRange(1, 3).Draw(t, "ops") {
			key := rapid.SampledFrom([]string{under + "a", under + "b", under + "c", under + "d", under + "e", "/x"}).Draw(t, "key")
			if n++; rapid.Bool().Draw(t, "delete") {
				b.Delete(key)
			} else {
				b.Put(key, rec{n})
			}
		}
		return b
	}
	var waiting []func() // late own commits
	release := func(i int) {
		waiting[i]()
		waiting = append(waiting[:i], waiting[i+1:]...)
	}
	t.Repeat(map[string]func(*rapid.T){
		"own commit": func(t *rapid.T) {
			b := change()
			rev, err := hub.Commit(ctx, b)
			require.NoError(t, err)
			for _, op := range b.Ops() {
				if strings.HasPrefix(op.Key, under) && d.at == "watch" {
					_, got, ok := m.Get(op.Key)
					require.Equal(t, !op.Delete, ok, op.Key)
					require.True(t, op.Delete || got == rev, op.Key)
				}
			}
		},
		"own commit, answered late": func(*rapid.T) {
			l := &late{make(chan struct{}), make(chan struct{})}
			b, answered := change(), make(chan error, 1)
			go func() {
				_, err := hub.Commit(context.WithValue(ctx, lateKey{}, l), b)
				answered <- err
			}()
			<-l.committed
			waiting = append(waiting, func() {
				close(l.release)
				require.NoError(t, <-answered)
			})
		},
		"late answer": func(t *rapid.T) {
			if len(waiting) > 0 {
				release(rapid.IntRange(0, len(waiting)-1).Draw(t, "which"))
			}
		},
		"commit of another": func(t *rapid.T) {
			_, err := g.Commit(ctx, change())
			require.NoError(t, err)
		},
		"the mirror goes on": func(*rapid.T) { d.step() },
		"compaction":         func(*rapid.T) { g.compact() },
	})
	for len(waiting) > 0 {
		release(0)
	}
	d.drain()
	equal(t, g.Store, m, told)
	cancel()
	require.NoError(t, <-done)
}

func equal(t *rapid.T, s *memory.Store, m *state.Mirror[rec], told map[string]rec) {
	p, err := s.List(context.Background(), under, "", 0)
	require.NoError(t, err)
	var want, got []string
	for _, e := range p.Entries {
		want = append(want, fmt.Sprintf("%s@%d %s", e.Key, e.Rev, e.Value))
	}
	items, _ := m.Range("", 0, nil)
	for _, it := range items {
		got = append(got, fmt.Sprintf(`%s@%d {"N":%d}`, it.Key, it.Rev, it.Value.N))
		require.Equal(t, *it.Value, told[it.Key])
	}
	require.Equal(t, want, got)
	require.Len(t, told, len(want))
	require.Equal(t, len(want), m.Len())
}
