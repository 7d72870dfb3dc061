package rollout

import (
	"fmt"
	"math"
	"time"
)

// State of one rollout.
type State struct {
	Config   Config `json:"config"`
	Notified int    `json:"notified"`
	Results
	NextAt time.Time `json:"nextAt,omitzero"` // nobody is notified before
}

// Results counts what cores did with the deployment.
type Results struct {
	TakenUp   int `json:"takenUp"` // began with it, or ended it without having begun
	Succeeded int `json:"succeeded"`
	Failed    int `json:"failed"`
	Rejected  int `json:"rejected"`
	TimedOut  int `json:"timedOut"`
}

// Ways in which an execution can count for a rollout.
const (
	InProgress = "IN_PROGRESS"
	Succeeded  = "SUCCEEDED"
	Failed     = "FAILED"
	Rejected   = "REJECTED"
	TimedOut   = "TIMED_OUT"
	all        = "ALL"
)

// Rate is the notifications a minute that the counters allow now; 0: no limit.
func (s *State) Rate() float64 {
	e := s.Config.Exponential
	if e == nil {
		return float64(s.Config.MaximumPerMinute)
	}
	most := float64(MaxRate)
	if s.Config.MaximumPerMinute > 0 {
		most = float64(s.Config.MaximumPerMinute)
	}
	level := 0
	if e.Notified > 0 {
		level = s.Notified / e.Notified
	}
	if e.Succeeded > 0 {
		level = max(level, s.Succeeded/e.Succeeded)
	}
	return min(most, float64(e.BasePerMinute)*math.Pow(e.Factor, float64(level)))
}

// interval is the time from one notification to the next, rounded up: rounded
// down, a minute could begin and end with one.
func (s *State) interval() time.Duration {
	rate := s.Rate()
	if rate <= 0 {
		return 0
	}
	return time.Duration(math.Ceil(float64(time.Minute) / rate))
}

// slack is how late a notification may be without delaying the ones after it: what
// is made up for then is at most a hundredth of a minute's.
const slack = 600 * time.Millisecond

// Next returns when the next notification is allowed. The slowest rate is one a
// minute: what lies further ahead was written before the clock was set back, and
// waits for nothing.
func (s *State) Next(now time.Time) time.Time {
	if s.NextAt.After(now.Add(time.Minute)) {
		return now
	}
	return s.NextAt
}

// Joined counts a notification at now. One that was a little late does not delay
// the ones after it; one that is late by more, after a restart, makes no burst.
func (s *State) Joined(now time.Time) {
	s.Notified++
	d := s.interval()
	if d == 0 {
		return
	}
	at := s.Next(now)
	if earliest := now.Add(-max(d, slack)); at.Before(earliest) {
		at = now
	}
	s.NextAt = at.Add(d)
}

// Hasten brings the next notification forward when the rate has grown since the
// last one, and reports whether it did.
func (s *State) Hasten(now time.Time) bool {
	at := now.Add(s.interval())
	if !s.NextAt.After(at) {
		return false
	}
	s.NextAt = at
	return true
}

// followReports is how long somebody waits at most before asking again when
// reports of cores can raise the rate.
const followReports = 5 * time.Second

// Due returns when the notification is allowed that comes after so many others from
// now on.
func (s *State) Due(now time.Time) func(others int) time.Time {
	return func(others int) time.Time {
		ahead := *s
		ahead.NextAt = s.Next(now)
		for range others {
			ahead.Joined(later(now, ahead.NextAt))
		}
		at := ahead.NextAt
		if e := s.Config.Exponential; e != nil && e.Succeeded > 0 && others > 0 {
			return sooner(at, now.Add(followReports))
		}
		return at
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func sooner(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// Count enters an execution: that the core took it up (first), or how it ended,
// or both at once.
func (r *Results) Count(status string, first bool) {
	if first {
		r.TakenUp++
	}
	switch status {
	case Succeeded:
		r.Succeeded++
	case Failed:
		r.Failed++
	case Rejected:
		r.Rejected++
	case TimedOut:
		r.TimedOut++
	}
}

// Met returns why the rollout must stop, or "". The base of the percentage are
// the cores that took the deployment up (greengrassv2-api §11); without any failure
// no criterion is met.
func (c Config) Met(r Results) string {
	for _, a := range c.Abort {
		failed := map[string]int{
			Failed: r.Failed, Rejected: r.Rejected, TimedOut: r.TimedOut, all: r.Failed + r.Rejected + r.TimedOut,
		}[a.FailureType]
		// In hundredths of a per cent, which is what a threshold can name: exact.
		if failed > 0 && r.TakenUp >= a.MinExecuted && 100*100*failed >= int(math.Round(100*a.Threshold))*r.TakenUp {
			return fmt.Sprintf("aborted: %d of %d cores ended %s, at or over %g %%", failed, r.TakenUp, a.FailureType, a.Threshold)
		}
	}
	return ""
}
