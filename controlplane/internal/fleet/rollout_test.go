package fleet_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/fleet"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/jobs"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// fleetOf makes n cores that have reported and a template t with two versions.
func (k *kit) fleetOf(n int) []string {
	k.t.Helper()
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("core-%04d", i)
	}
	k.provisioned(names...)
	k.template("t", "1.0.0")
	k.template("t", "2.0.0")
	return names
}

// request starts a deployment task with a job configuration.
func (k *kit) request(version int, to fleet.Targets, config string) string {
	k.t.Helper()
	n := fleet.NewDeploymentTask{TemplateName: "t", TemplateVersion: version, Targets: to}
	if config != "" {
		n.IoTJobConfig = json.RawMessage(config)
	}
	id, err := k.CreateDeploymentTask(k.ctx, n, "")
	require.NoError(k.t, err)
	return id
}

// notified returns when each core that has an execution waiting got it, in order.
func (k *kit) notified(names []string) []time.Time {
	k.t.Helper()
	var at []time.Time
	for _, n := range names {
		list, err := k.cloud.Jobs.Pending(k.ctx, n)
		require.NoError(k.t, err)
		for _, e := range list {
			at = append(at, time.UnixMilli(e.Stamp))
		}
	}
	slices.SortFunc(at, time.Time.Compare)
	return at
}

// mostIn returns the largest number of times within any window.
func mostIn(window time.Duration, at []time.Time) int {
	most, from := 0, 0
	for i, t := range at {
		for t.Sub(at[from]) >= window {
			from++
		}
		most = max(most, i-from+1)
	}
	return most
}

// report makes the core take up its next job and, unless status is empty, end it.
func (k *kit) report(core, status string) {
	k.t.Helper()
	job := k.next(core)
	_, err := k.cloud.Jobs.Apply(k.ctx, jobs.Update{Thing: core, JobID: job, Status: protocol.JobInProgress})
	require.NoError(k.t, err)
	if status != "" {
		require.NoError(k.t, k.cloud.Finish(k.ctx, core, job, status))
	}
}

func (k *kit) rollout(id string) fleet.RolloutState {
	k.t.Helper()
	t, err := k.DeploymentTask(k.ctx, id, fleet.Page{})
	require.NoError(k.t, err)
	require.NotNil(k.t, t.Rollout)
	return *t.Rollout
}

func TestW32AThousandCoresJoinAtTheRateOfTheRequest(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		cores := k.fleetOf(1000)
		began := time.Now()
		id := k.request(1, to(cores...), `{"jobExecutionRolloutConfig":{"maximumPerMinute":100}}`)
		d := k.await(id)
		assert.Equal(t, fleet.TaskSuccess, d.Status)
		at := k.notified(cores)
		require.Len(t, at, 1000)
		assert.LessOrEqual(t, mostIn(time.Minute, at), 102, "never more than the rate in any minute, within 2 %%")
		took := at[len(at)-1].Sub(began)
		assert.InDelta(t, 10*time.Minute, took, float64(12*time.Second), "nor less: it took %s", took)
	})
}

func TestThePaceGoesOnAtTheSameRateAfterARestart(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		cores := k.fleetOf(120)
		id := k.request(1, to(cores...), `{"jobExecutionsRolloutConfig":{"maximumPerMinute":30}}`)
		for range 3 {
			time.Sleep(50 * time.Second)
			k.stop()
			time.Sleep(5 * time.Minute)
			k.start()
		}
		assert.Equal(t, fleet.TaskSuccess, k.await(id).Status)
		at := k.notified(cores)
		require.Len(t, at, 120, "each once")
		assert.LessOrEqual(t, mostIn(time.Minute, at), 31, "no burst makes up for the time away")
		assert.Equal(t, 120, k.rollout(id).Notified)
	})
}

