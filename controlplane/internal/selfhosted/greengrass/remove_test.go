package greengrass_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/greengrass"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/iot"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

func (k *kit) groupsOf(thing string) []string {
	k.t.Helper()
	out, err := k.GroupsOf(k.ctx, thing)
	require.NoError(k.t, err)
	return out
}

func TestChangingGroupsIsOneCommitAndExecutionsFollow(t *testing.T) {
	k := newKit(t, t.Context(), "core")
	k.groups("old", "older", "new", "newer", "empty")
	made := map[string]greengrass.Deployment{}
	for _, g := range []string{"old", "older", "new", "newer"} {
		made[g] = k.create(group(g, "1.0.0"))
	}
	require.NoError(t, k.Regroup(k.ctx, "core", nil, []string{"old", "older"}))
	first := k.pending("core")
	require.Len(t, first, 2, "joining delivers")
	assert.Less(t, first[0].Stamp, first[1].Stamp, "one after the other")
	k.report("core", made["older"].JobID, protocol.JobInProgress)

	before := k.commits.Load()
	require.NoError(t, k.Regroup(k.ctx, "core", []string{"old", "older", "empty"}, []string{"new", "newer"}))
	assert.EqualValues(t, 1, k.commits.Load()-before)
	assert.Equal(t, []string{"new", "newer"}, k.groupsOf("core"))
	assert.Equal(t, protocol.JobRemoved, k.last("core", made["old"]))
	assert.Equal(t, protocol.JobInProgress, k.last("core", made["older"]), "what runs goes on")
	assert.Equal(t, []string{made["older"].JobID, made["new"].JobID, made["newer"].JobID}, k.jobIDs("core"))

	require.NoError(t, k.Regroup(k.ctx, "core", []string{"old"}, []string{"new"}), "it is so already")
	assert.Len(t, k.pending("core"), 3)
	for name, c := range map[string]struct {
		thing       string
		leave, join []string
		kind        fault.Kind
	}{
		"a thing that is not there":    {"none", nil, []string{"new"}, fault.NotFound},
		"a group to join that is not":  {"core", nil, []string{"none"}, fault.NotFound},
		"a group to leave that is not": {"core", []string{"none"}, nil, fault.NotFound},
		"one to join and to leave":     {"core", []string{"new"}, []string{"new"}, fault.Invalid},
	} {
		t.Run(name, func(t *testing.T) {
			require.ErrorIs(t, k.Regroup(k.ctx, c.thing, c.leave, c.join), c.kind)
		})
	}
}

func TestGroupsOfAThingMayBeChangedInTheSameMoment(t *testing.T) {
	k := newKit(t, t.Context(), "core")
	k.groups("a", "b")
	raced := false
	k.store.FailCommit = func(*state.Batch) error {
		if raced {
			return nil
		}
		raced = true
		return k.Regroup(t.Context(), "core", nil, []string{"b"})
	}
	require.NoError(t, k.Regroup(t.Context(), "core", nil, []string{"a"}))
	in, err := k.GroupsOf(t.Context(), "core")
	require.NoError(t, err)
	assert.ElementsMatch(t, []string{"a", "b"}, in)
}

func TestAllGroupsChangedAtOnceFitOneCommit(t *testing.T) {
	k := newKit(t, t.Context(), "core")
	var old, next []string
	for i := range iot.MaxGroups {
		old, next = append(old, fmt.Sprint("old-", i)), append(next, fmt.Sprint("new-", i))
	}
	k.groups(slices.Concat(old, next)...)
	for _, g := range slices.Concat(old, next) {
		k.create(group(g, "1.0.0"))
	}
	require.NoError(t, k.Regroup(k.ctx, "core", nil, old))
	require.NoError(t, k.Regroup(k.ctx, "core", old, next))
	assert.Equal(t, next, k.groupsOf("core"))
	assert.Len(t, k.pending("core"), iot.MaxGroups)
	require.ErrorIs(t, k.Regroup(k.ctx, "core", nil, old[:1]), fault.Invalid, "an eleventh")
}

