package iot_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/iot"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/state/memory"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/pki"
)

func TestTheCAIsMadeOnceWhateverDies(t *testing.T) {
	errKilled := errors.New("killed")
	for _, c := range []struct {
		name string
		fail func(s *memory.Store, done *bool)
	}{
		{"before the commit", func(s *memory.Store, done *bool) {
			s.FailCommit = func(*state.Batch) error {
				if *done {
					return nil
				}
				*done = true
				return errKilled
			}
		}},
		{"never", func(*memory.Store, *bool) {}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, dir, done := memory.New(), filepath.Join(t.TempDir(), "ca"), false
			c.fail(s, &done)
			first, err := iot.EnsureCA(t.Context(), s, sealer(t, 1), dir, time.Now())
			if done {
				require.ErrorIs(t, err, errKilled)
				first, err = iot.EnsureCA(t.Context(), s, sealer(t, 1), dir, time.Now())
			}
			require.NoError(t, err)
			again, err := iot.EnsureCA(t.Context(), s, sealer(t, 1), dir, time.Now())
			require.NoError(t, err)
			assert.Equal(t, first.ID, again.ID)
			assert.Equal(t, first.Bundle(), again.Bundle())
			assert.Equal(t, first.RootFingerprint(), again.RootFingerprint())
			require.NoError(t, again.Issuer.Cert.CheckSignatureFrom(again.Root))
			i, err := os.Stat(dir)
			require.NoError(t, err)
			assert.Equal(t, os.FileMode(0o700), i.Mode().Perm())
			i, err = os.Stat(filepath.Join(dir, "root.pem"))
			require.NoError(t, err)
			assert.Equal(t, os.FileMode(0o600), i.Mode().Perm())
			files, err := os.ReadDir(dir)
			require.NoError(t, err)
			assert.Len(t, files, 1, "nothing half written is left")
		})
	}
}

func TestARootThatIsThereIsUsed(t *testing.T) {
	dir := t.TempDir()
	s := memory.New()
	s.FailCommit = func(*state.Batch) error { return errors.New("killed") }
	_, err := iot.EnsureCA(t.Context(), s, sealer(t, 1), dir, time.Now())
	require.Error(t, err)
	before, err := os.ReadFile(filepath.Join(dir, "root.pem"))
	require.NoError(t, err)
	ca, err := iot.EnsureCA(t.Context(), memory.New(), sealer(t, 1), dir, time.Now())
	require.NoError(t, err)
	assert.Contains(t, string(before), string(pki.EncodeCert(ca.Root.Raw)))
}

func TestReplicasThatStartAtOnceHaveOneCA(t *testing.T) {
	s := memory.New()
	ids := make(chan string, 4)
	for range cap(ids) {
		seal, dir := sealer(t, 1), t.TempDir()
		go func() {
			ca, err := iot.EnsureCA(t.Context(), s, seal, dir, time.Now())
			assert.NoError(t, err)
			ids <- ca.ID
		}()
	}
	first := <-ids
	for range cap(ids) - 1 {
		assert.Equal(t, first, <-ids)
	}
}

func TestACAIsNotOpenedWithAnotherSealKey(t *testing.T) {
	s, dir := memory.New(), t.TempDir()
	_, err := iot.EnsureCA(t.Context(), s, sealer(t, 1), dir, time.Now())
	require.NoError(t, err)
	_, err = iot.EnsureCA(t.Context(), s, sealer(t, 2), dir, time.Now())
	require.ErrorContains(t, err, "seal key file")
}

func TestADamagedRootIsNotReplaced(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "root.pem")
	require.NoError(t, os.WriteFile(file, []byte("-----BEGIN"), 0o600))
	_, err := iot.EnsureCA(t.Context(), memory.New(), sealer(t, 1), dir, time.Now())
	require.ErrorContains(t, err, file)
}

