package iot

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// retreatOps bounds one commit of Retreat.
const retreatOps = 64

// Retreat is the first step of deleting a thing: it leaves its groups, its
// certificates become INACTIVE, those that another thing has as well are only
// detached, and nothing may refer to the thing from now on. With policies set, they
// are taken from its certificates. Repeated, it does what is left to do.
func (r *Registry) Retreat(ctx context.Context, thing string, policies bool) (state.Record[Thing], error) {
	for range 16 {
		t, err := r.retreat(ctx, thing, policies)
		if !errors.Is(err, fault.Conflict) {
			return t, err
		}
	}
	return state.Record[Thing]{}, fmt.Errorf("begin to delete thing %s: %w", thing, fault.Conflict)
}

func (r *Registry) retreat(ctx context.Context, thing string, policies bool) (state.Record[Thing], error) {
	t, err := r.Thing(ctx, thing)
	if err != nil {
		return t, err
	}
	next := t.Value
	b := state.NewBatch(state.StepDeprovision)
	for _, g := range next.Groups {
		b.Delete(memberKey(g, thing))
	}
	commit := func() error {
		b.If(thingKey(thing), t.Rev).Put(thingKey(thing), next)
		rev, err := r.store.Commit(ctx, b)
		t, b = state.Record[Thing]{Value: next, Rev: rev}, state.NewBatch(state.StepDeprovision)
		return err
	}
	begin := !next.Deleting
	next.Deleting, next.Groups = true, nil
	for _, id := range t.Value.Principals {
		if err := r.quietBatch(ctx, b, &next, id, policies); err != nil {
			return t, err
		}
		if b.Len() < retreatOps {
			continue
		}
		if err := commit(); err != nil {
			return t, err
		}
		begin = false
	}
	if begin || b.Len() > 0 {
		err = commit()
	}
	return t, err
}

// quietBatch makes sure in b that one certificate of t cannot connect.
func (r *Registry) quietBatch(ctx context.Context, b *state.Batch, t *Thing, id string, policies bool) error {
	c, err := state.ReadOr[Certificate](ctx, r.store, certKey(id))
	if err != nil {
		return fmt.Errorf("read certificate %s: %w", id, err)
	}
	v := c.Value
	var changed bool
	switch shared := c.Rev == 0 || slices.ContainsFunc(v.Things, func(n string) bool { return n != t.Name }); {
	case shared:
		t.Principals = without(t.Principals, id)
		changed = slices.Contains(v.Things, t.Name)
		v.Things = without(v.Things, t.Name)
	default:
		if changed = v.Status == cloud.Active; changed {
			r.turn(&v, cloud.Inactive)
		}
		for _, p := range v.Policies {
			if policies {
				b.Delete(policyRefKey(p, id))
				t.Detached, changed = addTo(t.Detached, p), true
			}
		}
		if policies {
			v.Policies = nil
		}
	}
	if changed {
		b.If(certKey(id), c.Rev).Put(certKey(id), v).Put(changedKey("certificate", id), string(v.Status))
	}
	return nil
}

// Delete hands each, in batches of a few operations, the removal of a thing that
// has retreated: its certificates, which stay INACTIVE and detached unless
// certificates is set, the policies that it alone had, and last the thing itself.
func (r *Registry) Delete(ctx context.Context, t state.Record[Thing], certificates bool, each func(*state.Batch) error) error {
	for _, id := range t.Value.Principals {
		b := state.NewBatch(state.StepDeprovision)
		if err := r.removeBatch(ctx, b, t.Value.Name, id, certificates); err != nil {
			return err
		}
		if err := each(b); err != nil {
			return err
		}
	}
	for _, p := range t.Value.Detached {
		b := state.NewBatch(state.StepDeprovision)
		if err := r.deletePolicyBatch(ctx, b, p); err != nil {
			return fmt.Errorf("delete policy %s: %w", p, err)
		}
		if err := each(b); err != nil {
			return err
		}
	}
	key := thingKey(t.Value.Name)
	return each(state.NewBatch(state.StepDeprovision).If(key, t.Rev).Delete(key).Delete(changedKey("thing", t.Value.Name)))
}

// removeBatch takes one certificate from the thing.
func (r *Registry) removeBatch(ctx context.Context, b *state.Batch, thing, id string, certificates bool) error {
	c, err := state.ReadOr[Certificate](ctx, r.store, certKey(id))
	if err != nil {
		return fmt.Errorf("read certificate %s: %w", id, err)
	}
	if c.Rev == 0 {
		return nil
	}
	b.If(certKey(id), c.Rev)
	c.Value.Things = without(c.Value.Things, thing)
	if !certificates || len(c.Value.Things) > 0 { // another thing may have got it meanwhile
		b.Put(certKey(id), c.Value)
		return nil
	}
	dropCertificateBatch(b, c.Value)
	return nil
}

func without(list []string, v string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(x string) bool { return x == v })
}
