package greengrass

import (
	"context"
	"slices"
	"strings"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/jobs"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
)

// maxSubs is how many groups may have an ACTIVE sub-deployment on behalf of one:
// the commit of the parent's next revision ends them all.
const maxSubs = 10

// fits refuses what the target had before: a group has deployments of its own or
// sub-deployments, and these on behalf of one parent only (greengrassv2-api §8).
func fits(n NewDeployment, t target, old Deployment) error {
	refuse := func(format string, args ...any) error {
		return about(string(n.Kind), n.Target, fault.New(fault.Conflict, format, args...))
	}
	switch {
	case n.Parent != "" && t.Parent != "" && t.Parent != n.Parent:
		return refuse("thing group %s was used for sub-deployments on behalf of %s and cannot be used with another parent", n.Target, t.Parent)
	case old.ID == "" || old.Parent == n.Parent:
		return nil
	case n.Parent != "" && old.Parent == "":
		return refuse("thing group %s has a deployment of its own, %s, and cannot have sub-deployments; use a group without deployments", n.Target, old.ID)
	case old.Parent != "":
		return refuse("thing group %s has sub-deployment %s on behalf of %s and cannot have a deployment of its own; use another group", n.Target, old.ID, old.Parent)
	}
	return nil
}

// onBehalfBatch adds to b that d is a sub-deployment. Its parent's record is
// written too: a revision of the parent made in this moment would miss d.
func (s *Service) onBehalfBatch(ctx context.Context, b *state.Batch, d Deployment) error {
	key := targetKey(names.TargetThingGroup, d.Parent)
	p, err := state.ReadOr[target](ctx, s.store, key)
	if err != nil {
		return err
	}
	of, err := s.latest(ctx, p.Value)
	switch {
	case err != nil:
		return err
	case of.Rev == 0:
		return about(string(names.TargetThingGroup), d.Parent, fault.New(fault.NotFound, "thing group %s has no deployment that %s could have a sub-deployment of", d.Parent, d.Target))
	case of.Value.Parent != "":
		return about(string(names.TargetThingGroup), d.Parent, fault.New(fault.Conflict, "thing group %s has sub-deployments itself, on behalf of %s; name that group as the parent", d.Parent, of.Value.Parent))
	}
	subs, err := s.subs(ctx, d.Parent)
	if err != nil {
		return err
	}
	if len(subs) >= maxSubs && !slices.Contains(subs, d.Target) {
		return about(string(names.TargetThingGroup), d.Parent,
			fault.New(fault.Conflict, "%d thing groups have a sub-deployment on behalf of %s already, the most there can be; cancel one, or deploy to %s, which replaces them", len(subs), d.Parent, d.Parent))
	}
	b.If(key, p.Rev).Put(key, p.Value)
	b.Put(subKey(d.Parent, d.Target), struct{}{})
	return nil
}

// subs returns the groups that have an ACTIVE sub-deployment on behalf of parent.
func (s *Service) subs(ctx context.Context, parent string) ([]string, error) {
	var out []string
	p := subKey(parent, "")
	err := state.All(ctx, s.store, p, func(key string, _ state.Record[struct{}]) error {
		out = append(out, strings.TrimPrefix(key, p))
		return nil
	})
	return out, err
}

// endSubsBatch ends in b all sub-deployments on behalf of parent, whose record b is
// conditional on.
func (s *Service) endSubsBatch(ctx context.Context, b *state.Batch, parent string) error {
	subs, err := s.subs(ctx, parent)
	if err != nil {
		return err
	}
	for _, group := range subs {
		key := targetKey(names.TargetThingGroup, group)
		t, err := state.ReadOr[target](ctx, s.store, key)
		if err != nil {
			return err
		}
		d, err := s.latest(ctx, t.Value)
		if err != nil {
			return err
		}
		if err := s.endBatch(ctx, b, d, StatusInactive, jobs.Reason{}); err != nil {
			return err
		}
		t.Value.Status = StatusInactive
		b.If(key, t.Rev).Put(key, t.Value)
	}
	return nil
}
