package iot

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/policy"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/pki"
)

// Identity is whoever stands behind a client certificate at this moment.
type Identity struct {
	CertificateID string
	Thing         string
	ThingType     string
	Attributes    map[string]string
	Policies      []*policy.Document
}

type compiledPolicy struct {
	rev state.Rev
	doc *policy.Document
}

// Identify looks a client certificate up in the registry. It returns
// fault.Denied, saying why, unless the certificate is registered, ACTIVE,
// attached to a thing and within its dates (nucleus-contract §1.6).
func (r *Registry) Identify(ctx context.Context, leaf *x509.Certificate) (Identity, error) {
	id := pki.ID(leaf.Raw)
	now := r.now()
	if now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
		return Identity{}, fault.New(fault.Denied, "certificate %s is not valid at this time", id)
	}
	c, err := r.Certificate(ctx, id)
	if errors.Is(err, fault.NotFound) {
		return Identity{}, fault.New(fault.Denied, "certificate %s is not registered", id)
	}
	if err != nil {
		return Identity{}, fmt.Errorf("identify certificate %s: %w", id, err)
	}
	if c.Value.Status != cloud.Active {
		return Identity{}, fault.New(fault.Denied, "certificate %s is %s", id, c.Value.Status)
	}
	t, err := r.owner(ctx, c.Value)
	if err != nil {
		return Identity{}, fmt.Errorf("identify certificate %s: %w", id, err)
	}
	policies := c.Value.Policies
	if t.Name != "" && !r.bare.Load() {
		if policies, err = r.effective(ctx, policies, c.Value.Things); err != nil {
			return Identity{}, fmt.Errorf("identify certificate %s: %w", id, err)
		}
	}
	if t.Name == "" {
		return Identity{}, fault.New(fault.Denied, "certificate %s is attached to no thing", id)
	}
	out := Identity{CertificateID: id, Thing: t.Name, ThingType: t.Type, Attributes: t.Attributes}
	for _, name := range policies {
		doc, err := r.document(ctx, name)
		if errors.Is(err, fault.NotFound) {
			continue // what is not there allows nothing
		}
		if err != nil {
			return Identity{}, fmt.Errorf("identify certificate %s: %w", id, err)
		}
		out.Policies = append(out.Policies, doc)
	}
	return out, nil
}

// owner is the first thing of the certificate that is there to stay, or the zero
// Thing.
func (r *Registry) owner(ctx context.Context, c Certificate) (Thing, error) {
	for _, n := range c.Things {
		t, err := state.ReadOr[Thing](ctx, r.store, thingKey(n))
		if err != nil || t.Rev != 0 && !t.Value.Deleting {
			return t.Value, err
		}
	}
	return Thing{}, nil
}

// document returns the compiled policy, parsing it only when it changed.
func (r *Registry) document(ctx context.Context, name string) (*policy.Document, error) {
	e, err := r.store.Get(ctx, policyKey(name))
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	c, ok := r.compiled[name]
	r.mu.Unlock()
	if ok && c.rev == e.Rev {
		return c.doc, nil
	}
	p, err := state.Decode[Policy](e)
	if err != nil {
		return nil, err
	}
	doc, err := policy.Parse([]byte(p.Value.Document))
	if err != nil {
		return nil, fmt.Errorf("stored policy %s: %w", name, err)
	}
	r.mu.Lock()
	r.compiled[name] = compiledPolicy{rev: p.Rev, doc: doc}
	r.mu.Unlock()
	return doc, nil
}
