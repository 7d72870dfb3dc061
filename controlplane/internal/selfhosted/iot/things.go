package iot

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
)

// NewThing is what CreateThing makes.
type NewThing struct {
	Name       string
	Type       string // empty: none; else the type must be there and not deprecated
	Attributes map[string]string
}

// CreateThing makes a thing without certificates and groups. One of that name that
// is the same already is returned; one that is not is fault.Exists.
func (r *Registry) CreateThing(ctx context.Context, n NewThing) (Thing, error) {
	if err := names.CheckThing(n.Name); err != nil {
		return Thing{}, err
	}
	attributes := attributesOf(nil, n.Attributes, false)
	if err := checkThingAttributes(n.Type, attributes); err != nil {
		return Thing{}, err
	}
	t, err := state.Update(ctx, r.store, state.StepRegistry, thingKey(n.Name), func(t *Thing, exists bool, b *state.Batch) error {
		switch {
		case t.Deleting:
			return deleting(n.Name)
		case exists && t.Type == n.Type && maps.Equal(t.Attributes, attributes):
			return state.ErrKeep
		case exists:
			return fault.New(fault.Exists, "thing %s exists already with another thing type or other attributes", n.Name)
		}
		*t = Thing{Name: n.Name, ID: names.NewUUID(), Type: n.Type, Attributes: attributes, Version: 1, CreatedAt: r.now().UTC()}
		return r.typeBatch(ctx, b, n.Type)
	})
	if err != nil {
		return Thing{}, fmt.Errorf("create thing %s: %w", n.Name, err)
	}
	return t.Value, nil
}

// ThingChange is what UpdateThing changes.
type ThingChange struct {
	Type       string // empty: as it is
	RemoveType bool
	// Attributes replace those that the thing has, or with Merge are laid over them;
	// one whose value is empty goes. Nil: they stay.
	Attributes map[string]string
	Merge      bool
	Expected   *int64 // fault.Stale unless the thing is at this version
}

// UpdateThing changes the thing; live sessions of its certificates learn of it.
func (r *Registry) UpdateThing(ctx context.Context, name string, c ThingChange) error {
	if c.Type != "" && c.RemoveType {
		return fault.Field("removeThingType", "must not be set together with thingTypeName")
	}
	_, err := state.Update(ctx, r.store, state.StepRegistry, thingKey(name), func(t *Thing, exists bool, b *state.Batch) error {
		switch {
		case !exists:
			return noThing(name)
		case t.Deleting:
			return deleting(name)
		}
		if err := expect("thing "+name, t.Version, c.Expected); err != nil {
			return err
		}
		if c.Type != "" && c.Type != t.Type {
			if err := r.typeBatch(ctx, b, c.Type); err != nil {
				return err
			}
			t.Type = c.Type
		}
		if c.RemoveType {
			t.Type = ""
		}
		if c.Attributes != nil {
			t.Attributes = attributesOf(t.Attributes, c.Attributes, c.Merge)
		}
		if c.Attributes != nil || c.RemoveType {
			if err := checkThingAttributes(t.Type, t.Attributes); err != nil {
				return err
			}
		}
		t.Version++
		for _, id := range t.Principals { // policies may refer to type and attributes
			b.Put(changedKey("certificate", id), r.now().UTC())
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("update thing %s: %w", name, err)
	}
	return nil
}

// BeginDelete marks the thing as being deleted and takes it out of its groups. A
// thing with certificates is refused (fault.Invalid): they must be detached first.
// A deletion that was interrupted goes on, whatever the expected version.
func (r *Registry) BeginDelete(ctx context.Context, name string, expected *int64) error {
	_, err := state.Update(ctx, r.store, state.StepDeprovision, thingKey(name), func(t *Thing, exists bool, b *state.Batch) error {
		switch {
		case !exists:
			return noThing(name)
		case len(t.Principals) > 0:
			return fault.New(fault.Invalid, "thing %s has %d certificates attached; detach them first", name, len(t.Principals))
		case t.Deleting:
			return state.ErrKeep
		}
		if err := expect("thing "+name, t.Version, expected); err != nil {
			return err
		}
		for _, g := range t.Groups {
			b.Delete(memberKey(g, name))
		}
		t.Deleting, t.Groups = true, nil
		return nil
	})
	if err != nil {
		return fmt.Errorf("begin to delete thing %s: %w", name, err)
	}
	return nil
}

func noThing(name string) error {
	return fault.New(fault.NotFound, "thing %s is not registered", name)
}

// expect returns fault.Stale unless version is the expected one (nil: any is).
func expect(what string, version int64, expected *int64) error {
	if expected != nil && *expected != version {
		return fault.New(fault.Stale, "%s is at version %d, not at the expected version %d", what, version, *expected)
	}
	return nil
}

// ThingFilter says which things a list shows; the zero value is all of them.
type ThingFilter struct {
	Type      string
	Attribute string // name of an attribute that the thing has
	Value     string // of that attribute; empty: any
	Prefix    bool   // Value is the beginning of it
}

// Things returns up to limit things that f names, with names greater than after,
// in name order, and whether there are more. It answers from memory and waits
// until Run has loaded it.
func (r *Registry) Things(ctx context.Context, f ThingFilter, after string, limit int) (page []Thing, more bool, err error) {
	if err := r.things.Fresh(ctx); err != nil {
		return nil, false, fmt.Errorf("list things: %w", err)
	}
	items, more := r.things.Range(thingKey(after), limit, func(_ string, t *listed) bool { return t.is(f) })
	for _, it := range items {
		page = append(page, Thing{
			Name: it.Key[len(thingKey("")):], Type: it.Value.Type.Value(), Attributes: it.Value.Attributes.unpack(), Version: it.Value.Version,
		})
	}
	return slices.Clip(page), more, nil
}
