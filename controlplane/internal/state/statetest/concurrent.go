package statetest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
)

const writers = 16

func oneWinner(t *testing.T, s state.Store) {
	rev := put(t, s, key("a"), -1)
	var won atomic.Int64
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			_, err := s.Commit(t.Context(), batch().If(key("a"), rev).Put(key("a"), i).Put(key("winner/")+string(rune('a'+i)), i))
			if err == nil {
				won.Add(1)
				return
			}
			assert.ErrorIs(t, err, fault.Conflict)
		})
	}
	wg.Wait()
	assert.EqualValues(t, 1, won.Load())
	assert.Len(t, list(t, s, key("winner/"), "", 0).Entries, 1)
}

func noLostUpdate(t *testing.T, s state.Store) {
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			_, err := state.Update(t.Context(), s, state.StepRegistry, key("n"), func(n *int, _ bool, _ *state.Batch) error {
				*n++
				return nil
			})
			assert.NoError(t, err)
		})
	}
	wg.Wait()
	r, err := state.Read[int](t.Context(), s, key("n"))
	require.NoError(t, err)
	assert.Equal(t, writers, r.Value)
}

func cancelled(t *testing.T, s state.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Commit(ctx, batch().Put(key("a"), 1))
	require.ErrorIs(t, err, context.Canceled)
	_, err = s.Get(ctx, key("a"))
	require.ErrorIs(t, err, context.Canceled)
	_, err = s.List(ctx, key(""), "", 0)
	require.ErrorIs(t, err, context.Canceled)
	assert.Empty(t, list(t, s, key(""), "", 0).Entries)
}

var errEnough = errors.New("enough")

// watch collects calls of a watch until n came.
func watch(t *testing.T, s state.Store, prefix string, from state.Rev, n int) [][]state.Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var calls [][]state.Event
	err := s.Watch(ctx, prefix, from, func(ev []state.Event) error {
		if calls = append(calls, ev); len(calls) == n {
			return errEnough
		}
		return nil
	})
	require.ErrorIs(t, err, errEnough, "watch ended after %d of %d commits", len(calls), n)
	return calls
}

func event(name, value string, rev state.Rev) state.Event {
	return state.Event{Entry: state.Entry{Key: key(name), Value: []byte(value), Rev: rev}}
}

func gone(name string, rev state.Rev) state.Event {
	return state.Event{Entry: state.Entry{Key: key(name), Rev: rev}, Deleted: true}
}

func watchContinues(t *testing.T, s state.Store) {
	from := put(t, s, key("a"), 1)
	r2 := put(t, s, key("a"), 2)
	r3 := commit(t, s, batch().Delete(key("a")))
	r4 := put(t, s, key("a"), 4)
	assert.Equal(t, [][]state.Event{{event("a", "2", r2)}, {gone("a", r3)}, {event("a", "4", r4)}}, watch(t, s, key(""), from, 3))
	assert.Equal(t, [][]state.Event{{event("a", "4", r4)}}, watch(t, s, key(""), r3, 1))
}

func watchGroups(t *testing.T, s state.Store) {
	from := put(t, s, key("old"), 0)
	r1 := commit(t, s, batch().Put(key("a"), 1).Put(key("b"), 1).Delete(key("old")))
	r2 := commit(t, s, batch().Put(key("a"), 2).Put(key("b"), 2))
	calls := watch(t, s, key(""), from, 2)
	assert.ElementsMatch(t, []state.Event{event("a", "1", r1), event("b", "1", r1), gone("old", r1)}, calls[0])
	assert.ElementsMatch(t, []state.Event{event("a", "2", r2), event("b", "2", r2)}, calls[1])
}

func watchFromZero(t *testing.T, s state.Store) {
	rev := put(t, s, key("a"), 1)
	assert.Equal(t, [][]state.Event{{event("a", "1", rev)}}, watch(t, s, key(""), 0, 1))
}

func watchPrefix(t *testing.T, s state.Store) {
	put(t, s, key("b"), 1)
	rev := commit(t, s, batch().Put(key("a/1"), 1).Put(key("a0"), 1).Put(key("a"), 1))
	assert.Equal(t, [][]state.Event{{event("a/1", "1", rev)}}, watch(t, s, key("a/"), 0, 1))
}

