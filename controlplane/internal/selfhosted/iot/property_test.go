package iot_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/iot"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/state/memory"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
)

// Whatever is registered, attached, detached, versioned and deleted in whatever
// order, whatever comes in between two commits and wherever the process dies: both
// sides of every fact agree, and the order that lists go by names what is there.
func TestBothSidesOfEveryFactAgree(t *testing.T) {
	ca, err := iot.EnsureCA(t.Context(), memory.New(), sealer(t, 1), t.TempDir(), time.Now())
	require.NoError(t, err)
	rapid.Check(t, func(t *rapid.T) {
		w := &registryWorld{t: t, ctx: context.Background(), store: memory.New()}
		w.Registry, err = iot.New(iot.Config{Store: w.store, Realm: names.Realm{Region: "us-east-1", Account: "000000000000"}, CA: ca})
		require.NoError(t, err)
		require.NoError(t, w.EnsurePolicy(w.ctx, "built-in", allowAll))
		w.store.FailCommit = w.between
		acts := w.acts()
		t.Repeat(map[string]func(*rapid.T){
			"act": func(t *rapid.T) {
				w.try(t, acts)
				w.check()
			},
			"interrupted act": func(t *rapid.T) {
				w.after = rapid.IntRange(1, 3).Draw(t, "commits")
				if w.dies = rapid.Bool().Draw(t, "dies"); !w.dies {
					w.meanwhile = func() { w.try(t, acts) }
				}
				w.try(t, acts)
				w.after = 0
				w.check()
			},
		})
	})
}

type registryWorld struct {
	*iot.Registry
	t     *rapid.T
	ctx   context.Context
	store *memory.Store
	made  int

	after     int // commits until something happens; 0: nothing does
	dies      bool
	meanwhile func()
}

var errKilled = errors.New("killed")

func (w *registryWorld) between(*state.Batch) error {
	if w.after == 0 {
		return nil
	}
	if w.after--; w.after > 0 {
		return nil
	}
	if w.dies {
		return errKilled
	}
	w.meanwhile()
	return nil
}

func (w *registryWorld) try(t *rapid.T, acts map[string]func(*rapid.T) error) {
	var what []string
	for n := range acts {
		what = append(what, n)
	}
	slices.Sort(what)
	name := rapid.SampledFrom(what).Draw(t, "what")
	err := acts[name](t)
	ok := err == nil || errors.Is(err, errKilled)
	for _, k := range []fault.Kind{fault.NotFound, fault.Conflict, fault.Exists, fault.Exhausted, fault.Invalid} {
		ok = ok || errors.Is(err, k)
	}
	require.True(t, ok, "%s: %v", name, err)
}

