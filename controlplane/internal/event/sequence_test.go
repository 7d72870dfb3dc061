package event_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ggfleet/ggfleet/controlplane/internal/etcdstore/etcdtest"
	"github.com/ggfleet/ggfleet/controlplane/internal/event"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/state/memory"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// flaky breaks commits of the event service by a script: l: the commit happens
// but its answer is lost, a: the store is away.
type flaky struct {
	*memory.Store
	mu    sync.Mutex
	fates []byte
}

func (f *flaky) Commit(ctx context.Context, b *state.Batch) (state.Rev, error) {
	fate := byte(' ')
	if b.Step == state.StepEvent {
		f.mu.Lock()
		if len(f.fates) > 0 {
			fate, f.fates = f.fates[0], f.fates[1:]
		}
		f.mu.Unlock()
	}
	if fate == 'a' {
		return 0, fault.New(fault.Unavailable, "away")
	}
	if fate == 's' {
		time.Sleep(time.Second)
		ctx = context.WithoutCancel(ctx)
	}
	rev, err := f.Store.Commit(ctx, b)
	if fate == 'l' && err == nil {
		return 0, fault.New(fault.Unavailable, "answer lost")
	}
	return rev, err
}

// change is one commit with events, or something that goes wrong.
type change struct {
	after  time.Duration
	cores  []int  // one event each
	damage string // expire, restart
	who    int
}

type scenario struct {
	fates   []byte
	changes []change
}

func draw(t *rapid.T) scenario {
	return scenario{
		fates: rapid.SliceOfN(rapid.SampledFrom([]byte("    lass")), 0, 60).Draw(t, "fates"),
		changes: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) change {
			return change{
				after:  time.Duration(rapid.SampledFrom([]int{0, 0, 0, 1, 10, 25, 400, 3000}).Draw(t, "after")) * time.Millisecond,
				cores:  rapid.SliceOfN(rapid.IntRange(0, 3), 0, 5).Draw(t, "cores"),
				damage: rapid.SampledFrom([]string{"", "", "", "", "expire", "restart"}).Draw(t, "damage"),
				who:    rapid.IntRange(0, 1).Draw(t, "who"),
			}
		}), 0, 60).Draw(t, "changes"),
	}
}

func TestEachEventGetsOnePlaceInTheOrderOfCommitsWhateverHappens(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		sc := draw(rt)
		var problems []string
		synctest.Test(t, func(t *testing.T) { problems = sc.play(t) })
		if len(problems) > 0 {
			rt.Fatalf("%s", strings.Join(problems, "\n"))
		}
	})
}

func (sc scenario) play(t *testing.T) (problems []string) {
	store := &flaky{Store: memory.New(), fates: slices.Clone(sc.fates)}
	var stops [2]func()
	for i := range stops {
		stops[i] = start(t, newService(t, event.Config{Store: store}))
	}
	want, perCore := 0, map[string][]int{}
	for n, c := range sc.changes {
		time.Sleep(c.after)
		b := state.NewBatch(state.StepRegistry)
		for _, core := range c.cores {
			event.Add(b, event.CoreCreated, coreName(core), time.Now(), detail{N: want})
			perCore[coreName(core)] = append(perCore[coreName(core)], want)
			want++
		}
		_, err := store.Commit(t.Context(), b)
		require.NoError(t, err)
		switch c.damage {
		case "expire":
			for id := range int64(4 * (n + 2)) {
				store.Expire(id)
			}
		case "restart":
			stops[c.who]()
			stops[c.who] = start(t, newService(t, event.Config{Store: store}))
		}
	}
	time.Sleep(2 * time.Minute)
	s := newService(t, event.Config{Store: store})
	got := all(t, s)
	if n := numbers(t, got); !slices.Equal(n, upTo(want)) {
		problems = append(problems, fmt.Sprintf("%d events in the order of their commits became %v", want, n))
	}
	for i, e := range got {
		if e.Sequence != int64(i+1) {
			problems = append(problems, fmt.Sprintf("event %d has sequence %d", i, e.Sequence))
		}
	}
	for core, n := range perCore {
		history, _, err := s.History(t.Context(), core, "", 0)
		require.NoError(t, err)
		slices.Reverse(n)
		if h := numbers(t, history); !slices.Equal(h, n[:min(len(n), 100)]) {
			problems = append(problems, fmt.Sprintf("history of %s is %v, want %v", core, h, n))
		}
	}
	for _, stop := range stops {
		stop()
	}
	return problems
}

func TestABacklogIsMovedInOrderAWindowAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		const n = 9000 // more than the window
		happenMany(t, store, 0, n, 50)
		s := newService(t, event.Config{Store: store})
		defer start(t, s)()
		time.Sleep(time.Minute)
		assert.Equal(t, upTo(n), numbers(t, all(t, s)))
		assert.Zero(t, s.Metrics().Outbox)
		p, err := store.List(t.Context(), state.Root+"event/outbox/", "", 0)
		require.NoError(t, err)
		assert.Empty(t, p.Entries)
	})
}

