package iot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// MaxGroupPolicies is how many policies a thing group can have (iot-api §15).
const MaxGroupPolicies = 2

// Target is what a policy is attached to: a certificate or a thing group.
type Target struct {
	Certificate string // id
	Group       string // name, if Certificate is empty
}

// AttachPolicy attaches the policy; live sessions follow. Attaching it twice is
// fine, one more than there can be is fault.Exhausted.
func (r *Registry) AttachPolicy(ctx context.Context, name string, t Target) error {
	if _, err := r.Policy(ctx, name); err != nil {
		return err
	}
	// attachTo adds the policy to those of something that can have limit.
	attachTo := func(b *state.Batch, what string, has *[]string, limit int) (attachment, error) {
		a, err := r.policiesBatch(ctx, b, []cloud.Policy{{Name: name}})
		switch {
		case err != nil:
			return attachment{}, err
		case slices.Contains(*has, name):
			return attachment{}, state.ErrKeep
		case len(*has) >= limit:
			return attachment{}, fault.New(fault.Exhausted, "%s has %d policies, which is the limit; detach one first", what, len(*has))
		}
		*has = addTo(*has, name)
		return a[0], nil
	}
	var err error
	if t.Certificate != "" {
		err = r.changeCertificate(ctx, t.Certificate, func(c *Certificate, b *state.Batch) error {
			a, err := attachTo(b, "certificate "+c.ID, &c.Policies, MaxPolicies)
			if a.counts {
				b.Put(policyRefKey(name, c.ID), struct{}{})
			}
			return err
		})
	} else {
		r.bare.Store(false) // before anybody can rely on it
		err = r.changeGroupPolicies(ctx, t.Group, func(g *Group, b *state.Batch) error {
			if g.Retiring {
				return fault.New(fault.Conflict, "thing group %s is being removed", g.Name)
			}
			_, err := attachTo(b, "thing group "+g.Name, &g.Policies, MaxGroupPolicies)
			b.Put(groupRefKey(name, g.Name), struct{}{})
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("attach policy %s: %w", name, err)
	}
	return nil
}

// DetachPolicy takes the policy from the target; live sessions follow. What is not
// attached, or not there, is no error.
func (r *Registry) DetachPolicy(ctx context.Context, name string, t Target) error {
	var err error
	if t.Certificate != "" {
		err = r.changeCertificate(ctx, t.Certificate, func(c *Certificate, b *state.Batch) error {
			if !slices.Contains(c.Policies, name) {
				return state.ErrKeep
			}
			c.Policies = without(c.Policies, name)
			b.Delete(policyRefKey(name, c.ID))
			return nil
		})
	} else {
		err = r.changeGroupPolicies(ctx, t.Group, func(g *Group, b *state.Batch) error {
			if !slices.Contains(g.Policies, name) {
				return state.ErrKeep
			}
			g.Policies = without(g.Policies, name)
			b.Delete(groupRefKey(name, g.Name))
			return nil
		})
	}
	if err != nil && !errors.Is(err, fault.NotFound) {
		return fmt.Errorf("detach policy %s: %w", name, err)
	}
	return nil
}

// changeCertificate changes what is attached to the certificate; live sessions learn
// of it. One without thing can have some as well: those of a claim.
func (r *Registry) changeCertificate(ctx context.Context, id string, change func(c *Certificate, b *state.Batch) error) error {
	_, err := state.Update(ctx, r.store, state.StepRegistry, certKey(id), func(c *Certificate, exists bool, b *state.Batch) error {
		if !exists {
			return noCertificate(id)
		}
		if err := change(c, b); err != nil {
			return err
		}
		b.Put(changedKey("certificate", id), string(c.Status))
		return nil
	})
	return err
}

func (r *Registry) changeGroupPolicies(ctx context.Context, group string, change func(g *Group, b *state.Batch) error) error {
	_, err := state.Update(ctx, r.store, state.StepGroup, groupKey(group), func(g *Group, exists bool, b *state.Batch) error {
		if !exists {
			return fault.New(fault.NotFound, "thing group %s does not exist", group)
		}
		if err := change(g, b); err != nil {
			return err
		}
		if len(g.Policies) > 0 {
			b.Put(changedKey("group", group), g.Policies)
		} else {
			b.Delete(changedKey("group", group))
		}
		return nil
	})
	return err
}

// dropGroupPoliciesBatch takes the policies of a group that goes from it in b.
func dropGroupPoliciesBatch(b *state.Batch, g Group) {
	for _, p := range g.Policies {
		b.Delete(groupRefKey(p, g.Name)).Delete(changedKey("group", g.Name))
	}
}

// maxRegroup is how many certificates are named one by one when their thing changes
// groups; for more, all sessions are looked at.
const maxRegroup = 16

// regroupBatch makes live sessions of the thing follow into groups that it joins,
// and out of those that it leaves, if policies may depend on it.
func (r *Registry) regroupBatch(b *state.Batch, t Thing) {
	if r.bare.Load() {
		return
	}
	if len(t.Principals) > maxRegroup {
		b.Put(changedKey("thing", t.Name), t.Groups)
		return
	}
	for _, id := range t.Principals {
		b.Put(changedKey("certificate", id), t.Groups)
	}
}

// AttachedPolicies returns the names of the policies of the target, with inherited
// those of the groups above it as well: for a certificate, of its things' groups.
func (r *Registry) AttachedPolicies(ctx context.Context, t Target, inherited bool) ([]string, error) {
	if t.Certificate == "" {
		g, err := r.Group(ctx, t.Group)
		if err != nil || !inherited {
			return g.Value.Policies, err
		}
		return r.inherited(ctx, []string{t.Group})
	}
	c, err := r.Certificate(ctx, t.Certificate)
	if err != nil || !inherited {
		return c.Value.Policies, err
	}
	return r.effective(ctx, c.Value.Policies, c.Value.Things)
}

// effective returns the policies with those that the groups of the things add.
func (r *Registry) effective(ctx context.Context, policies, things []string) ([]string, error) {
	var groups []string
	for _, n := range things {
		t, err := state.ReadOr[Thing](ctx, r.store, thingKey(n))
		if err != nil {
			return nil, fmt.Errorf("read thing %s: %w", n, err)
		}
		if !t.Value.Deleting {
			groups = append(groups, t.Value.Groups...)
		}
	}
	more, err := r.inherited(ctx, groups)
	if err != nil {
		return nil, err
	}
	out := slices.Clone(policies)
	for _, p := range more {
		out = addTo(out, p)
	}
	return out, nil
}

// inherited returns the policies of the groups and of those above them, each once.
func (r *Registry) inherited(ctx context.Context, groups []string) (out []string, err error) {
	seen := map[string]bool{}
	for len(groups) > 0 {
		name := groups[0]
		groups = groups[1:]
		if seen[name] {
			continue
		}
		seen[name] = true
		g, err := state.ReadOr[Group](ctx, r.store, groupKey(name))
		if err != nil {
			return nil, fmt.Errorf("read thing group %s: %w", name, err)
		}
		for _, p := range g.Value.Policies {
			out = addTo(out, p)
		}
		groups = append(groups, g.Value.Parents...)
	}
	return out, nil
}

// EffectivePolicies returns the policies that count for a certificate, for a thing
// by its groups, or for both together; either may be empty.
func (r *Registry) EffectivePolicies(ctx context.Context, certificate, thing string) ([]Policy, error) {
	var policies, things []string
	if certificate != "" {
		c, err := r.Certificate(ctx, certificate)
		if err != nil {
			return nil, err
		}
		policies, things = c.Value.Policies, c.Value.Things
	}
	if thing != "" {
		if _, err := r.Thing(ctx, thing); err != nil {
			return nil, err
		}
		things = addTo(things, thing)
	}
	policies, err := r.effective(ctx, policies, things)
	if err != nil {
		return nil, err
	}
	var out []Policy
	for _, n := range policies {
		p, err := state.ReadOr[Policy](ctx, r.store, policyKey(n))
		if err != nil {
			return nil, fmt.Errorf("read policy %s: %w", n, err)
		}
		if p.Rev != 0 {
			out = append(out, p.Value)
		}
	}
	return out, nil
}

// PolicyTargets returns up to limit of what has the policy, groups first, and what
// after is for the next page ("": this is the last). A page may be short although
// there are more.
func (r *Registry) PolicyTargets(ctx context.Context, name, after string, limit int) (out []Target, next string, err error) {
	p, err := r.Policy(ctx, name)
	if err != nil {
		return nil, "", err
	}
	kind, rest, _ := strings.Cut(after, "/")
	if kind != "certificate" {
		root := groupRefPrefix(name)
		page, err := r.store.List(ctx, root, root+rest, limit)
		if err != nil {
			return nil, "", fmt.Errorf("list groups with policy %s: %w", name, err)
		}
		for _, e := range page.Entries {
			out = append(out, Target{Group: e.Key[len(root):]})
		}
		if len(out) == limit { // certificates may follow
			return out, "group/" + out[len(out)-1].Group, nil
		}
		rest, limit = "", limit-len(out)
	}
	certificates, last, err := r.certificatesWith(ctx, p, rest, limit)
	if err != nil {
		return nil, "", fmt.Errorf("list certificates with policy %s: %w", name, err)
	}
	for _, id := range certificates {
		out = append(out, Target{Certificate: id})
	}
	if last != "" {
		next = "certificate/" + last
	}
	return out, next, nil
}

// certificatesWith returns up to limit certificates after one that have the policy,
// and the last one looked at if there are more. Nobody keeps which have a built-in
// policy: nearly all have, and all are looked at.
func (r *Registry) certificatesWith(ctx context.Context, p Policy, after string, limit int) (ids []string, last string, err error) {
	if !p.BuiltIn {
		root := policyRefPrefix(p.Name)
		page, err := r.store.List(ctx, root, root+after, limit)
		if err != nil {
			return nil, "", err
		}
		for _, e := range page.Entries {
			ids = append(ids, e.Key[len(root):])
		}
		if page.More {
			last = ids[len(ids)-1]
		}
		return ids, last, nil
	}
	for looked := 0; ; {
		page, err := r.store.List(ctx, certPrefix, certPrefix+after, max(limit, madeSpan))
		if err != nil {
			return nil, "", err
		}
		for i, e := range page.Entries {
			c, err := state.Decode[Certificate](e)
			if err != nil {
				return nil, "", err
			}
			if after = c.Value.ID; slices.Contains(c.Value.Policies, p.Name) {
				ids = append(ids, after)
			}
			if len(ids) == limit {
				if page.More || i < len(page.Entries)-1 {
					last = after
				}
				return ids, last, nil
			}
		}
		if looked += len(page.Entries); !page.More {
			return ids, "", nil
		}
		if looked >= scanned {
			return ids, after, nil
		}
	}
}
