package iot_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/iot"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// run has the kit's registry follow its things until the test ends.
func (k *kit) run() {
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { assert.NoError(k.t, k.Run(ctx)) })
	k.t.Cleanup(func() { stop(); wg.Wait() })
	<-k.Loaded()
}

// gone carries out the deletion of a thing that was begun.
func (k *kit) gone(thing string) error {
	rec, err := k.Thing(k.t.Context(), thing)
	require.NoError(k.t, err)
	return k.Delete(k.t.Context(), rec, false, func(b *state.Batch) error {
		_, err := k.store.Commit(k.t.Context(), b)
		return err
	})
}

func many(n int) map[string]string {
	m := map[string]string{}
	for i := range n {
		m[fmt.Sprint("a", i)] = "v"
	}
	return m
}

func TestCreateThing(t *testing.T) {
	k := newKit(t)
	_, err := k.CreateThingType(t.Context(), iot.ThingType{Name: "pump"})
	require.NoError(t, err)
	_, err = k.CreateThingType(t.Context(), iot.ThingType{Name: "old"})
	require.NoError(t, err)
	require.NoError(t, k.DeprecateThingType(t.Context(), "old", false))
	for name, c := range map[string]struct {
		thing iot.NewThing
		kind  fault.Kind
		field string
	}{
		"three attributes without a type":       {iot.NewThing{Name: "x", Attributes: many(3)}, "", ""},
		"four attributes without a type":        {iot.NewThing{Name: "x", Attributes: many(4)}, fault.Invalid, "attributePayload.attributes"},
		"fifty attributes with a type":          {iot.NewThing{Name: "x", Type: "pump", Attributes: many(50)}, "", ""},
		"fifty-one attributes with a type":      {iot.NewThing{Name: "x", Type: "pump", Attributes: many(51)}, fault.Invalid, "attributePayload.attributes"},
		"more than 47 KB":                       {iot.NewThing{Name: "x", Attributes: map[string]string{"a": strings.Repeat("v", 48<<10)}}, fault.Invalid, "attributePayload.attributes"},
		"a type that is not there":              {iot.NewThing{Name: "x", Type: "none"}, fault.NotFound, ""},
		"a type that is deprecated":             {iot.NewThing{Name: "x", Type: "old"}, fault.Invalid, "thingTypeName"},
		"a name that is none":                   {iot.NewThing{Name: "a/b"}, fault.Invalid, ""},
		"a name of 128 characters with a colon": {iot.NewThing{Name: ":" + strings.Repeat("x", 127)}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := k.CreateThing(t.Context(), c.thing)
			assert.Equal(t, c.kind, fault.KindOf(err), "%v", err)
			assert.Equal(t, c.field, fault.FieldOf(err))
			if err == nil {
				require.NoError(t, k.BeginDelete(t.Context(), c.thing.Name, nil))
				_, err = k.CreateThing(t.Context(), c.thing)
				require.ErrorIs(t, err, fault.Conflict, "it is being deleted")
				require.NoError(t, k.gone(c.thing.Name))
			}
		})
	}
}

func TestTheSameThingAgain(t *testing.T) {
	k := newKit(t)
	first, err := k.CreateThing(t.Context(), iot.NewThing{Name: "x", Attributes: map[string]string{"a": "1", "empty": ""}})
	require.NoError(t, err)
	again, err := k.CreateThing(t.Context(), iot.NewThing{Name: "x", Attributes: map[string]string{"a": "1"}})
	require.NoError(t, err)
	assert.Equal(t, first, again)
	_, err = k.CreateThing(t.Context(), iot.NewThing{Name: "x", Attributes: map[string]string{"a": "2"}})
	require.ErrorIs(t, err, fault.Exists)
}

