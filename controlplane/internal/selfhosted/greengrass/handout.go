package greengrass

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/jobs"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// rollOut gives every member of d's target its execution and takes the queued
// ones of the revision before away. Run again it goes on where it stopped.
func (s *Service) rollOut(ctx context.Context, d Deployment) error {
	rolling, err := state.ReadOr[struct{}](ctx, s.store, rollingKey(d.ID))
	if err != nil || rolling.Rev == 0 {
		return err
	}
	give := func(thing string) error { return s.hand(ctx, d, thing) }
	if d.Kind == names.TargetThing {
		err = give(d.Target)
	} else {
		err = s.registry.Members(ctx, d.Target, give)
	}
	if err != nil {
		return fmt.Errorf("roll out deployment %s: %w", d.ID, err)
	}
	_, err = state.Update(ctx, s.store, state.StepExecutions, deploymentKey(d.ID), func(v *Deployment, exists bool, b *state.Batch) error {
		b.Delete(rollingKey(d.ID))
		v.RolledOut = true
		if !exists {
			b.Delete(deploymentKey(d.ID))
		}
		return nil
	})
	return err
}

// hand gives a member of d's target its execution, in place of the queued ones of
// every revision before: one of those may itself not have been rolled out whole.
func (s *Service) hand(ctx context.Context, d Deployment, thing string) error {
	for range 16 {
		job, err := s.jobs.Job(ctx, d.JobID)
		if err != nil || job.Value.Canceled {
			return err // superseded meanwhile: the newer roll-out does the rest
		}
		b := state.NewBatch(state.StepExecutions)
		if d.Kind == names.TargetThing {
			if _, err := s.registry.ThingBatch(ctx, b, thing); errors.Is(err, fault.NotFound) || errors.Is(err, fault.Conflict) {
				return nil // deleted, or about to be
			} else if err != nil {
				return err
			}
		} else {
			if member, err := s.registry.MemberBatch(ctx, b, d.Target, thing); err != nil || !member {
				return err // left in this moment: the move took its executions along
			}
		}
		if err := s.jobs.ClearBatch(ctx, b, thing, d.Kind, d.Target, d.JobID, protocol.JobCanceled); err != nil {
			return err
		}
		last, ok, err := s.jobs.LastBatch(ctx, b, thing, d.JobID, d.Kind, d.Target)
		if err != nil {
			return err
		}
		if !ok || last.JobID != d.JobID {
			if _, err := s.jobs.StartBatch(ctx, b, job, thing, jobs.Start{}); err != nil {
				return err
			}
		}
		if _, err = s.store.Commit(ctx, b); !errors.Is(err, fault.Conflict) {
			return err
		}
	}
	return fmt.Errorf("give deployment %s to %s: %w", d.ID, thing, fault.Conflict)
}

// Resume goes on with the roll-outs that a restart interrupted.
func (s *Service) Resume(ctx context.Context) error {
	p := rollingKey("")
	return state.All(ctx, s.store, p, func(key string, _ state.Record[json.RawMessage]) error {
		d, err := s.Deployment(ctx, strings.TrimPrefix(key, p))
		if err != nil {
			return err
		}
		return s.rollOut(ctx, d)
	})
}
