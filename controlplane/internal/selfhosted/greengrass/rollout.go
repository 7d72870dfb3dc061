package greengrass

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/rollout"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
)

// phase is what is left to do for a group's deployment.
type phase string

const (
	handing     phase = "hand"     // the members that were there at the creation get it, in name order
	following   phase = "follow"   // all have it; what they report may still stop it
	withdrawing phase = "withdraw" // it was superseded or canceled: what is queued ends CANCELED
)

// spread is how far the rollout of a group's deployment is. It is there as long
// as something is left to do; with a rate, each execution is committed together
// with it, so that no crash and no second replica makes a notification too many.
type spread struct {
	rollout.State
	Phase phase  `json:"phase"`
	Group string `json:"group"`
	JobID string `json:"jobId"`
	After string `json:"after,omitempty"` // members up to this name have theirs
	// Counted is the revision up to which results are in the counters; 0: none,
	// and the record is as it was made.
	Counted state.Rev `json:"counted,omitempty"`
}

// counts reports whether what cores report matters.
func (r spread) counts() bool {
	e := r.Config.Exponential
	return r.Phase != withdrawing && (len(r.Config.Abort) > 0 || r.Phase == handing && e != nil && e.Succeeded > 0)
}

const rolloutPrefix = prefix + "rollout/"

func rolloutKey(deployment string) string { return rolloutPrefix + deployment }

// rolloutConfig is c as the state machine has it. Where c names no rate, that of
// the service holds.
func (s *Service) rolloutConfig(c JobConfig) rollout.Config {
	out := rollout.Config{TimeoutMinutes: c.timeoutMinutes()}
	if r := c.Rollout; r != nil {
		if r.Maximum != nil {
			out.MaximumPerMinute = int(*r.Maximum)
		}
		if e := r.Exponential; e != nil {
			out.Exponential = &rollout.Exponential{BasePerMinute: int(e.Base), Factor: e.Factor}
			if i := e.Increase; i != nil && i.Notified != nil {
				out.Exponential.Notified = int(*i.Notified)
			}
			if i := e.Increase; i != nil && i.Succeeded != nil {
				out.Exponential.Succeeded = int(*i.Succeeded)
			}
		}
	}
	if out.MaximumPerMinute == 0 && out.Exponential == nil {
		out.MaximumPerMinute = s.rate
	}
	if c.Abort != nil {
		for _, a := range c.Abort.Criteria {
			x := rollout.Criterion{FailureType: a.FailureType, MinExecuted: int(a.MinExecuted)}
			if a.Threshold != nil {
				x.Threshold = *a.Threshold
			}
			out.Abort = append(out.Abort, x)
		}
	}
	return out
}

// beginRolloutBatch records in b that the members of d's group are to get it.
func (s *Service) beginRolloutBatch(b *state.Batch, d Deployment) {
	b.If(rolloutKey(d.ID), 0)
	b.Put(rolloutKey(d.ID), spread{State: rollout.State{Config: s.rolloutConfig(d.JobConfig)}, Phase: handing, Group: d.Target, JobID: d.JobID})
}

// withdrawRolloutBatch records in b that d reaches nobody any more: what is queued
// of it ends CANCELED. d is a group's deployment that was ACTIVE until b, and its
// job is canceled in b.
func (s *Service) withdrawRolloutBatch(ctx context.Context, b *state.Batch, d Deployment) error {
	r, err := state.ReadOr[spread](ctx, s.store, rolloutKey(d.ID))
	if err != nil {
		return fmt.Errorf("read rollout of deployment %s: %w", d.ID, err)
	}
	r.Value.Phase, r.Value.Group, r.Value.JobID = withdrawing, d.Target, d.JobID
	b.If(rolloutKey(d.ID), r.Rev).Put(rolloutKey(d.ID), r.Value)
	return nil
}

// RolloutState is how far a rollout is, for tests and diagnosis.
type RolloutState struct {
	Phase    string // hand, follow, withdraw
	Rate     float64
	Notified int
	rollout.Results
	NextAt time.Time
}

// Rollout returns how far the rollout of a group's deployment is; ok is false when
// nothing is left to do.
func (s *Service) Rollout(ctx context.Context, deployment string) (out RolloutState, ok bool, err error) {
	r, err := state.ReadOr[spread](ctx, s.store, rolloutKey(deployment))
	if err != nil || r.Rev == 0 {
		return out, false, err
	}
	v := r.Value
	return RolloutState{Phase: string(v.Phase), Rate: v.Rate(), Notified: v.Notified, Results: v.Results, NextAt: v.NextAt}, true, nil
}

// rollouts calls each for every rollout that is not done.
func (s *Service) rollouts(ctx context.Context, each func(deployment string, r state.Record[spread]) error) error {
	return state.All(ctx, s.store, rolloutPrefix, func(key string, r state.Record[spread]) error {
		return each(strings.TrimPrefix(key, rolloutPrefix), r)
	})
}
