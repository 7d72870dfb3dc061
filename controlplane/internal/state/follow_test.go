package state_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/state/memory"
	"github.com/ggfleet/ggfleet/shared/fault"
)

func TestWhoFollowsGoesOnAfterWhatFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &flaky{Store: memory.New(), fails: 2, err: fmt.Errorf("down: %w", fault.Unavailable)}
		commit(t, s, batch().Put(under+"before", rec{1}))
		var told []string
		var failures []error
		refuse := errors.New("not this one")
		handle := func(events []state.Event) error {
			for _, e := range events {
				told = append(told, e.Key)
				if e.Key == under+"bad" {
					return refuse
				}
			}
			return nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- state.Follow(ctx, s, under, handle, func(err error) { failures = append(failures, err) })
		}()
		next := func(name string) {
			time.Sleep(time.Minute) // whatever it waits for is over
			synctest.Wait()
			commit(t, s, batch().Put(under+name, rec{1}))
			synctest.Wait()
		}
		for _, name := range []string{"a", "bad", "b"} {
			next(name)
		}
		cancel()
		require.NoError(t, <-done)
		assert.Equal(t, []string{under + "a", under + "bad", under + "b"}, told)
		require.Len(t, failures, 3)
		assert.ErrorIs(t, failures[0], fault.Unavailable)
		assert.ErrorIs(t, failures[2], refuse)
	})
}
