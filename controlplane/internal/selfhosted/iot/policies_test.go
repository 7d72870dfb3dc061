package iot_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/iot"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
)

var denyAll = strings.Replace(allowAll, "Allow", "Deny", 1)

func numbers(list []iot.PolicyVersion) (out []string) {
	for _, v := range list {
		n := fmt.Sprint(v.Number)
		if v.Default {
			n += "*"
		}
		out = append(out, n)
	}
	return out
}

func TestAPolicyHasUpToFiveVersions(t *testing.T) {
	k, ctx := newKit(t), t.Context()
	p, err := k.CreatePolicy(ctx, "p", allowAll, map[string]string{"a": "b"})
	require.NoError(t, err)
	assert.Equal(t, 1, p.Version().Number)
	_, err = k.CreatePolicy(ctx, "p", allowAll, nil)
	require.ErrorIs(t, err, fault.Exists)
	for _, broken := range []string{"", "{", strings.Replace(allowAll, "Allow", "Perhaps", 1), strings.Replace(allowAll, "iot:*", strings.Repeat("x", 2048), 1)} {
		_, err = k.CreatePolicy(ctx, "q", broken, nil)
		require.ErrorIs(t, err, iot.BadPolicy)
		assert.NotEmpty(t, fault.Message(err), "it says what is wrong")
		_, err = k.CreatePolicyVersion(ctx, "p", broken, false)
		require.ErrorIs(t, err, iot.BadPolicy)
	}
	for i, asDefault := range []bool{false, true, false, false} {
		v, err := k.CreatePolicyVersion(ctx, "p", denyAll, asDefault)
		require.NoError(t, err)
		assert.Equal(t, i+2, v.Number)
	}
	list, err := k.PolicyVersions(ctx, "p")
	require.NoError(t, err)
	assert.Equal(t, []string{"5", "4", "3*", "2", "1"}, numbers(list))
	_, err = k.CreatePolicyVersion(ctx, "p", allowAll, false)
	require.ErrorIs(t, err, iot.TooManyVersions)
	require.ErrorIs(t, k.DeletePolicyVersion(ctx, "p", 3), iot.Attached)
	require.ErrorIs(t, k.DeletePolicyVersion(ctx, "p", 9), fault.NotFound)
	require.ErrorIs(t, k.SetDefaultPolicyVersion(ctx, "p", 9), fault.NotFound)
	require.NoError(t, k.SetDefaultPolicyVersion(ctx, "p", 1))
	require.NoError(t, k.SetDefaultPolicyVersion(ctx, "p", 1))
	got, v, err := k.PolicyVersion(ctx, "p", 1)
	require.NoError(t, err)
	assert.JSONEq(t, allowAll, got.Document)
	assert.True(t, v.Default)
	_, v, err = k.PolicyVersion(ctx, "p", 3)
	require.NoError(t, err)
	assert.Equal(t, denyAll, v.Document)
	assert.False(t, v.Default)
	require.ErrorIs(t, k.DeletePolicy(ctx, "p"), iot.Attached, "it has other versions")
	for _, n := range []int{2, 3, 4, 5} {
		require.NoError(t, k.DeletePolicyVersion(ctx, "p", n))
	}
	n, err := k.CreatePolicyVersion(ctx, "p", denyAll, false)
	require.NoError(t, err)
	assert.Equal(t, 6, n.Number, "no number is given twice")
	require.NoError(t, k.DeletePolicyVersion(ctx, "p", 6))
	require.NoError(t, k.DeletePolicy(ctx, "p"))
	require.ErrorIs(t, k.DeletePolicy(ctx, "p"), fault.NotFound)
	for key := range k.dump() {
		assert.NotContains(t, key, "policy", "nothing is left")
	}
	_, err = k.CreatePolicyVersion(ctx, "p", allowAll, false)
	require.ErrorIs(t, err, fault.NotFound)
}

func TestAPolicyOfOneDocumentIsVersionOne(t *testing.T) {
	k, ctx := newKit(t), t.Context()
	_, err := k.store.Commit(ctx, state.NewBatch(state.StepRegistry).Put(state.Root+"iot/policy/old", map[string]any{
		"name": "old", "document": allowAll, "createdAt": k.now,
	}))
	require.NoError(t, err)
	list, err := k.PolicyVersions(ctx, "old")
	require.NoError(t, err)
	assert.Equal(t, []string{"1*"}, numbers(list))
	v, err := k.CreatePolicyVersion(ctx, "old", denyAll, true)
	require.NoError(t, err)
	assert.Equal(t, 2, v.Number)
	_, first, err := k.PolicyVersion(ctx, "old", 1)
	require.NoError(t, err)
	assert.JSONEq(t, allowAll, first.Document)
	assert.True(t, k.now.Equal(first.CreatedAt))
}

