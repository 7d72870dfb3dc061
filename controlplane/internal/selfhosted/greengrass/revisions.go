package greengrass

import (
	"context"
	"errors"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/jobs"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// latest returns the target's latest deployment, or the zero Record.
func (s *Service) latest(ctx context.Context, t target) (state.Record[Deployment], error) {
	if t.DeploymentID == "" {
		return state.Record[Deployment]{}, nil
	}
	return state.ReadOr[Deployment](ctx, s.store, deploymentKey(t.DeploymentID))
}

// supersedeBatch ends in b what n takes the place of: the revision before and the
// sub-deployments on its behalf.
func (s *Service) supersedeBatch(ctx context.Context, b *state.Batch, n NewDeployment, old state.Record[Deployment]) error {
	if err := s.endBatch(ctx, b, old, StatusInactive, jobs.Reason{}); err != nil {
		return err
	}
	if n.Kind != names.TargetThingGroup || n.Parent != "" {
		return nil
	}
	return s.endSubsBatch(ctx, b, n.Target)
}

// endBatch ends an ACTIVE deployment in b: its job goes to nobody any more, and of
// a group's what is queued ends CANCELED. One that has ended stays as it is. The
// record of the target is the caller's.
func (s *Service) endBatch(ctx context.Context, b *state.Batch, d state.Record[Deployment], to Status, why jobs.Reason) error {
	if d.Rev == 0 || d.Value.Status != StatusActive {
		return nil
	}
	d.Value.Status = to
	b.If(deploymentKey(d.Value.ID), d.Rev)
	b.Put(deploymentKey(d.Value.ID), d.Value)
	if d.Value.Parent != "" {
		b.Delete(subKey(d.Value.Parent, d.Value.Target))
	}
	if err := s.jobs.CancelBatch(ctx, b, d.Value.JobID, why); err != nil {
		return err
	}
	if d.Value.Kind == names.TargetThing {
		return nil // who ends it clears the one execution, in the same commit
	}
	return s.withdrawRolloutBatch(ctx, b, d.Value)
}

// endTargetBatch cancels the target's deployment in b. What remains is the number
// of its revisions: a thing or group of the same name goes on from there.
func (s *Service) endTargetBatch(ctx context.Context, b *state.Batch, kind names.TargetKind, name string) error {
	t, err := state.ReadOr[target](ctx, s.store, targetKey(kind, name))
	if err != nil || t.Rev == 0 {
		return err
	}
	old, err := s.latest(ctx, t.Value)
	if err != nil {
		return err
	}
	if err := s.endBatch(ctx, b, old, StatusCanceled, jobs.Reason{}); err != nil {
		return err
	}
	if t.Value.Status == StatusActive {
		t.Value.Status = StatusCanceled
	}
	t.Value.Parent = ""
	b.If(targetKey(kind, name), t.Rev).Put(targetKey(kind, name), t.Value)
	if kind == names.TargetThing {
		return nil
	}
	return s.endSubsBatch(ctx, b, name)
}

// ended adds to the batch in which an execution ends what follows for its
// deployment: that of a thing has ended with it (greengrassv2-api §7), however it
// did, unless b ends it already.
func (s *Service) ended(ctx context.Context, b *state.Batch, e jobs.Execution) error {
	s.deployedBatch(b, e)
	if e.Kind != names.TargetThing {
		return nil
	}
	var to Status
	switch e.Status {
	case protocol.JobSucceeded:
		to = StatusCompleted
	case protocol.JobFailed, protocol.JobRejected, protocol.JobTimedOut:
		to = StatusFailed
	case protocol.JobRemoved, protocol.JobCanceled:
		to = StatusCanceled
	case protocol.JobQueued, protocol.JobInProgress:
		return nil
	}
	d, err := s.record(ctx, e.DeploymentID)
	if err == nil {
		err = b.Peek(deploymentKey(e.DeploymentID), &d.Value)
	}
	if errors.Is(err, fault.NotFound) || err == nil && d.Value.Status != StatusActive {
		return nil
	}
	if err != nil {
		return err
	}
	d.Value.Status = to
	b.If(deploymentKey(d.Value.ID), d.Rev).Put(deploymentKey(d.Value.ID), d.Value)
	return s.settleBatch(ctx, b, d.Value)
}

// settleBatch brings the status of d, which is another now, to its target in b.
func (s *Service) settleBatch(ctx context.Context, b *state.Batch, d Deployment) error {
	key := targetKey(d.Kind, d.Target)
	t, err := state.ReadOr[target](ctx, s.store, key)
	if err != nil {
		return err
	}
	b.If(key, t.Rev)
	if t.Value.DeploymentID == d.ID {
		t.Value.Status = d.Status
		b.Put(key, t.Value)
	}
	return nil
}
