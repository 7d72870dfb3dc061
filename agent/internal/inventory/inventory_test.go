package inventory_test

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/agent/internal/inventory"
)

func TestThisHostHasACondition(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("reads /proc")
	}
	h := inventory.Read(t.TempDir())
	assert.Positive(t, h.UptimeSeconds)
	require.NotNil(t, h.Load1)
	require.NotNil(t, h.MemoryBytes)
	assert.Less(t, *h.MemoryUsedBytes, *h.MemoryBytes)
	require.NotNil(t, h.DiskBytes)
	assert.LessOrEqual(t, *h.DiskFreeBytes, *h.DiskBytes)
	assert.Nil(t, inventory.Read("/no/such/path").DiskBytes, "unknown is not zero")
}