func TestARemovedGroupLeavesNothing(t *testing.T) {
	var things []string
	for i := range 40 {
		things = append(things, fmt.Sprintf("core-%02d", i))
	}
	k := newKit(t, t.Context(), things...)
	k.groups("g", "other")
	for _, n := range things {
		require.NoError(t, k.Regroup(k.ctx, n, nil, []string{"g", "other"}))
	}
	kept := k.create(group("other", "1.0.0"))
	d := k.create(group("g", "1.0.0"))
	for _, n := range things { // however the rollout goes, everybody has it
		require.NoError(t, k.Regroup(k.ctx, n, []string{"g"}, nil))
		require.NoError(t, k.Regroup(k.ctx, n, nil, []string{"g"}))
	}
	k.report(things[3], d.JobID, protocol.JobInProgress)
	stale := int64(9)
	require.ErrorIs(t, k.RemoveGroup(k.ctx, "g", &stale), fault.Stale)

	k.kill.Store(5)
	require.Error(t, k.RemoveGroup(k.ctx, "g", nil))
	_, err := k.registry.Group(k.ctx, "g")
	require.NoError(t, err)
	k.kill.Store(-1)
	k.things("late")
	require.ErrorIs(t, k.Regroup(k.ctx, "late", nil, []string{"g"}), fault.Conflict, "nobody joins what is going")
	require.NoError(t, k.ResumeRemovals(k.ctx))

	_, err = k.registry.Group(k.ctx, "g")
	require.ErrorIs(t, err, fault.NotFound)
	for _, n := range things {
		assert.Equal(t, []string{"other"}, k.groupsOf(n))
		if n != things[3] {
			assert.NotContains(t, k.jobIDs(n), d.JobID)
		}
	}
	now, err := k.Deployment(k.ctx, d.ID)
	require.NoError(t, err)
	assert.Equal(t, greengrass.StatusCanceled, now.Status)
	now, err = k.Deployment(k.ctx, kept.ID)
	require.NoError(t, err)
	assert.Equal(t, greengrass.StatusActive, now.Status)
	for _, e := range k.dump() {
		ended := strings.Contains(e.Key, "jobs/execution/ended/") && strings.HasSuffix(e.Key, "/g")
		assert.False(t, ended || strings.Contains(e.Key, "iot/member/g/"), "%s is left", e.Key)
	}
	require.NoError(t, k.RemoveGroup(k.ctx, "g", nil), "it is gone")
	require.NoError(t, k.ResumeRemovals(k.ctx))
}

func TestAGroupWithChildGroupsIsNotRemoved(t *testing.T) {
	k := newKit(t, t.Context(), "core")
	for _, n := range []iot.NewGroup{{Name: "a"}, {Name: "b", Parent: "a"}} {
		_, err := k.registry.CreateGroup(k.ctx, n)
		require.NoError(t, err)
	}
	require.NoError(t, k.Regroup(k.ctx, "core", nil, []string{"a"}))
	require.ErrorIs(t, k.RemoveGroup(k.ctx, "a", nil), fault.Invalid)
	assert.Equal(t, []string{"a"}, k.groupsOf("core"))
	require.NoError(t, k.RemoveGroup(k.ctx, "b", nil))
	require.NoError(t, k.RemoveGroup(k.ctx, "a", nil))
	assert.Empty(t, k.groupsOf("core"))
}

func TestARemovedThingLeavesNothing(t *testing.T) {
	k := newKit(t, t.Context(), "core", "other")
	k.groups("g")
	k.create(group("g", "1.0.0"))
	require.NoError(t, k.Regroup(k.ctx, "core", nil, []string{"g"}))
	b := state.NewBatch(state.StepCoreRegister)
	_, err := k.registry.RegisterBatch(k.ctx, b, cloud.Registration{Thing: "other", Certificate: &cloud.Issued{ID: "c0ffee"}})
	require.NoError(t, err)
	_, err = k.store.Commit(k.ctx, b)
	require.NoError(t, err)
	require.ErrorIs(t, k.RemoveThing(k.ctx, "other", nil), fault.Invalid, "it has a certificate")

	k.kill.Store(1)
	require.Error(t, k.RemoveThing(k.ctx, "core", nil))
	k.kill.Store(-1)
	require.ErrorIs(t, k.Regroup(k.ctx, "core", nil, []string{"g"}), fault.Conflict, "it is going")
	require.NoError(t, k.RemoveThing(k.ctx, "core", nil))
	for _, e := range k.dump() {
		if strings.Contains(e.Key, "/core") {
			assert.True(t, strings.Contains(e.Key, "jobs/latest/") || strings.Contains(e.Key, "jobs/deadline/"), "%s is left", e.Key)
		}
	}
	require.NoError(t, k.RemoveThing(k.ctx, "core", nil), "it is gone")
}
