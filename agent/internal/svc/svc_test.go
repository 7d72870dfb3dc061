package svc_test

import (
	"net"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/agent/internal/svc"
)

func TestEveryRootHasAServiceOfItsOwn(t *testing.T) {
	assert.Equal(t, "ggfleet-agent", svc.Name("/var/lib/ggfleet-agent"))
	assert.Equal(t, "ggfleet-agent", svc.Name("/var/lib/ggfleet-agent/"))
	a, b := svc.Name("/srv/a"), svc.Name("/srv/b")
	assert.NotEqual(t, a, b)
	assert.Regexp(t, `^ggfleet-agent-[0-9a-f]{8}$`, a)
}

func TestSystemdIsToldThroughItsSocket(t *testing.T) {
	require.NoError(t, svc.Notify("READY=1"), "no socket: nobody to tell")
	name := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	require.NoError(t, err)
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", name)
	require.NoError(t, svc.Notify("READY=1"))
	b := make([]byte, 64)
	n, err := l.Read(b)
	require.NoError(t, err)
	assert.Equal(t, "READY=1", string(b[:n]))
}