func watchLive(t *testing.T, s state.Store) {
	const commits = 50
	from := put(t, s, key("start"), 0)
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range commits {
			_, err := s.Commit(t.Context(), batch().Put(key("n"), i))
			assert.NoError(t, err)
		}
	})
	calls := watch(t, s, key("n"), from, commits)
	wg.Wait()
	last := from
	for _, c := range calls {
		require.Len(t, c, 1)
		require.Greater(t, c[0].Rev, last)
		last = c[0].Rev
	}
	assert.Equal(t, "49", string(calls[commits-1][0].Value))
}

func watchHandlerFails(t *testing.T, s state.Store) {
	put(t, s, key("a"), 1)
	err := s.Watch(t.Context(), key(""), 0, func([]state.Event) error { return errEnough })
	assert.ErrorIs(t, err, errEnough)
}

func watchContextDone(t *testing.T, s state.Store) {
	put(t, s, key("a"), 1)
	ctx, cancel := context.WithCancel(t.Context())
	err := s.Watch(ctx, key(""), 0, func([]state.Event) error {
		cancel()
		return nil
	})
	require.NoError(t, err)
	require.NoError(t, s.Watch(ctx, key(""), 0, func([]state.Event) error { return nil }))
}

// leaseTTL is short, so that the suite is, and long enough for a busy machine to
// keep a lease.
const leaseTTL = 6 * time.Second

func leaseClosed(t *testing.T, s state.Store) {
	l, err := s.NewLease(t.Context(), time.Minute)
	require.NoError(t, err)
	rev := commit(t, s, batch().PutLeased(key("mine"), 1, l.ID()).Put(key("free"), 1))
	require.NoError(t, l.Close(t.Context()))
	assert.Equal(t, []string{"free"}, names(list(t, s, key(""), "", 0)))
	calls := watch(t, s, key(""), rev, 1)
	assert.True(t, calls[0][0].Deleted, "a watch sees the key vanish")
	select {
	case <-l.Lost():
		t.Error("a lease that was closed was not lost")
	default:
	}
	assert.NoError(t, l.Close(t.Context()), "closing twice is no error")
}

func leaseExpires(t *testing.T, s state.Store) {
	ctx, die := context.WithCancel(t.Context())
	l, err := s.NewLease(ctx, leaseTTL)
	require.NoError(t, err)
	rev := commit(t, s, batch().PutLeased(key("mine"), 1, l.ID()))
	die()
	calls := watch(t, s, key(""), rev, 1)
	assert.Equal(t, key("mine"), calls[0][0].Key)
	assert.True(t, calls[0][0].Deleted)
	select {
	case <-l.Lost():
	case <-time.After(patience):
		t.Error("Lost was not closed")
	}
}

func leaseKeptAlive(t *testing.T, s state.Store) {
	held, err := s.NewLease(t.Context(), leaseTTL)
	require.NoError(t, err)
	ctx, die := context.WithCancel(t.Context())
	clock, err := s.NewLease(ctx, 2*leaseTTL) // its end says that the time of the first has passed
	require.NoError(t, err)
	rev := commit(t, s, batch().PutLeased(key("held"), 1, held.ID()).PutLeased(key("clock"), 1, clock.ID()))
	die()
	calls := watch(t, s, key(""), rev, 1)
	assert.Equal(t, key("clock"), calls[0][0].Key)
	assert.Equal(t, []string{"held"}, names(list(t, s, key(""), "", 0)))
	require.NoError(t, held.Close(t.Context()))
}

func leaseEnded(t *testing.T, s state.Store) {
	l, err := s.NewLease(t.Context(), time.Minute)
	require.NoError(t, err)
	other, err := s.NewLease(t.Context(), time.Minute)
	require.NoError(t, err)
	require.NotEqual(t, l.ID(), other.ID())
	require.NoError(t, l.Close(t.Context()))
	_, err = s.Commit(t.Context(), batch().Put(key("free"), 1).PutLeased(key("mine"), 1, l.ID()))
	require.ErrorIs(t, err, fault.Conflict)
	assert.Contains(t, err.Error(), "lease", "%v names the lease", err)
	assert.Empty(t, list(t, s, key(""), "", 0).Entries)
	commit(t, s, batch().PutLeased(key("mine"), 1, other.ID()))
	require.NoError(t, other.Close(t.Context()))
}

func leaseDetached(t *testing.T, s state.Store) {
	l, err := s.NewLease(t.Context(), time.Minute)
	require.NoError(t, err)
	commit(t, s, batch().PutLeased(key("mine"), 1, l.ID()))
	put(t, s, key("mine"), 2)
	require.NoError(t, l.Close(t.Context()))
	assert.Equal(t, []string{"mine"}, names(list(t, s, key(""), "", 0)))
}
