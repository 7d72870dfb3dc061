package tag_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/tag"
	"github.com/ggfleet/ggfleet/shared/fault"
)

func many(n int) map[string]string {
	m := map[string]string{}
	for i := range n {
		m[fmt.Sprint("k", i)] = ""
	}
	return m
}

func TestWhichTagsAResourceMayHave(t *testing.T) {
	for _, c := range []struct {
		name string
		tags map[string]string
		want string
	}{
		{"none", nil, ""},
		{"fifty", many(50), ""},
		{"more than fifty", many(51), "51 entries, over the limit of 50"},
		{"an empty value", map[string]string{"k": ""}, ""},
		{"an empty key", map[string]string{"": "v"}, "empty key"},
		{"the longest key and value, counted in characters", map[string]string{strings.Repeat("é", 128): strings.Repeat("é", 256)}, ""},
		{"a key too long", map[string]string{strings.Repeat("k", 129): "v"}, "129 characters long"},
		{"a value too long", map[string]string{"k": strings.Repeat("v", 257)}, "257 characters long"},
		{"the reserved prefix", map[string]string{"aws:created-by": "me"}, "reserved prefix aws:"},
		{"the reserved prefix in other letters", map[string]string{"AWS:x": "me"}, "reserved prefix aws:"},
		{"what only looks like it", map[string]string{"aws": "a", "awsx:b": "c"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := tag.Check(c.tags)
			if c.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, fault.Invalid)
			require.ErrorContains(t, err, c.want)
			assert.Equal(t, "tags", fault.FieldOf(err))
		})
	}
}

func TestEditingTagsLeavesWhatWasThere(t *testing.T) {
	have := map[string]string{"a": "1"}
	got, err := tag.Edit(have, func(tags map[string]string) { tags["b"] = "" })
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"a": "1", "b": ""}, got)
	assert.Equal(t, map[string]string{"a": "1"}, have)
	got, err = tag.Edit(nil, func(tags map[string]string) { delete(tags, "a") })
	require.NoError(t, err)
	assert.NotNil(t, got)
	_, err = tag.Edit(many(50), func(tags map[string]string) { tags["one-more"] = "" })
	require.ErrorContains(t, err, "51 entries")
}

func TestTagsChangeWithinTheirLimit(t *testing.T) {
	had := map[string]string{"a": "1", "b": "2"}
	got, err := tag.Change(had, map[string]string{"a": "3", "c": ""}, []string{"b", "x"})
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"a": "3", "c": ""}, got)
	assert.Equal(t, map[string]string{"a": "1", "b": "2"}, had, "as it was")
	_, err = tag.Change(had, many(tag.Max), nil)
	require.ErrorIs(t, err, fault.Exhausted)
	_, err = tag.Change(had, map[string]string{"AWS:x": ""}, nil)
	require.ErrorIs(t, err, fault.Invalid)
}
