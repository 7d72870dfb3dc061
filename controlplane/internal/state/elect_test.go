package state_test

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/etcdstore/etcdtest"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/state/memory"
)

func TestOneLeadsAndTheNextFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.New()
		var leading, terms atomic.Int32
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				e := state.Election{Store: s, Step: state.StepEvent, Key: "/leader", TTL: 10 * time.Second}
				assert.NoError(t, e.Run(ctx, func(ctx context.Context) error {
					leading.Add(1)
					terms.Add(1)
					<-ctx.Done()
					leading.Add(-1)
					return nil
				}))
			})
		}
		for n := int32(1); n <= 5; n++ {
			synctest.Wait()
			assert.EqualValues(t, 1, leading.Load())
			assert.Equal(t, n, terms.Load())
			s.Expire(leaderOf(t, s))
		}
		cancel()
		wg.Wait()
		_, err := s.Get(t.Context(), "/leader")
		assert.Error(t, err, "a leader that stops leaves the office")
	})
}

// leaderOf is the lease of whoever leads: how many leases the losers took before
// it depends on who was quick.
func leaderOf(t *testing.T, s state.Store) int64 {
	t.Helper()
	e, err := s.Get(t.Context(), "/leader")
	require.NoError(t, err)
	var office struct{ Lease int64 }
	require.NoError(t, json.Unmarshal(e.Value, &office))
	return office.Lease
}

func TestAnElectionEndsWithTheErrorOfItsWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, errWork := memory.New(), errors.New("broken")
		e := state.Election{Store: s, Step: state.StepEvent, Key: "/leader", TTL: 10 * time.Second}
		require.ErrorIs(t, e.Run(t.Context(), func(context.Context) error { return errWork }), errWork)
		require.NoError(t, e.Run(t.Context(), func(context.Context) error { return nil }), "nobody is in the way")
	})
}

func TestALeaderOfTheProcessBeforeIsDeposed(t *testing.T) {
	t.Parallel()
	s := etcdtest.Open(t)
	lease, err := s.NewLease(t.Context(), time.Minute)
	require.NoError(t, err)
	e := state.Election{Store: s, Step: state.StepEvent, Key: "/leader", TTL: 10 * time.Second}
	_, err = s.Commit(t.Context(), state.NewBatch(state.StepEvent).PutLeased("/leader", map[string]int64{"lease": lease.ID()}, lease.ID()))
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- e.Run(t.Context(), func(context.Context) error { return nil }) }()
	require.NoError(t, e.Depose(t.Context()))
	require.NoError(t, <-done)
}

// counted cancels when a store is asked too often.
type counted struct {
	*memory.Store
	left   atomic.Int32
	cancel func()
}

func (c *counted) Watch(ctx context.Context, prefix string, from state.Rev, handle func([]state.Event) error) error {
	if c.left.Add(-1) == 0 {
		c.cancel()
	}
	return c.Store.Watch(ctx, prefix, from, handle)
}

func TestWhoWaitsForAnOldLeaderDoesNotSpin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := &counted{Store: memory.New(), cancel: cancel}
		s.left.Store(20)
		var wg sync.WaitGroup
		stand := func() {
			e := state.Election{Store: s, Step: state.StepEvent, Key: "/leader", TTL: 10 * time.Second}
			assert.NoError(t, e.Run(ctx, func(ctx context.Context) error { <-ctx.Done(); return nil }))
		}
		wg.Go(stand)
		synctest.Wait()
		_, err := s.Commit(ctx, state.NewBatch(state.StepEvent).Put("/other", 1))
		require.NoError(t, err)
		s.Compact() // the election is history
		wg.Go(stand)
		synctest.Wait()
		require.NoError(t, ctx.Err(), "it asked the store again and again")
		cancel()
		wg.Wait()
	})
}
