package state_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/state/memory"
	"github.com/ggfleet/ggfleet/shared/fault"
)

const under = "/m/"

type rec struct{ N int }

func batch() *state.Batch { return state.NewBatch(state.StepRegistry) }

func commit(t *testing.T, s state.Store, b *state.Batch) state.Rev {
	t.Helper()
	rev, err := s.Commit(t.Context(), b)
	require.NoError(t, err)
	return rev
}

// inBubble runs check in virtual time with a mirror that follows s.
func inBubble(t *testing.T, check func(t *testing.T, s *memory.Store, hub *state.Hub, m *state.Mirror[rec], changes func() []string)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := memory.New()
		hub := state.NewHub(s)
		var mu sync.Mutex
		var log []string
		m := state.NewMirror(hub, under, func(key string, before, after *rec) {
			mu.Lock()
			defer mu.Unlock()
			show := func(r *rec) string {
				if r == nil {
					return "-"
				}
				return fmt.Sprint(r.N)
			}
			log = append(log, fmt.Sprintf("%s %s>%s", key, show(before), show(after)))
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- m.Run(ctx) }()
		check(t, s, hub, m, func() []string {
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			out := log
			log = nil
			return out
		})
		cancel()
		require.NoError(t, <-done)
	})
}

func TestMirrorHasWhatWasThereAndWhatOthersWrite(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, s *memory.Store, _ *state.Hub, m *state.Mirror[rec], changes func() []string) {
		<-m.Ready()
		assert.Zero(t, m.Len())
		rev := commit(t, s, batch().Put(under+"a", rec{1}).Put("/other", 1))
		assert.Equal(t, []string{"/m/a ->1"}, changes())
		v, got, ok := m.Get(under + "a")
		require.True(t, ok)
		assert.Equal(t, rec{1}, *v)
		assert.Equal(t, rev, got)
		assert.Equal(t, rev, m.Rev())
		commit(t, s, batch().Put(under+"a", rec{2}))
		commit(t, s, batch().Delete(under+"a"))
		assert.Equal(t, []string{"/m/a 1>2", "/m/a 2>-"}, changes())
		assert.Equal(t, rec{1}, *v, "what was handed out does not change")
		_, _, ok = m.Get(under + "a")
		assert.False(t, ok)
	})
}

func TestMirrorHasACommitOfItsHubAtOnceAndOnce(t *testing.T) {
	t.Parallel()
	s := memory.New()
	hub := state.NewHub(s)
	n := 0
	m := state.NewMirror(hub, under, func(string, *rec, *rec) { n++ }) // Run is not called: there is no watch
	rev := commit(t, hub, batch().Put(under+"a", rec{1}).Put("/other", 1).Delete(under+"none"))
	_, got, ok := m.Get(under + "a")
	assert.True(t, ok)
	assert.Equal(t, rev, got)
	_, err := hub.Commit(t.Context(), batch().If(under+"a", 0).Put(under+"a", rec{2}))
	require.ErrorIs(t, err, fault.Conflict)
	v, _, _ := m.Get(under + "a")
	assert.Equal(t, 1, v.N, "a commit that failed is not taken over")
	commit(t, hub, batch().Delete(under+"a"))
	assert.Zero(t, m.Len())
	assert.Equal(t, 2, n)
}

func TestMirrorListsAgainAfterACompaction(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := memory.New()
		g := &gate{Store: s, at: make(chan string), pass: make(chan struct{}), page: 1000}
		m := state.NewMirror[rec](g, under, nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- m.Run(ctx) }()
		d := driver{gate: g, at: <-g.at}
		_, err := g.Commit(t.Context(), batch().Put(under+"stays", rec{1}).Put(under+"goes", rec{1}))
		require.NoError(t, err)
		d.drain()
		_, err = g.Commit(t.Context(), batch().Put(under+"stays", rec{2}).Delete(under+"goes").Put(under+"comes", rec{1}))
		require.NoError(t, err)
		g.compact()
		d.drain()
		items, more := m.Range("", 0, nil)
		assert.False(t, more)
		require.Len(t, items, 2)
		assert.Equal(t, under+"comes", items[0].Key)
		assert.Equal(t, rec{2}, *items[1].Value)
		cancel()
		require.NoError(t, <-done)
	})
}

