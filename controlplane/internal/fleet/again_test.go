package fleet_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/event"
	"github.com/ggfleet/ggfleet/controlplane/internal/fleet"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
)

func TestAHistoryThatIsReadAgainChangesNothing(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		core := k.fleetOf(1)[0]
		k.template("t", "1.0.0")
		for _, step := range []struct {
			version int
			status  string
		}{{2, "SUCCEEDED"}, {1, "SUCCEEDED"}, {3, "FAILED"}} {
			k.deploy("t", step.version, to(core))
			k.finish(core, step.status)
		}
		was := k.core(core)
		require.Equal(t, 1, was.Reported.Version)
		k.stop()
		// As after a quiet time: the cursor's history is compacted, and what is known
		// is read in the order of the groups' names.
		_, err := k.store.Commit(t.Context(), state.NewBatch(state.StepCoreReport).Delete(state.Root+"fleet/results-cursor"))
		require.NoError(t, err)
		k.start()
		synctest.Wait()
		assert.Equal(t, was, k.core(core))
	})
}

func TestAFailedVersionIsDeliveredAnewAfterOneThatCouldNotStart(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		core := k.fleetOf(1)[0]
		_, err := k.CreateTemplate(k.ctx, fleet.NewTemplate{Name: "bad", Components: []fleet.TemplateComponent{{Key: "com.example.NoSuch", Version: "3.0.0"}}})
		require.NoError(t, err)
		k.deploy("t", 1, to(core))
		k.finish(core, "FAILED")
		require.Equal(t, fleet.TaskFailure, k.deploy("bad", 1, to(core)).Status)
		k.deploy("t", 1, to(core))
		c := k.core(core)
		assert.Equal(t, fleet.DeploymentInProgress, c.DeploymentStatus)
		assert.EqualValues(t, 2, c.Execution.Number)
		k.finish(core, "SUCCEEDED")
		assert.Equal(t, fleet.DeploymentSuccess, k.core(core).DeploymentStatus)
	})
}

func TestACoreThatCannotJoinDoesNotHoldUpTheOthers(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		cores := k.fleetOf(3)
		_, err := k.cloud.Registry.Retreat(k.ctx, cores[0], false) // a deletion that stopped half way
		require.NoError(t, err)
		id := k.request(1, to(cores...), `{"jobExecutionsRolloutConfig":{"maximumPerMinute":60}}`)
		time.Sleep(time.Minute)
		assert.Len(t, k.notified(cores[1:]), 2)
		time.Sleep(15 * time.Minute)
		d, err := k.DeploymentTask(k.ctx, id, fleet.Page{})
		require.NoError(t, err)
		require.Equal(t, fleet.TaskFailure, d.Status)
		assert.Contains(t, d.Deployments[0].StatusMessage, "is being deleted")
	})
}

func TestARetryWaitsUntilAllIsWithdrawn(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		cores := k.fleetOf(3)
		id := k.request(1, to(cores...), "")
		k.await(id)
		fail := func(b *state.Batch) error {
			if b.Step == state.StepRollout && b.Len() > 2 {
				return fault.New(fault.Unavailable, "away")
			}
			return nil
		}
		k.fail.Store(&fail)
		require.NoError(t, k.CancelDeploymentTask(k.ctx, id))
		_, err := k.RetryDeploymentTask(k.ctx, id, "")
		require.ErrorIs(t, err, fault.Conflict)
		assert.ErrorContains(t, err, "withdrawn")
		k.fail.Store(nil)
		time.Sleep(time.Minute)
		again, err := k.RetryDeploymentTask(k.ctx, id, "")
		require.NoError(t, err)
		assert.Len(t, k.await(again).Deployments, 3)
	})
}

func TestALateSuccessIsToldOfTheTaskThatStartedIt(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		core := k.fleetOf(1)[0]
		old := k.deploy("t", 1, to(core))
		k.report(core, "")
		job := k.next(core)
		now := k.deploy("t", 2, to(core))
		d, err := k.DeploymentTaskCore(k.ctx, old.ID, core)
		require.NoError(t, err)
		assert.Contains(t, d.Waiting, now.ID, "nobody waits for the core here any more")
		require.NoError(t, k.cloud.Finish(k.ctx, core, job, "SUCCEEDED"))
		synctest.Wait()
		told := k.details(event.CoreTemplateUpdated, core)
		require.Len(t, told, 1)
		assert.Equal(t, old.ID, told[0]["deploymentTaskId"])
		assert.EqualValues(t, 1, told[0]["templateVersion"])
	})
}

func TestADeletionOfWhatIsNotThereTakesNothingFromACreation(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		var once atomic.Bool
		fail := func(b *state.Batch) error {
			if b.Step == state.StepCoreRegister && once.CompareAndSwap(false, true) { // the archive is there, the core not yet
				assert.Equal(t, "Core already gone", k.remove(`{"deprovisionCores":true}`, "gw").Cores[0].StatusMessage)
			}
			return nil
		}
		k.fail.Store(&fail)
		require.Equal(t, fleet.TaskSuccess, k.create("2.18.0", newCore("gw")).Status)
		require.True(t, once.Load())
		for _, a := range k.core("gw").Artifacts {
			assert.NotEmpty(t, k.object(a.Key))
		}
	})
}