func TestWhoIsAdmitted(t *testing.T) {
	k := newKit(t)
	require.NoError(t, k.PutPolicy(t.Context(), "p", allowAll))
	good, c := k.device("core", "p")
	id, err := k.Identify(t.Context(), good)
	require.NoError(t, err)
	assert.Equal(t, c.ID, id.CertificateID)
	assert.Equal(t, "core", id.Thing)
	assert.Len(t, id.Policies, 1)

	_, unknown, _ := k.issue("core", time.Hour)
	_, err = k.Identify(t.Context(), unknown)
	require.ErrorIs(t, err, fault.Denied)
	assert.ErrorContains(t, err, "not registered")

	for _, s := range []cloud.CertificateStatus{cloud.Inactive, cloud.Revoked} {
		require.NoError(t, k.SetThingCertificates(t.Context(), "core", s))
		_, err = k.Identify(t.Context(), good)
		require.ErrorIs(t, err, fault.Denied)
		assert.ErrorContains(t, err, string(s))
	}
	require.NoError(t, k.SetCertificateStatus(t.Context(), c.ID, cloud.Active))

	for name, at := range map[string]time.Time{"before it begins": good.NotBefore.Add(-time.Second), "after it ended": good.NotAfter.Add(time.Second)} {
		t.Run(name, func(t *testing.T) {
			now := k.now
			defer func() { k.now = now }()
			k.now = at
			_, err = k.Identify(t.Context(), good)
			require.ErrorIs(t, err, fault.Denied)
			assert.ErrorContains(t, err, "at this time")
		})
	}
	require.ErrorIs(t, k.SetCertificateStatus(t.Context(), "none", cloud.Active), fault.NotFound)
	require.ErrorIs(t, k.SetThingCertificates(t.Context(), "none", cloud.Active), fault.NotFound)
}

func TestACertificateWithoutThingOrPolicyMayNothing(t *testing.T) {
	k := newKit(t)
	c, leaf, _ := k.issue("x", time.Hour)
	_, err := k.register(cloud.Registration{Thing: "x", Certificate: &c, Policies: []cloud.Policy{{Name: "gone", Document: allowAll}}})
	require.NoError(t, err)
	_, err = k.store.Commit(t.Context(), state.NewBatch(state.StepRegistry).Delete(state.Root+"iot/policy/gone"))
	require.NoError(t, err)
	id, err := k.Identify(t.Context(), leaf)
	require.NoError(t, err)
	assert.Empty(t, id.Policies, "a policy that is not there allows nothing")
}

func TestAChangedPolicyIsReadAgain(t *testing.T) {
	k := newKit(t)
	require.NoError(t, k.PutPolicy(t.Context(), "p", allowAll))
	leaf, _ := k.device("core", "p")
	first, err := k.Identify(t.Context(), leaf)
	require.NoError(t, err)
	same, err := k.Identify(t.Context(), leaf)
	require.NoError(t, err)
	assert.Same(t, first.Policies[0], same.Policies[0], "parsed once")
	require.NoError(t, k.PutPolicy(t.Context(), "p", strings.Replace(allowAll, "Allow", "Deny", 1)))
	changed, err := k.Identify(t.Context(), leaf)
	require.NoError(t, err)
	assert.NotSame(t, first.Policies[0], changed.Policies[0])
}

func TestAnOperatorsPolicyIsKept(t *testing.T) {
	k := newKit(t)
	edited := strings.Replace(allowAll, "iot:*", "iot:Connect", 1)
	require.NoError(t, k.EnsurePolicy(t.Context(), "p", allowAll))
	require.NoError(t, k.PutPolicy(t.Context(), "p", edited))
	require.NoError(t, k.EnsurePolicy(t.Context(), "p", allowAll))
	p, err := state.Read[iot.Policy](t.Context(), k.store, state.Root+"iot/policy/p")
	require.NoError(t, err)
	assert.Equal(t, edited, p.Value.Document)
	require.Error(t, k.PutPolicy(t.Context(), "q", "{"))
	require.Error(t, k.EnsurePolicy(t.Context(), "a b", allowAll))
}

