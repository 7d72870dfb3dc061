package localstate_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	"github.com/ggfleet/ggfleet/shared/fault"
)

func TestOneProcessHasTheFolderAtATime(t *testing.T) {
	root := filepath.Join(t.TempDir(), "a", "root")
	d, err := localstate.Open(root, nil)
	require.NoError(t, err)
	_, err = localstate.Open(root, nil)
	require.ErrorIs(t, err, fault.Exists)
	assert.ErrorContains(t, err, "--root")
	require.NoError(t, d.Close())
	d, err = localstate.Open(root, nil)
	require.NoError(t, err)
	require.NoError(t, d.Close())
}

func TestAFolderThatCannotBeMadeSaysWhatToDo(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err := localstate.Open(filepath.Join(file, "root"), nil)
	assert.ErrorContains(t, err, "--root")
}

func TestADamagedRecordIsNamed(t *testing.T) {
	d, err := localstate.Open(t.TempDir(), nil)
	require.NoError(t, err)
	defer d.Close()
	require.NoError(t, d.Write("a.json", []byte("{")))
	var v any
	err = d.ReadJSON("a.json", &v)
	require.ErrorIs(t, err, fault.Invalid)
	assert.ErrorContains(t, err, d.Path("a.json"))
	require.NoError(t, d.Write("b.json", make([]byte, 1<<20+1)))
	_, err = d.Read("b.json")
	assert.ErrorIs(t, err, fault.TooLarge)
}