func TestBuiltInPoliciesAreNotDeleted(t *testing.T) {
	k, ctx := newKit(t), t.Context()
	require.NoError(t, k.EnsurePolicy(ctx, "core", allowAll))
	require.ErrorIs(t, k.DeletePolicy(ctx, "core"), iot.Attached)
	_, c := k.device("gw", "core")
	for range 3 {
		k.spare(cloud.Active)
	}
	list, next, err := k.PolicyTargets(ctx, "core", "", 1)
	require.NoError(t, err)
	assert.Equal(t, []iot.Target{{Certificate: c.ID}}, list)
	if next != "" {
		list, next, err = k.PolicyTargets(ctx, "core", next, 1)
		require.NoError(t, err)
		assert.Empty(t, list)
		assert.Empty(t, next)
	}
}

func TestAttachingPolicies(t *testing.T) {
	k, ctx := newKit(t), t.Context()
	c := k.spare(cloud.Active)
	cert := iot.Target{Certificate: c.ID}
	for i := range iot.MaxPolicies + 1 {
		name := fmt.Sprintf("p%02d", i)
		_, err := k.CreatePolicy(ctx, name, allowAll, nil)
		require.NoError(t, err)
		err = k.AttachPolicy(ctx, name, cert)
		if i == iot.MaxPolicies {
			require.ErrorIs(t, err, fault.Exhausted)
			break
		}
		require.NoError(t, err)
		require.NoError(t, k.AttachPolicy(ctx, name, cert), "twice is fine")
	}
	require.ErrorIs(t, k.AttachPolicy(ctx, "none", cert), fault.NotFound)
	require.ErrorIs(t, k.AttachPolicy(ctx, "p00", iot.Target{Certificate: "none"}), fault.NotFound)
	require.ErrorIs(t, k.AttachPolicy(ctx, "p00", iot.Target{Group: "none"}), fault.NotFound)
	require.NoError(t, k.DetachPolicy(ctx, "p00", cert))
	require.NoError(t, k.DetachPolicy(ctx, "p00", cert), "twice is fine")
	require.NoError(t, k.DetachPolicy(ctx, "none", iot.Target{Certificate: "none"}))

	for _, g := range []string{"g1", "g2", "g3"} {
		_, err := k.EnsureGroup(ctx, g, "", nil)
		require.NoError(t, err)
		require.NoError(t, k.AttachPolicy(ctx, "p01", iot.Target{Group: g}))
	}
	require.NoError(t, k.AttachPolicy(ctx, "p00", iot.Target{Group: "g1"}))
	require.ErrorIs(t, k.AttachPolicy(ctx, "p02", iot.Target{Group: "g1"}), fault.Exhausted)
	var all []iot.Target
	after := ""
	for range 10 {
		list, next, err := k.PolicyTargets(ctx, "p01", after, 1)
		require.NoError(t, err)
		all = append(all, list...)
		if after = next; next == "" {
			break
		}
	}
	assert.Equal(t, []iot.Target{{Group: "g1"}, {Group: "g2"}, {Group: "g3"}, {Certificate: c.ID}}, all)
	require.ErrorIs(t, k.DeletePolicy(ctx, "p00"), iot.Attached, "a group has it")
	require.NoError(t, k.DetachPolicy(ctx, "p00", iot.Target{Group: "g1"}))
	require.NoError(t, k.DeletePolicy(ctx, "p00"))
	_, _, err := k.PolicyTargets(ctx, "p00", "", 1)
	require.ErrorIs(t, err, fault.NotFound)
}

