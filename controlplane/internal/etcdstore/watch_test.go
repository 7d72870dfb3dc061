package etcdstore_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/etcdstore/etcdtest"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
)

// As at the end of the process: whoever follows something ends at once.
func TestManyWatchesEndAtOnce(t *testing.T) {
	t.Parallel()
	s := etcdtest.Open(t)
	for range 10 {
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		var begun sync.WaitGroup
		for i := range 100 {
			begun.Add(1)
			wg.Go(func() {
				first := sync.OnceFunc(begun.Done)
				assert.NoError(t, s.Watch(ctx, fmt.Sprintf("/many/%d/", i), 0, func([]state.Event) error { first(); return nil }))
				first()
			})
			_, err := s.Commit(t.Context(), state.NewBatch(state.StepEvent).Put(fmt.Sprintf("/many/%d/x", i), i))
			require.NoError(t, err)
		}
		begun.Wait() // all of them are there
		cancel()
		done := make(chan struct{})
		go func() { wg.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(time.Minute):
			require.Fail(t, "watches do not end")
		}
	}
}
