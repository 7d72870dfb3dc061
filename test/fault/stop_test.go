package fault_test

import (
	"fmt"
	"net/http"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/test/internal/world"
)

func TestAStopUnderLoadIsOrderlyAndTheNextStartGoesOn(t *testing.T) {
	t.Parallel()
	w := world.Start(t, world.Options{Flags: []string{"--s3-fsync=false"}})
	s := newStory(t, w)
	names := coreNames(200)
	s.create(names)
	s.fleet = runCores(t, w, names)
	world.Eventually(t, func() string {
		if n := s.fleet.fleets[0].Stats().Connected; n < int64(len(names)) {
			return "only some cores are connected"
		}
		return ""
	})

	more := make([]string, 1000)
	for i := range more {
		more[i] = fmt.Sprintf("later-%04d", i)
	}
	a := s.insist(http.MethodPost, "/coreTasks", "later", world.NewCores(more...))
	require.Equal(t, http.StatusAccepted, a.Status, "%s", a.Body)
	path := a.Header.Get("Location")
	w.Signal(t, syscall.SIGTERM)
	require.NoError(t, w.WaitExit(t), "ggfleet must end with status 0, whatever is under way")

	w.Restart(t)
	task := s.ended(path)
	assert.Equal(t, "Success", task.Status)
	assert.Len(t, task.Cores, len(more))
	s.healthy(names)
	s.fleet.stop()
	s.finish()
	assert.Len(t, under[any](t, readLedger(t, w), "iot/cert/"), len(names)+len(more))
}
