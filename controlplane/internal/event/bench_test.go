package event_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/etcdstore/etcdtest"
	"github.com/ggfleet/ggfleet/controlplane/internal/event"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
)

// BenchmarkCommitters measures commits that hold an event, by 64 at once on etcd,
// without and with the service that numbers the events meanwhile. waiting/end is
// how many were not numbered yet when the last one was committed.
func BenchmarkCommitters(b *testing.B) {
	for name, serve := range map[string]bool{"alone": false, "numbered": true} {
		b.Run(name, func(b *testing.B) {
			store := etcdtest.Open(b)
			s := newService(b, event.Config{Store: store})
			ctx, cancel := context.WithCancel(b.Context())
			var running, committers sync.WaitGroup
			if serve {
				running.Go(func() { assert.NoError(b, s.Run(ctx)) })
			}
			todo := make(chan int)
			for range 64 {
				committers.Go(func() {
					for i := range todo {
						batch := state.NewBatch(state.StepRegistry).Put("/thing/"+coreName(i), i)
						event.Add(batch, event.CoreCreated, coreName(i), time.Now(), detail{N: i, Status: "success"})
						_, err := store.Commit(ctx, batch)
						assert.NoError(b, err)
					}
				})
			}
			b.ResetTimer()
			for i := range b.N {
				todo <- i
			}
			close(todo)
			committers.Wait()
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
			if serve {
				_, last, err := s.Bounds(ctx)
				require.NoError(b, err)
				b.ReportMetric(float64(int64(b.N)-last), "waiting/end")
				err = s.Stream(ctx, event.Filter{}, event.Oldest, func(events []event.Event) error {
					if events[len(events)-1].Sequence == int64(b.N) {
						return errEnough
					}
					return nil
				})
				require.ErrorIs(b, err, errEnough)
			}
			cancel()
			running.Wait()
		})
	}
}
