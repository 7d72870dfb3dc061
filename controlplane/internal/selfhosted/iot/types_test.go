package iot_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/iot"
	"github.com/ggfleet/ggfleet/shared/fault"
)

func TestALifeOfAThingType(t *testing.T) {
	k := newKit(t)
	ctx := t.Context()
	_, err := k.CreateThingType(ctx, iot.ThingType{Name: "pump", Searchable: []string{"a", "b", "c", "d"}})
	require.ErrorIs(t, err, fault.Invalid, "four searchable attributes")
	made, err := k.CreateThingType(ctx, iot.ThingType{Name: "pump", Description: "pumps", Searchable: []string{"a"}})
	require.NoError(t, err)
	again, err := k.CreateThingType(ctx, iot.ThingType{Name: "pump", Description: "pumps", Searchable: []string{"a"}})
	require.NoError(t, err)
	assert.Equal(t, made.ID, again.ID)
	_, err = k.CreateThingType(ctx, iot.ThingType{Name: "pump"})
	require.ErrorIs(t, err, fault.Exists)

	require.NoError(t, k.UpdateThingType(ctx, "pump", nil, []string{"b", "c"}))
	now, err := k.ThingType(ctx, "pump")
	require.NoError(t, err)
	assert.Equal(t, []string{"b", "c"}, now.Searchable)
	assert.Equal(t, "pumps", now.Description)

	_, err = k.CreateThing(ctx, iot.NewThing{Name: "x", Type: "pump"})
	require.NoError(t, err)
	require.ErrorIs(t, k.DeleteThingType(ctx, "pump"), fault.Invalid, "it is not deprecated")
	require.NoError(t, k.DeprecateThingType(ctx, "pump", false))
	require.NoError(t, k.UpdateThing(ctx, "x", iot.ThingChange{Type: "pump", Attributes: many(4)}), "who has the type keeps it")
	k.now = k.now.Add(iot.TypeRest - time.Second)
	require.NoError(t, k.DeprecateThingType(ctx, "pump", false), "deprecated since the first time")
	require.ErrorIs(t, k.DeleteThingType(ctx, "pump"), fault.Invalid, "not long enough")
	k.now = k.now.Add(time.Second)
	err = k.DeleteThingType(ctx, "pump")
	require.ErrorIs(t, err, fault.Invalid)
	assert.Contains(t, fault.Message(err), "thing x has thing type pump")

	require.NoError(t, k.DeprecateThingType(ctx, "pump", true))
	_, err = k.CreateThing(ctx, iot.NewThing{Name: "y", Type: "pump"})
	require.NoError(t, err, "the deprecation was taken back")
	require.NoError(t, k.DeprecateThingType(ctx, "pump", false))
	for _, n := range []string{"x", "y"} {
		require.NoError(t, k.UpdateThing(ctx, n, iot.ThingChange{RemoveType: true, Attributes: map[string]string{}}))
	}
	require.ErrorIs(t, k.DeleteThingType(ctx, "pump"), fault.Invalid, "the five minutes begin anew")
	k.now = k.now.Add(iot.TypeRest)
	require.NoError(t, k.DeleteThingType(ctx, "pump"))
	require.ErrorIs(t, k.DeleteThingType(ctx, "pump"), fault.NotFound)
	require.ErrorIs(t, k.DeprecateThingType(ctx, "pump", false), fault.NotFound)
}

func TestARegistrationMakesItsThingType(t *testing.T) {
	k := newKit(t)
	_, err := k.register(cloud.Registration{Thing: "x", Type: "core", Attributes: many(50)})
	require.NoError(t, err)
	made, err := k.ThingType(t.Context(), "core")
	require.NoError(t, err)
	_, err = k.register(cloud.Registration{Thing: "y", Type: "core"})
	require.NoError(t, err)
	same, err := k.ThingType(t.Context(), "core")
	require.NoError(t, err)
	assert.Equal(t, made, same)
	require.NoError(t, k.DeprecateThingType(t.Context(), "core", false))
	_, err = k.register(cloud.Registration{Thing: "z", Type: "core"})
	require.ErrorIs(t, err, fault.Invalid)
	_, err = k.register(cloud.Registration{Thing: "x", Type: "core", OverrideType: cloud.Replace})
	require.NoError(t, err, "it has the type already")
}

func TestListThingTypes(t *testing.T) {
	k := newKit(t)
	for _, n := range []string{"pump", "pump-2", "valve"} {
		_, err := k.CreateThingType(t.Context(), iot.ThingType{Name: n})
		require.NoError(t, err)
	}
	list := func(prefix, after string, limit int) string {
		page, more, err := k.ThingTypes(t.Context(), prefix, after, limit)
		require.NoError(t, err)
		out := ""
		for _, x := range page {
			out += x.Name + " "
		}
		return fmt.Sprint(out, more)
	}
	assert.Equal(t, "pump pump-2 true", list("", "", 2))
	assert.Equal(t, "valve false", list("", "pump-2", 2))
	assert.Equal(t, "pump pump-2 false", list("pump", "", 2))
	assert.Equal(t, "pump-2 false", list("pump", "pump", 2))
}
