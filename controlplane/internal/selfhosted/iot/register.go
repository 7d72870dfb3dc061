package iot

import (
	"context"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/pki"
)

// Issued is a signed certificate that the registry does not know yet.
type Issued struct {
	ID        string
	PEM       string // the leaf alone: lite sends only the first certificate of its file
	CAID      string
	NotBefore time.Time
	NotAfter  time.Time
}

// Issue signs a client certificate for public. Nothing is stored: a certificate
// that is never registered can never connect.
func (r *Registry) Issue(caID string, subject pkix.Name, public crypto.PublicKey, validity time.Duration) (Issued, error) {
	if caID != "" && caID != r.ca.ID {
		return Issued{}, fault.New(fault.NotFound, "CA certificate %s is not registered; the CA of this server is %s", caID, r.ca.ID)
	}
	now := r.now()
	der, err := r.ca.Issuer.SignClient(pki.Client{Subject: subject, Public: public, NotAfter: now.Add(validity)}, now)
	if err != nil {
		return Issued{}, err
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return Issued{}, fmt.Errorf("parse the certificate just signed: %w", err)
	}
	return Issued{ID: pki.ID(der), PEM: string(pki.EncodeCert(der)), CAID: r.ca.ID, NotBefore: c.NotBefore, NotAfter: c.NotAfter}, nil
}

// Override says what happens to a member of a thing that exists already
// (cdf-services §4.3).
type Override string

// The overrides; the empty one is DoNothing.
const (
	DoNothing Override = "DO_NOTHING"
	Replace   Override = "REPLACE"
	Merge     Override = "MERGE"
	Fail      Override = "FAIL"
)

// Registration is a thing with its certificate and policies, to be made true.
type Registration struct {
	Thing      string
	Type       string
	Attributes map[string]string
	Groups     []string

	OverrideType, OverrideAttributes, OverrideGroups Override

	Certificate *Issued  // nil: none now
	Status      Status   // of the certificate; empty: ACTIVE
	Policies    []string // attached to the certificate, or kept until there is one
}

// MaxAttributes is how many attributes a thing may have (iot-api §15: 50 with a
// thing type; this server does not halve it for things without).
const MaxAttributes = 50

// RegisterBatch adds to b what makes reg true: thing, certificate, attachments.
// The batch is conditional on all that was read. Errors name what is missing.
func (r *Registry) RegisterBatch(ctx context.Context, b *state.Batch, reg Registration) (Thing, error) {
	if err := names.CheckThing(reg.Thing); err != nil {
		return Thing{}, err
	}
	if len(reg.Attributes) > MaxAttributes {
		return Thing{}, fault.New(fault.Invalid, "thing %s has %d attributes, over the limit of %d", reg.Thing, len(reg.Attributes), MaxAttributes)
	}
	for _, p := range reg.Policies {
		if _, err := state.Read[Policy](ctx, r.store, policyKey(p)); err != nil {
			if errors.Is(err, fault.NotFound) {
				return Thing{}, fault.New(fault.NotFound, "policy %s does not exist; create it, or take it out of the provisioning template", p)
			}
			return Thing{}, fmt.Errorf("read policy %s: %w", p, err)
		}
		b.IfExists(policyKey(p))
	}
	rec, err := state.ReadOr[Thing](ctx, r.store, thingKey(reg.Thing))
	if err != nil {
		return Thing{}, fmt.Errorf("read thing %s: %w", reg.Thing, err)
	}
	t, err := r.thingOf(rec, reg)
	if err != nil {
		return Thing{}, err
	}
	if err := r.joinBatch(ctx, b, t, rec.Value.Groups); err != nil {
		return Thing{}, err
	}
	if c := reg.Certificate; c != nil {
		t.Principals = addTo(t.Principals, c.ID)
		b.If(certKey(c.ID), 0)
		b.Put(certKey(c.ID), Certificate{
			ID: c.ID, PEM: c.PEM, Status: or(reg.Status, Active), CAID: c.CAID, Things: []string{reg.Thing}, Policies: reg.Policies,
			NotBefore: c.NotBefore.UTC(), NotAfter: c.NotAfter.UTC(), CreatedAt: r.now().UTC(),
		})
	}
	b.If(thingKey(t.Name), rec.Rev)
	b.Put(thingKey(t.Name), t)
	return t, nil
}

// thingOf is the thing as it will be: new, or changed as the overrides say.
func (r *Registry) thingOf(rec state.Record[Thing], reg Registration) (Thing, error) {
	if rec.Rev == 0 {
		return Thing{
			Name: reg.Thing, ID: NewID(), Type: reg.Type, Attributes: reg.Attributes, Version: 1,
			Groups: slices.Clone(reg.Groups), CreatedAt: r.now().UTC(),
		}, nil
	}
	t := rec.Value
	if reg.OverrideType == Fail || reg.OverrideAttributes == Fail || reg.OverrideGroups == Fail {
		return t, fault.New(fault.Exists, "thing %s exists already and the provisioning template says FAIL", reg.Thing)
	}
	if reg.OverrideType == Replace {
		t.Type = reg.Type
	}
	switch reg.OverrideAttributes {
	case Replace:
		t.Attributes = reg.Attributes
	case Merge:
		t.Attributes = maps.Clone(t.Attributes)
		if t.Attributes == nil {
			t.Attributes = map[string]string{}
		}
		maps.Copy(t.Attributes, reg.Attributes)
	case DoNothing, Fail, "":
	}
	switch reg.OverrideGroups {
	case Replace:
		t.Groups = slices.Clone(reg.Groups)
	case Merge:
		for _, g := range reg.Groups {
			t.Groups = addTo(t.Groups, g)
		}
	case DoNothing, Fail, "":
	}
	t.Version++
	return t, nil
}

// joinBatch makes the member keys follow the thing's groups.
func (r *Registry) joinBatch(ctx context.Context, b *state.Batch, t Thing, before []string) error {
	if len(t.Groups) > MaxGroups {
		return fault.New(fault.Invalid, "thing %s would be in %d thing groups, over the limit of %d", t.Name, len(t.Groups), MaxGroups)
	}
	for _, g := range t.Groups {
		if slices.Contains(before, g) {
			continue
		}
		if _, err := r.Group(ctx, g); err != nil {
			return err
		}
		b.IfExists(groupKey(g))
		b.Put(memberKey(g, t.Name), struct{}{})
	}
	for _, g := range before {
		if !slices.Contains(t.Groups, g) {
			b.Delete(memberKey(g, t.Name))
		}
	}
	return nil
}

func or[T comparable](v, instead T) T {
	var zero T
	if v == zero {
		return instead
	}
	return v
}
