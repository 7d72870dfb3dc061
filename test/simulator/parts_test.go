package simulator_test

import (
	"encoding/base64"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/test/simulator"
)

func TestClassicSendsRangesInNormalForm(t *testing.T) {
	tests := map[string]string{
		"1.4.0": "=1.4.0", "^1.0": ">=1.0.0 <2.0.0", "^1.2.3": ">=1.2.3 <2.0.0", "^0.2.3": ">=0.2.3 <0.3.0", "^0.0.3": ">=0.0.3 <0.0.4",
		"~1.2.3": ">=1.2.3 <1.3.0", "1.x": ">=1.0.0 <2.0.0", "1.2.*": ">=1.2.0 <1.3.0", "*": ">=0.0.0", "": ">=0.0.0",
		">=1.0.0 <2.0.0": ">=1.0.0 <2.0.0", "1.0.0 || 2.0.0": "=1.0.0 || =2.0.0", "1.2.0-beta.1": "=1.2.0-beta.1",
	}
	for in, want := range tests {
		t.Run(in, func(t *testing.T) { assert.Equal(t, want, simulator.NormalForm(in)) })
	}
}

func TestAPreReleaseMeetsOnlyARangeThatNamesOne(t *testing.T) {
	assert.False(t, simulator.Satisfies("1.2.0-beta.1", map[string]string{"a": ">=1.0.0 <2.0.0"}))
	assert.True(t, simulator.Satisfies("1.2.0-beta.1", map[string]string{"a": "1.2.0-beta.1"}))
	assert.False(t, simulator.Satisfies("1.2.0", map[string]string{"a": ">=1.0.0", "b": "<1.2.0"}))
	assert.False(t, simulator.Satisfies("1.2.0", map[string]string{"a": "no range"}))
}

func TestConfigurationIsMergedAndResetByTime(t *testing.T) {
	var tree simulator.Tree
	defaults := map[string]any{"a": "default", "b": map[string]any{"c": "default", "d": "default"}}
	tree.Merge(map[string]any{"a": "one", "b": map[string]any{"c": "one"}}, 10)
	tree.Fill(defaults)
	assert.Equal(t, map[string]any{"a": "one", "b": map[string]any{"c": "one", "d": "default"}}, tree.Plain())
	tree.Merge(map[string]any{"a": "late", "b": map[string]any{"c": map[string]any{"deep": "x"}}}, 5)
	assert.Equal(t, map[string]any{"a": "one", "b": map[string]any{"c": "one", "d": "default"}}, tree.Plain(), "older values lose")
	require.NoError(t, tree.Reset("/b/c", 20))
	require.NoError(t, tree.Reset("/not/there", 20))
	tree.Fill(defaults)
	assert.Equal(t, map[string]any{"a": "one", "b": map[string]any{"c": "default", "d": "default"}}, tree.Plain())
	require.NoError(t, tree.Reset("", 20))
	tree.Fill(defaults)
	assert.Equal(t, defaults, tree.Plain())
	require.Error(t, tree.Reset("b", 20))
}

func FuzzReadRecipe(f *testing.F) {
	f.Add(plain("a", "1.0.0"), true)
	f.Add(`{"Manifests":[{"Platform":{"os":1}}]}`, false)
	f.Add(`{"Manifests":[null]}`, true)
	f.Fuzz(func(t *testing.T, text string, lite bool) {
		rt := simulator.Classic
		if lite {
			rt = simulator.Lite
		}
		r, err := simulator.ReadRecipe(rt, base64.StdEncoding.EncodeToString([]byte(text)))
		require.NotEqual(t, r == nil, err == nil)
	})
}
