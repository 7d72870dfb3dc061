package run_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/run"
)

func TestAllStopsTheOthersWhenOneFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		errDisk := errors.New("disk full")
		stopped := false
		err := run.All(t.Context(),
			run.Loop{Name: "writer", Run: func(context.Context) error { time.Sleep(time.Second); return errDisk }},
			run.Loop{Name: "server", Run: func(ctx context.Context) error { <-ctx.Done(); stopped = true; return ctx.Err() }},
		)
		require.ErrorIs(t, err, errDisk)
		assert.ErrorContains(t, err, "writer: ")
		assert.True(t, stopped)
	})
}

func TestAllTurnsAPanicIntoAnError(t *testing.T) {
	err := run.All(t.Context(), run.Loop{Name: "parser", Run: func(context.Context) error { panic("index out of range") }})
	assert.ErrorContains(t, err, "parser: panic: index out of range")
}

func TestAllReturnsNilAfterAnOrderlyStop(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, run.All(ctx, run.Loop{Name: "server", Run: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}))
}

func TestRetryGivesUpOnAPermanentError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		err := run.Retry(t.Context(), run.Backoff{}, 0, func(context.Context) error {
			calls++
			if calls < 4 {
				return fault.New(fault.Unavailable, "away")
			}
			return fault.New(fault.Denied, "no")
		})
		require.ErrorIs(t, err, fault.Denied)
		assert.Equal(t, 4, calls)
	})
}

func TestBackoffStaysWithinItsBounds(t *testing.T) {
	b := run.Backoff{Min: time.Second, Max: 8 * time.Second}
	for range 20 {
		d := b.Next()
		assert.GreaterOrEqual(t, d, 500*time.Millisecond)
		assert.LessOrEqual(t, d, 8*time.Second)
	}
	b.Reset()
	assert.LessOrEqual(t, b.Next(), time.Second)
}