func TestLargeEventsFitIntoTheStoresCommits(t *testing.T) {
	t.Parallel()
	store := etcdtest.Open(t)
	s := newService(t, event.Config{Store: store})
	for i := range 60 {
		b := state.NewBatch(state.StepRegistry)
		event.Add(b, event.CoreCreated, coreName(i), time.Now(), map[string]any{"n": i, "message": strings.Repeat("x", 60<<10)})
		_, err := store.Commit(t.Context(), b)
		require.NoError(t, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	err := s.Stream(t.Context(), event.Filter{}, event.Oldest, func(events []event.Event) error {
		if events[len(events)-1].Sequence == 60 {
			return errEnough
		}
		return nil
	})
	require.ErrorIs(t, err, errEnough)
	cancel()
	require.NoError(t, <-done)
}

var errEnough = errors.New("enough")

func TestReplicasOnEtcdKeepOneLog(t *testing.T) {
	t.Parallel()
	store := etcdtest.Open(t)
	const n = 300
	var wg sync.WaitGroup
	for w := range 3 { // commits race
		wg.Go(func() {
			for i := range n / 3 {
				happen(t, store, event.CoreCreated, coreName(w), i)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	var replicas []*event.Service
	for range 3 {
		r := newService(t, event.Config{Store: store})
		replicas = append(replicas, r)
		wg.Go(func() { assert.NoError(t, r.Run(ctx)) })
	}
	logs := make([][]event.Event, len(replicas))
	for i, r := range replicas {
		err := r.Stream(t.Context(), event.Filter{}, event.Oldest, func(events []event.Event) error {
			logs[i] = append(logs[i], events...)
			if len(logs[i]) >= n {
				return errEnough
			}
			return nil
		})
		require.ErrorIs(t, err, errEnough)
	}
	cancel()
	wg.Wait()
	assert.Equal(t, logs[0], logs[1])
	assert.Equal(t, logs[0], logs[2])
	byCore := map[string][]int{}
	for i, e := range logs[0] {
		assert.EqualValues(t, i+1, e.Sequence)
		byCore[e.Core] = append(byCore[e.Core], numberOf(t, e))
	}
	for core, list := range byCore {
		assert.Equal(t, upTo(n/3), list, core)
	}
}

func TestTheLogKeepsTheNewest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		s := newService(t, event.Config{Store: store, Retain: 100})
		stop := start(t, s)
		for i := range 500 {
			happen(t, store, event.CoreCreated, coreName(1), i)
		}
		time.Sleep(time.Minute)
		first, last, err := s.Bounds(t.Context())
		require.NoError(t, err)
		assert.EqualValues(t, 500, last)
		assert.InDelta(t, 401, first, 10)
		stop()
		p, err := store.List(t.Context(), state.Root+"event/log/", "", 0)
		require.NoError(t, err)
		assert.Len(t, p.Entries, int(last-first+1))

		s = newService(t, event.Config{Store: store, Retain: 100}) // without the newest in memory
		_, _, err = s.List(t.Context(), event.Filter{}, 7, 10)
		require.ErrorIs(t, err, fault.Stale)
		assert.ErrorContains(t, err, fmt.Sprintf("before sequence %d are gone", first))
		err = s.Stream(t.Context(), event.Filter{}, 7, func([]event.Event) error { return nil })
		require.ErrorIs(t, err, fault.Stale)
		assert.Len(t, all(t, s), int(last-first+1), "from the oldest on there is no gap")
		_, _, err = s.List(t.Context(), event.Filter{}, 501, 10)
		require.ErrorIs(t, err, fault.Invalid)
	})
}

// away is a store whose outbox cannot be read for the first n times.
type away struct {
	*memory.Store
	n          atomic.Int32
	last, back atomic.Pointer[time.Time] // the last refusal, and the first success after it
}

func (a *away) List(ctx context.Context, prefix, after string, limit int) (state.Page, error) {
	if strings.Contains(prefix, "event/outbox") {
		now := time.Now()
		if a.n.Add(-1) >= 0 {
			a.last.Store(&now)
			return state.Page{}, fault.New(fault.Unavailable, "away")
		}
		a.back.CompareAndSwap(nil, &now)
	}
	return a.Store.List(ctx, prefix, after, limit)
}

func TestALongOutageIsNotFollowedByALongWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &away{Store: memory.New()}
		store.n.Store(60)
		s := newService(t, event.Config{Store: store})
		defer start(t, s)()
		settle(time.Hour)
		require.NotNil(t, store.back.Load())
		assert.LessOrEqual(t, store.back.Load().Sub(*store.last.Load()), 10*time.Second)
	})
}
