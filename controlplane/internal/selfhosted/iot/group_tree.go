package iot

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/tag"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
)

// Limits of the tree of groups (iot-api §15).
const (
	MaxGroupLevels   = 7
	MaxGroupChildren = 100
)

// Root is the group at the top of g's hierarchy, which may be g itself.
func (g Group) Root() string {
	if len(g.Parents) == 0 {
		return g.Name
	}
	return g.Parents[0]
}

// Parent is the group that g was made under, or empty.
func (g Group) Parent() string {
	if len(g.Parents) == 0 {
		return ""
	}
	return g.Parents[len(g.Parents)-1]
}

// NewGroup is what CreateGroup makes.
type NewGroup struct {
	Name        string
	Parent      string // empty: none; cannot be changed later
	Description string
	Attributes  map[string]string
	Tags        map[string]string
}

// CreateGroup makes a group. One of that name that is the same already, whatever
// its tags, is returned; one that is not is fault.Exists.
func (r *Registry) CreateGroup(ctx context.Context, n NewGroup) (Group, error) {
	attributes := attributesOf(nil, n.Attributes, false)
	err := errors.Join(names.CheckThingGroup(n.Name), tag.Check(n.Tags), checkGroupAttributes(attributes))
	if err != nil {
		return Group{}, err
	}
	g, err := state.Update(ctx, r.store, state.StepGroup, groupKey(n.Name), func(g *Group, exists bool, b *state.Batch) error {
		switch {
		case exists && g.Retiring:
			return retiring(n.Name)
		case exists && g.Parent() == n.Parent && g.Description == n.Description && maps.Equal(g.Attributes, attributes):
			return state.ErrKeep
		case exists:
			return fault.New(fault.Exists, "thing group %s exists already with another parent or other properties", n.Name)
		}
		*g = Group{
			Name: n.Name, ID: names.NewUUID(), Description: n.Description, Attributes: attributes, Tags: n.Tags, Version: 1, CreatedAt: r.now().UTC(),
		}
		return r.underBatch(ctx, b, g, n.Parent)
	})
	if err != nil {
		return Group{}, fmt.Errorf("create thing group %s: %w", n.Name, err)
	}
	return g.Value, nil
}

func checkGroupAttributes(m map[string]string) error {
	return checkAttributes("thingGroupProperties."+attributesField, m, MaxAttributes, "")
}

// underBatch makes g, which is new, a child of parent in b. The parent's record
// changes with it: it is not removed meanwhile, and its children are counted.
func (r *Registry) underBatch(ctx context.Context, b *state.Batch, g *Group, parent string) error {
	if parent == "" {
		return nil
	}
	const field = "parentGroupName"
	p, err := r.Group(ctx, parent)
	switch {
	case errors.Is(err, fault.NotFound):
		return fault.Field(field, "is %s, which does not exist", parent)
	case err != nil:
		return err
	case p.Value.Retiring:
		return retiring(parent)
	case len(p.Value.Parents)+2 > MaxGroupLevels:
		return fault.Field(field, "is %s, which is at level %d already, the lowest that there can be", parent, MaxGroupLevels)
	case len(p.Value.Children) >= MaxGroupChildren:
		return fault.Field(field, "is %s, which has %d child groups already, the most that there can be", parent, len(p.Value.Children))
	}
	g.Parents = append(slices.Clone(p.Value.Parents), parent)
	p.Value.Children = addTo(p.Value.Children, g.Name)
	b.If(groupKey(parent), p.Rev).Put(groupKey(parent), p.Value)
	return nil
}

// GroupChange is what UpdateGroup changes.
type GroupChange struct {
	Description *string           // nil: as it is
	Attributes  map[string]string // as in ThingChange
	Merge       bool
	Expected    *int64 // fault.Stale unless the group is at this version
}

// UpdateGroup changes the group and returns its new version.
func (r *Registry) UpdateGroup(ctx context.Context, name string, c GroupChange) (int64, error) {
	g, err := state.Update(ctx, r.store, state.StepGroup, groupKey(name), func(g *Group, exists bool, _ *state.Batch) error {
		if !exists {
			return noGroup(name)
		}
		g.Version = max(g.Version, 1) // older records have none
		if err := expect("thing group "+name, g.Version, c.Expected); err != nil {
			return err
		}
		if c.Description != nil {
			g.Description = *c.Description
		}
		if c.Attributes != nil {
			g.Attributes = attributesOf(g.Attributes, c.Attributes, c.Merge)
		}
		g.Version++
		return checkGroupAttributes(g.Attributes)
	})
	if err != nil {
		return 0, fmt.Errorf("update thing group %s: %w", name, err)
	}
	return g.Value.Version, nil
}

