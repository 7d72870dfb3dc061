package doctor_test

import (
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/agent/internal/doctor"
)

func TestThisMachineCanBeLookedAt(t *testing.T) {
	dir := t.TempDir()
	h := doctor.Machine(time.Time{})
	require.NoError(t, h.Probe(dir))
	require.NoError(t, h.Runs(t.Context(), dir))
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, left, "nothing is left of the probes")
	require.Error(t, h.Probe(filepath.Join(dir, "gone")))
	require.Error(t, h.Runs(t.Context(), filepath.Join(dir, "gone")))

	v, err := h.Volume(dir)
	require.NoError(t, err)
	assert.Positive(t, v.Bytes)
	assert.False(t, v.ReadOnly)
	_, err = h.Volume(filepath.Join(dir, "gone"))
	require.Error(t, err)
	assert.NotNil(t, h.Vitals().MemoryAvailable)
	assert.False(t, h.User("nobody-has-this-name"))
	assert.False(t, h.Group("nobody-has-this-name"))

	out, err := h.Command(t.Context(), "sh", "-c", "echo out; echo err >&2; exit 3")
	require.Error(t, err)
	assert.Equal(t, "out\nerr\n", out)
	out, err = h.Command(t.Context(), "sh", "-c", "head -c 1000000 /dev/zero")
	require.NoError(t, err)
	assert.Len(t, out, 16<<10)
	_, err = h.Interfaces()
	require.NoError(t, err)

	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	c, err := h.Dial(t.Context(), "tcp", l.Addr().String())
	require.NoError(t, err)
	require.NoError(t, c.Close())
}

func TestAnUnenrolledDeviceIsToldHowToEnrol(t *testing.T) {
	results := doctor.Run(t.Context(), doctor.Machine(time.Time{}), doctor.Device{Root: t.TempDir(), Core: true})
	for _, r := range results {
		if r.Code == "D201" {
			assert.Equal(t, doctor.Failed, r.Status)
			assert.Contains(t, r.Fix, "ggfleet-agent enroll")
		}
		if r.Code > "D201" && r.Code < "D500" && r.Code != "D301" && r.Code != "D302" && r.Code != "D203" {
			assert.Equal(t, doctor.Skipped, r.Status, "%s: %s", r.Code, r.Detail)
		}
	}
}
