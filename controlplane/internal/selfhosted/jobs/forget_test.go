package jobs_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/jobs"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

func TestAThingIsForgottenWhole(t *testing.T) {
	k := newKit(t, t.Context())
	k.job("a", "g", 0)
	k.job("b", "h", 1)
	k.start("a", "core", false)
	k.start("b", "core", false)
	k.update("core", "a", protocol.JobSucceeded)
	k.update("core", "b", protocol.JobInProgress)
	k.forget("core")
	k.pass(time.Hour)
	_, err := k.jobs.Expire(t.Context())
	require.NoError(t, err)
	page, err := k.store.List(t.Context(), state.Root, "", 0)
	require.NoError(t, err)
	for _, e := range page.Entries {
		assert.Contains(t, e.Key, "/jobs/job/", "nothing of the thing is left")
	}
}

func TestADeviceThatComesBackUnderItsNameTakesItsFirstJob(t *testing.T) {
	k := newKit(t, t.Context())
	k.job("j", "g", 0)
	for range 5 { // each is queued a second after the one before: ahead of the clock
		k.start("j", "core", true)
	}
	before := k.start("j", "core", true)
	k.forget("core")
	k.forget("core")
	assert.Empty(t, k.pending("core"))
	after := k.start("j", "core", false)
	assert.EqualValues(t, 1, after.Number, "executions are counted from the start")
	assert.Greater(t, after.QueuedAt, before.QueuedAt, "lite ignores the same job that is not queued later")
	assert.Greater(t, after.Stamp, before.Stamp, "classic ignores a document that is not newer")
}

func TestAnyNumberOfExecutionsIsForgotten(t *testing.T) {
	k := newKit(t, t.Context())
	for i := range 300 {
		id := fmt.Sprint("j", i)
		k.job(id, id, 1)
		k.start(id, "core", false)
		if i%3 > 0 {
			k.update("core", id, protocol.JobInProgress)
		}
		if i%3 > 1 {
			k.update("core", id, protocol.JobSucceeded)
		}
	}
	k.job("g", "g", 0)
	k.start("g", "other", false)
	k.update("other", "g", protocol.JobSucceeded)
	k.forget("core")
	assert.Empty(t, k.pending("core"))
	n := 0
	_, err := k.jobs.AllResults(t.Context(), func(e jobs.Execution) error {
		n++
		assert.Equal(t, "other", e.Thing)
		return nil
	})
	require.NoError(t, err)
	assert.Equal(t, 1, n)
	require.NoError(t, k.jobs.ForgetTarget(t.Context(), names.TargetThingGroup, "g"))
	_, known, err := k.jobs.Last(t.Context(), "other", "g", names.TargetThingGroup, "g")
	require.NoError(t, err)
	assert.False(t, known)
}
