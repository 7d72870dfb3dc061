package names_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
)

func TestThingNames(t *testing.T) {
	for _, ok := range []string{"gw-0001", "a", "A:b_c-9", strings.Repeat("x", 128)} {
		assert.NoError(t, names.CheckThing(ok), ok)
	}
	for _, bad := range []string{"", "a/b", "a b", "größe", "a#1", "+", strings.Repeat("x", 129), "a\n"} {
		assert.ErrorIs(t, names.CheckThing(bad), fault.Invalid, bad)
	}
}

func TestTaskIDsHaveNineURLSafeCharacters(t *testing.T) {
	p := regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_\-]{8}$`)
	seen := map[string]bool{}
	for range 1000 {
		id := names.NewTaskID()
		require.Regexp(t, p, id)
		require.False(t, seen[id])
		seen[id] = true
	}
}

func TestClientIDsBelongToTheirThing(t *testing.T) {
	for id, want := range map[string]string{
		"gw": "gw", "gw#2": "gw", "gw#endpoint-switch": "gw",
		"gw#x": "gw#x", "gw#02": "gw#02", "gw#-1": "gw#-1", "gw#": "gw#",
	} {
		assert.Equal(t, want, names.ThingOfClientID(id), id)
	}
}

func TestConfigurationARNRoundTrip(t *testing.T) {
	r := names.Realm{Region: "us-east-1", Account: "000000000000"}
	kind, name, rev, ok := names.ParseConfigurationARN(r.Configuration(names.TargetThingGroup, "presses", 6))
	require.True(t, ok)
	assert.Equal(t, names.TargetThingGroup, kind)
	assert.Equal(t, "presses", name)
	assert.Equal(t, 6, rev)
	_, _, _, ok = names.ParseConfigurationARN("6f1c0a1e-local-id")
	assert.False(t, ok, "a local deployment's bare id is no ARN, and no error")
}

func TestTargetsOfAnotherRealmAreRefused(t *testing.T) {
	r := names.Realm{Region: "us-east-1", Account: "000000000000"}
	kind, name, err := r.ParseTarget(r.ThingGroup("a:b"))
	require.NoError(t, err)
	assert.Equal(t, names.TargetThingGroup, kind)
	assert.Equal(t, "a:b", name)
	for _, arn := range []string{
		"", "thing/x", r.Thing(""), r.Thing("a/b"), r.Job("x"), "arn:aws-cn:iot:us-east-1:000000000000:thing/x",
		"arn:aws:iot:us-east-2:000000000000:thing/x", "arn:aws:iot:us-east-1:000000000001:thing/x", r.Thing("x") + " ",
	} {
		_, _, err := r.ParseTarget(arn)
		assert.ErrorIs(t, err, fault.Invalid, arn)
	}
}

func FuzzParseTarget(f *testing.F) {
	f.Add("arn:aws:iot:us-east-1:000000000000:thing/gw-1")
	f.Add("arn:aws:iot:us-east-1:000000000000:thinggroup/a:b")
	f.Fuzz(func(t *testing.T, s string) {
		_, name, err := names.ParseTarget(s)
		if err != nil {
			require.ErrorIs(t, err, fault.Invalid)
			return
		}
		require.NotContains(t, name, "/", "a parsed name must be one topic level")
		require.True(t, strings.HasSuffix(s, "/"+name))
		r := names.Realm{Region: "us-east-1", Account: "000000000000"}
		if _, own, err := r.ParseTarget(s); err == nil {
			require.Equal(t, name, own)
			require.Contains(t, []string{r.Thing(name), r.ThingGroup(name)}, s)
		}
	})
}

func FuzzParseARN(f *testing.F) {
	r := names.Realm{Region: "us-east-1", Account: "000000000000"}
	f.Add(r.ComponentVersion("com.example.Hello", "1.0.0"))
	f.Add(r.Configuration(names.TargetThingGroup, "line", 7))
	f.Fuzz(func(t *testing.T, s string) {
		if name, version, err := names.ParseComponentVersionARN(s); err == nil {
			require.NoError(t, names.CheckComponent(name))
			require.True(t, strings.HasSuffix(s, ":"+version))
		} else {
			require.ErrorIs(t, err, fault.Invalid)
		}
		if kind, name, revision, ok := names.ParseConfigurationARN(s); ok {
			require.Positive(t, revision)
			require.Contains(t, s, ":configuration:"+string(kind)+"/"+name+":")
		}
	})
}

func TestUUIDsAreRandomAndOfVersionFour(t *testing.T) {
	p := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	a, b := names.NewUUID(), names.NewUUID()
	assert.Regexp(t, p, a)
	assert.NotEqual(t, a, b)
}
