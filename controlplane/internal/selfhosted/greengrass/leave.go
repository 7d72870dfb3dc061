package greengrass

import (
	"context"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/jobs"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/names"
)

// leaveBatch sends the thing a deployment in b, by which the components of the
// groups left go: the current one of a target that remains, anew, its own first but
// last if it failed; else an empty one of its own (Config.DeployOnLeave). Groups without a deployment
// brought nothing.
func (s *Service) leaveBatch(ctx context.Context, b *state.Batch, thing string, left, remaining []string) error {
	brought := false
	for _, g := range left {
		t, err := state.ReadOr[target](ctx, s.store, targetKey(names.TargetThingGroup, g))
		if err != nil {
			return err
		}
		brought = brought || t.Value.DeploymentID != ""
	}
	if !brought {
		return nil
	}
	own, err := state.ReadOr[target](ctx, s.store, targetKey(names.TargetThing, thing))
	if err != nil {
		return err
	}
	b.If(targetKey(names.TargetThing, thing), own.Rev)
	if own.Value.Status != StatusFailed {
		if sent, err := s.againBatch(ctx, b, thing, own.Value); err != nil || sent {
			return err
		}
	}
	for _, g := range remaining {
		key := targetKey(names.TargetThingGroup, g)
		t, err := state.ReadOr[target](ctx, s.store, key)
		if err != nil {
			return err
		}
		b.If(key, t.Rev)
		if sent, err := s.againBatch(ctx, b, thing, t.Value); err != nil || sent {
			return err
		}
	}
	// What failed may fail again, but an empty one would also take what was there before.
	if sent, err := s.againBatch(ctx, b, thing, own.Value); err != nil || sent {
		return err
	}
	_, err = s.createBatch(ctx, b, NewDeployment{Kind: names.TargetThing, Target: thing, Policies: DefaultPolicies()}, own.Value)
	return err
}

// againBatch queues the target's deployment anew on the thing, if it has one that
// counts.
func (s *Service) againBatch(ctx context.Context, b *state.Batch, thing string, t target) (bool, error) {
	switch t.Status {
	case StatusActive, StatusCompleted, StatusFailed:
	case StatusInactive, StatusCanceled, "": // "": it has none
		return false, nil
	}
	j, err := s.jobs.Job(ctx, t.JobID)
	if err != nil || j.Value.Canceled {
		return false, err
	}
	_, err = s.jobs.StartBatch(ctx, b, j, thing, jobs.Start{Again: true})
	return err == nil, err
}
