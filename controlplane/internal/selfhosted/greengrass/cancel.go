package greengrass

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/jobs"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Cancel stops an ACTIVE deployment for those who have not taken it up: what is
// queued ends CANCELED, what runs goes on, nobody gets it any more. It stays the
// latest of its target. One that is not ACTIVE is fault.Conflict. why is kept with the
// job; that it says force ends nothing here, see jobs.Withdraw.
func (s *Service) Cancel(ctx context.Context, id string, why jobs.Reason) error {
	for range maxCreates {
		d, err := s.record(ctx, id)
		if err != nil {
			return err
		}
		if st := d.Value.Status; st != StatusActive {
			return about("deployment", id, fault.New(fault.Conflict, "deployment %s is %s: only one that is ACTIVE can be canceled", id, st))
		}
		b := state.NewBatch(state.StepDeployment)
		if err := s.cancelBatch(ctx, b, d, why); err != nil {
			return err
		}
		if _, err = s.store.Commit(ctx, b); errors.Is(err, fault.Conflict) {
			continue
		} else if err != nil {
			return fmt.Errorf("cancel deployment %s: %w", id, err)
		}
		s.log.InfoContext(ctx, "deployment canceled", logx.Deployment, id, "target", d.Value.Target, "why", cmp.Or(why.Comment, why.Code, "requested"))
		return nil
	}
	return fmt.Errorf("cancel deployment %s: %w", id, fault.Conflict)
}

// cancelBatch cancels the ACTIVE deployment d in b.
func (s *Service) cancelBatch(ctx context.Context, b *state.Batch, d state.Record[Deployment], why jobs.Reason) error {
	if err := s.endBatch(ctx, b, d, StatusCanceled, why); err != nil {
		return err
	}
	if v := d.Value; v.Kind == names.TargetThing {
		if err := s.jobs.ClearBatch(ctx, b, v.Target, v.Kind, v.Target, "", protocol.JobCanceled); err != nil {
			return err
		}
	}
	d.Value.Status = StatusCanceled
	return s.settleBatch(ctx, b, d.Value)
}

// Delete removes the record of a deployment; cores keep what they run. An ACTIVE
// one is fault.Conflict. When it was the latest of its target, the next older that
// remains is the latest; revisions are not used again.
func (s *Service) Delete(ctx context.Context, id string) error {
	for range maxCreates {
		d, err := s.record(ctx, id)
		if err != nil {
			return err
		}
		if d.Value.Status == StatusActive {
			return about("deployment", id, fault.New(fault.Conflict, "deployment %s is ACTIVE: cancel it first", id))
		}
		b := state.NewBatch(state.StepDeployment)
		if err := s.deleteBatch(ctx, b, d); err != nil {
			return fmt.Errorf("delete deployment %s: %w", id, err)
		}
		if _, err = s.store.Commit(ctx, b); errors.Is(err, fault.Conflict) {
			continue
		} else if err != nil {
			return fmt.Errorf("delete deployment %s: %w", id, err)
		}
		s.log.InfoContext(ctx, "deployment deleted", logx.Deployment, id, "target", d.Value.Target, "revision", d.Value.Revision)
		return nil
	}
	return fmt.Errorf("delete deployment %s: %w", id, fault.Conflict)
}

func (s *Service) deleteBatch(ctx context.Context, b *state.Batch, d state.Record[Deployment]) error {
	v := d.Value
	b.If(deploymentKey(v.ID), d.Rev).Delete(deploymentKey(v.ID)).Delete(revisionKey(v.Kind, v.Target, v.Revision))
	s.jobs.DiscardBatch(b, v.JobID)
	key := targetKey(v.Kind, v.Target)
	t, err := state.ReadOr[target](ctx, s.store, key)
	if err != nil || t.Rev == 0 {
		return err
	}
	b.If(key, t.Rev)
	if t.Value.DeploymentID == v.ID {
		older, err := s.older(ctx, v)
		if err != nil {
			return err
		}
		t.Value.DeploymentID, t.Value.JobID, t.Value.Status = older.ID, older.JobID, older.Status
	}
	b.Put(key, t.Value) // also else: of two revisions deleted at once each sees the other
	return nil
}

// older returns the newest remaining revision of d's target before d, or the zero
// Deployment.
func (s *Service) older(ctx context.Context, d Deployment) (out Deployment, err error) {
	own := revisionKey(d.Kind, d.Target, d.Revision)
	var id string
	err = state.All(ctx, s.store, revisionPrefix(d.Kind, d.Target), func(key string, r state.Record[string]) error {
		if key < own {
			id = r.Value
		}
		return nil
	})
	if err != nil || id == "" {
		return out, err
	}
	r, err := state.ReadOr[Deployment](ctx, s.store, deploymentKey(id))
	return r.Value, err
}
