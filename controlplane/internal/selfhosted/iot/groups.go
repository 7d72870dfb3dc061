package iot

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
)

// MaxGroups is how many groups a thing can be in (iot-api §15).
const MaxGroups = 10

// Group returns the group, or fault.NotFound.
func (r *Registry) Group(ctx context.Context, name string) (state.Record[Group], error) {
	g, err := state.Read[Group](ctx, r.store, groupKey(name))
	if errors.Is(err, fault.NotFound) {
		return g, noGroup(name)
	}
	return g, err
}

func noGroup(name string) error {
	return fault.New(fault.NotFound, "thing group %s does not exist", name)
}

func retiring(name string) error {
	return fault.New(fault.Conflict, "thing group %s is being removed; try again when it is gone", name)
}

// EnsureGroup creates the group if it is not there and returns it. Tags count
// at creation only.
func (r *Registry) EnsureGroup(ctx context.Context, name, description string, tags map[string]string) (Group, error) {
	if err := names.CheckThingGroup(name); err != nil {
		return Group{}, err
	}
	g, err := state.Update(ctx, r.store, state.StepGroup, groupKey(name), func(g *Group, exists bool, _ *state.Batch) error {
		if exists && !g.Retiring {
			return state.ErrKeep
		}
		if exists {
			g.Retiring, g.Expelling = false, false
			return nil
		}
		*g = Group{Name: name, ID: names.NewUUID(), Description: description, Tags: tags, Version: 1, CreatedAt: r.now().UTC()}
		return nil
	})
	if err != nil {
		return Group{}, fmt.Errorf("ensure thing group %s: %w", name, err)
	}
	return g.Value, nil
}

// Members calls each for every thing of the group, in name order.
func (r *Registry) Members(ctx context.Context, group string, each func(thing string) error) error {
	p := memberPrefix(group)
	return state.All(ctx, r.store, p, func(key string, _ state.Record[struct{}]) error { return each(key[len(p):]) })
}

// MemberPage returns up to limit things of the group whose name is greater than
// after, in name order, and whether there are more.
func (r *Registry) MemberPage(ctx context.Context, group, after string, limit int) ([]string, bool, error) {
	p := memberPrefix(group)
	page, err := r.store.List(ctx, p, p+after, limit)
	if err != nil {
		return nil, false, fmt.Errorf("list members of %s: %w", group, err)
	}
	out := make([]string, len(page.Entries))
	for i, e := range page.Entries {
		out[i] = e.Key[len(p):]
	}
	return out, page.More, nil
}

// MoveBatch adds to b: the thing as read in t leaves the groups in leave, joins
// those in join, and nothing else. It returns the thing as it will be. The batch
// is conditional on t's revision and on the groups to join being there.
func (r *Registry) MoveBatch(ctx context.Context, b *state.Batch, t state.Record[Thing], leave, join []string) (Thing, error) {
	next := t.Value
	next.Groups = slices.DeleteFunc(slices.Clone(next.Groups), func(g string) bool {
		return slices.Contains(leave, g) && !slices.Contains(join, g)
	})
	for _, g := range join {
		next.Groups = addTo(next.Groups, g)
	}
	b.If(thingKey(next.Name), t.Rev)
	b.Put(thingKey(next.Name), next)
	return next, r.joinBatch(ctx, b, next, t.Value.Groups)
}

// enterBatch makes t, which says so already, a member of the group in b. A group
// that is being removed is fault.Conflict.
func (r *Registry) enterBatch(ctx context.Context, b *state.Batch, group string, t Thing) error {
	g, err := r.GroupBatch(ctx, b, group)
	if err != nil {
		return err
	}
	b.Put(memberKey(group, t.Name), struct{}{})
	return r.oneOfEachHierarchy(ctx, t, g.Value)
}

// GroupBatch is Group, and makes b conditional on its answer: what b stores for the
// group, its removal sees. A group that is being removed is fault.Conflict.
func (r *Registry) GroupBatch(ctx context.Context, b *state.Batch, name string) (state.Record[Group], error) {
	g, err := r.Group(ctx, name)
	if err != nil {
		return g, err
	}
	if g.Value.Retiring {
		return g, retiring(name)
	}
	b.If(groupKey(name), g.Rev)
	return g, nil
}

// CloseGroup makes sure that the group is empty and stays so, for its removal
// with DeleteGroupBatch. A group with members or child groups is fault.Conflict and
// stays open.
func (r *Registry) CloseGroup(ctx context.Context, name string) (state.Record[Group], error) {
	empty := func() error {
		some, _, err := r.MemberPage(ctx, name, "", 1)
		if err == nil && len(some) > 0 {
			err = fault.New(fault.Conflict, "thing group %s has members, %s for one; move them to another group first", name, some[0])
		}
		return err
	}
	g, err := r.Group(ctx, name)
	if err != nil {
		return g, err
	}
	if n := len(g.Value.Children); n > 0 {
		return g, fault.New(fault.Conflict, "thing group %s has %d child groups, %s for one; delete them first", name, n, g.Value.Children[0])
	}
	if !g.Value.Retiring { // else somebody else is at it, or died
		if err := empty(); err != nil {
			return g, err
		}
		g.Value.Retiring = true
		if g.Rev, err = r.store.Commit(ctx, state.NewBatch(state.StepGroup).If(groupKey(name), g.Rev).Put(groupKey(name), g.Value)); err != nil {
			return g, err
		}
	}
	// Who joined before the mark is seen now, who comes after it is refused.
	if err := empty(); err != nil {
		if g.Value.Expelling { // its members are on their way out
			return g, err
		}
		g.Value.Retiring = false
		_, reopen := r.store.Commit(ctx, state.NewBatch(state.StepGroup).If(groupKey(name), g.Rev).Put(groupKey(name), g.Value))
		return g, errors.Join(err, reopen)
	}
	return g, nil
}

// DeleteGroupBatch removes a closed group in b.
func (r *Registry) DeleteGroupBatch(ctx context.Context, b *state.Batch, g state.Record[Group]) error {
	b.If(groupKey(g.Value.Name), g.Rev).Delete(groupKey(g.Value.Name))
	dropGroupPoliciesBatch(b, g.Value)
	if g.Value.Parent() == "" {
		return nil
	}
	p, err := r.Group(ctx, g.Value.Parent())
	if err != nil {
		return err
	}
	p.Value.Children = without(p.Value.Children, g.Value.Name)
	b.If(groupKey(p.Value.Name), p.Rev).Put(groupKey(p.Value.Name), p.Value)
	return nil
}

// MemberBatch reports whether the thing is in the group, and makes b conditional
// on it if so.
func (r *Registry) MemberBatch(ctx context.Context, b *state.Batch, group, thing string) (bool, error) {
	m, err := state.ReadOr[struct{}](ctx, r.store, memberKey(group, thing))
	if err != nil || m.Rev == 0 {
		return false, err
	}
	b.If(memberKey(group, thing), m.Rev)
	return true, nil
}