func TestABuiltInPolicyFollowsTheReleaseUntilSomebodyChangesIt(t *testing.T) {
	document := func(k *kit) string {
		p, err := k.Policy(t.Context(), "p")
		require.NoError(t, err)
		return p.Document
	}
	k := newKit(t)
	newer := strings.Replace(allowAll, "iot:*", "iot:Publish", 1)
	require.NoError(t, k.EnsurePolicy(t.Context(), "p", allowAll))
	for range 2 {
		require.NoError(t, k.EnsurePolicy(t.Context(), "p", newer))
		assert.Equal(t, newer, document(k))
	}
	versions, err := k.PolicyVersions(t.Context(), "p")
	require.NoError(t, err)
	assert.Len(t, versions, 1)
	_, err = k.CreatePolicyVersion(t.Context(), "p", strings.Replace(allowAll, "iot:*", "iot:Connect", 1), true)
	require.NoError(t, err)
	require.NoError(t, k.EnsurePolicy(t.Context(), "p", allowAll))
	assert.Contains(t, document(k), "iot:Connect")

	require.NoError(t, k.EnsurePolicy(t.Context(), "first", allowAll))
	old, err := k.Policy(t.Context(), "first")
	require.NoError(t, err)
	old.Written = "" // as the first releases stored it
	_, err = k.store.Commit(t.Context(), state.NewBatch(state.StepRegistry).Put(state.Root+"iot/policy/first", old))
	require.NoError(t, err)
	require.NoError(t, k.EnsurePolicy(t.Context(), "first", newer))
	old, err = k.Policy(t.Context(), "first")
	require.NoError(t, err)
	assert.Equal(t, newer, old.Document)

	_, err = k.CreatePolicy(t.Context(), "own", allowAll, nil)
	require.NoError(t, err)
	require.NoError(t, k.EnsurePolicy(t.Context(), "own", newer))
	p, err := k.Policy(t.Context(), "own")
	require.NoError(t, err)
	assert.JSONEq(t, allowAll, p.Document, "somebody's own by that name")
}

func TestIssueKnowsItsCAOnly(t *testing.T) {
	k := newKit(t)
	key, err := pki.NewKey(pki.P256)
	require.NoError(t, err)
	c, leaf, _ := k.issue("core", 30*24*time.Hour)
	assert.Equal(t, k.CA().ID, c.CAID)
	assert.Equal(t, pki.ID(leaf.Raw), c.ID)
	require.NoError(t, leaf.CheckSignatureFrom(k.CA().Issuer.Cert))
	_, err = k.Issue(cloud.IssueRequest{CAID: k.CA().ID, Subject: leaf.Subject, Public: key.Public(), Validity: time.Hour})
	require.NoError(t, err)
	_, err = k.Issue(cloud.IssueRequest{CAID: "0000", Subject: leaf.Subject, Public: key.Public(), Validity: time.Hour})
	require.ErrorIs(t, err, fault.NotFound)
	assert.ErrorContains(t, err, k.CA().ID, "the way out")
}

func TestWhatHappensToAThingThatExists(t *testing.T) {
	before := cloud.Registration{Thing: "core", Type: "t1", Attributes: map[string]string{"a": "1", "b": "1"}, Groups: []string{"g1"}}
	again := cloud.Registration{Thing: "core", Type: "t2", Attributes: map[string]string{"b": "2", "c": "2"}, Groups: []string{"g2"}}
	for _, c := range []struct {
		override   cloud.Override
		typ        string
		attributes map[string]string
		groups     []string
		err        error
	}{
		{"", "t1", before.Attributes, before.Groups, nil},
		{cloud.DoNothing, "t1", before.Attributes, before.Groups, nil},
		{cloud.Replace, "t2", again.Attributes, again.Groups, nil},
		{cloud.Merge, "t1", map[string]string{"a": "1", "b": "2", "c": "2"}, []string{"g1", "g2"}, nil},
		{cloud.Fail, "", nil, nil, fault.Exists},
	} {
		t.Run(string(c.override), func(t *testing.T) {
			k := newKit(t)
			for _, g := range []string{"g1", "g2"} {
				_, err := k.EnsureGroup(t.Context(), g, "", nil)
				require.NoError(t, err)
			}
			first, err := k.register(before)
			require.NoError(t, err)
			r := again
			r.OverrideAttributes, r.OverrideGroups = c.override, c.override
			if c.override != cloud.Merge { // a type cannot be merged
				r.OverrideType = c.override
			}
			thing, err := k.register(r)
			if c.err != nil {
				require.ErrorIs(t, err, c.err)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, c.typ, thing.Type)
			assert.Equal(t, c.attributes, thing.Attributes)
			assert.Equal(t, c.groups, thing.Groups)
			assert.Equal(t, first.ID, thing.ID, "it is the same thing")
			assert.Greater(t, thing.Version, first.Version)
			for _, g := range []string{"g1", "g2"} {
				assert.Equal(t, contains(c.groups, g), contains(k.members(g), "core"), "group %s and thing agree", g)
			}
		})
	}
}

