package iot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/tag"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
)

// ThingType is a type that things can be of.
type ThingType struct {
	Name        string            `json:"name"`
	ID          string            `json:"id"`
	Description string            `json:"description,omitempty"`
	Searchable  []string          `json:"searchable,omitempty"` // names of attributes
	Tags        map[string]string `json:"tags,omitempty"`
	CreatedAt   time.Time         `json:"createdAt"`
	// DeprecatedAt is since when no further thing can get the type; zero: it can.
	DeprecatedAt time.Time `json:"deprecatedAt,omitzero"`
}

const (
	maxSearchable = 3
	// TypeRest is how long a type has been deprecated before it can be deleted.
	TypeRest = 5 * time.Minute
)

// ThingType returns the thing type, or fault.NotFound.
func (r *Registry) ThingType(ctx context.Context, name string) (ThingType, error) {
	t, err := state.Read[ThingType](ctx, r.store, typeKey(name))
	if errors.Is(err, fault.NotFound) {
		return t.Value, noType(name)
	}
	return t.Value, err
}

func noType(name string) error {
	return fault.New(fault.NotFound, "thing type %s does not exist", name)
}

func checkSearchable(list []string) error {
	if len(list) > maxSearchable {
		return fault.Field("thingTypeProperties.searchableAttributes", "has %d names, over the limit of %d", len(list), maxSearchable)
	}
	return nil
}

// CreateThingType makes a thing type of t's name, description, searchable
// attributes and tags. One that is the same already is returned; one that is not is
// fault.Exists.
func (r *Registry) CreateThingType(ctx context.Context, t ThingType) (ThingType, error) {
	if err := errors.Join(names.CheckThingType(t.Name), checkSearchable(t.Searchable), tag.Check(t.Tags)); err != nil {
		return t, err
	}
	rec, err := state.Update(ctx, r.store, state.StepRegistry, typeKey(t.Name), func(v *ThingType, exists bool, _ *state.Batch) error {
		if exists && v.Description == t.Description && slices.Equal(v.Searchable, t.Searchable) {
			return state.ErrKeep
		}
		if exists {
			return fault.New(fault.Exists, "thing type %s exists already with other properties", t.Name)
		}
		*v = t
		v.ID, v.CreatedAt, v.DeprecatedAt = names.NewUUID(), r.now().UTC(), time.Time{}
		return nil
	})
	if err != nil {
		return t, fmt.Errorf("create thing type %s: %w", t.Name, err)
	}
	return rec.Value, nil
}

func (r *Registry) changeType(ctx context.Context, name string, change func(*ThingType) error) error {
	_, err := state.Update(ctx, r.store, state.StepRegistry, typeKey(name), func(t *ThingType, exists bool, _ *state.Batch) error {
		if !exists {
			return noType(name)
		}
		return change(t)
	})
	if err != nil {
		return fmt.Errorf("change thing type %s: %w", name, err)
	}
	return nil
}

// UpdateThingType replaces what is given (nil: stays).
func (r *Registry) UpdateThingType(ctx context.Context, name string, description *string, searchable []string) error {
	if err := checkSearchable(searchable); err != nil {
		return err
	}
	return r.changeType(ctx, name, func(t *ThingType) error {
		if description != nil {
			t.Description = *description
		}
		if searchable != nil {
			t.Searchable = searchable
		}
		return nil
	})
}

// DeprecateThingType says that no further thing gets the type, or with undo that
// they can again. Things that have it keep it.
func (r *Registry) DeprecateThingType(ctx context.Context, name string, undo bool) error {
	return r.changeType(ctx, name, func(t *ThingType) error {
		if t.DeprecatedAt.IsZero() == undo {
			return state.ErrKeep
		}
		if t.DeprecatedAt = r.now().UTC(); undo {
			t.DeprecatedAt = time.Time{}
		}
		return nil
	})
}

// DeleteThingType removes a type that has been deprecated for TypeRest or longer and
// that no thing has, else it is fault.Invalid.
func (r *Registry) DeleteThingType(ctx context.Context, name string) error {
	_, err := state.Update(ctx, r.store, state.StepRegistry, typeKey(name), func(t *ThingType, exists bool, b *state.Batch) error {
		switch since := r.now().Sub(t.DeprecatedAt); {
		case !exists:
			return noType(name)
		case t.DeprecatedAt.IsZero():
			return fault.New(fault.Invalid, "thing type %s is not deprecated; deprecate it, and delete it %s later", name, TypeRest)
		case since < TypeRest:
			return fault.New(fault.Invalid, "thing type %s was deprecated %s ago; it can be deleted after %s", name, since.Round(time.Second), TypeRest)
		}
		// Nothing gets a deprecated type, so what is not there now does not come.
		err := state.All(ctx, r.store, thingKey(""), func(_ string, x state.Record[Thing]) error {
			if x.Value.Type == name {
				return fault.New(fault.Invalid, "thing %s has thing type %s; give it another one first", x.Value.Name, name)
			}
			return nil
		})
		b.Delete(typeKey(name))
		return err
	})
	if err != nil {
		return fmt.Errorf("delete thing type %s: %w", name, err)
	}
	return nil
}

// ThingTypes returns up to limit thing types whose name begins with prefix and is
// greater than after, in name order, and whether there are more.
func (r *Registry) ThingTypes(ctx context.Context, prefix, after string, limit int) ([]ThingType, bool, error) {
	return pageOf[ThingType](ctx, r.store, typeKey(prefix), typeKey(after), limit, nil)
}

// typeBatch makes b, which gives a thing the type (empty: none), conditional on the
// type being as it is: there, and not deprecated.
func (r *Registry) typeBatch(ctx context.Context, b *state.Batch, name string) error {
	if name == "" {
		return nil
	}
	t, err := state.ReadOr[ThingType](ctx, r.store, typeKey(name))
	if err != nil {
		return fmt.Errorf("read thing type %s: %w", name, err)
	}
	b.If(typeKey(name), t.Rev)
	switch {
	case t.Rev == 0:
		return noType(name)
	case !t.Value.DeprecatedAt.IsZero():
		return fault.Field("thingTypeName", "is %s, which is deprecated: no further thing can have it", name)
	}
	return nil
}

// ensureTypeBatch is typeBatch, but makes a type that is not there in b: whoever
// provisions things need not make their types first.
func (r *Registry) ensureTypeBatch(ctx context.Context, b *state.Batch, name string) error {
	err := r.typeBatch(ctx, b, name)
	if !errors.Is(err, fault.NotFound) {
		return err
	}
	if err := names.CheckThingType(name); err != nil {
		return err
	}
	b.Put(typeKey(name), ThingType{Name: name, ID: names.NewUUID(), CreatedAt: r.now().UTC()})
	return nil
}
