package iot

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/policy"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/tag"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
)

// Policy is a policy with its default version; the other versions have records of
// their own. A record that knows no versions has version 1 alone.
type Policy struct {
	Name      string    `json:"name"`
	Document  string    `json:"document"` // of the default version
	CreatedAt time.Time `json:"createdAt"`
	// BuiltIn policies were made by the first start: no deletion of a thing takes
	// one along.
	BuiltIn bool `json:"builtIn,omitempty"`
	// Written is the SHA-256, in hex, of the document that EnsurePolicy wrote last.
	Written string `json:"written,omitempty"`
	// Deleting is set while somebody looks whether something still has the policy;
	// attaching it takes the mark away.
	Deleting bool `json:"deleting,omitempty"`

	ModifiedAt time.Time         `json:"modifiedAt,omitzero"`
	Tags       map[string]string `json:"tags,omitempty"`
	Default    int               `json:"default,omitempty"`  // number of the default version; 0: 1
	DefaultAt  time.Time         `json:"defaultAt,omitzero"` // when that was made; zero: with the policy
	Last       int               `json:"last,omitempty"`     // the greatest number given out; 0: 1
	Others     []int             `json:"others,omitempty"`   // numbers of the other versions, ascending
}

// Policy returns the policy, or fault.NotFound.
func (r *Registry) Policy(ctx context.Context, name string) (Policy, error) {
	p, err := state.Read[Policy](ctx, r.store, policyKey(name))
	if errors.Is(err, fault.NotFound) {
		return Policy{}, noPolicy(name)
	}
	return p.Value, err
}

func noPolicy(name string) error {
	return fault.New(fault.NotFound, "policy %s does not exist", name)
}

// Policies returns a page of the policies in the order made, and what After is
// for the next one ("": this is the last).
func (r *Registry) Policies(ctx context.Context, page Page) (out []Policy, next string, err error) {
	entries, more, err := r.inOrder(ctx, madePolicies, page)
	if err != nil {
		return nil, "", fmt.Errorf("list policies: %w", err)
	}
	for _, e := range entries {
		p, err := state.ReadOr[Policy](ctx, r.store, policyKey(e.ID))
		if err != nil {
			return nil, "", fmt.Errorf("read policy %s: %w", e.ID, err)
		}
		if p.Rev != 0 {
			out = append(out, p.Value)
		}
		if more {
			next = e.after
		}
	}
	return out, next, nil
}

// CreatePolicy makes the policy with version 1. A name that is taken is
// fault.Exists, a document that is no policy BadPolicy.
func (r *Registry) CreatePolicy(ctx context.Context, name, document string, tags map[string]string) (Policy, error) {
	if err := errors.Join(checkPolicy(name, document), tag.Check(tags)); err != nil {
		return Policy{}, err
	}
	p, err := state.Update(ctx, r.store, state.StepRegistry, policyKey(name), func(p *Policy, exists bool, b *state.Batch) error {
		if exists {
			return fault.New(fault.Exists, "policy %s exists already", name)
		}
		*p = r.newPolicy(b, name, document)
		p.Tags = tags
		return nil
	})
	if err != nil {
		return Policy{}, fmt.Errorf("create policy %s: %w", name, err)
	}
	return p.Value, nil
}

func checkPolicy(name, document string) error {
	if err := names.CheckPolicy(name); err != nil {
		return err
	}
	return checkDocument(name, document)
}

func checkDocument(name, document string) error {
	if _, err := policy.Parse([]byte(document)); err != nil {
		return because(BadPolicy, fmt.Errorf("policy %s: %w", name, err))
	}
	return nil
}

// newPolicy is a policy that is made in b.
func (r *Registry) newPolicy(b *state.Batch, name, document string) Policy {
	now := r.now().UTC()
	b.Put(madeKey(madePolicies, now, name), made{ID: name})
	return Policy{Name: name, Document: document, CreatedAt: now}
}

// PutPolicy creates the policy or replaces the document of its default version.
// Live sessions learn of it through Changes.
func (r *Registry) PutPolicy(ctx context.Context, name, document string) error {
	return r.putPolicy(ctx, name, document, func(p *Policy, exists bool) bool {
		changed := !exists || p.Document != document
		p.Document = document
		return changed
	})
}

