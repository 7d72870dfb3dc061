package greengrass_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/greengrass"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

func TestConnectivityIsReplacedAsAWhole(t *testing.T) {
	k := newKit(t, t.Context(), "core")
	list, err := k.Connectivity(t.Context(), "core")
	require.NoError(t, err)
	assert.Empty(t, list)
	_, err = k.Connectivity(t.Context(), "none")
	require.ErrorIs(t, err, fault.NotFound)
	_, err = k.SetConnectivity(t.Context(), "none", nil)
	require.ErrorIs(t, err, fault.NotFound)

	two := []greengrass.Endpoint{{ID: "1", Host: "192.0.2.7", Port: 8883}, {ID: "2", Host: "core.example.com", Port: 65535, Metadata: "{}"}}
	first, err := k.SetConnectivity(t.Context(), "core", two)
	require.NoError(t, err)
	list, err = k.Connectivity(t.Context(), "core")
	require.NoError(t, err)
	assert.Equal(t, two, list)
	before := k.commits.Load()
	same, err := k.SetConnectivity(t.Context(), "core", two)
	require.NoError(t, err)
	assert.Equal(t, first, same)
	assert.Equal(t, before, k.commits.Load(), "what is there already is not stored again")
	second, err := k.SetConnectivity(t.Context(), "core", two[:1])
	require.NoError(t, err)
	assert.NotEqual(t, first, second, "each set has a version of its own")
	k.restart()
	list, err = k.Connectivity(t.Context(), "core")
	require.NoError(t, err)
	assert.Equal(t, two[:1], list)

	last, err := k.DeleteThing(t.Context(), "core", cloud.Deprovision{})
	require.NoError(t, err)
	_, err = k.store.Commit(t.Context(), last)
	require.NoError(t, err)
	k.things("core")
	list, err = k.Connectivity(t.Context(), "core")
	require.NoError(t, err)
	assert.Empty(t, list, "of the thing before")
}

func TestConnectivityHasLimits(t *testing.T) {
	k := newKit(t, t.Context(), "core")
	for _, c := range []struct {
		name, field string
		list        []greengrass.Endpoint
	}{
		{"too many", "ConnectivityInfo", make([]greengrass.Endpoint, 101)},
		{"a port below zero", "ConnectivityInfo[0].PortNumber", []greengrass.Endpoint{{Host: "h", Port: -1}}},
		{"a port too high", "ConnectivityInfo[1].PortNumber", []greengrass.Endpoint{{Host: "h"}, {Host: "h", Port: 65536}}},
		{"a host too long", "ConnectivityInfo[0].HostAddress", []greengrass.Endpoint{{Host: strings.Repeat("h", 256)}}},
		{"an id too long", "ConnectivityInfo[0].Id", []greengrass.Endpoint{{ID: strings.Repeat("i", 256)}}},
		{"metadata too long", "ConnectivityInfo[0].Metadata", []greengrass.Endpoint{{Metadata: strings.Repeat("m", 1025)}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := k.SetConnectivity(t.Context(), "core", c.list)
			require.ErrorIs(t, err, fault.Invalid)
			assert.Equal(t, c.field, fault.FieldOf(err))
		})
	}
}

func TestTheAccountHasOneServiceRole(t *testing.T) {
	k := newKit(t, t.Context())
	_, err := k.Service.ServiceRole(t.Context())
	require.ErrorIs(t, err, fault.NotFound)
	_, err = k.ClearServiceRole(t.Context())
	require.NoError(t, err, "also when there is none")
	for _, role := range []string{"arn:aws:iam::123456789012:role/Greengrass", "arn:aws:iam::123456789012:role/service-role/Other"} {
		k.pass(time.Minute)
		set, err := k.SetServiceRole(t.Context(), role)
		require.NoError(t, err)
		assert.Equal(t, k.clock().Truncate(time.Second), set.At)
		k.restart()
		got, err := k.Service.ServiceRole(t.Context())
		require.NoError(t, err)
		assert.Equal(t, greengrass.ServiceRole{ARN: role, At: set.At}, got)
	}
	for _, bad := range []string{"", "role", "arn:aws:iam::123456789012:user/me", "arn:aws:iam::1:role/x", "arn:aws:iam::123456789012:role/", "arn:aws:iam::123456789012:role/a b"} {
		_, err = k.SetServiceRole(t.Context(), bad)
		require.ErrorIs(t, err, fault.Invalid, bad)
		assert.Equal(t, "RoleArn", fault.FieldOf(err))
	}
	_, err = k.ClearServiceRole(t.Context())
	require.NoError(t, err)
	_, err = k.Service.ServiceRole(t.Context())
	require.ErrorIs(t, err, fault.NotFound)
}