func (w *registryWorld) acts() map[string]func(*rapid.T) error {
	pick := func(what string, of ...string) func(*rapid.T) string {
		return func(t *rapid.T) string { return rapid.SampledFrom(of).Draw(t, what) }
	}
	thing, group := pick("thing", "a", "b"), pick("group", "top", "low", "else")
	policy := pick("policy", "p", "q", "r", "built-in")
	status := func(t *rapid.T) cloud.CertificateStatus {
		return rapid.SampledFrom([]cloud.CertificateStatus{cloud.Active, cloud.Inactive, cloud.Inactive, cloud.Revoked}).Draw(t, "status")
	}
	certificate := func(t *rapid.T) string {
		if ids := w.ids(); len(ids) > 0 {
			return rapid.SampledFrom(ids).Draw(t, "certificate")
		}
		return "none"
	}
	target := func(t *rapid.T) iot.Target {
		if rapid.Bool().Draw(t, "to a group") {
			return iot.Target{Group: group(t)}
		}
		return iot.Target{Certificate: certificate(t)}
	}
	commit := func(b *state.Batch) error {
		_, err := w.store.Commit(w.ctx, b)
		return err
	}
	return map[string]func(*rapid.T) error{
		"new certificate": func(t *rapid.T) error {
			w.made++
			_, err := w.AddCertificate(w.ctx, cloud.Issued{ID: fmt.Sprintf("%064d", w.made)}, status(t))
			return err
		},
		"register": func(t *rapid.T) error {
			r := cloud.Registration{Thing: thing(t), OverrideGroups: cloud.Replace, Policies: []cloud.Policy{{Name: policy(t), Document: allowAll}}}
			if rapid.Bool().Draw(t, "in a group") {
				r.Groups = []string{group(t)}
			}
			if rapid.Bool().Draw(t, "with a certificate") {
				r.CertificateID = certificate(t)
			}
			b := state.NewBatch(state.StepCoreRegister)
			if _, err := w.RegisterBatch(w.ctx, b, r); err != nil {
				return err
			}
			return commit(b)
		},
		"attach principal": func(t *rapid.T) error {
			alone := rapid.SampledFrom([]*bool{nil, new(true), new(false)}).Draw(t, "exclusive")
			return w.AttachPrincipal(w.ctx, thing(t), certificate(t), alone)
		},
		"detach principal": func(t *rapid.T) error { return w.DetachPrincipal(w.ctx, thing(t), certificate(t)) },
		"set status":       func(t *rapid.T) error { return w.UpdateCertificate(w.ctx, certificate(t), status(t)) },
		"delete certificate": func(t *rapid.T) error {
			return w.DeleteCertificate(w.ctx, certificate(t), rapid.Bool().Draw(t, "force"))
		},
		"new policy": func(t *rapid.T) error {
			_, err := w.CreatePolicy(w.ctx, policy(t), allowAll, nil)
			return err
		},
		"new version": func(t *rapid.T) error {
			_, err := w.CreatePolicyVersion(w.ctx, policy(t), denyAll, rapid.Bool().Draw(t, "default"))
			return err
		},
		"choose version": func(t *rapid.T) error {
			return w.SetDefaultPolicyVersion(w.ctx, policy(t), rapid.IntRange(1, 6).Draw(t, "version"))
		},
		"delete version": func(t *rapid.T) error {
			return w.DeletePolicyVersion(w.ctx, policy(t), rapid.IntRange(1, 6).Draw(t, "version"))
		},
		"delete policy": func(t *rapid.T) error { return w.DeletePolicy(w.ctx, policy(t)) },
		"attach policy": func(t *rapid.T) error { return w.AttachPolicy(w.ctx, policy(t), target(t)) },
		"detach policy": func(t *rapid.T) error { return w.DetachPolicy(w.ctx, policy(t), target(t)) },
		"new group": func(t *rapid.T) error {
			n := iot.NewGroup{Name: group(t)}
			if n.Name == "low" {
				n.Parent = "top"
			}
			_, err := w.CreateGroup(w.ctx, n)
			return err
		},
		"delete group": func(t *rapid.T) error {
			g, err := w.CloseGroup(w.ctx, group(t))
			if err != nil {
				return err
			}
			b := state.NewBatch(state.StepGroup)
			if err := w.DeleteGroupBatch(w.ctx, b, g); err != nil {
				return err
			}
			return commit(b)
		},
		"delete thing": func(t *rapid.T) error {
			n := thing(t)
			x, err := w.Retreat(w.ctx, n, rapid.Bool().Draw(t, "policies"))
			if err != nil {
				return err
			}
			return w.Delete(w.ctx, x, rapid.Bool().Draw(t, "certificates"), commit)
		},
	}
}

func (w *registryWorld) dump() map[string][]byte {
	p, err := w.store.List(w.ctx, state.Root+"iot/", "", 0)
	require.NoError(w.t, err)
	out := map[string][]byte{}
	for _, e := range p.Entries {
		out[strings.TrimPrefix(e.Key, state.Root+"iot/")] = e.Value
	}
	return out
}

