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
	var joins []string
	if join != "" {
		joins = []string{join}
	}
	b := state.NewBatch(state.StepMove)
	e, err := s.moveBatch(ctx, b, thing, leave, joins, how)
	if err != nil {
		return err
	}
	return commit(b, e)
}

// Regroup takes the thing out of the groups in leave and puts it into those in
// join, in one commit, as Move does. Each group and the thing must be there; a
// group that it is not in is left at once, one that it is in is joined already.
func (s *Service) Regroup(ctx context.Context, thing string, leave, join []string) error {
	for _, g := range leave {
		if slices.Contains(join, g) {
			return fault.New(fault.Invalid, "thing group %s is both to be joined and to be left", g)
		}
		if _, err := s.registry.Group(ctx, g); err != nil {
			return err
		}
	}
	for range 16 {
		b := state.NewBatch(state.StepMove)
		_, err := s.moveBatch(ctx, b, thing, func(g string) bool { return slices.Contains(leave, g) }, join, jobs.Start{})
		if err != nil {
			return err // fault.Conflict too: the thing or a group is going
		}
		if _, err = s.store.Commit(ctx, b); !errors.Is(err, fault.Conflict) {
			return err
		}
	}
	return fmt.Errorf("change the groups of %s: %w", thing, fault.Conflict)
}

// moveBatch adds to b that the thing leaves the groups that leave names but for
// those in join, which it joins, and what follows for its executions. It returns
// the execution of the last group joined.
func (s *Service) moveBatch(ctx context.Context, b *state.Batch, thing string, leave func(group string) bool, join []string, how jobs.Start) (e jobs.Execution, err error) {
	t, err := s.registry.ThingBatch(ctx, b, thing)
	if err != nil {
		return e, err
	}
	before := t.Value.Groups
	left := slices.DeleteFunc(slices.Clone(before), func(g string) bool { return slices.Contains(join, g) || !leave(g) })
	if there := func(g string) bool { return slices.Contains(before, g) }; len(left) > 0 || !all(join, there) {
		if _, err := s.registry.MoveBatch(ctx, b, t, left, join); err != nil {
			return e, err
		}
	}
	for _, g := range left {
		if err := s.jobs.ClearBatch(ctx, b, thing, names.TargetThingGroup, g, "", protocol.JobRemoved); err != nil {
			return e, err
		}
	}
	for _, g := range join {
		if e, err = s.joinBatch(ctx, b, thing, g, slices.Contains(before, g), how); err != nil {
			return e, err
		}
	}
	if s.onLeave && len(left) > 0 && e.JobID == "" {
		return e, s.leaveBatch(ctx, b, thing, left, slices.DeleteFunc(slices.Clone(before), func(g string) bool { return slices.Contains(left, g) }))
	}
	return e, nil
}

func all(list []string, is func(string) bool) bool {
	return !slices.ContainsFunc(list, func(s string) bool { return !is(s) })
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
