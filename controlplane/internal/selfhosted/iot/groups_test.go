package iot_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/iot"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
)

func TestAMoveIsOneChange(t *testing.T) {
	k := newKit(t)
	for _, g := range []string{"keep", "old", "new"} {
		_, err := k.EnsureGroup(t.Context(), g, "", nil)
		require.NoError(t, err)
	}
	_, err := k.register(cloud.Registration{Thing: "core", Groups: []string{"keep", "old"}})
	require.NoError(t, err)
	move := func(leave []string, join ...string) error {
		thing, err := k.Thing(t.Context(), "core")
		require.NoError(t, err)
		b := state.NewBatch(state.StepMove)
		if _, err = k.MoveBatch(t.Context(), b, thing, leave, join); err != nil {
			return err
		}
		_, err = k.store.Commit(t.Context(), b)
		return err
	}
	require.NoError(t, move([]string{"old", "elsewhere"}, "new"))
	assert.Equal(t, []string{"keep", "new"}, k.groups("core"))
	assert.Empty(t, k.members("old"))
	assert.Equal(t, []string{"core"}, k.members("new"))

	require.NoError(t, move([]string{"new", "keep"}, "new"))
	assert.Equal(t, []string{"new"}, k.groups("core"), "the group to join is not left")
	require.NoError(t, move([]string{"new"}))
	assert.Empty(t, k.groups("core"))
	require.ErrorIs(t, move(nil, "none"), fault.NotFound, "an unknown group")
}

func TestAThingIsInTenGroupsAtMost(t *testing.T) {
	k := newKit(t)
	var all []string
	for i := range iot.MaxGroups + 1 {
		all = append(all, fmt.Sprint("g", i))
		_, err := k.EnsureGroup(t.Context(), all[i], "", nil)
		require.NoError(t, err)
	}
	_, err := k.register(cloud.Registration{Thing: "core", Groups: all[:iot.MaxGroups]})
	require.NoError(t, err)
	thing, err := k.Thing(t.Context(), "core")
	require.NoError(t, err)
	_, err = k.MoveBatch(t.Context(), state.NewBatch(state.StepMove), thing, nil, all[iot.MaxGroups:])
	require.ErrorIs(t, err, fault.Invalid)
	_, err = k.MoveBatch(t.Context(), state.NewBatch(state.StepMove), thing, all[:1], all[iot.MaxGroups:])
	require.NoError(t, err, "one left, one joined")
}

func TestAClosedGroupTakesNobody(t *testing.T) {
	k := newKit(t)
	_, err := k.EnsureGroup(t.Context(), "g", "", nil)
	require.NoError(t, err)
	_, err = k.register(cloud.Registration{Thing: "core", Groups: []string{"g"}})
	require.NoError(t, err)
	_, err = k.CloseGroup(t.Context(), "g")
	require.ErrorIs(t, err, fault.Conflict)
	_, err = k.register(cloud.Registration{Thing: "other", Groups: []string{"g"}})
	require.NoError(t, err, "it stayed open")
	for _, n := range []string{"core", "other"} {
		_, err = k.register(cloud.Registration{Thing: n, OverrideGroups: cloud.Replace})
		require.NoError(t, err)
	}
	_, err = k.CloseGroup(t.Context(), "g")
	require.NoError(t, err)
	_, err = k.register(cloud.Registration{Thing: "third", Groups: []string{"g"}})
	require.ErrorIs(t, err, fault.Conflict)
	_, err = k.EnsureGroup(t.Context(), "g", "", nil)
	require.NoError(t, err)
	_, err = k.register(cloud.Registration{Thing: "third", Groups: []string{"g"}})
	require.NoError(t, err, "it is wanted again")
}

func TestAGroupThatWasMarkedWithAMemberIsNotClosed(t *testing.T) {
	k := newKit(t)
	_, err := k.EnsureGroup(t.Context(), "g", "", nil)
	require.NoError(t, err)
	_, err = k.register(cloud.Registration{Thing: "core", Groups: []string{"g"}})
	require.NoError(t, err)
	// The thing joined between the look and the mark, and whoever marked it died.
	_, err = state.Update(t.Context(), k.store, state.StepGroup, state.Root+"iot/group/g", func(g *iot.Group, _ bool, _ *state.Batch) error {
		g.Retiring = true
		return nil
	})
	require.NoError(t, err)
	_, err = k.CloseGroup(t.Context(), "g")
	require.ErrorIs(t, err, fault.Conflict)
	_, err = k.register(cloud.Registration{Thing: "other", Groups: []string{"g"}})
	require.NoError(t, err, "it is open again")
}
