package fleet_test

import (
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/event"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/greengrass"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// details returns the details of the events of a type that were written for a core.
func (k *kit) details(t event.Type, core string) []map[string]any {
	k.t.Helper()
	var out []map[string]any
	err := state.All(k.ctx, k.store, state.Root+"event/outbox/", func(_ string, r state.Record[event.Event]) error {
		if r.Value.Type == t && r.Value.Core == core {
			var d map[string]any
			require.NoError(k.t, json.Unmarshal(r.Value.Detail, &d))
			out = append(out, d)
		}
		return nil
	})
	require.NoError(k.t, err)
	return out
}

func TestEachEndOfADeploymentIsToldOnce(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		cores := k.fleetOf(2)
		id := k.request(2, to(cores[0], cores[1], "nobody"), "")
		k.await(id)
		v, err := k.TemplateVersion(k.ctx, "t", 2)
		require.NoError(t, err)
		assert.Equal(t, []map[string]any{{"coreName": cores[0], "taskId": id, "status": "success"}}, k.details(event.DeploymentTaskCreated, cores[0]))
		assert.Equal(t, []map[string]any{{
			"coreName": "nobody", "taskId": id, "status": "failed", "message": "Core device not registered with Greengrass V2",
		}}, k.details(event.DeploymentTaskCreated, "nobody"), "W-121: an item that fails is told as well")

		k.report(cores[0], "SUCCEEDED")
		k.report(cores[1], "FAILED")
		synctest.Wait()
		k.stop()
		k.start() // results are read again from the cursor on
		time.Sleep(time.Second)
		want := map[string]any{
			"coreName": cores[0], "deploymentTaskId": id, "deploymentId": v.Deployed.ID, "jobId": v.Deployed.JobID,
			"templateName": "t", "templateVersion": 2.0, "status": "success",
		}
		assert.Equal(t, []map[string]any{want}, k.details(event.CoreTemplateUpdated, cores[0]))
		failed := k.details(event.CoreTemplateUpdated, cores[1])
		require.Len(t, failed, 1)
		assert.Equal(t, "failed", failed[0]["status"])
		assert.Equal(t, "FAILED_ROLLBACK_COMPLETE", failed[0]["message"])

		require.NoError(t, k.DeleteDeploymentTask(k.ctx, id))
		assert.Equal(t, []map[string]any{{"taskId": id, "status": "success"}}, k.details(event.DeploymentTaskDeleted, ""))
	})
}

func TestChangesOfADevicesStatusArePartOfItsHistory(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		time.Sleep(time.Second)
		cores := k.fleetOf(2)
		synctest.Wait()
		assert.Len(t, k.details(event.StatusChanged, cores[0]), 1)
		k.stop()
		k.status(cores[0], "UNHEALTHY")
		k.status(cores[0], "UNHEALTHY")
		k.start()
		time.Sleep(15 * time.Second)
		got := k.details(event.StatusChanged, cores[0])
		require.Len(t, got, 2, "what happened while the server was away is told, what is no change is not")
		assert.Len(t, k.details(event.StatusChanged, cores[1]), 1)
	})
}

// status makes a core report its overall status.
func (k *kit) status(core, status string) {
	k.t.Helper()
	b, err := json.Marshal(protocol.FleetStatus{
		GGCVersion: "2.18.0", Platform: "linux", Architecture: "amd64", Thing: core, SequenceNumber: 2, MessageType: protocol.StatusPartial,
		Trigger: protocol.TriggerComponentStatusChange, OverallDeviceStatus: status,
	})
	require.NoError(k.t, err)
	require.NoError(k.t, k.cloud.Greengrass.Report(k.t.Context(), core, b))
}

func TestSomeoneElsesJobsAreOfNoConcern(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		cores := k.fleetOf(1)
		before := k.core(cores[0])
		d := k.foreignDeployment(cores[0])
		require.NoError(t, k.cloud.Finish(k.ctx, cores[0], d, "SUCCEEDED"))
		synctest.Wait()
		assert.Equal(t, before, k.core(cores[0]), "W-60: a deployment that this service did not make changes nothing")
	})
}

// foreignDeployment aims a deployment of somebody else at a core and returns its job.
func (k *kit) foreignDeployment(core string) string {
	k.t.Helper()
	d, err := k.cloud.Greengrass.Create(k.ctx, greengrass.NewDeployment{
		Name: "foreign", Kind: names.TargetThing, Target: core, Policies: greengrass.DefaultPolicies(),
		Components: map[string]greengrass.Component{"com.example.App": {Version: "1.0.0"}},
	})
	require.NoError(k.t, err)
	return d.JobID
}
