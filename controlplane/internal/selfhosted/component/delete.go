package component

import (
	"context"
	"errors"
	"fmt"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// Delete removes a version, recipe and artifacts. It is fault.Conflict while
// Config.InUse names somebody, fault.NotFound if there is no such version.
//
// First the version is marked, from when on nobody sees it; then its objects go,
// then the record. A crash in between leaves the mark, and FinishDeletes ends
// the work.
func (s *Service) Delete(ctx context.Context, name, version string) error {
	if _, err := s.Get(ctx, name, version); err != nil {
		return err
	}
	by, err := s.cfg.InUse(ctx, name, version)
	if err != nil {
		return fmt.Errorf("ask who uses component %s %s: %w", name, version, err)
	}
	if by != "" {
		return fault.New(fault.Conflict, "component %s %s is in use by %s: remove it there first", name, version, by)
	}
	_, err = state.Update(ctx, s.cfg.Store, state.StepComponent, keyOf(name, version), func(v *Version, exists bool, _ *state.Batch) error {
		if !exists || v.Deleting {
			return notFound(name, version)
		}
		v.Deleting = true
		return nil
	})
	if err != nil {
		return fmt.Errorf("mark component %s %s as deleted: %w", name, version, err)
	}
	return s.finishDelete(ctx, name, version)
}

// FinishDeletes ends the deletions that a crash interrupted. Call it at start.
func (s *Service) FinishDeletes(ctx context.Context) error {
	var marked []Version
	err := state.All(ctx, s.cfg.Store, prefix, func(_ string, r state.Record[Version]) error {
		if r.Value.Deleting {
			marked = append(marked, r.Value)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("look for components marked as deleted: %w", err)
	}
	for _, v := range marked {
		if err := s.finishDelete(ctx, v.Name, v.Version); err != nil {
			return err
		}
	}
	return nil
}

// finishDelete removes what a mark is on; without one it does nothing.
func (s *Service) finishDelete(ctx context.Context, name, version string) error {
	key := keyOf(name, version)
	r, err := state.ReadOr[Version](ctx, s.cfg.Store, key)
	if err != nil {
		return fmt.Errorf("read component %s %s: %w", name, version, err)
	}
	if !r.Value.Deleting {
		return nil
	}
	for _, a := range r.Value.Artifacts {
		if a.External || a.Key == "" {
			continue
		}
		if err := s.cfg.Objects.Delete(ctx, a.Key); err != nil {
			return fmt.Errorf("remove artifact %s of %s %s: %w", a.Name, name, version, err)
		}
	}
	_, err = s.cfg.Store.Commit(ctx, state.NewBatch(state.StepComponent).If(key, r.Rev).Delete(key))
	if err != nil && !errors.Is(err, fault.Conflict) { // someone else finished it
		return fmt.Errorf("remove component %s %s: %w", name, version, err)
	}
	return nil
}
