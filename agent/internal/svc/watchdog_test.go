package svc_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/ggfleet/ggfleet/agent/internal/svc"
	"github.com/ggfleet/ggfleet/shared/run"
)

// ticking says that it goes on each second for as long as told, then hangs.
func ticking(forSeconds int) func(context.Context) error {
	return func(ctx context.Context) error {
		for range forSeconds {
			run.Progress(ctx)
			if err := run.Sleep(ctx, time.Second); err != nil {
				return err
			}
		}
		<-ctx.Done()
		return ctx.Err()
	}
}

func TestTheWatchdogIsFedOnlyWhileEveryLoopGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fed := 0
		w := svc.NewWatchdog(svc.WatchdogConfig{
			Period: 90 * time.Second, Notify: func(s string) error { assert.Equal(t, "WATCHDOG=1", s); fed++; return nil },
			Abort: func() { t.Error("systemd is the one to end it") },
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			done <- run.All(ctx,
				w.Watch(run.Loop{Name: "reconcile", Run: ticking(300)}, 15*time.Minute),
				w.Watch(run.Loop{Name: "telemetry", Run: ticking(3000)}, 3*time.Minute),
				run.Loop{Name: "watchdog", Run: w.Run})
		}()
		time.Sleep(time.Second + 1200*time.Second) // 299 s of work and more than 15 min of silence
		synctest.Wait()
		assert.Equal(t, 39, fed, "three times in 90 s")
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		assert.Equal(t, 39, fed, "nothing was heard of one of the loops for 15 min")
		cancel()
		assert.NoError(t, <-done)
	})
}

func TestALoopThatHasEndedDoesNotHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fed := 0
		w := svc.NewWatchdog(svc.WatchdogConfig{Period: 90 * time.Second, Notify: func(string) error { fed++; return nil }})
		ended := w.Watch(run.Loop{Name: "work", Run: func(context.Context) error { return nil }}, time.Minute)
		assert.NoError(t, ended.Run(t.Context()))
		ctx, cancel := context.WithTimeout(t.Context(), 601*time.Second)
		defer cancel()
		assert.NoError(t, w.Run(ctx))
		assert.Equal(t, 20, fed)
	})
}

func TestWithoutAWatchdogOfTheServiceManagerTheProcessEndsItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		aborted := 0
		ctx, cancel := context.WithCancel(t.Context())
		w := svc.NewWatchdog(svc.WatchdogConfig{Period: -1, Notify: func(string) error { t.Error("nobody listens"); return nil }, Abort: func() { aborted++; cancel() }})
		assert.NoError(t, run.All(ctx, w.Watch(run.Loop{Name: "reconcile", Run: ticking(1)}, time.Minute), run.Loop{Name: "watchdog", Run: w.Run}))
		assert.Equal(t, 1, aborted)
	})
}