func TestAnExponentialRateGrowsWithItsCounters(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		cores := k.fleetOf(140)
		id := k.request(1, to(cores...), `{"jobExecutionsRolloutConfig":{"maximumPerMinute":40,
			"exponentialRate":{"baseRatePerMinute":10,"incrementFactor":2,"rateIncreaseCriteria":{"numberOfNotifiedTargets":20}}}}`)
		require.Equal(t, fleet.TaskSuccess, k.await(id).Status)
		at := k.notified(cores)
		gap := func(i int) time.Duration { return at[i+1].Sub(at[i]) }
		for i, want := range map[int]time.Duration{5: 6 * time.Second, 18: 6 * time.Second, 25: 3 * time.Second, 45: 1500 * time.Millisecond, 130: 1500 * time.Millisecond} {
			assert.InDelta(t, want, gap(i), float64(30*time.Millisecond), "after %d cores", i+1)
		}
	})
}

func TestTheRateGrowsWithWhatCoresReport(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		cores := k.fleetOf(40)
		id := k.request(1, to(cores...), `{"jobExecutionsRolloutConfig":{
			"exponentialRate":{"baseRatePerMinute":1,"incrementFactor":5,"rateIncreaseCriteria":{"numberOfSucceededThings":2}}}}`)
		time.Sleep(10*time.Minute + 30*time.Second)
		assert.Equal(t, 11, k.rollout(id).Notified, "one a minute, the first at once")
		k.report(cores[0], "SUCCEEDED")
		k.report(cores[1], "SUCCEEDED")
		synctest.Wait()
		assert.InDelta(t, 5, k.rollout(id).RatePerMinute, 0)
		time.Sleep(2 * time.Minute)
		assert.InDelta(t, 20, k.rollout(id).Notified, 1)
	})
}

func TestARolloutStopsExactlyAtItsCriterion(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		cores := k.fleetOf(60)
		id := k.request(1, to(cores...), `{"jobExecutionsRolloutConfig":{"maximumPerMinute":60},
			"abortConfig":{"criteriaList":[{"failureType":"FAILED","action":"CANCEL","thresholdPercentage":20,"minNumberOfExecutedThings":10}]}}`)
		time.Sleep(20*time.Second + 500*time.Millisecond)
		got := cores[:21]
		// Nine took it up, three of them failed: over the threshold, but too few.
		for i, c := range got[:9] {
			k.report(c, map[bool]string{true: "FAILED", false: "SUCCEEDED"}[i < 3])
		}
		synctest.Wait()
		assert.Empty(t, k.rollout(id).Stopped, "nine are too few to judge")
		k.report(got[9], "") // the tenth began: three of ten
		synctest.Wait()
		r := k.rollout(id)
		assert.Equal(t, "aborted: 3 of 10 cores ended FAILED, at or over 20 %", r.Stopped)
		joined := r.Notified
		d := k.await(id)
		assert.Equal(t, fleet.TaskFailure, d.Status)
		assert.Equal(t, joined, k.rollout(id).Notified, "none joined after the criterion was met")
		assert.Empty(t, pendingIn(k, cores[:9]), "these had ended")
		assert.Len(t, pendingIn(k, cores[9:]), 1, "what runs goes on, what was queued is withdrawn, the rest never got it")
		for i, x := range d.Deployments {
			if i < joined {
				assert.Equal(t, fleet.TaskSuccess, x.Status, x.Name)
			} else {
				assert.Equal(t, fleet.TaskFailure, x.Status, x.Name)
				assert.Contains(t, x.StatusMessage, "aborted: 3 of 10")
				assert.Zero(t, k.core(x.Name).Desired, "a core that never joined is as it was")
			}
		}
		withdrawn := k.core(cores[15])
		assert.Equal(t, fleet.DeploymentFailure, withdrawn.DeploymentStatus)
		assert.Contains(t, withdrawn.DeploymentMessage, "withdrawn before the core took it up")
		k.report(cores[9], "SUCCEEDED")
		synctest.Wait()
		assert.Equal(t, fleet.DeploymentSuccess, k.core(cores[9]).DeploymentStatus)
	})
}

