package greengrass

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/jobs"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// Members of a group that is being deleted leave by leaveChunk in one commit, leavers
// commits at a time.
const (
	leavers    = 16
	leaveChunk = 8
)

// RemoveThing deletes a thing that has no certificates (else fault.Invalid) and is at
// the expected version (nil: any; else fault.Stale), with all that is kept of it as a
// core device. A thing that is not there is no error. Interrupted, it can be repeated.
func (s *Service) RemoveThing(ctx context.Context, thing string, expected *int64) error {
	err := s.registry.BeginDelete(ctx, thing, expected)
	if errors.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	for range 16 {
		last, err := s.DeleteThing(ctx, thing, cloud.Deprovision{})
		if err == nil {
			_, err = s.store.Commit(ctx, last)
		}
		if !errors.Is(err, fault.Conflict) {
			return err
		}
	}
	return fmt.Errorf("remove thing %s: %w", thing, fault.Conflict)
}

// RemoveGroup deletes a group that has no child groups (else fault.Invalid) and is at
// the expected version (nil: any; else fault.Stale): its members leave it, its
// deployment is canceled, and it goes. A group that is not there is no error.
// Interrupted, it can be repeated; ResumeRemovals does so.
func (s *Service) RemoveGroup(ctx context.Context, group string, expected *int64) error {
	err := s.registry.BeginDeleteGroup(ctx, group, expected)
	if errors.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return s.expel(ctx, group)
}

// expel takes all members out of a group that nobody can join any more, and
// removes it.
func (s *Service) expel(ctx context.Context, group string) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(leavers)
	var chunk []string
	leave := func() {
		things := chunk
		chunk = nil
		g.Go(func() error { return s.leaveTogether(gctx, things, group) })
	}
	err := s.registry.Members(gctx, group, func(thing string) error {
		if chunk = append(chunk, thing); len(chunk) == leaveChunk {
			leave()
		}
		return gctx.Err()
	})
	leave()
	if err := errors.Join(g.Wait(), err); err != nil {
		return fmt.Errorf("remove thing group %s: %w", group, err)
	}
	return s.Retire(ctx, group)
}

// leaveTogether takes things out of the group in one commit, or one by one if one of
// them changes in this moment, or if there is too much to each.
func (s *Service) leaveTogether(ctx context.Context, things []string, group string) error {
	leave := func(g string) bool { return g == group }
	b := state.NewBatch(state.StepMove)
	var err error
	for _, n := range things {
		if _, err = s.moveBatch(ctx, b, n, leave, nil, jobs.Start{}); err != nil {
			break
		}
	}
	if err == nil && b.Len() <= state.MaxBatch {
		if _, err = s.store.Commit(ctx, b); err == nil {
			return nil
		}
	}
	if err != nil && !errors.Is(err, fault.Conflict) && !errors.Is(err, fault.NotFound) {
		return err
	}
	for _, n := range things {
		if err := s.Leave(ctx, n, leave); err != nil {
			return err
		}
	}
	return nil
}

// ResumeRemovals finishes the removals of groups that a restart interrupted.
func (s *Service) ResumeRemovals(ctx context.Context) error {
	groups, err := s.registry.Expelling(ctx)
	if err != nil {
		return err
	}
	for _, group := range groups {
		err = errors.Join(err, s.expel(ctx, group))
	}
	return err
}
