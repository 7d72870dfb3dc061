package greengrass

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/jobs"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Move takes the thing out of every group that leave names and puts it into
// join: the thing's record, the queued executions of the groups left (REMOVED)
// and the execution of the group joined are in the batch that commit gets. A
// core that asks for its groups at any instant sees the one or the other.
//
// commit also gets the execution that the thing has for join's deployment then
// (the zero value if the group has none). A thing that is there already keeps
// its execution unless how.Again is set. Move returns what commit returns.
func (s *Service) Move(ctx context.Context, thing string, leave func(group string) bool, join string, how jobs.Start, commit func(*state.Batch, jobs.Execution) error) error {
	if m := how.TimeoutMinutes; m < 0 || m > maxTimeoutMinutes {
		return fault.Field("inProgressTimeoutInMinutes", "is %d, want 1 to %d, or 0 for what the deployment says", m, maxTimeoutMinutes)
	}
	b := state.NewBatch(state.StepMove)
	t, err := s.registry.ThingBatch(ctx, b, thing)
	if err != nil {
		return err
	}
	var left []string
	for _, g := range t.Value.Groups {
		if g != join && leave(g) {
			left = append(left, g)
		}
	}
	there := slices.Contains(t.Value.Groups, join)
	if !there || len(left) > 0 {
		if _, err := s.registry.MoveBatch(ctx, b, t, left, join); err != nil {
			return err
		}
	}
	for _, g := range left {
		if err := s.jobs.ClearBatch(ctx, b, thing, names.TargetThingGroup, g, "", protocol.JobRemoved); err != nil {
			return err
		}
	}
	e, err := s.joinBatch(ctx, b, thing, join, there, how)
	if err != nil {
		return err
	}
	return commit(b, e)
}

// Leave takes the thing out of every group that leave names; what is queued for
// those ends REMOVED. A thing that is not there is in no group.
func (s *Service) Leave(ctx context.Context, thing string, leave func(group string) bool) error {
	for range 16 {
		t, err := s.registry.Thing(ctx, thing)
		if errors.Is(err, fault.NotFound) || err == nil && !slices.ContainsFunc(t.Value.Groups, leave) {
			return nil
		}
		if err != nil {
			return err
		}
		err = s.Move(ctx, thing, leave, "", jobs.Start{}, func(b *state.Batch, _ jobs.Execution) error {
			_, err := s.store.Commit(ctx, b)
			return err
		})
		if !errors.Is(err, fault.Conflict) {
			return err
		}
	}
	return fmt.Errorf("take %s out of its groups: %w", thing, fault.Conflict)
}

// joinBatch adds the execution of join's deployment on thing to b.
func (s *Service) joinBatch(ctx context.Context, b *state.Batch, thing, join string, there bool, how jobs.Start) (jobs.Execution, error) {
	key := targetKey(names.TargetThingGroup, join)
	tg, err := state.ReadOr[target](ctx, s.store, key)
	if err != nil {
		return jobs.Execution{}, err
	}
	b.If(key, tg.Rev) // a revision made in this moment would miss the thing
	if tg.Rev == 0 || tg.Value.Status != StatusActive {
		return jobs.Execution{}, nil
	}
	if there && !how.Again {
		e, ok, err := s.jobs.LastBatch(ctx, b, thing, tg.Value.JobID, names.TargetThingGroup, join)
		if err != nil || ok && e.JobID == tg.Value.JobID {
			return s.jobs.KeepBatch(b, e, how), err
		}
	}
	j, err := s.jobs.Job(ctx, tg.Value.JobID)
	if err != nil {
		return jobs.Execution{}, err
	}
	return s.jobs.StartBatch(ctx, b, j, thing, how)
}