// pendingIn returns the cores that have an execution waiting or running.
func pendingIn(k *kit, cores []string) []string {
	var out []string
	for _, c := range cores {
		list, err := k.cloud.Jobs.Pending(k.ctx, c)
		require.NoError(k.t, err)
		if len(list) > 0 {
			out = append(out, c)
		}
	}
	return out
}

func TestCancelWithdrawsAndRetryGoesOnWithTheRest(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		cores := k.fleetOf(30)
		id := k.request(1, to(cores...), `{"jobExecutionsRolloutConfig":{"maximumPerMinute":60}}`)
		time.Sleep(9*time.Second + 500*time.Millisecond)
		k.report(cores[0], "SUCCEEDED")
		require.NoError(t, k.CancelDeploymentTask(k.ctx, id))
		d := k.await(id)
		assert.Equal(t, 10, k.rollout(id).Notified)
		assert.Contains(t, d.Deployments[29].StatusMessage, "canceled by an operator")
		time.Sleep(time.Second)
		require.ErrorIs(t, k.CancelDeploymentTask(k.ctx, id), fault.Conflict)
		assert.Empty(t, pendingIn(k, cores))

		again, err := k.RetryDeploymentTask(k.ctx, id, "")
		require.NoError(t, err)
		d = k.await(again)
		assert.Equal(t, fleet.TaskSuccess, d.Status)
		assert.Equal(t, id, d.RetryOf)
		assert.Len(t, d.Deployments, 29, "all but the one that succeeded")
		assert.Len(t, pendingIn(k, cores), 29)
		_, err = k.RetryDeploymentTask(k.ctx, again, "")
		require.ErrorIs(t, err, fault.Conflict, "none of it failed")

		require.NoError(t, k.DeleteDeploymentTask(k.ctx, id))
		_, err = k.DeploymentTask(k.ctx, id, fleet.Page{})
		require.ErrorIs(t, err, fault.NotFound)
		require.ErrorIs(t, k.DeleteDeploymentTask(k.ctx, id), fault.NotFound)
	})
}

func TestCancelOfATaskWithoutPace(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		cores := k.fleetOf(5)
		id := k.request(1, to(cores...), "")
		k.await(id)
		require.ErrorIs(t, func() error { _, err := k.RetryDeploymentTask(k.ctx, id, ""); return err }(), fault.Conflict)
		k.report(cores[0], "")
		require.NoError(t, k.CancelDeploymentTask(k.ctx, id))
		time.Sleep(time.Second)
		assert.Equal(t, []string{cores[0]}, pendingIn(k, cores), "what a core is at goes on")
	})
}

func TestW70OnlyTheFailedCoresGetARetry(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		cores := k.fleetOf(4)
		id := k.request(1, to(cores...), "")
		k.await(id)
		for i, c := range cores {
			k.report(c, map[bool]string{true: "FAILED", false: "SUCCEEDED"}[i%2 == 0])
		}
		synctest.Wait()
		k.deploy("t", 2, to(cores[2])) // sent elsewhere since
		v, err := k.TemplateVersion(k.ctx, "t", 1)
		require.NoError(t, err)
		again, err := k.RetryDeploymentTask(k.ctx, id, "")
		require.NoError(t, err)
		d := k.await(again)
		require.Len(t, d.Deployments, 1)
		assert.Equal(t, cores[0], d.Deployments[0].Name)
		assert.Equal(t, []string{cores[0], cores[2]}, pendingIn(k, cores))
		list, err := k.cloud.Jobs.Pending(k.ctx, cores[0])
		require.NoError(t, err)
		assert.Equal(t, v.Deployed.JobID, list[0].JobID, "the same job: no new revision for everybody")
		assert.EqualValues(t, 2, list[0].Number)
		older, err := k.DeploymentTaskCore(k.ctx, id, cores[2])
		require.NoError(t, err)
		assert.Equal(t, fleet.DeploymentFailure, older.DeploymentStatus, "what became of an earlier task is still known")
	})
}

