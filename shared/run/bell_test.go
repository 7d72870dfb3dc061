package run_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/ggfleet/ggfleet/shared/run"
)

func TestALoopThatWaitsForABell(t *testing.T) {
	for name, tc := range map[string]struct {
		ring func(run.Bell)
		want time.Duration
	}{
		"waits its time when nobody rings":                {func(run.Bell) {}, time.Minute},
		"goes on when it is rung":                         {func(b run.Bell) { go func() { time.Sleep(time.Second); b.Ring() }() }, time.Second},
		"goes on at once when it was rung before":         {func(b run.Bell) { b.Ring() }, 0},
		"hears it once however often it was rung":         {func(b run.Bell) { b.Ring(); b.Ring(); b.Ring(); <-b }, time.Minute},
		"hears the next one after it has heard the first": {func(b run.Bell) { b.Ring(); <-b; b.Ring() }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, began := run.NewBell(), time.Now()
				tc.ring(b)
				b.Wait(t.Context(), time.Minute)
				assert.Equal(t, tc.want, time.Since(began))
			})
		})
	}
}

func TestWhoIsSpreadIsATenthEarlyOrLateAtMost(t *testing.T) {
	for range 100 {
		d := run.Spread(time.Minute)
		assert.GreaterOrEqual(t, d, 54*time.Second)
		assert.LessOrEqual(t, d, 66*time.Second)
	}
}