// Groups above those of the thing count as well, and a fleet without policies on
// groups is not asked for them.
func TestPoliciesOfGroupsCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		ctx, stop := context.WithCancel(t.Context())
		var heard []iot.Change
		done := make(chan error, 1)
		take := func() []iot.Change {
			synctest.Wait()
			out := heard
			heard = nil
			return out
		}
		_, err := k.CreateGroup(ctx, iot.NewGroup{Name: "top"})
		require.NoError(t, err)
		_, err = k.CreateGroup(ctx, iot.NewGroup{Name: "low", Parent: "top"})
		require.NoError(t, err)
		require.NoError(t, k.PutPolicy(ctx, "own", allowAll))
		require.NoError(t, k.PutPolicy(ctx, "above", allowAll))
		require.NoError(t, k.PutPolicy(ctx, "direct", allowAll))
		leaf, c := k.device("gw", "own")
		go func() { done <- k.Changes(ctx, func(c iot.Change) { heard = append(heard, c) }) }()
		take()
		count := func() int {
			id, err := k.Identify(ctx, leaf)
			require.NoError(t, err)
			return len(id.Policies)
		}
		move := func(leave, join []string) {
			rec, err := k.Thing(ctx, "gw")
			require.NoError(t, err)
			b := state.NewBatch(state.StepMove)
			_, err = k.MoveBatch(ctx, b, rec, leave, join)
			require.NoError(t, err)
			_, err = k.store.Commit(ctx, b)
			require.NoError(t, err)
		}
		move(nil, []string{"low"})
		assert.Empty(t, take(), "no policy depends on it")
		assert.Equal(t, 1, count())
		require.NoError(t, k.AttachPolicy(ctx, "above", iot.Target{Group: "top"}))
		assert.Equal(t, []iot.Change{{All: true}}, take())
		assert.Equal(t, 2, count())
		require.NoError(t, k.AttachPolicy(ctx, "direct", iot.Target{Group: "low"}))
		assert.Equal(t, 3, count())
		take()
		move([]string{"low"}, nil)
		assert.Equal(t, []iot.Change{{Certificate: c.ID}}, take(), "it lost what the groups gave")
		assert.Equal(t, 1, count())
		move(nil, []string{"low"})
		assert.Equal(t, []iot.Change{{Certificate: c.ID}}, take())

		names := func(t iot.Target, inherited bool) []string {
			list, err := k.AttachedPolicies(ctx, t, inherited)
			require.NoError(k.t, err)
			return list
		}
		assert.Equal(t, []string{"direct"}, names(iot.Target{Group: "low"}, false))
		assert.Equal(t, []string{"direct", "above"}, names(iot.Target{Group: "low"}, true))
		assert.Equal(t, []string{"own"}, names(iot.Target{Certificate: c.ID}, false))
		assert.Equal(t, []string{"own", "direct", "above"}, names(iot.Target{Certificate: c.ID}, true))
		for _, q := range []struct {
			certificate, thing string
			want               int
		}{{c.ID, "", 3}, {"", "gw", 2}, {c.ID, "gw", 3}} {
			list, err := k.EffectivePolicies(ctx, q.certificate, q.thing)
			require.NoError(t, err)
			assert.Len(t, list, q.want)
		}
		_, err = k.EffectivePolicies(ctx, "", "none")
		require.ErrorIs(t, err, fault.NotFound)

		require.NoError(t, k.DetachPolicy(ctx, "direct", iot.Target{Group: "low"}))
		assert.Equal(t, []iot.Change{{All: true}}, take())
		require.NoError(t, k.DetachPolicy(ctx, "above", iot.Target{Group: "top"}))
		assert.Equal(t, 1, count())
		require.NoError(t, k.SetDefaultPolicyVersion(ctx, "own", 1))
		take()
		_, err = k.CreatePolicyVersion(ctx, "own", denyAll, false)
		require.NoError(t, err)
		assert.Empty(t, take(), "it does not count yet")
		require.NoError(t, k.SetDefaultPolicyVersion(ctx, "own", 2))
		assert.Equal(t, []iot.Change{{All: true}}, take())
		stop()
		require.NoError(t, <-done)
	})
}

func TestAttachingPrincipals(t *testing.T) {
	k, ctx := newKit(t), t.Context()
	for _, n := range []string{"a", "b"} {
		_, err := k.register(cloud.Registration{Thing: n})
		require.NoError(t, err)
	}
	c := k.spare(cloud.Active)
	attached := func() []string {
		r, err := k.Certificate(ctx, c.ID)
		require.NoError(t, err)
		for _, n := range []string{"a", "b"} {
			x, err := k.Thing(ctx, n)
			require.NoError(t, err)
			assert.Equal(t, contains(r.Value.Things, n), contains(x.Value.Principals, c.ID), "thing %s and certificate agree", n)
		}
		return r.Value.Things
	}
	require.ErrorIs(t, k.AttachPrincipal(ctx, "none", c.ID, nil), fault.NotFound)
	require.ErrorIs(t, k.AttachPrincipal(ctx, "a", strings.Repeat("0", 64), nil), fault.NotFound)
	require.NoError(t, k.AttachPrincipal(ctx, "a", c.ID, nil))
	require.NoError(t, k.AttachPrincipal(ctx, "a", c.ID, nil))
	require.NoError(t, k.AttachPrincipal(ctx, "b", c.ID, nil))
	assert.Equal(t, []string{"a", "b"}, attached())
	require.ErrorIs(t, k.AttachPrincipal(ctx, "a", c.ID, new(true)), fault.Invalid, "another thing has it")
	require.NoError(t, k.DetachPrincipal(ctx, "b", c.ID))
	require.NoError(t, k.DetachPrincipal(ctx, "b", c.ID))
	require.NoError(t, k.AttachPrincipal(ctx, "a", c.ID, new(true)))
	require.ErrorIs(t, k.AttachPrincipal(ctx, "b", c.ID, nil), fault.Invalid)
	_, err := k.register(cloud.Registration{Thing: "b", CertificateID: c.ID})
	require.ErrorIs(t, err, fault.Invalid, "provisioning keeps to it")
	assert.Equal(t, []string{"a"}, attached())
	require.NoError(t, k.DetachPrincipal(ctx, "a", c.ID))
	require.NoError(t, k.AttachPrincipal(ctx, "b", c.ID, nil), "nobody has it any more")
	require.NoError(t, k.AttachPrincipal(ctx, "a", c.ID, nil))
	assert.Equal(t, []string{"b", "a"}, attached())
}