func (w *registryWorld) ids() (ids []string) {
	for key := range w.dump() {
		if id, ok := strings.CutPrefix(key, "cert/"); ok {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// of reads the records of a kind by name.
func of[T any](t *rapid.T, facts map[string][]byte, kind string) map[string]T {
	out := map[string]T{}
	for key, raw := range facts {
		if name, ok := strings.CutPrefix(key, kind+"/"); ok {
			var v T
			require.NoError(t, json.Unmarshal(raw, &v))
			out[name] = v
		}
	}
	return out
}

func (w *registryWorld) check() {
	facts := w.dump()
	certs, policies := of[iot.Certificate](w.t, facts, "cert"), of[iot.Policy](w.t, facts, "policy")
	w.checkThings(facts, certs)
	w.checkPolicies(facts, certs, policies)

	order := of[struct{ ID string }](w.t, facts, "made")
	require.Len(w.t, order, len(certs)+len(policies), "all that is there has its place once")
	for key, e := range order {
		if strings.HasPrefix(key, "cert/") {
			require.Contains(w.t, certs, e.ID)
		} else {
			require.Contains(w.t, policies, e.ID)
		}
	}
	for key := range facts {
		if id, ok := strings.CutPrefix(key, "changed/certificate/"); ok {
			require.Contains(w.t, certs, id, "a change of what is gone")
		}
	}
}

func (w *registryWorld) checkThings(facts map[string][]byte, certs map[string]iot.Certificate) {
	t, there := w.t, of[iot.Thing](w.t, facts, "thing")
	for id, c := range certs {
		for _, n := range c.Things {
			require.Contains(t, there[n].Principals, id, "certificate of a thing that does not have it")
		}
		require.True(t, !c.Exclusive || len(c.Things) < 2, "exclusive for several")
		require.LessOrEqual(t, len(c.Policies), iot.MaxPolicies)
	}
	for n, x := range there {
		for _, id := range x.Principals {
			require.True(t, x.Deleting || slices.Contains(certs[id].Things, n), "thing of a certificate that does not have it")
		}
		for _, g := range x.Groups {
			require.Contains(t, facts, "member/"+g+"/"+n)
			require.Contains(t, facts, "group/"+g)
		}
	}
	for key := range of[struct{}](t, facts, "member") {
		g, n, _ := strings.Cut(key, "/")
		require.Contains(t, there[n].Groups, g, "member that is not in the group")
	}
}

func (w *registryWorld) checkPolicies(facts map[string][]byte, certs map[string]iot.Certificate, policies map[string]iot.Policy) {
	t, groups := w.t, of[iot.Group](w.t, facts, "group")
	for id, c := range certs {
		for _, p := range c.Policies {
			require.Contains(t, policies, p, "a policy is gone but attached")
			require.True(t, policies[p].BuiltIn || facts["policy-of/"+p+"/"+id] != nil)
		}
	}
	for n, g := range groups {
		require.LessOrEqual(t, len(g.Policies), iot.MaxGroupPolicies)
		require.Equal(t, len(g.Policies) > 0, facts["changed/group/"+n] != nil, "who watches knows which groups have policies")
		for _, p := range g.Policies {
			require.Contains(t, policies, p, "a policy is gone but attached")
			require.Contains(t, facts, "policy-of-group/"+p+"/"+n)
		}
	}
	for key := range facts {
		switch part := strings.Split(key, "/"); part[0] {
		case "policy-of":
			require.Contains(t, certs[part[2]].Policies, part[1])
		case "policy-of-group":
			require.Contains(t, groups[part[2]].Policies, part[1])
		case "policy-version":
			require.Contains(t, policies[part[1]].Others, must(t, part[2]))
		case "changed":
			require.True(t, part[1] != "group" || facts["group/"+part[2]] != nil)
		}
	}
	for n, p := range policies {
		require.Less(t, len(p.Others), iot.MaxVersions)
		require.NotContains(t, p.Others, p.Version().Number)
		for _, v := range p.Others {
			require.Contains(t, facts, fmt.Sprint("policy-version/", n, "/", v))
			require.LessOrEqual(t, v, max(1, p.Last))
		}
	}
}

func must(t *rapid.T, number string) (n int) {
	_, err := fmt.Sscan(number, &n)
	require.NoError(t, err)
	return n
}
