package fleet

import (
	"context"
	"errors"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/rollout"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// taskRollout is the durable state of a deployment task's pace. Every join of a
// paced task is committed together with it, so that no crash and no second
// replica makes a join too many. A task without pace has none until it is
// stopped: its joins are conditional on that.
type taskRollout struct {
	rollout.State

	Stopped   string    `json:"stopped,omitempty"` // why; nothing joins any more
	StoppedAt time.Time `json:"stoppedAt,omitzero"`
	Withdrawn bool      `json:"withdrawn,omitempty"` // what was still queued is taken back
}

const rolloutPrefix = prefix + "rollout/"

func rolloutKey(taskID string) string { return rolloutPrefix + taskID }

// count enters an execution of this task: that the core took it up (first time),
// or how it ended. It stops the rollout when a criterion is met.
func (r *taskRollout) count(status string, first bool, now time.Time) {
	r.Count(status, first)
	if r.Stopped == "" {
		if why := r.Config.Met(r.Results); why != "" {
			r.stop(why, now)
		}
	}
}

func (r *taskRollout) stop(why string, now time.Time) { r.Stopped, r.StoppedAt = why, now }

func (r *taskRollout) state() *RolloutState {
	s := &RolloutState{
		RatePerMinute: r.Rate(), Notified: r.Notified, TakenUp: r.TakenUp, Succeeded: r.Succeeded, Failed: r.Failed,
		Rejected: r.Rejected, TimedOut: r.TimedOut, NextAt: r.NextAt, Stopped: r.Stopped, StoppedAt: r.StoppedAt,
	}
	return s
}

// beginRollout makes the record of a paced task, once.
func (s *Service) beginRollout(ctx context.Context, taskID string, c JobConfig) error {
	if !c.Paced() {
		return nil
	}
	b := state.NewBatch(state.StepRollout).If(rolloutKey(taskID), 0).Put(rolloutKey(taskID), taskRollout{State: rollout.State{Config: c}})
	_, err := s.cfg.Store.Commit(ctx, b)
	if errors.Is(err, fault.Conflict) {
		return nil // it is there: an earlier attempt, or the task was stopped already
	}
	return err
}

// stopRollout stops a task for good: nothing joins after it returned.
func (s *Service) stopRollout(ctx context.Context, taskID, why string) error {
	_, err := state.Update(ctx, s.cfg.Store, state.StepRollout, rolloutKey(taskID), func(r *taskRollout, _ bool, _ *state.Batch) error {
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
func (s *Service) settledRollout(ctx context.Context, taskID string) (state.Record[taskRollout], error) {
	r, err := state.ReadOr[taskRollout](ctx, s.cfg.Store, rolloutKey(taskID))
	if err == nil && r.Value.Stopped != "" && !r.Value.Withdrawn {
		err = fault.New(fault.Conflict, "task %s was stopped and is still being withdrawn; try again in a moment", taskID)
	}
	return r, err
}
