package assignment_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/assignment"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/state/memory"
)

func TestAgentsAreToldOfWhatTheirAssignmentDependsOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		var mu sync.Mutex
		var told []string
		take := func() []string {
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			out := told
			told = nil
			return out
		}
		n, err := assignment.New(assignment.Config{
			Store: store, All: []string{state.Root + "distribution/current/"}, One: []string{state.Root + "distribution/pin/"},
			Names: func() []string {
				out := make([]string, 100)
				for i := range out {
					out[i] = fmt.Sprint("gw-", i)
				}
				return out
			},
			Tell: func(device string) {
				mu.Lock()
				defer mu.Unlock()
				told = append(told, device)
			},
		})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		var done sync.WaitGroup
		done.Go(func() { assert.NoError(t, n.Run(ctx)) })
		defer done.Wait()
		defer cancel()
		synctest.Wait()
		put := func(key string) {
			_, err := store.Commit(ctx, state.NewBatch(state.StepComponent).Put(state.Root+key, time.Now()))
			require.NoError(t, err)
		}

		put("distribution/record/x")
		put("distribution/pin/gw-7")
		put("distribution/pin/gw%2F8")
		assert.Equal(t, []string{"gw-7", "gw/8"}, take())

		for range 10 {
			put("distribution/current/lite")
		}
		assert.Less(t, len(take()), 5, "one after the other")
		time.Sleep(time.Minute)
		assert.InDelta(t, 198, len(take()), 3, "ten changes are told at most twice")
	})
}

func TestANoticeNeedsSomebodyToTell(t *testing.T) {
	_, err := assignment.New(assignment.Config{Store: memory.New()})
	require.Error(t, err)
}
