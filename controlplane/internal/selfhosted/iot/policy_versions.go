package iot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// MaxVersions is how many versions a policy can have (iot-api §16).
const MaxVersions = 5

// PolicyVersion is one version of a policy. Those that are not the default one
// have a record each; it changes together with the policy's only.
type PolicyVersion struct {
	Number    int       `json:"number"`
	Document  string    `json:"document"`
	CreatedAt time.Time `json:"createdAt"`
	Default   bool      `json:"-"`
}

func versionKey(policy string, n int) string {
	return prefix + "policy-version/" + policy + "/" + strconv.Itoa(n)
}

// Version is the default version.
func (p Policy) Version() PolicyVersion {
	at := p.DefaultAt
	if at.IsZero() {
		at = p.CreatedAt
	}
	return PolicyVersion{Number: max(1, p.Default), Document: p.Document, CreatedAt: at, Default: true}
}

// Modified is when a version was last made, removed or chosen.
func (p Policy) Modified() time.Time {
	if p.ModifiedAt.IsZero() {
		return p.CreatedAt
	}
	return p.ModifiedAt
}

// setVersion makes v the default one and returns what was it before.
func (p *Policy) setVersion(v PolicyVersion) PolicyVersion {
	before := p.Version()
	before.Default = false
	p.Default, p.DefaultAt, p.Document = v.Number, v.CreatedAt, v.Document
	p.Others = slices.DeleteFunc(append(slices.Clone(p.Others), before.Number), func(n int) bool { return n == v.Number })
	slices.Sort(p.Others)
	return before
}

func noVersion(policy string, n int) error {
	return fault.New(fault.NotFound, "policy %s has no version %d", policy, n)
}

// PolicyVersion returns version n of the policy, or fault.NotFound.
func (r *Registry) PolicyVersion(ctx context.Context, name string, n int) (Policy, PolicyVersion, error) {
	p, err := r.Policy(ctx, name)
	if err != nil {
		return p, PolicyVersion{}, err
	}
	v, err := r.versionOf(ctx, p, n)
	return p, v, err
}

func (r *Registry) versionOf(ctx context.Context, p Policy, n int) (PolicyVersion, error) {
	if v := p.Version(); v.Number == n {
		return v, nil
	}
	if !slices.Contains(p.Others, n) {
		return PolicyVersion{}, noVersion(p.Name, n)
	}
	v, err := state.Read[PolicyVersion](ctx, r.store, versionKey(p.Name, n))
	if errors.Is(err, fault.NotFound) {
		return v.Value, noVersion(p.Name, n) // it has just been removed, or become the default one
	}
	if err != nil {
		return v.Value, fmt.Errorf("read version %d of policy %s: %w", n, p.Name, err)
	}
	return v.Value, nil
}

// PolicyVersions returns all versions, the newest first.
func (r *Registry) PolicyVersions(ctx context.Context, name string) ([]PolicyVersion, error) {
	p, err := r.Policy(ctx, name)
	if err != nil {
		return nil, err
	}
	out := []PolicyVersion{p.Version()}
	for _, n := range p.Others {
		v, err := r.versionOf(ctx, p, n)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b PolicyVersion) int { return cmp.Compare(b.Number, a.Number) })
	return out, nil
}

// CreatePolicyVersion adds a version, and makes it the default one if asked to.
// TooManyVersions when there are MaxVersions.
func (r *Registry) CreatePolicyVersion(ctx context.Context, name, document string, asDefault bool) (PolicyVersion, error) {
	if err := checkDocument(name, document); err != nil {
		return PolicyVersion{}, err
	}
	var v PolicyVersion
	err := r.changePolicy(ctx, name, func(p *Policy, b *state.Batch) error {
		if len(p.Others)+1 >= MaxVersions {
			return refuse(TooManyVersions, fault.Conflict, "policy %s has %d versions, which is the limit; delete one that is not used", name, len(p.Others)+1)
		}
		p.Last = max(1, p.Last, p.Default) + 1
		v = PolicyVersion{Number: p.Last, Document: document, CreatedAt: r.now().UTC()}
		if !asDefault {
			p.Others = append(slices.Clone(p.Others), v.Number)
			b.Put(versionKey(name, v.Number), v)
			return nil
		}
		r.chooseBatch(b, p, v)
		return nil
	})
	v.Default = asDefault
	return v, err
}

// SetDefaultPolicyVersion makes version n the one that counts; live sessions
// follow.
func (r *Registry) SetDefaultPolicyVersion(ctx context.Context, name string, n int) error {
	return r.changePolicy(ctx, name, func(p *Policy, b *state.Batch) error {
		v, err := r.versionOf(ctx, *p, n)
		if err != nil {
			return err
		}
		if v.Default {
			return state.ErrKeep
		}
		r.chooseBatch(b, p, v)
		b.Delete(versionKey(name, n))
		return nil
	})
}

// chooseBatch makes v the default version of p in b.
func (r *Registry) chooseBatch(b *state.Batch, p *Policy, v PolicyVersion) {
	before := p.setVersion(v)
	b.Put(versionKey(p.Name, before.Number), before)
	b.Put(changedKey("policy", p.Name), r.now().UTC())
}

// DeletePolicyVersion removes a version; the default one is Attached.
func (r *Registry) DeletePolicyVersion(ctx context.Context, name string, n int) error {
	return r.changePolicy(ctx, name, func(p *Policy, b *state.Batch) error {
		if p.Version().Number == n {
			return refuse(Attached, fault.Conflict, "version %d is the default version of policy %s; make another one the default first, or delete the policy", n, name)
		}
		if !slices.Contains(p.Others, n) {
			return noVersion(name, n)
		}
		p.Others = slices.DeleteFunc(slices.Clone(p.Others), func(o int) bool { return o == n })
		b.Delete(versionKey(name, n))
		return nil
	})
}

func (r *Registry) changePolicy(ctx context.Context, name string, change func(p *Policy, b *state.Batch) error) error {
	_, err := state.Update(ctx, r.store, state.StepRegistry, policyKey(name), func(p *Policy, exists bool, b *state.Batch) error {
		if !exists {
			return noPolicy(name)
		}
		if err := change(p, b); err != nil {
			return err
		}
		p.ModifiedAt = r.now().UTC()
		return nil
	})
	if err != nil {
		return fmt.Errorf("change policy %s: %w", name, err)
	}
	return nil
}