// BeginDeleteGroup marks the group as being removed: nobody joins it, and no group
// is made under it, from now on. A group with child groups is fault.Invalid. A
// removal that was interrupted goes on, whatever the expected version.
func (r *Registry) BeginDeleteGroup(ctx context.Context, name string, expected *int64) error {
	_, err := state.Update(ctx, r.store, state.StepGroup, groupKey(name), func(g *Group, exists bool, _ *state.Batch) error {
		switch {
		case !exists:
			return noGroup(name)
		case len(g.Children) > 0:
			return fault.New(fault.Invalid, "thing group %s has %d child groups, %s for one; delete them first", name, len(g.Children), g.Children[0])
		case g.Expelling:
			return state.ErrKeep
		}
		g.Retiring, g.Expelling = true, true
		return expect("thing group "+name, max(g.Version, 1), expected)
	})
	if err != nil {
		return fmt.Errorf("begin to delete thing group %s: %w", name, err)
	}
	return nil
}

// Expelling returns the groups whose deletion was begun and did not end.
func (r *Registry) Expelling(ctx context.Context) (groups []string, err error) {
	err = state.All(ctx, r.store, groupKey(""), func(_ string, g state.Record[Group]) error {
		if g.Value.Expelling {
			groups = append(groups, g.Value.Name)
		}
		return nil
	})
	return groups, err
}

// GroupFilter says which groups a list shows; the zero value is those at the top.
type GroupFilter struct {
	Prefix    string // of the name
	Parent    string // groups under this one, which must be there
	Recursive bool   // at whatever level; else the first
}

// Groups returns up to limit groups that f names, with names greater than after, in
// name order, and whether there are more.
func (r *Registry) Groups(ctx context.Context, f GroupFilter, after string, limit int) ([]Group, bool, error) {
	if f.Parent != "" {
		if _, err := r.Group(ctx, f.Parent); err != nil {
			return nil, false, err
		}
	}
	return pageOf(ctx, r.store, groupKey(f.Prefix), groupKey(after), limit, func(g *Group) bool {
		if f.Recursive {
			return f.Parent == "" || slices.Contains(g.Parents, f.Parent)
		}
		return g.Parent() == f.Parent
	})
}

// MembersUnder returns up to limit things of the group, and with recursive of all
// groups under it, by group and then by name, and where to go on: the empty cursor is
// both the beginning and the end.
func (r *Registry) MembersUnder(ctx context.Context, group string, recursive bool, cursor string, limit int) (things []string, next string, err error) {
	if _, err := r.Group(ctx, group); err != nil {
		return nil, "", err
	}
	all := []string{group}
	if recursive {
		under, _, err := r.Groups(ctx, GroupFilter{Parent: group, Recursive: true}, "", 0)
		if err != nil {
			return nil, "", err
		}
		for _, g := range under {
			all = append(all, g.Name)
		}
		slices.Sort(all)
	}
	at, after, _ := strings.Cut(cursor, "/")
	for _, g := range all {
		if g < at {
			continue
		}
		if g > at {
			after = ""
		}
		if len(things) == limit {
			return things, g + "/", nil
		}
		page, more, err := r.MemberPage(ctx, g, after, limit-len(things))
		if err != nil {
			return nil, "", err
		}
		things = append(things, page...)
		if more {
			return things, g + "/" + page[len(page)-1], nil
		}
	}
	return things, "", nil
}

// oneOfEachHierarchy refuses that the thing is in two groups that share an
// ancestor, if joined is one of them.
func (r *Registry) oneOfEachHierarchy(ctx context.Context, t Thing, joined Group) error {
	if len(joined.Parents) == 0 && len(joined.Children) == 0 {
		return nil
	}
	for _, n := range t.Groups {
		if n == joined.Name {
			continue
		}
		g, err := r.Group(ctx, n)
		if err != nil && !errors.Is(err, fault.NotFound) {
			return err
		}
		if g.Rev != 0 && g.Value.Root() == joined.Root() {
			return fault.New(fault.Invalid, "thing %s would be in %s and %s, both of the hierarchy of thing group %s; a thing is in one group of each hierarchy", t.Name, n, joined.Name, joined.Root())
		}
	}
	return nil
}