func TestMirrorRangesInKeyOrder(t *testing.T) {
	t.Parallel()
	hub := state.NewHub(memory.New())
	m := state.NewMirror[rec](hub, under, nil)
	for _, i := range []int{5, 1, 4, 2, 3} {
		commit(t, hub, batch().Put(fmt.Sprint(under, i), rec{i}))
	}
	odd := func(_ string, r *rec) bool { return r.N%2 == 1 }
	for _, c := range []struct {
		prefix, after string
		limit         int
		keep          func(string, *rec) bool
		want          []int
		more          bool
	}{
		{under, "", 0, nil, []int{1, 2, 3, 4, 5}, false},
		{under, "", 2, nil, []int{1, 2}, true},
		{under, under + "3", 2, nil, []int{4, 5}, false},
		{under, under + "5", 2, nil, nil, false},
		{under, "", 2, odd, []int{1, 3}, true},
		{under, "", 3, odd, []int{1, 3, 5}, false},
		{under + "2", "", 0, nil, []int{2}, false},
		{under + "2", under + "3", 0, nil, nil, false},
	} {
		items, more := m.RangeUnder(c.prefix, c.after, c.limit, c.keep)
		var got []int
		for _, it := range items {
			got = append(got, it.Value.N)
		}
		assert.Equal(t, c.want, got, "%+v", c)
		assert.Equal(t, c.more, more, "%+v", c)
	}
}

func TestMirrorWaitsForAStoreThatIsAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &flaky{Store: memory.New(), fails: 5, err: fmt.Errorf("down: %w", fault.Unavailable)}
		m := state.NewMirror[rec](s, under, nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- m.Run(ctx) }()
		<-m.Ready()
		cancel()
		require.NoError(t, <-done)
		assert.Negative(t, s.fails)
	})
}

type flaky struct {
	state.Store
	fails int
	err   error
}

func (f *flaky) List(ctx context.Context, prefix, after string, limit int) (state.Page, error) {
	if f.fails--; f.fails >= 0 {
		return state.Page{}, f.err
	}
	return f.Store.List(ctx, prefix, after, limit)
}

func TestMirrorEndsOnARecordOfAnotherForm(t *testing.T) {
	t.Parallel()
	s := memory.New()
	commit(t, s, batch().Put(under+"bad", "text"))
	err := state.NewMirror[rec](s, under, nil).Run(t.Context())
	require.ErrorContains(t, err, under+"bad")

	s = memory.New()
	m := state.NewMirror[rec](s, under, nil)
	done := make(chan error, 1)
	go func() { done <- m.Run(t.Context()) }()
	<-m.Ready()
	commit(t, s, batch().Put(under+"bad", "text"))
	require.ErrorContains(t, <-done, under+"bad")
}

func TestMirrorIsReadWhileItChanges(t *testing.T) {
	t.Parallel()
	hub := state.NewHub(memory.New())
	m := state.NewMirror[rec](hub, under, nil)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	var wg sync.WaitGroup
	wg.Go(func() { assert.NoError(t, m.Run(ctx)) })
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for i := range 50 {
				key := fmt.Sprintf("%s%d/%d", under, w, i%7)
				rev, err := hub.Commit(ctx, batch().Put(key, rec{i}))
				if !assert.NoError(t, err) {
					return
				}
				v, got, ok := m.Get(key)
				assert.True(t, ok && got == rev && v.N == i, "a reader of its own write is never behind")
				m.Range("", 3, func(_ string, r *rec) bool { return r.N >= 0 })
			}
		})
	}
	writers.Wait()
	assert.Equal(t, 28, m.Len())
	cancel()
	wg.Wait()
}
