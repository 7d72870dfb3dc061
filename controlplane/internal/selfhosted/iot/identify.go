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
	c, err := r.principal(ctx, leaf)
	if err != nil {
		return Identity{}, err
	}
	t, err := r.owner(ctx, c)
	if err != nil {
		return Identity{}, fmt.Errorf("identify certificate %s: %w", c.ID, err)
	}
	if t.Name == "" {
		return Identity{}, fault.New(fault.Denied, "certificate %s is attached to no thing", c.ID)
	}
	policies := c.Policies
	if !r.bare.Load() {
		if policies, err = r.effective(ctx, policies, c.Things); err != nil {
			return Identity{}, fmt.Errorf("identify certificate %s: %w", c.ID, err)
		}
	}
	out := Identity{CertificateID: c.ID, Thing: t.Name, ThingType: t.Type, Attributes: t.Attributes}
	out.Policies, err = r.documents(ctx, policies)
	return out, err
}

// IdentifyUnattached is Identify for a certificate that is attached to no thing at
// all: a claim may be such a one. Its policies are the certificate's own.
func (r *Registry) IdentifyUnattached(ctx context.Context, leaf *x509.Certificate) (Identity, error) {
	c, err := r.principal(ctx, leaf)
	if err != nil {
		return Identity{}, err
	}
	if len(c.Things) > 0 {
		return Identity{}, fault.New(fault.Denied, "certificate %s is attached to thing %s", c.ID, c.Things[0])
	}
	out := Identity{CertificateID: c.ID}
	out.Policies, err = r.documents(ctx, c.Policies)
	return out, err
}

// principal returns the record of a client certificate that may be used now, else
// fault.Denied.
func (r *Registry) principal(ctx context.Context, leaf *x509.Certificate) (Certificate, error) {
	id := pki.ID(leaf.Raw)
	if now := r.now(); now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
		return Certificate{}, fault.New(fault.Denied, "certificate %s is not valid at this time", id)
	}
	c, err := r.Certificate(ctx, id)
	if errors.Is(err, fault.NotFound) {
		return Certificate{}, r.unknown(ctx, leaf, id)
	}
	if err != nil {
		return Certificate{}, fmt.Errorf("identify certificate %s: %w", id, err)
	}
	if c.Value.Status != cloud.Active {
		return Certificate{}, fault.New(fault.Denied, "certificate %s is %s", id, c.Value.Status)
	}
	return c.Value, nil
}

// unknown says that a certificate is not registered, and of one that its CA would
// have registered elsewhere, why not.
func (r *Registry) unknown(ctx context.Context, leaf *x509.Certificate, id string) error {
	cas, err := r.casOf(ctx, leaf.RawIssuer)
	if err != nil {
		return fmt.Errorf("identify certificate %s: %w", id, err)
	}
	for _, ca := range cas {
		if ca.AutoRegistration {
			return fault.New(fault.Denied, "certificate %s is not registered; its CA %s asks for auto registration, which this server does not do", id, ca.ID)
		}
	}
	return fault.New(fault.Denied, "certificate %s is not registered", id)
}

// documents returns the compiled policies; what is not there allows nothing.
func (r *Registry) documents(ctx context.Context, policies []string) ([]*policy.Document, error) {
	var out []*policy.Document
	for _, name := range policies {
		doc, err := r.document(ctx, name)
		if errors.Is(err, fault.NotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("policy %s: %w", name, err)
		}
		out = append(out, doc)
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
