package app_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/agent/app"
	"github.com/ggfleet/ggfleet/agent/internal/localstate"
)

func TestACommandThatIsNamedIsAboutThisAgent(t *testing.T) {
	assert.Empty(t, app.RootFlag(app.DefaultRoot), "it is what the command takes by itself")

	root := t.TempDir()
	var said bytes.Buffer
	require.NoError(t, app.WakeService(&said, root))
	assert.Contains(t, said.String(), "'ggfleet-agent run --root "+root+"'")

	dir, err := localstate.Open(root, nil)
	require.NoError(t, err)
	defer dir.Close()
	_, err = app.Enroll(t.Context(), app.Config{Root: root}, "ggf1.damaged")
	require.ErrorContains(t, err, "'ggfleet-agent stop --root "+root+"'")
}
