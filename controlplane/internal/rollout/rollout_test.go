package rollout_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ggfleet/ggfleet/controlplane/internal/rollout"
)

// Whatever the rate, however late whoever drives comes, and whenever it was away:
// no minute has more notifications than the rate allows, within two per cent, and
// who is never late has no fewer.
func TestARateIsKeptInEveryMinute(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.IntRange(1, 1000).Draw(t, "rate")
		s := rollout.State{Config: rollout.Config{MaximumPerMinute: rate}}
		now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
		late := rapid.SampledFrom([]int{0, 5, 300, 10_000}).Draw(t, "late by at most ms")
		began := now
		var at []time.Time
		for range 3 * rate {
			if s.NextAt.After(now) {
				now = s.NextAt
			}
			if late > 0 {
				now = now.Add(time.Duration(rapid.IntRange(0, late).Draw(t, "ms")) * time.Millisecond)
			}
			s.Joined(now)
			at = append(at, now)
		}
		from := 0
		for i, x := range at {
			for x.Sub(at[from]) >= time.Minute {
				from++
			}
			require.LessOrEqual(t, i-from+1, max(rate+1, rate+rate/50))
		}
		if late == 0 {
			require.InEpsilon(t, 3*time.Minute, at[len(at)-1].Sub(began)+time.Minute/time.Duration(rate), 0.02)
		}
		require.Equal(t, 3*rate, s.Notified)
	})
}

func TestAClockThatIsSetBackStopsNothing(t *testing.T) {
	s := rollout.State{Config: rollout.Config{MaximumPerMinute: 60}}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	s.Joined(now)
	assert.Equal(t, now.Add(time.Second), s.Next(now))
	now = now.Add(-time.Hour)
	assert.Equal(t, now, s.Next(now))
	assert.Equal(t, now, s.Due(now)(0))
	assert.Equal(t, now.Add(time.Second), s.Due(now)(1))
	s.Joined(now)
	assert.Equal(t, now.Add(time.Second), s.Next(now), "at the same rate from there on")
}

func TestTheRateFollowsItsCounters(t *testing.T) {
	exponential := func(most, notified, succeeded int) rollout.Config {
		return rollout.Config{MaximumPerMinute: most, Exponential: &rollout.Exponential{BasePerMinute: 50, Factor: 2, Notified: notified, Succeeded: succeeded}}
	}
	for _, c := range []struct {
		name      string
		config    rollout.Config
		notified  int
		succeeded int
		want      float64
	}{
		{"none is no limit", rollout.Config{}, 5, 5, 0},
		{"a constant rate", rollout.Config{MaximumPerMinute: 7}, 1000, 1000, 7},
		{"the base at first", exponential(0, 1000, 0), 999, 0, 50},
		{"one step at the criterion", exponential(0, 1000, 0), 1000, 0, 100},
		{"the fourth step", exponential(0, 1000, 0), 4000, 0, 800},
		{"at most what the service does", exponential(0, 1000, 0), 90_000, 0, 1000},
		{"at most the maximum", exponential(120, 1000, 0), 4000, 0, 120},
		{"by those that succeeded", exponential(0, 0, 10), 5000, 20, 200},
		{"whichever reaches its number first: notified", exponential(0, 100, 10), 100, 9, 100},
		{"whichever reaches its number first: succeeded", exponential(0, 100, 10), 99, 20, 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := rollout.State{Config: c.config, Notified: c.notified, Results: rollout.Results{Succeeded: c.succeeded}}
			assert.InDelta(t, c.want, s.Rate(), 1e-9)
		})
	}
}

func TestAGrownRateBringsTheNextNotificationForward(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	s := rollout.State{Config: rollout.Config{Exponential: &rollout.Exponential{BasePerMinute: 1, Factor: 5, Succeeded: 1}}}
	s.Joined(now)
	assert.Equal(t, now.Add(time.Minute), s.NextAt)
	assert.False(t, s.Hasten(now))
	s.Succeeded = 1
	assert.True(t, s.Hasten(now.Add(10*time.Second)))
	assert.Equal(t, now.Add(22*time.Second), s.NextAt)
	assert.False(t, s.Hasten(now.Add(20*time.Second)))
}

func TestACriterionIsMetExactlyAtItsNumbers(t *testing.T) {
	for _, c := range []struct {
		name      string
		criterion rollout.Criterion
		counts    rollout.Results
		met       bool
	}{
		{"at both numbers", rollout.Criterion{FailureType: "FAILED", Threshold: 20, MinExecuted: 10}, rollout.Results{TakenUp: 10, Failed: 2}, true},
		{"one core too few", rollout.Criterion{FailureType: "FAILED", Threshold: 20, MinExecuted: 10}, rollout.Results{TakenUp: 9, Failed: 9}, false},
		{"just below the threshold", rollout.Criterion{FailureType: "FAILED", Threshold: 20.01, MinExecuted: 10}, rollout.Results{TakenUp: 10, Failed: 2}, false},
		{"another way to fail", rollout.Criterion{FailureType: "REJECTED", Threshold: 1, MinExecuted: 1}, rollout.Results{TakenUp: 10, Failed: 10, TimedOut: 10}, false},
		{"all add up", rollout.Criterion{FailureType: "ALL", Threshold: 30, MinExecuted: 1}, rollout.Results{TakenUp: 10, Failed: 1, Rejected: 1, TimedOut: 1}, true},
		{"a threshold that no float has", rollout.Criterion{FailureType: "TIMED_OUT", Threshold: 33.3, MinExecuted: 1}, rollout.Results{TakenUp: 1000, TimedOut: 333}, true},
		{"another one", rollout.Criterion{FailureType: "TIMED_OUT", Threshold: 0.07, MinExecuted: 1}, rollout.Results{TakenUp: 10_000, TimedOut: 7}, true},
		{"a threshold of 0 and no failure", rollout.Criterion{FailureType: "ALL", Threshold: 0, MinExecuted: 1}, rollout.Results{TakenUp: 5, Succeeded: 5}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			never := rollout.Criterion{FailureType: "ALL", Threshold: 100, MinExecuted: 1_000_000}
			why := rollout.Config{Abort: []rollout.Criterion{never, c.criterion}}.Met(c.counts)
			assert.Equal(t, c.met, why != "", why)
		})
	}
}
