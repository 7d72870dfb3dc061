package iot_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/iot"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// tree makes groups, each "parent/name" or "name".
func (k *kit) tree(paths ...string) {
	k.t.Helper()
	for _, p := range paths {
		parent, name, ok := strings.Cut(p, "/")
		if !ok {
			parent, name = "", p
		}
		_, err := k.CreateGroup(k.t.Context(), iot.NewGroup{Name: name, Parent: parent})
		require.NoError(k.t, err)
	}
}

// dropGroup deletes an empty group.
func (k *kit) dropGroup(name string) error {
	g, err := k.CloseGroup(k.t.Context(), name)
	if err != nil {
		return err
	}
	b := state.NewBatch(state.StepGroup)
	require.NoError(k.t, k.DeleteGroupBatch(k.t.Context(), b, g))
	_, err = k.store.Commit(k.t.Context(), b)
	return err
}

func TestTheTreeOfGroupsHasLimits(t *testing.T) {
	k := newKit(t)
	parent := ""
	for i := range iot.MaxGroupLevels {
		name := fmt.Sprint("level-", i+1)
		g, err := k.CreateGroup(t.Context(), iot.NewGroup{Name: name, Parent: parent})
		require.NoError(t, err)
		assert.Equal(t, parent, g.Parent())
		assert.Equal(t, "level-1", g.Root())
		assert.Len(t, g.Parents, i)
		parent = name
	}
	_, err := k.CreateGroup(t.Context(), iot.NewGroup{Name: "level-8", Parent: parent})
	require.ErrorIs(t, err, fault.Invalid)
	assert.Equal(t, "parentGroupName", fault.FieldOf(err))
	_, err = k.CreateGroup(t.Context(), iot.NewGroup{Name: "x", Parent: "none"})
	require.ErrorIs(t, err, fault.Invalid)

	k.tree("wide")
	for i := range iot.MaxGroupChildren {
		k.tree(fmt.Sprint("wide/child-", i))
	}
	_, err = k.CreateGroup(t.Context(), iot.NewGroup{Name: "x", Parent: "wide"})
	require.ErrorIs(t, err, fault.Invalid)
	require.NoError(t, k.dropGroup("child-7"))
	k.tree("wide/x")
}

func TestAGroupWithChildrenStays(t *testing.T) {
	k := newKit(t)
	k.tree("a", "a/b")
	require.ErrorIs(t, k.dropGroup("a"), fault.Conflict)
	require.ErrorIs(t, k.BeginDeleteGroup(t.Context(), "a", nil), fault.Invalid)
	stale := int64(2)
	require.ErrorIs(t, k.BeginDeleteGroup(t.Context(), "b", &stale), fault.Stale)
	require.NoError(t, k.BeginDeleteGroup(t.Context(), "b", nil))
	require.NoError(t, k.BeginDeleteGroup(t.Context(), "b", &stale), "it was begun")
	_, err := k.CreateGroup(t.Context(), iot.NewGroup{Name: "c", Parent: "b"})
	require.ErrorIs(t, err, fault.Conflict, "nothing is made under it any more")
	_, err = k.CreateGroup(t.Context(), iot.NewGroup{Name: "b", Parent: "a"})
	require.ErrorIs(t, err, fault.Conflict)
	begun, err := k.Expelling(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []string{"b"}, begun)
	require.NoError(t, k.dropGroup("b"))
	require.NoError(t, k.dropGroup("a"))
}

func TestAThingIsInOneGroupOfAHierarchy(t *testing.T) {
	k := newKit(t)
	k.tree("a", "a/b", "a/c", "c/d", "other")
	move := func(leave []string, join ...string) error {
		thing, err := k.Thing(t.Context(), "x")
		require.NoError(t, err)
		b := state.NewBatch(state.StepMove)
		if _, err = k.MoveBatch(t.Context(), b, thing, leave, join); err != nil {
			return err
		}
		_, err = k.store.Commit(t.Context(), b)
		return err
	}
	_, err := k.CreateThing(t.Context(), iot.NewThing{Name: "x"})
	require.NoError(t, err)
	require.NoError(t, move(nil, "d", "other"))
	for _, g := range []string{"a", "b", "c"} {
		require.ErrorIs(t, move(nil, g), fault.Invalid, g)
	}
	require.NoError(t, move(nil, "d"), "it is there already")
	require.NoError(t, move([]string{"d"}, "b"), "the one for the other")
	require.ErrorIs(t, move([]string{"b"}, "c", "d"), fault.Invalid, "two at once")
	_, err = k.register(cloud.Registration{Thing: "y", Groups: []string{"a", "d"}})
	require.ErrorIs(t, err, fault.Invalid, "also at registration")
	assert.Equal(t, []string{"other", "b"}, k.groups("x"))
	x, err := k.Thing(t.Context(), "x")
	require.NoError(t, err)
	assert.EqualValues(t, 1, x.Value.Version, "groups are no part of what the version guards")
}

