package consent_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/agent/internal/consent"
	"github.com/ggfleet/ggfleet/shared/fault"
)

func TestNothingIsAllowedUntilItIs(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "agent")
	assert.Empty(t, consent.Given(dir))
	for _, p := range consent.Permissions() {
		require.NoError(t, consent.Allow(dir, p, false), "forbidding what was not allowed is fine")
		assert.False(t, consent.Allowed(dir, p))
		require.NoError(t, consent.Allow(dir, p, true))
		require.NoError(t, consent.Allow(dir, p, true))
		assert.Equal(t, []consent.Permission{p}, consent.Given(dir), "one does not bring another")
		require.NoError(t, consent.Allow(dir, p, false))
		assert.Empty(t, consent.Given(dir))
	}
}

func TestAListOfPermissions(t *testing.T) {
	for text, want := range map[string][]consent.Permission{
		"": nil, "logs": {consent.Logs}, " restart, logs,logs": {consent.Logs, consent.Restart},
		"all,patches": {consent.Bundle, consent.Diagnostics, consent.Logs, consent.Patches, consent.Restart},
	} {
		got, err := consent.Parse(text)
		require.NoError(t, err)
		assert.Equal(t, want, got, text)
	}
	_, err := consent.Parse("logs,root")
	require.ErrorIs(t, err, fault.Invalid)
	assert.ErrorContains(t, err, `"root"`)
}
