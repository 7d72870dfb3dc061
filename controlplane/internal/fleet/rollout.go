package fleet

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// rollout is the durable state of a deployment task's pace. Every join of a
// paced task is committed together with it, so that no crash and no second
// replica makes a join too many. A task without pace has none until it is
// stopped: its joins are conditional on that.
type rollout struct {
	Config    JobConfig `json:"config"`
	Notified  int       `json:"notified"`
	TakenUp   int       `json:"takenUp"`
	Succeeded int       `json:"succeeded"`
	Failed    int       `json:"failed"`
	Rejected  int       `json:"rejected"`
	TimedOut  int       `json:"timedOut"`
	NextAt    time.Time `json:"nextAt,omitzero"` // no join before

	Stopped   string    `json:"stopped,omitempty"` // why; nothing joins any more
	StoppedAt time.Time `json:"stoppedAt,omitzero"`
	Withdrawn bool      `json:"withdrawn,omitempty"` // what was still queued is taken back
}

const rolloutPrefix = prefix + "rollout/"

func rolloutKey(taskID string) string { return rolloutPrefix + taskID }

// rate is the joins a minute that the counters allow now; 0: no limit.
func (r *rollout) rate() float64 {
	e := r.Config.Exponential
	if e == nil {
		return float64(r.Config.MaximumPerMinute)
	}
	most := float64(maxRate)
	if r.Config.MaximumPerMinute > 0 {
		most = float64(r.Config.MaximumPerMinute)
	}
	level := 0
	if e.Notified > 0 {
		level = r.Notified / e.Notified
	}
	if e.Succeeded > 0 {
		level = max(level, r.Succeeded/e.Succeeded)
	}
	return min(most, float64(e.BasePerMinute)*math.Pow(e.Factor, float64(level)))
}

// interval is the time from one join to the next.
func (r *rollout) interval() time.Duration {
	rate := r.rate()
	if rate <= 0 {
		return 0
	}
	return time.Duration(float64(time.Minute) / rate)
}

// joined counts a join at now. A join that was a little late does not delay the
// ones after it; one that is late by more, after a restart, makes no burst.
func (r *rollout) joined(now time.Time) {
	r.Notified++
	d := r.interval()
	if d == 0 {
		return
	}
	if earliest := now.Add(-d); r.NextAt.Before(earliest) {
		r.NextAt = now
	}
	r.NextAt = r.NextAt.Add(d)
}

// followReports is how long an item waits at most before it asks again when
// reports of cores can raise the rate.
const followReports = 5 * time.Second

// due returns when the join is allowed that comes after so many others from now on.
func (r *rollout) due(now time.Time) func(others int) time.Time {
	return func(others int) time.Time {
		ahead := *r
		for range others {
			ahead.joined(later(now, ahead.NextAt))
		}
		at := ahead.NextAt
		if e := r.Config.Exponential; e != nil && e.Succeeded > 0 && others > 0 {
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

// Ways in which an execution can count for a rollout.
const (
	statusInProgress = "IN_PROGRESS"
	statusSucceeded  = "SUCCEEDED"
	statusFailed     = "FAILED"
	statusRejected   = "REJECTED"
	statusTimedOut   = "TIMED_OUT"
)

// count enters an execution of this task: that the core took it up (first time),
// or how it ended. It stops the rollout when a criterion is met.
func (r *rollout) count(status string, first bool, now time.Time) {
	if first {
		r.TakenUp++
	}
	switch status {
	case statusSucceeded:
		r.Succeeded++
	case statusFailed:
		r.Failed++
	case statusRejected:
		r.Rejected++
	case statusTimedOut:
		r.TimedOut++
	}
	if r.Stopped == "" {
		if why := r.abort(); why != "" {
			r.stop(why, now)
		}
	}
}

func (r *rollout) stop(why string, now time.Time) { r.Stopped, r.StoppedAt = why, now }

// abort returns why the rollout must stop, or "". The base of the percentage are
// the cores that took the deployment up (greengrassv2-api §11).
func (r *rollout) abort() string {
	for _, c := range r.Config.Abort {
		failed := map[string]int{
			statusFailed: r.Failed, statusRejected: r.Rejected, statusTimedOut: r.TimedOut, "ALL": r.Failed + r.Rejected + r.TimedOut,
		}[c.FailureType]
		if failed > 0 && r.TakenUp >= c.MinExecuted && 100*float64(failed) >= c.Threshold*float64(r.TakenUp) {
			return fmt.Sprintf("aborted: %d of %d cores ended %s, at or over %g %%", failed, r.TakenUp, c.FailureType, c.Threshold)
		}
	}
	return ""
}

func (r *rollout) state() *RolloutState {
	s := &RolloutState{
		RatePerMinute: r.rate(), Notified: r.Notified, TakenUp: r.TakenUp, Succeeded: r.Succeeded, Failed: r.Failed,
		Rejected: r.Rejected, TimedOut: r.TimedOut, NextAt: r.NextAt, Stopped: r.Stopped, StoppedAt: r.StoppedAt,
	}
	return s
}

// beginRollout makes the record of a paced task, once.
func (s *Service) beginRollout(ctx context.Context, taskID string, c JobConfig) error {
	if !c.paced() {
		return nil
	}
	b := state.NewBatch(state.StepRollout).If(rolloutKey(taskID), 0).Put(rolloutKey(taskID), rollout{Config: c})
	_, err := s.cfg.Store.Commit(ctx, b)
	if errors.Is(err, fault.Conflict) {
		return nil // it is there: an earlier attempt, or the task was stopped already
	}
	return err
}

// stopRollout stops a task for good: nothing joins after it returned.
func (s *Service) stopRollout(ctx context.Context, taskID, why string) error {
	_, err := state.Update(ctx, s.cfg.Store, state.StepRollout, rolloutKey(taskID), func(r *rollout, _ bool, _ *state.Batch) error {
		if r.Stopped != "" {
			return state.ErrKeep
		}
		r.stop(why, s.stamp())
		return nil
	})
	return err
}

// settledRollout returns the record of an ended task, if it has one: fault.Conflict
// as long as what follows from a stop is not carried out.
func (s *Service) settledRollout(ctx context.Context, taskID string) (state.Record[rollout], error) {
	r, err := state.ReadOr[rollout](ctx, s.cfg.Store, rolloutKey(taskID))
	if err == nil && r.Value.Stopped != "" && !r.Value.Withdrawn {
		err = fault.New(fault.Conflict, "task %s was stopped and is still being withdrawn; try again in a moment", taskID)
	}
	return r, err
}