func TestACoreDeviceHasTagsAsLongAsItIsKnown(t *testing.T) {
	k := newKit(t, t.Context(), "core")
	set := func(key, value string) error {
		return k.SetCoreTags(t.Context(), "core", func(tags map[string]string) { tags[key] = value })
	}
	tags := func() map[string]string {
		t.Helper()
		m, err := k.CoreTags(t.Context(), "core")
		require.NoError(t, err)
		return m
	}
	require.ErrorIs(t, set("a", "1"), fault.NotFound)
	k.appears("core", protocol.Healthy, "")
	require.NoError(t, set("a", "1"))
	require.NoError(t, set("b", ""))
	require.ErrorIs(t, set("aws:x", ""), fault.Invalid)
	k.appears("core", protocol.Unhealthy, "")
	assert.Equal(t, map[string]string{"a": "1", "b": ""}, tags(), "a report leaves them")
	require.NoError(t, k.ForgetCore(t.Context(), "core"))
	k.appears("core", protocol.Healthy, "")
	assert.Empty(t, tags())
}

func TestTagsOfADeploymentAreOfItsRevision(t *testing.T) {
	k := newKit(t, t.Context())
	k.groups("g")
	n := group("g", "1.0.0")
	n.Tags = map[string]string{"a": "1"}
	first, second := k.create(n), k.create(group("g", "1.0.1"))
	require.NoError(t, k.SetTags(t.Context(), first.ID, func(tags map[string]string) { tags["b"] = "2" }))
	d, err := k.Deployment(t.Context(), first.ID)
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"a": "1", "b": "2"}, d.Tags)
	d, err = k.Deployment(t.Context(), second.ID)
	require.NoError(t, err)
	assert.Empty(t, d.Tags)
	require.ErrorIs(t, k.SetTags(t.Context(), "none", func(map[string]string) {}), fault.NotFound)
}

func TestClientDevicesAreAssociatedByTheHundred(t *testing.T) {
	k := newKit(t, t.Context(), "core")
	var devices []string
	for i := range 100 {
		devices = append(devices, fmt.Sprintf("device-%03d", i))
	}
	k.things(devices...)
	_, err := k.Service.Associate(t.Context(), "none", devices)
	require.ErrorIs(t, err, fault.NotFound)
	associated := func() []string {
		t.Helper()
		list, more, err := k.Associations(t.Context(), "core", "", 1000)
		require.NoError(t, err)
		assert.False(t, more)
		out := map[string]bool{}
		for _, a := range list {
			out[a.Device] = true
		}
		return slices.Sorted(maps.Keys(out))
	}

	before := k.commits.Load()
	failed, err := k.Service.Associate(t.Context(), "core", slices.Concat(devices, devices[:3]))
	require.NoError(t, err)
	assert.Empty(t, failed)
	assert.Equal(t, devices, associated())
	assert.LessOrEqual(t, k.commits.Load()-before, int64(5))
	first, _, err := k.Associations(t.Context(), "core", "", 1)
	require.NoError(t, err)

	k.pass(time.Hour)
	failed, err = k.Service.Associate(t.Context(), "core", []string{"none", devices[0], "core", "a b", "none", devices[1]})
	require.NoError(t, err)
	require.Len(t, failed, 3, "in their order, each once")
	for i, want := range []struct {
		device string
		kind   fault.Kind
	}{{"none", fault.NotFound}, {"core", fault.Invalid}, {"a b", fault.Invalid}} {
		assert.Equal(t, want.device, failed[i].Device)
		require.ErrorIs(t, failed[i].Err, want.kind)
	}
	again, _, err := k.Associations(t.Context(), "core", "", 1)
	require.NoError(t, err)
	assert.Equal(t, first, again, "the time is that of the first")

	failed, err = k.Service.Disassociate(t.Context(), "core", []string{devices[0], "none", devices[0], "core", "a b"})
	require.NoError(t, err)
	require.Len(t, failed, 2, "a thing that is not associated is fine")
	require.ErrorIs(t, failed[0].Err, fault.NotFound)
	require.ErrorIs(t, failed[1].Err, fault.Invalid)
	assert.Equal(t, devices[1:], associated())
	_, err = k.Service.Disassociate(t.Context(), "none", devices)
	require.ErrorIs(t, err, fault.NotFound)
}