func TestUpdateThing(t *testing.T) {
	k := newKit(t)
	for _, n := range []string{"pump", "valve"} {
		_, err := k.CreateThingType(t.Context(), iot.ThingType{Name: n})
		require.NoError(t, err)
	}
	version := func(v int64) *int64 { return &v }
	steps := []struct {
		name       string
		change     iot.ThingChange
		kind       fault.Kind
		attributes map[string]string
		thingType  string
		version    int64
	}{
		{"merged", iot.ThingChange{Attributes: map[string]string{"b": "2"}, Merge: true}, "", map[string]string{"a": "1", "b": "2"}, "", 2},
		{"an empty value removes", iot.ThingChange{Attributes: map[string]string{"a": "", "c": "3"}, Merge: true}, "", map[string]string{"b": "2", "c": "3"}, "", 3},
		{"too many without a type", iot.ThingChange{Attributes: many(3), Merge: true}, fault.Invalid, map[string]string{"b": "2", "c": "3"}, "", 3},
		{"too many but for the type given with them", iot.ThingChange{Attributes: many(3), Merge: true, Type: "pump"}, "", map[string]string{"a0": "v", "a1": "v", "a2": "v", "b": "2", "c": "3"}, "pump", 4},
		{"the type cannot go with so many", iot.ThingChange{RemoveType: true}, fault.Invalid, map[string]string{"a0": "v", "a1": "v", "a2": "v", "b": "2", "c": "3"}, "pump", 4},
		{"replaced", iot.ThingChange{Attributes: map[string]string{"z": "9"}, RemoveType: true}, "", map[string]string{"z": "9"}, "", 5},
		{"another version expected", iot.ThingChange{Type: "valve", Expected: version(4)}, fault.Stale, map[string]string{"z": "9"}, "", 5},
		{"this version expected", iot.ThingChange{Type: "valve", Expected: version(5)}, "", map[string]string{"z": "9"}, "valve", 6},
		{"an unknown type", iot.ThingChange{Type: "none"}, fault.NotFound, map[string]string{"z": "9"}, "valve", 6},
		{"a type both given and removed", iot.ThingChange{Type: "pump", RemoveType: true}, fault.Invalid, map[string]string{"z": "9"}, "valve", 6},
		{"all attributes replaced by none", iot.ThingChange{Attributes: map[string]string{}}, "", nil, "valve", 7},
	}
	_, err := k.CreateThing(t.Context(), iot.NewThing{Name: "x", Attributes: map[string]string{"a": "1"}})
	require.NoError(t, err)
	for _, s := range steps {
		err := k.UpdateThing(t.Context(), "x", s.change)
		assert.Equal(t, s.kind, fault.KindOf(err), "%s: %v", s.name, err)
		x, err := k.Thing(t.Context(), "x")
		require.NoError(t, err)
		assert.Equal(t, s.attributes, x.Value.Attributes, s.name)
		assert.Equal(t, s.thingType, x.Value.Type, s.name)
		assert.Equal(t, s.version, x.Value.Version, s.name)
	}
	require.ErrorIs(t, k.UpdateThing(t.Context(), "none", iot.ThingChange{}), fault.NotFound)
}

func TestLiveSessionsLearnOfNewAttributes(t *testing.T) {
	k := newKit(t)
	require.NoError(t, k.PutPolicy(t.Context(), "all", allowAll))
	_, c := k.device("x", "all")
	ctx, stop := context.WithCancel(t.Context())
	seen := make(chan iot.Change, 8)
	var wg sync.WaitGroup
	wg.Go(func() { assert.NoError(t, k.Changes(ctx, func(c iot.Change) { seen <- c })) })
	defer wg.Wait()
	defer stop()
	require.True(t, (<-seen).All)
	require.NoError(t, k.UpdateThing(t.Context(), "x", iot.ThingChange{Attributes: map[string]string{"core": "y"}}))
	require.Equal(t, iot.Change{Certificate: c.ID}, <-seen)
}

