package iot

import (
	"context"
	"crypto/x509"
	"fmt"
	"maps"
	"slices"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/pki"
)

// Issue signs a client certificate. Nothing is stored: a certificate
// that is never registered can never connect.
func (r *Registry) Issue(q cloud.IssueRequest) (cloud.Issued, error) {
	if q.CAID != "" && q.CAID != r.ca.ID {
		return cloud.Issued{}, fault.New(fault.NotFound, "CA certificate %s is not registered; the CA of this server is %s", q.CAID, r.ca.ID)
	}
	now := r.now()
	der, err := r.ca.Issuer.SignClient(pki.Client{Subject: q.Subject, Public: q.Public, NotAfter: now.Add(q.Validity), Replaces: q.Replaces}, now)
	if err != nil {
		return cloud.Issued{}, err
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return cloud.Issued{}, fmt.Errorf("parse the certificate just signed: %w", err)
	}
	return cloud.Issued{ID: pki.ID(der), PEM: string(pki.EncodeCert(der)), CAID: r.ca.ID, NotBefore: c.NotBefore, NotAfter: c.NotAfter}, nil
}

// RegisterBatch adds to b what makes reg true: thing, certificate, attachments.
// The batch is conditional on all that was read. Errors name what is missing.
func (r *Registry) RegisterBatch(ctx context.Context, b *state.Batch, reg cloud.Registration) (Thing, error) {
	if err := names.CheckThing(reg.Thing); err != nil {
		return Thing{}, err
	}
	if len(reg.Attributes) > MaxAttributes {
		return Thing{}, fault.New(fault.Invalid, "thing %s has %d attributes, over the limit of %d", reg.Thing, len(reg.Attributes), MaxAttributes)
	}
	attach, err := r.policiesBatch(ctx, b, reg.Policies)
	if err != nil {
		return Thing{}, err
	}
	rec, err := state.ReadOr[Thing](ctx, r.store, thingKey(reg.Thing))
	if err != nil {
		return Thing{}, fmt.Errorf("read thing %s: %w", reg.Thing, err)
	}
	if rec.Value.Deleting {
		return Thing{}, deleting(reg.Thing)
	}
	t, err := r.thingOf(rec, reg)
	if err != nil {
		return Thing{}, err
	}
	if t.Type != rec.Value.Type && t.Type != "" {
		if err := r.ensureTypeBatch(ctx, b, t.Type); err != nil {
			return Thing{}, err
		}
	}
	if err := r.joinBatch(ctx, b, t, rec.Value.Groups); err != nil {
		return Thing{}, err
	}
	id, err := r.attachBatch(ctx, b, reg, attach)
	if err != nil {
		return Thing{}, err
	}
	if id != "" {
		t.Principals = addTo(t.Principals, id)
	}
	if reg.Supersede {
		if err := r.supersedeBatch(ctx, b, &t, id); err != nil {
			return Thing{}, err
		}
	}
	if len(t.Principals) > MaxPrincipals {
		return Thing{}, fault.New(fault.Invalid, "thing %s would have %d certificates, over the limit of %d; delete it, or detach some", t.Name, len(t.Principals), MaxPrincipals)
	}
	b.If(thingKey(t.Name), rec.Rev)
	b.Put(thingKey(t.Name), t)
	return t, nil
}

// thingOf is the thing as it will be: new, or changed as the overrides say.
func (r *Registry) thingOf(rec state.Record[Thing], reg cloud.Registration) (Thing, error) {
	if rec.Rev == 0 {
		return Thing{
			Name: reg.Thing, ID: names.NewUUID(), Type: reg.Type, Attributes: reg.Attributes, Version: 1,
			Groups: slices.Clone(reg.Groups), CreatedAt: r.now().UTC(),
		}, nil
	}
	t := rec.Value
	if reg.OverrideType == cloud.Fail || reg.OverrideAttributes == cloud.Fail || reg.OverrideGroups == cloud.Fail {
		return t, fault.New(fault.Exists, "thing %s exists already and the provisioning template says FAIL", reg.Thing)
	}
	if reg.OverrideType == cloud.Replace {
		t.Type = reg.Type
	}
	switch reg.OverrideAttributes {
	case cloud.Replace:
		t.Attributes = reg.Attributes
	case cloud.Merge:
		t.Attributes = maps.Clone(t.Attributes)
		if t.Attributes == nil {
			t.Attributes = map[string]string{}
		}
		maps.Copy(t.Attributes, reg.Attributes)
	case cloud.DoNothing, cloud.Fail, "":
	}
	switch reg.OverrideGroups {
	case cloud.Replace:
		t.Groups = slices.Clone(reg.Groups)
	case cloud.Merge:
		for _, g := range reg.Groups {
			t.Groups = addTo(t.Groups, g)
		}
	case cloud.DoNothing, cloud.Fail, "":
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
		if err := r.enterBatch(ctx, b, g, t); err != nil {
			return err
		}
	}
	if !slices.Equal(t.Groups, before) {
		r.regroupBatch(b, t)
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
