package iot

import (
	"context"
	"fmt"
	"slices"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// MaxThings is how many things a certificate can be attached to.
const MaxThings = 100

// AttachPrincipal attaches the certificate to the thing. exclusive says whether it
// may be attached to this thing alone; nil leaves it as it is, at first not. To
// attach it twice is fine.
func (r *Registry) AttachPrincipal(ctx context.Context, thing, certificate string, exclusive *bool) error {
	err := r.changePrincipals(ctx, thing, certificate, func(t *Thing, c *Certificate) error {
		if t.Deleting {
			return deleting(thing)
		}
		if err := c.mayAttach(thing); err != nil {
			return err
		}
		attached := slices.Contains(c.Things, thing) && slices.Contains(t.Principals, certificate)
		alone := c.Exclusive && len(c.Things) > 0
		if exclusive != nil {
			alone = *exclusive
		}
		if attached && alone == c.Exclusive {
			return state.ErrKeep
		}
		c.Exclusive = alone
		c.Things, t.Principals = addTo(c.Things, thing), addTo(t.Principals, certificate)
		switch {
		case alone && len(c.Things) > 1:
			return fault.Field("thingPrincipalType", "is EXCLUSIVE_THING, but the certificate is attached to %s; detach it there first", without(c.Things, thing)[0])
		case len(t.Principals) > MaxPrincipals:
			return fault.New(fault.Invalid, "thing %s has %d certificates, which is the limit; detach one first", thing, MaxPrincipals)
		case len(c.Things) > MaxThings:
			return fault.New(fault.Invalid, "certificate %s is attached to %d things, which is the limit; detach it from one first", certificate, MaxThings)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("attach certificate %s to thing %s: %w", certificate, thing, err)
	}
	return nil
}

// DetachPrincipal takes the certificate from the thing: its session ends, unless it
// is attached to another one. One that is not attached is no error.
func (r *Registry) DetachPrincipal(ctx context.Context, thing, certificate string) error {
	err := r.changePrincipals(ctx, thing, certificate, func(t *Thing, c *Certificate) error {
		if !slices.Contains(c.Things, thing) && !slices.Contains(t.Principals, certificate) {
			return state.ErrKeep
		}
		c.Things, t.Principals = without(c.Things, thing), without(t.Principals, certificate)
		c.Exclusive = c.Exclusive && len(c.Things) > 0
		return nil
	})
	if err != nil {
		return fmt.Errorf("detach certificate %s from thing %s: %w", certificate, thing, err)
	}
	return nil
}

// changePrincipals changes both sides in one commit.
func (r *Registry) changePrincipals(ctx context.Context, thing, certificate string, change func(t *Thing, c *Certificate) error) error {
	_, err := state.Update(ctx, r.store, state.StepRegistry, thingKey(thing), func(t *Thing, exists bool, b *state.Batch) error {
		if !exists {
			return fault.New(fault.NotFound, "thing %s is not registered", thing)
		}
		c, err := r.Certificate(ctx, certificate)
		if err != nil {
			return err
		}
		if err := change(t, &c.Value); err != nil {
			return err
		}
		b.If(certKey(certificate), c.Rev).Put(certKey(certificate), c.Value)
		b.Put(changedKey("certificate", certificate), string(c.Value.Status)) // it may be connected as a claim until now
		return nil
	})
	return err
}