// EnsurePolicy creates the policy if it does not exist. One that an earlier start
// made, and nobody changed since, gets the document, so that a newer release finds
// what it needs; one that somebody changed stays as it is. From then on it is
// built in. Live sessions follow.
func (r *Registry) EnsurePolicy(ctx context.Context, name, document string) error {
	return r.putPolicy(ctx, name, document, func(p *Policy, exists bool) bool {
		before := *p
		if exists && p.ours() {
			p.Document = document
		}
		p.BuiltIn = true
		if p.Document == document {
			p.Written = digest(document)
		}
		return !exists || before.Document != p.Document || !before.BuiltIn
	})
}

// ours reports whether the document is one that EnsurePolicy wrote. The first
// releases did not keep which: theirs have one version and no later change.
func (p *Policy) ours() bool {
	return p.Written == digest(p.Document) || p.Written == "" && p.BuiltIn && p.ModifiedAt.IsZero() && len(p.Others) == 0
}

func digest(document string) string {
	h := sha256.Sum256([]byte(document))
	return hex.EncodeToString(h[:])
}

func (r *Registry) putPolicy(ctx context.Context, name, document string, change func(p *Policy, exists bool) (changed bool)) error {
	if err := checkPolicy(name, document); err != nil {
		return err
	}
	_, err := state.Update(ctx, r.store, state.StepRegistry, policyKey(name), func(p *Policy, exists bool, b *state.Batch) error {
		if !exists {
			*p = r.newPolicy(b, name, document)
		}
		if !change(p, exists) {
			return state.ErrKeep
		}
		if exists {
			p.ModifiedAt = r.now().UTC()
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
			if err := checkPolicy(p.Name, p.Document); err != nil {
				return nil, err
			}
			b.Put(policyKey(p.Name), r.newPolicy(b, p.Name, p.Document))
		}
	}
	return out, nil
}

// DeletePolicy removes a policy that nothing has and that has no other versions;
// else it is Attached, as a built-in one is always.
func (r *Registry) DeletePolicy(ctx context.Context, name string) error {
	for range maxRaces {
		p, err := state.ReadOr[Policy](ctx, r.store, policyKey(name))
		switch {
		case err != nil:
			return fmt.Errorf("delete policy %s: %w", name, err)
		case p.Rev == 0:
			return noPolicy(name)
		case p.Value.BuiltIn:
			return refuse(Attached, fault.Conflict, "policy %s belongs to this server, whose devices need it; it cannot be deleted", name)
		case len(p.Value.Others) > 0:
			return refuse(Attached, fault.Conflict, "policy %s has versions besides its default one; delete those first", name)
		}
		b := state.NewBatch(state.StepRegistry)
		free, err := r.dropPolicyBatch(ctx, b, p)
		if err == nil && !free {
			return refuse(Attached, fault.Conflict, "policy %s is attached to a certificate or thing group; detach it first", name)
		}
		if err == nil {
			_, err = r.store.Commit(ctx, b)
		}
		if !errors.Is(err, fault.Conflict) {
			return err
		}
	}
	return fmt.Errorf("delete policy %s: %w", name, fault.Conflict)
}

// maxRaces is how often a change is tried that others get in the way of.
const maxRaces = 16

// deletePolicyBatch deletes the policy in b unless it is built in or something has
// it.
func (r *Registry) deletePolicyBatch(ctx context.Context, b *state.Batch, name string) error {
	p, err := state.ReadOr[Policy](ctx, r.store, policyKey(name))
	if err != nil || p.Rev == 0 || p.Value.BuiltIn {
		return err
	}
	_, err = r.dropPolicyBatch(ctx, b, p)
	return err
}

// dropPolicyBatch deletes the policy in b if it is free: nothing has it. It marks
// the policy before it looks: whoever attaches it from then on changes its record,
// and b conflicts.
func (r *Registry) dropPolicyBatch(ctx context.Context, b *state.Batch, p state.Record[Policy]) (free bool, err error) {
	name, key := p.Value.Name, policyKey(p.Value.Name)
	for range 2 {
		for _, of := range []string{policyRefPrefix(name), groupRefPrefix(name)} {
			attached, err := r.store.List(ctx, of, "", 1)
			if err != nil || len(attached.Entries) > 0 {
				return false, err
			}
		}
		if p.Value.Deleting {
			break
		}
		p.Value.Deleting = true
		if p.Rev, err = r.store.Commit(ctx, state.NewBatch(b.Step).If(key, p.Rev).Put(key, p.Value)); err != nil {
			return false, err
		}
	}
	b.If(key, p.Rev).Delete(key).Delete(changedKey("policy", name)).Delete(madeKey(madePolicies, p.Value.CreatedAt, name))
	for _, n := range p.Value.Others {
		b.Delete(versionKey(name, n))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.compiled, name) // what is used is compiled again
	return true, nil
}
