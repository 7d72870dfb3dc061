package iot

import (
	"context"
	"fmt"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// Certificates returns those of the thing, in the order attached.
func (r *Registry) Certificates(ctx context.Context, t Thing) ([]Certificate, error) {
	var out []Certificate
	for _, id := range t.Principals {
		c, err := state.ReadOr[Certificate](ctx, r.store, certKey(id))
		if err != nil {
			return nil, fmt.Errorf("read certificate %s of thing %s: %w", id, t.Name, err)
		}
		if c.Rev != 0 {
			out = append(out, c.Value)
		}
	}
	return out, nil
}

// SetCertificateStatus changes what the certificate may do. Live sessions learn
// of it through Changes.
func (r *Registry) SetCertificateStatus(ctx context.Context, id string, s cloud.CertificateStatus) error {
	_, err := state.Update(ctx, r.store, state.StepRegistry, certKey(id), func(c *Certificate, exists bool, b *state.Batch) error {
		if !exists {
			return noCertificate(id)
		}
		if c.Status == s {
			return state.ErrKeep
		}
		r.turn(c, s)
		b.Put(changedKey("certificate", id), string(s))
		return nil
	})
	if err != nil {
		return fmt.Errorf("set certificate %s to %s: %w", id, s, err)
	}
	return nil
}

// turn gives the certificate a status.
func (r *Registry) turn(c *Certificate, s cloud.CertificateStatus) {
	c.Status, c.ModifiedAt, c.Version = s, r.now().UTC(), c.version()+1
}

// SetThingCertificates changes the status of every certificate of the thing.
func (r *Registry) SetThingCertificates(ctx context.Context, thing string, s cloud.CertificateStatus) error {
	if s != cloud.Active && s != cloud.Inactive && s != cloud.Revoked {
		return fault.Field("certificateStatus", "is %q, want ACTIVE, INACTIVE or REVOKED", s)
	}
	t, err := r.Thing(ctx, thing)
	if err != nil {
		return err
	}
	if t.Value.Deleting {
		return deleting(thing)
	}
	for _, id := range t.Value.Principals {
		if err := r.SetCertificateStatus(ctx, id, s); err != nil {
			return err
		}
	}
	return nil
}

// Most that can be attached: certificates to a thing, policies to a certificate.
const (
	MaxPrincipals = 100
	MaxPolicies   = 10
)

// attachBatch attaches the certificate of reg to its thing and policies to the
// certificate, and returns its id, "" if reg has none. A certificate that is
// registered stays what it is, but for its status as reg says.
func (r *Registry) attachBatch(ctx context.Context, b *state.Batch, reg cloud.Registration, policies []attachment) (string, error) {
	id := reg.CertificateID
	if reg.Certificate != nil {
		id = reg.Certificate.ID
	}
	if id == "" {
		return "", nil
	}
	rec, err := state.ReadOr[Certificate](ctx, r.store, certKey(id))
	if err != nil {
		return "", fmt.Errorf("read certificate %s: %w", id, err)
	}
	c, want := rec.Value, or(reg.Status, cloud.Active)
	switch n := reg.Certificate; {
	case rec.Rev == 0 && n == nil:
		return "", fault.New(fault.NotFound, "certificate %s is not registered", id)
	case rec.Rev == 0:
		if c, err = r.newCertificate(ctx, b, *n, want); err != nil {
			return "", err
		}
	case reg.OverrideStatus == cloud.Replace && c.Status != want:
		r.turn(&c, want)
	case reg.OverrideStatus == cloud.Fail && c.Status != want:
		return "", fault.New(fault.Exists, "certificate %s exists already with status %s and the provisioning template says FAIL", id, c.Status)
	}
	if err := c.mayAttach(reg.Thing); err != nil {
		return "", err
	}
	c.Things = addTo(c.Things, reg.Thing)
	if len(c.Things) > MaxThings {
		return "", fault.New(fault.Invalid, "certificate %s would be attached to %d things, over the limit of %d", id, len(c.Things), MaxThings)
	}
	for _, a := range policies {
		c.Policies = addTo(c.Policies, a.policy)
		if a.counts {
			b.Put(policyRefKey(a.policy, id), struct{}{})
		}
	}
	if len(c.Policies) > MaxPolicies {
		return "", fault.New(fault.Invalid, "certificate %s would have %d policies, over the limit of %d", id, len(c.Policies), MaxPolicies)
	}
	if rec.Rev != 0 {
		b.Put(changedKey("certificate", id), string(c.Status))
	}
	b.If(certKey(id), rec.Rev)
	b.Put(certKey(id), c)
	return id, nil
}