func TestForceDeliversAnewToTheNamedCoresAlone(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		cores := k.fleetOf(3)
		k.await(k.request(1, to(cores...), ""))
		for _, c := range cores {
			k.report(c, "SUCCEEDED")
		}
		synctest.Wait()
		k.await(k.request(1, to(cores[0]), ""))
		assert.Empty(t, pendingIn(k, cores), "what a core has it does not get again")
		id, err := k.CreateDeploymentTask(k.ctx, fleet.NewDeploymentTask{TemplateName: "t", TemplateVersion: 1, Targets: to(cores[1]), Force: true}, "")
		require.NoError(t, err)
		assert.True(t, k.await(id).Force)
		assert.Equal(t, []string{cores[1]}, pendingIn(k, cores))
		assert.Equal(t, fleet.DeploymentInProgress, k.core(cores[1]).DeploymentStatus)
	})
}

func TestACoreThatNeverConnectedCanWaitInTheGroup(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		k.template("t", "1.0.0")
		k.create("2.18.0", newCore("off"))
		yes := true
		id, err := k.CreateDeploymentTask(k.ctx, fleet.NewDeploymentTask{TemplateName: "t", Targets: to("off", "nobody"), PreStage: &yes}, "")
		require.NoError(t, err)
		d := k.await(id)
		assert.Equal(t, fleet.TaskSuccess, d.Deployments[0].Status)
		assert.Equal(t, fleet.TaskFailure, d.Deployments[1].Status, "a name that is nobody's cannot wait")
		assert.Equal(t, []string{"off"}, pendingIn(k, []string{"off"}))
		one, err := k.DeploymentTaskCore(k.ctx, id, "off")
		require.NoError(t, err)
		assert.Contains(t, one.Waiting, "the core to connect")
	})
}

func TestAWaitingItemSaysWhatItWaitsFor(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		cores := k.fleetOf(10)
		id := k.request(1, to(cores...), `{"jobExecutionsRolloutConfig":{"maximumPerMinute":1}}`)
		time.Sleep(30 * time.Second)
		one, err := k.DeploymentTaskCore(k.ctx, id, cores[9])
		require.NoError(t, err)
		assert.Equal(t, "its turn: cores join at 1 a minute, 1 have", one.Waiting)
		list, _, err := k.DeploymentTaskCores(k.ctx, id, fleet.Page{})
		require.NoError(t, err)
		assert.Contains(t, list[0].Waiting, "the core to connect")
	})
}

func TestTheLimitOfTheTimeACoreMayTakeIsTheRequests(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		cores := k.fleetOf(1)
		k.await(k.request(1, to(cores...), `{"timeoutConfig":{"inProgressTimeoutInMinutes":7}}`))
		k.report(cores[0], "")
		time.Sleep(8 * time.Minute)
		n, err := k.cloud.Jobs.Expire(k.ctx)
		require.NoError(t, err)
		assert.Equal(t, 1, n)
		synctest.Wait()
		c := k.core(cores[0])
		assert.Equal(t, fleet.DeploymentFailure, c.DeploymentStatus, "W-59: an execution that timed out is a failure")
		assert.Contains(t, c.DeploymentMessage, "TIMED_OUT")
	})
}

func TestATaskOfTenThousandLongNamesKeepsThemAll(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		k.template("t", "1.0.0")
		names := make([]string, 10_000)
		for i := range names {
			names[i] = fmt.Sprintf("%s-%05d", strings.Repeat("n", 120), i)
		}
		d := k.await(k.request(1, to(names...), ""))
		assert.Equal(t, fleet.TaskFailure, d.Status)
		assert.Len(t, d.Deployments, 10_000)
		var echoed struct{ ThingNames []string }
		require.NoError(t, json.Unmarshal(d.Targets, &echoed))
		assert.Equal(t, names, echoed.ThingNames)
	})
}