func TestUpdateGroup(t *testing.T) {
	k := newKit(t)
	first, err := k.CreateGroup(t.Context(), iot.NewGroup{Name: "g", Description: "d", Attributes: map[string]string{"a": "1", "gone": ""}})
	require.NoError(t, err)
	again, err := k.CreateGroup(t.Context(), iot.NewGroup{Name: "g", Description: "d", Attributes: map[string]string{"a": "1"}, Tags: map[string]string{"t": "1"}})
	require.NoError(t, err)
	assert.Equal(t, first, again)
	_, err = k.CreateGroup(t.Context(), iot.NewGroup{Name: "g", Description: "other"})
	require.ErrorIs(t, err, fault.Exists)
	one, text := int64(1), "new"
	v, err := k.UpdateGroup(t.Context(), "g", iot.GroupChange{Description: &text, Attributes: map[string]string{"b": "2"}, Merge: true, Expected: &one})
	require.NoError(t, err)
	assert.EqualValues(t, 2, v)
	_, err = k.UpdateGroup(t.Context(), "g", iot.GroupChange{Expected: &one})
	require.ErrorIs(t, err, fault.Stale)
	_, err = k.UpdateGroup(t.Context(), "g", iot.GroupChange{Attributes: many(51)})
	require.ErrorIs(t, err, fault.Invalid)
	g, err := k.Group(t.Context(), "g")
	require.NoError(t, err)
	assert.Equal(t, "new", g.Value.Description)
	assert.Equal(t, map[string]string{"a": "1", "b": "2"}, g.Value.Attributes)
	_, err = k.UpdateGroup(t.Context(), "none", iot.GroupChange{})
	require.ErrorIs(t, err, fault.NotFound)
}

func TestListGroups(t *testing.T) {
	k := newKit(t)
	k.tree("a", "a/ab", "a/ac", "ac/acd", "b")
	for name, c := range map[string]struct {
		filter iot.GroupFilter
		want   string
	}{
		"at the top":                {iot.GroupFilter{}, "a b"},
		"all":                       {iot.GroupFilter{Recursive: true}, "a ab ac acd b"},
		"children":                  {iot.GroupFilter{Parent: "a"}, "ab ac"},
		"all under one":             {iot.GroupFilter{Parent: "a", Recursive: true}, "ab ac acd"},
		"by name":                   {iot.GroupFilter{Prefix: "ac", Recursive: true}, "ac acd"},
		"by name under one":         {iot.GroupFilter{Prefix: "ac", Parent: "a"}, "ac"},
		"under one without any":     {iot.GroupFilter{Parent: "acd"}, ""},
		"no such name":              {iot.GroupFilter{Prefix: "x", Recursive: true}, ""},
		"a name is its own prefix":  {iot.GroupFilter{Prefix: "acd", Recursive: true}, "acd"},
		"a name as long as another": {iot.GroupFilter{Prefix: "b"}, "b"},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for after := ""; ; {
				page, more, err := k.Groups(t.Context(), c.filter, after, 1)
				require.NoError(t, err)
				for _, g := range page {
					got, after = append(got, g.Name), g.Name
				}
				if !more {
					break
				}
			}
			assert.Equal(t, c.want, strings.Join(got, " "))
		})
	}
	_, _, err := k.Groups(t.Context(), iot.GroupFilter{Parent: "none"}, "", 0)
	require.ErrorIs(t, err, fault.NotFound)
}

func TestMembersOfAGroupAndOfThoseUnderIt(t *testing.T) {
	k := newKit(t)
	k.tree("m", "m/z", "m/a", "a/empty", "a/n", "other")
	for thing, group := range map[string]string{"1": "m", "2": "z", "3": "a", "4": "a", "5": "n", "6": "other"} {
		_, err := k.register(cloud.Registration{Thing: thing, Groups: []string{group}})
		require.NoError(t, err)
	}
	for limit := range 7 {
		if limit == 0 {
			continue
		}
		var got []string
		for cursor := ""; ; {
			page, next, err := k.MembersUnder(t.Context(), "m", true, cursor, limit)
			require.NoError(t, err)
			require.LessOrEqual(t, len(page), limit)
			got = append(got, page...)
			if cursor = next; next == "" {
				break
			}
		}
		assert.Equal(t, []string{"3", "4", "1", "5", "2"}, got, "pages of %d", limit)
	}
	direct, next, err := k.MembersUnder(t.Context(), "m", false, "", 10)
	require.NoError(t, err)
	assert.Equal(t, []string{"1"}, direct)
	assert.Empty(t, next)
	_, _, err = k.MembersUnder(t.Context(), "none", false, "", 10)
	require.ErrorIs(t, err, fault.NotFound)
}

func TestTags(t *testing.T) {
	k := newKit(t)
	k.tree("g")
	require.NoError(t, k.TagGroup(t.Context(), "g", map[string]string{"a": "1", "b": "2"}, nil))
	require.NoError(t, k.TagGroup(t.Context(), "g", map[string]string{"a": "3"}, []string{"b", "none"}))
	g, err := k.Group(t.Context(), "g")
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"a": "3"}, g.Value.Tags)
	assert.EqualValues(t, 1, g.Value.Version)
	require.ErrorIs(t, k.TagGroup(t.Context(), "g", many(50), nil), fault.Exhausted)
	require.ErrorIs(t, k.TagGroup(t.Context(), "g", map[string]string{"aws:x": "1"}, nil), fault.Invalid)
	require.ErrorIs(t, k.TagGroup(t.Context(), "none", nil, nil), fault.NotFound)
	_, err = k.CreateThingType(t.Context(), iot.ThingType{Name: "t", Tags: many(51)})
	require.ErrorIs(t, err, fault.Invalid)
	_, err = k.CreateThingType(t.Context(), iot.ThingType{Name: "t", Tags: many(50)})
	require.NoError(t, err)
	require.ErrorIs(t, k.TagThingType(t.Context(), "t", map[string]string{"x": "1"}, nil), fault.Exhausted)
	require.NoError(t, k.TagThingType(t.Context(), "t", map[string]string{"x": "1"}, []string{"a0"}))
}
