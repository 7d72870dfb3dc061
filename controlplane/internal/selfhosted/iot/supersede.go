package iot

import (
	"context"
	"fmt"
	"slices"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
)

// keepSuperseded is how many certificates a thing keeps beside the one that
// took their place: enough to see who it was, and no more with each replacement.
const keepSuperseded = 8

// supersedeBatch makes every certificate of t but the one with this id REVOKED,
// and removes the oldest beyond keepSuperseded. One that another thing has too is
// only detached.
func (r *Registry) supersedeBatch(ctx context.Context, b *state.Batch, t *Thing, id string) error {
	others := without(t.Principals, id)
	for i, old := range others {
		c, err := state.ReadOr[Certificate](ctx, r.store, certKey(old))
		if err != nil {
			return fmt.Errorf("read certificate %s: %w", old, err)
		}
		v := c.Value
		shared := slices.ContainsFunc(v.Things, func(n string) bool { return n != t.Name })
		switch {
		case c.Rev == 0:
			t.Principals = without(t.Principals, old)
			continue
		case shared:
			t.Principals = without(t.Principals, old)
			v.Things = without(v.Things, t.Name)
		case i < len(others)-keepSuperseded:
			t.Principals = without(t.Principals, old)
			b.If(certKey(old), c.Rev)
			dropCertificateBatch(b, v)
			continue
		case v.Status == cloud.Revoked:
			continue
		default:
			r.turn(&v, cloud.Revoked)
		}
		b.If(certKey(old), c.Rev).Put(certKey(old), v).Put(changedKey("certificate", old), string(v.Status))
	}
	return nil
}