func contains(list []string, v string) bool {
	for _, x := range list {
		if x == v {
			return true
		}
	}
	return false
}

func TestW82ARegistrationThatCannotBeStoresNothing(t *testing.T) {
	k := newKit(t)
	many := map[string]string{}
	for i := range iot.MaxAttributes + 1 {
		many[fmt.Sprint("a", i)] = "x"
	}
	c, _, _ := k.issue("core", time.Hour)
	before, err := k.store.List(t.Context(), "", "", 0)
	require.NoError(t, err)
	for _, r := range []struct {
		name string
		reg  cloud.Registration
		kind error
	}{
		{"a bad name", cloud.Registration{Thing: "a b"}, fault.Invalid},
		{"too many attributes", cloud.Registration{Thing: "core", Attributes: many}, fault.Invalid},
		{"an unknown policy", cloud.Registration{Thing: "core", Certificate: &c, Policies: []cloud.Policy{{Name: "none"}}}, fault.NotFound},
		{"a broken policy", cloud.Registration{Thing: "core", Certificate: &c, Policies: []cloud.Policy{{Name: "p", Document: "{"}}}, fault.Invalid},
		{"an unknown group", cloud.Registration{Thing: "core", Groups: []string{"none"}}, fault.NotFound},
		{"too many groups", cloud.Registration{Thing: "core", Groups: strings.Split("abcdefghijk", "")}, fault.Invalid},
	} {
		t.Run(r.name, func(t *testing.T) {
			_, err := k.register(r.reg)
			require.ErrorIs(t, err, r.kind)
			after, err := k.store.List(t.Context(), "", "", 0)
			require.NoError(t, err)
			assert.Equal(t, before.Entries, after.Entries)
		})
	}
}

func TestMembersArePaged(t *testing.T) {
	k := newKit(t)
	_, err := k.EnsureGroup(t.Context(), "g", "what for", map[string]string{"a": "b"})
	require.NoError(t, err)
	g, err := k.EnsureGroup(t.Context(), "g", "another text", nil)
	require.NoError(t, err)
	assert.Equal(t, "what for", g.Description, "a group that is there stays as it is")
	for _, n := range []string{"c", "a", "b"} {
		_, err := k.register(cloud.Registration{Thing: n, Groups: []string{"g"}})
		require.NoError(t, err)
	}
	page, more, err := k.MemberPage(t.Context(), "g", "", 2)
	require.NoError(t, err)
	assert.True(t, more)
	assert.Equal(t, []string{"a", "b"}, page)
	page, more, err = k.MemberPage(t.Context(), "g", "b", 2)
	require.NoError(t, err)
	assert.False(t, more)
	assert.Equal(t, []string{"c"}, page)
	_, err = k.Group(t.Context(), "none")
	require.ErrorIs(t, err, fault.NotFound)
	_, err = k.EnsureGroup(t.Context(), "a b", "", nil)
	require.ErrorIs(t, err, fault.Invalid)
}

func TestLiveSessionsLearnWhatChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		ctx, stop := context.WithCancel(t.Context())
		var heard []iot.Change
		done := make(chan error, 1)
		go func() { done <- k.Changes(ctx, func(c iot.Change) { heard = append(heard, c) }) }()
		take := func() []iot.Change {
			synctest.Wait()
			out := heard
			heard = nil
			return out
		}
		assert.Equal(t, []iot.Change{{All: true}}, take(), "what changed before was seen by nobody")
		_, c := k.device("core")
		assert.Empty(t, take(), "a new certificate has no session")
		require.NoError(t, k.SetCertificateStatus(ctx, c.ID, cloud.Revoked))
		assert.Equal(t, []iot.Change{{Certificate: c.ID}}, take())
		require.NoError(t, k.SetCertificateStatus(ctx, c.ID, cloud.Revoked))
		assert.Empty(t, take(), "nothing changed")
		require.NoError(t, k.PutPolicy(ctx, "p", allowAll))
		assert.Equal(t, []iot.Change{{All: true}}, take(), "it may have been attached before it was there")
		require.NoError(t, k.PutPolicy(ctx, "p", allowAll))
		assert.Empty(t, take())
		stop()
		require.NoError(t, <-done)
	})
}
