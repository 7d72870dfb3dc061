package cli_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/installer/signed"
)

func TestReleasesOfTheAgentFromTheCommandLine(t *testing.T) {
	o := newOperator(t)
	dir := t.TempDir()
	binary := filepath.Join(dir, "dist", "ggfleet-agent_1.4.0_linux_amd64")
	require.NoError(t, os.Mkdir(filepath.Dir(binary), 0o700))
	require.NoError(t, os.WriteFile(binary, []byte("binary"), 0o600))
	key := filepath.Join(dir, "key")

	got, err := o.run(t, "agent-release keygen "+key)
	require.NoError(t, err)
	assert.Regexp(t, `^key [0-9A-F]{16}: RW`, got)
	_, err = o.run(t, "agent-release keygen "+key)
	require.ErrorIs(t, err, os.ErrExist, "a key is never overwritten")
	info, err := os.Stat(key)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	got, err = o.run(t, "agent-release sign 1.4.0 "+binary+" --over 1.5.0 --key "+key)
	require.NoError(t, err)
	assert.Contains(t, got, "ggfleet-agent 1.4.0 linux/amd64 over=1.5.0")
	public, err := os.ReadFile(key + ".pub")
	require.NoError(t, err)
	trusted, err := signed.ParseKey(string(public))
	require.NoError(t, err)
	text, err := os.ReadFile(binary + ".minisig")
	require.NoError(t, err)
	sig, err := signed.ParseSignature(string(text))
	require.NoError(t, err)
	f, err := os.Open(binary)
	require.NoError(t, err)
	require.NoError(t, signed.Keys{trusted}.Verify(f, sig))
	require.NoError(t, f.Close())
	_, err = o.run(t, "agent-release sign 1.5.0 "+binary+" --key "+key)
	require.ErrorContains(t, err, "platform", "the name is of another version")

	for line, want := range map[string]string{
		"agent-release add 1.4.0 " + filepath.Dir(binary): "uploaded",
		"agent-release list":                              "1.4.0",
		"agent-release status 1.4.0 --state failed":       "it hangs",
	} {
		got, err := o.run(t, line)
		require.NoError(t, err, line)
		if want != "1.4.0" {
			assert.Contains(t, got, want, line)
		}
	}
	got, err = o.run(t, "agent-release activate 1.4.0 --percentage 10 --name-pattern press-* --spread 0s")
	require.NoError(t, err)
	assert.Contains(t, got, "active")
	assert.Contains(t, got, "10%")
	got, err = o.run(t, "agent-release pause 1.4.0")
	require.NoError(t, err)
	assert.Contains(t, got, "paused")
	_, err = o.run(t, "agent-release activate 1.4.0 --spread soon")
	require.ErrorContains(t, err, "--spread")
	_, err = o.run(t, "agent-release remove 1.4.0")
	require.NoError(t, err)
	_, err = o.run(t, "agent-release activate 1.4.0")
	require.ErrorContains(t, err, "not stored")
}
