package iot

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/policy"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
)

// Policy returns the policy, or fault.NotFound.
func (r *Registry) Policy(ctx context.Context, name string) (Policy, error) {
	p, err := state.Read[Policy](ctx, r.store, policyKey(name))
	if errors.Is(err, fault.NotFound) {
		return Policy{}, fault.New(fault.NotFound, "policy %s does not exist", name)
	}
	return p.Value, err
}

// PutPolicy creates the policy or replaces its document. Live sessions learn of
// it through Changes: a policy may have been attached before it was there.
func (r *Registry) PutPolicy(ctx context.Context, name, document string) error {
	return r.putPolicy(ctx, name, document, func(p *Policy, exists bool) bool {
		changed := !exists || p.Document != document
		p.Document = document
		return changed
	})
}

// EnsurePolicy creates the policy if it does not exist, and leaves the document of
// one that does as it is. From then on it is built in.
func (r *Registry) EnsurePolicy(ctx context.Context, name, document string) error {
	return r.putPolicy(ctx, name, document, func(p *Policy, exists bool) bool {
		changed := !exists || !p.BuiltIn
		if p.BuiltIn = true; !exists {
			p.Document = document
		}
		return changed
	})
}

func (r *Registry) putPolicy(ctx context.Context, name, document string, change func(p *Policy, exists bool) (changed bool)) error {
	if err := names.CheckPolicy(name); err != nil {
		return err
	}
	if _, err := policy.Parse([]byte(document)); err != nil {
		return fmt.Errorf("policy %s: %w", name, err)
	}
	_, err := state.Update(ctx, r.store, state.StepRegistry, policyKey(name), func(p *Policy, exists bool, b *state.Batch) error {
		if !exists {
			p.Name, p.CreatedAt = name, r.now().UTC()
		}
		if !change(p, exists) {
			return state.ErrKeep
		}
		b.Put(changedKey("policy", name), r.now().UTC())
		return nil
	})
	if err != nil {
		return fmt.Errorf("put policy %s: %w", name, err)
	}
	return nil
}

// attachment is a policy that a certificate gets.
type attachment struct {
	policy string
	// counts: whether a certificate still has the policy decides its deletion. Of a
	// built-in one nobody asks, and nearly every certificate has two of those.
	counts bool
}

// policiesBatch returns what to attach; a policy that comes with a document is
// created in b if it does not exist. The batch is conditional on each policy being
// as it was read, so that none is deleted while it is being attached.
func (r *Registry) policiesBatch(ctx context.Context, b *state.Batch, policies []cloud.Policy) ([]attachment, error) {
	var out []attachment
	for _, p := range policies {
		if slices.ContainsFunc(out, func(a attachment) bool { return a.policy == p.Name }) {
			continue
		}
		rec, err := state.ReadOr[Policy](ctx, r.store, policyKey(p.Name))
		if err != nil {
			return nil, fmt.Errorf("read policy %s: %w", p.Name, err)
		}
		b.If(policyKey(p.Name), rec.Rev)
		out = append(out, attachment{policy: p.Name, counts: !rec.Value.BuiltIn})
		switch {
		case rec.Value.Deleting:
			rec.Value.Deleting = false
			b.Put(policyKey(p.Name), rec.Value)
		case rec.Rev != 0:
		case p.Document == "":
			return nil, fault.New(fault.NotFound, "policy %s does not exist; create it, or take it out of the provisioning template", p.Name)
		default:
			if err := names.CheckPolicy(p.Name); err != nil {
				return nil, err
			}
			if _, err := policy.Parse([]byte(p.Document)); err != nil {
				return nil, fmt.Errorf("policy %s: %w", p.Name, err)
			}
			b.Put(policyKey(p.Name), Policy{Name: p.Name, Document: p.Document, CreatedAt: r.now().UTC()})
		}
	}
	return out, nil
}

// deletePolicyBatch deletes the policy in b unless it is built in or a certificate
// has it. It marks the policy before it looks: whoever attaches it from then on
// changes its record, and b conflicts.
func (r *Registry) deletePolicyBatch(ctx context.Context, b *state.Batch, name string) error {
	key := policyKey(name)
	p, err := state.ReadOr[Policy](ctx, r.store, key)
	if err != nil || p.Rev == 0 || p.Value.BuiltIn {
		return err
	}
	for range 2 {
		attached, err := r.store.List(ctx, policyRefPrefix(name), "", 1)
		if err != nil || len(attached.Entries) > 0 {
			return err
		}
		if p.Value.Deleting {
			break
		}
		p.Value.Deleting = true
		if p.Rev, err = r.store.Commit(ctx, state.NewBatch(state.StepDeprovision).If(key, p.Rev).Put(key, p.Value)); err != nil {
			return err
		}
	}
	b.If(key, p.Rev).Delete(key).Delete(changedKey("policy", name))
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.compiled, name) // what is used is compiled again
	return nil
}