func TestAThingWithCertificatesIsNotDeleted(t *testing.T) {
	k := newKit(t)
	_, c := k.device("x")
	err := k.BeginDelete(t.Context(), "x", nil)
	require.ErrorIs(t, err, fault.Invalid)
	rec, err := k.Certificate(t.Context(), c.ID)
	require.NoError(t, err)
	assert.Equal(t, cloud.Active, rec.Value.Status, "nothing happened to it")
	require.ErrorIs(t, k.BeginDelete(t.Context(), "none", nil), fault.NotFound)
	_, err = k.CreateThing(t.Context(), iot.NewThing{Name: "y"})
	require.NoError(t, err)
	stale := int64(7)
	require.ErrorIs(t, k.BeginDelete(t.Context(), "y", &stale), fault.Stale)
}

func TestListThings(t *testing.T) {
	k := newKit(t)
	for _, n := range []string{"pump", "valve"} {
		_, err := k.CreateThingType(t.Context(), iot.ThingType{Name: n})
		require.NoError(t, err)
	}
	create := func(name, thingType string, attributes map[string]string) {
		_, err := k.CreateThing(t.Context(), iot.NewThing{Name: name, Type: thingType, Attributes: attributes})
		require.NoError(t, err)
	}
	create("a", "pump", map[string]string{"site": "north-1", "x": "1"})
	create("b", "valve", map[string]string{"site": "north-2"})
	create("c", "", map[string]string{"site": "south"})
	create("d", "pump", nil)
	k.run()
	for name, c := range map[string]struct {
		filter iot.ThingFilter
		want   string
	}{
		"all":                     {iot.ThingFilter{}, "abcd"},
		"by type":                 {iot.ThingFilter{Type: "pump"}, "ad"},
		"by attribute":            {iot.ThingFilter{Attribute: "site", Value: "north-1"}, "a"},
		"by its name alone":       {iot.ThingFilter{Attribute: "site"}, "abc"},
		"by prefix of a value":    {iot.ThingFilter{Attribute: "site", Value: "north", Prefix: true}, "ab"},
		"a beginning is no value": {iot.ThingFilter{Attribute: "site", Value: "north"}, ""},
		"by both":                 {iot.ThingFilter{Type: "valve", Attribute: "site", Value: "n", Prefix: true}, "b"},
		"an unknown type":         {iot.ThingFilter{Type: "none"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, after := "", ""
			for {
				page, more, err := k.Things(t.Context(), c.filter, after, 1)
				require.NoError(t, err)
				for _, x := range page {
					got, after = got+x.Name, x.Name
				}
				if !more {
					break
				}
			}
			assert.Equal(t, c.want, got)
		})
	}
	require.NoError(t, k.UpdateThing(t.Context(), "a", iot.ThingChange{Attributes: map[string]string{"y": "2"}, Merge: true}))
	require.Eventually(t, func() bool {
		page, _, err := k.Things(t.Context(), iot.ThingFilter{Attribute: "y"}, "", 0)
		return err == nil && len(page) == 1 && page[0].Version == 2 && len(page[0].Attributes) == 3 && page[0].Type == "pump"
	}, time.Minute, time.Millisecond)
}

// What the list of things costs, by the number of things.
func TestMemoryOfAThingInTheList(t *testing.T) {
	k := newKit(t)
	const n = 10_000
	for i := range n {
		_, err := k.register(cloud.Registration{Thing: fmt.Sprintf("core-%06d", i), Type: "GreengrassCore", Attributes: map[string]string{
			"site": fmt.Sprint("north-", i), "serial": fmt.Sprint("SN", i), "model": "mk2",
		}})
		require.NoError(t, err)
	}
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	k.run()
	each := (heap() - before) / n
	began := time.Now()
	page, _, err := k.Things(t.Context(), iot.ThingFilter{Attribute: "site", Value: "north-9999"}, "", 250)
	require.NoError(t, err)
	require.Len(t, page, 1)
	t.Logf("%d bytes a thing; one of %d by attribute took %s", each, n, time.Since(began))
	assert.Less(t, each, uint64(1000))
	runtime.KeepAlive(k)
}
