package world_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/test/internal/world"
)

func TestAWorldLivesThroughKillAndStop(t *testing.T) {
	w := world.Start(t, world.Options{})
	made := w.CreateCores(t, "press-07", "press-08")
	require.Len(t, made, 2)
	assert.Contains(t, string(made[0].Config), "press-07")

	for _, tc := range []struct {
		name string
		end  func(testing.TB)
	}{{"killed", w.Kill9}, {"stopped", w.Stop}} {
		tc.end(t)
		_, err := w.Do(t.Context(), http.MethodGet, "/healthz", nil)
		require.Error(t, err, tc.name)
		w.Restart(t)
		assert.Equal(t, "UNKNOWN", w.Core(t, "press-08").Device.Status)
		assert.Equal(t, made[1], w.FetchCore(t, "press-08"), tc.name)
	}
}
