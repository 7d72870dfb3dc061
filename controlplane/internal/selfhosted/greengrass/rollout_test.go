package greengrass_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/rollout"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/greengrass"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/jobs"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// spread is a kit in virtual time with processes that drive rollouts.
type spread struct {
	*kit
	stops []func()
}

// bubble runs test in virtual time.
func bubble(t *testing.T, test func(t *testing.T, k *spread)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		k := &spread{kit: newKit(t, t.Context())}
		k.live = true
		k.groups("g")
		defer k.stop()
		test(t, k)
	})
}

// lead starts one more process that drives; the first of them leads.
func (k *spread) lead() {
	s, err := greengrass.New(greengrass.Config{Store: k.store, Registry: k.registry, Jobs: k.jobs, Components: components{}, Now: k.clock})
	require.NoError(k.t, err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.RunRollouts(ctx) }()
	k.stops = append(k.stops, func() {
		stop()
		require.NoError(k.t, <-done)
	})
	synctest.Wait()
}

// stop ends the process that began first, and all when it is the test that ends.
func (k *spread) stop() {
	for len(k.stops) > 0 {
		s := k.stops[0]
		k.stops = k.stops[1:]
		s()
	}
}

func (k *spread) members(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("core-%04d", i)
	}
	k.things(names...)
	for _, n := range names {
		k.move(n, "g", false)
	}
	return names
}

// begin creates a deployment for g with the job configuration.
func (k *spread) begin(c greengrass.JobConfig) greengrass.Deployment {
	n := group("g", "1.0.0")
	n.JobConfig = c
	d, err := k.Service.Create(k.ctx, n)
	require.NoError(k.t, err)
	synctest.Wait()
	return d
}

func maximum(n int32) greengrass.JobConfig {
	return greengrass.JobConfig{Rollout: &greengrass.RolloutConfig{Maximum: &n}}
}

func aborts(kind string, threshold float64, least int32) *greengrass.AbortConfig {
	return &greengrass.AbortConfig{Criteria: []greengrass.AbortCriterion{{FailureType: kind, Action: "CANCEL", Threshold: &threshold, MinExecuted: least}}}
}

// executions of the deployment by thing.
func (k *spread) executions(d greengrass.Deployment) map[string]jobs.Execution {
	list, next, err := k.jobs.ExecutionsOfJob(k.ctx, d.JobID, "", 100_000)
	require.NoError(k.t, err)
	require.Empty(k.t, next)
	out := map[string]jobs.Execution{}
	for _, e := range list {
		out[e.Thing] = e
	}
	return out
}

// times are when the things got theirs, in order.
func times(all map[string]jobs.Execution) []time.Time {
	var at []time.Time
	for _, e := range all {
		at = append(at, time.UnixMilli(e.Stamp))
	}
	slices.SortFunc(at, time.Time.Compare)
	return at
}

// mostIn is the largest number of times within any minute.
func mostIn(at []time.Time) int {
	most, from := 0, 0
	for i, t := range at {
		for t.Sub(at[from]) >= time.Minute {
			from++
		}
		most = max(most, i-from+1)
	}
	return most
}

func (k *spread) rollout(d greengrass.Deployment) greengrass.RolloutState {
	r, _, err := k.Rollout(k.ctx, d.ID)
	require.NoError(k.t, err)
	return r
}

func TestWithoutARateEveryMemberIsServedAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, k *spread) {
		names := k.members(700)
		k.lead()
		began := time.Now()
		d := k.begin(greengrass.JobConfig{})
		assert.Zero(t, time.Since(began))
		assert.Len(t, k.executions(d), len(names))
		assert.Zero(t, k.rollout(d), "nothing is left to do")
	})
}

func TestARateIsKeptToTwoPerCentWhoeverDrives(t *testing.T) {
	for _, rate := range []int32{7, 60, 100, 1000} {
		t.Run(fmt.Sprint(rate, " a minute"), func(t *testing.T) {
			bubble(t, func(t *testing.T, k *spread) {
				k.lead()
				k.lead() // stands by
				names := k.members(int(rate) * 2)
				began := time.Now()
				d := k.begin(maximum(rate))
				time.Sleep(2*time.Minute - time.Millisecond)
				synctest.Wait()
				at := times(k.executions(d))
				require.Len(t, at, len(names), "each once")
				assert.LessOrEqual(t, mostIn(at), int(rate)+int(rate)/50)
				assert.InEpsilon(t, 2*time.Minute, at[len(at)-1].Sub(began)+time.Minute/time.Duration(rate), 0.02)
				assert.Zero(t, k.rollout(d))
			})
		})
	}
}

func TestARolloutGoesOnAtItsRateAfterARestart(t *testing.T) {
	bubble(t, func(t *testing.T, k *spread) {
		names := k.members(120)
		k.lead()
		d := k.begin(maximum(30))
		for range 3 {
			time.Sleep(50 * time.Second)
			k.stop()
			time.Sleep(5 * time.Minute)
			k.lead()
		}
		time.Sleep(3 * time.Minute)
		all := k.executions(d)
		require.Len(t, all, len(names), "nobody is left out")
		for _, e := range all {
			require.Equal(t, int64(1), e.Number, "nor told twice")
		}
		assert.LessOrEqual(t, mostIn(times(all)), 31, "no burst makes up for the time away")
	})
}

func TestTheRateGrowsByWhicheverCriterionIsFirst(t *testing.T) {
	bubble(t, func(t *testing.T, k *spread) {
		k.members(100)
		k.lead()
		n, s := int32(20), int32(5)
		most := int32(30)
		d := k.begin(greengrass.JobConfig{Rollout: &greengrass.RolloutConfig{Maximum: &most, Exponential: &greengrass.ExponentialRate{
			Base: 6, Factor: 2, Increase: &greengrass.IncreaseWatched{Notified: &n, Succeeded: &s},
		}}})
		time.Sleep(55 * time.Second) // 6 a minute: at 0, 10, … 50
		at := times(k.executions(d))
		require.Len(t, at, 6)
		for thing := range k.executions(d) {
			if s--; s >= 0 {
				k.report(thing, d.JobID, protocol.JobSucceeded)
			}
		}
		time.Sleep(10 * time.Second) // 12 a minute, five of them having succeeded
		synctest.Wait()
		assert.InDelta(t, 12, k.rollout(d).Rate, 0)
		time.Sleep(5 * time.Second)
		at = times(k.executions(d))
		assert.Equal(t, 5*time.Second, at[len(at)-1].Sub(at[len(at)-2]))
		time.Sleep(3 * time.Minute)
		assert.InDelta(t, 24, k.rollout(d).Rate, 0, "forty were notified")
		time.Sleep(time.Minute)
		assert.InDelta(t, 30, k.rollout(d).Rate, 0, "never above the maximum")
	})
}

func TestWhoJoinsMeanwhileGetsItAtOnceAndIsNotCounted(t *testing.T) {
	bubble(t, func(t *testing.T, k *spread) {
		k.members(10)
		k.things("core-0005-late", "zz-late")
		k.lead()
		d := k.begin(maximum(6))
		time.Sleep(time.Second)
		k.move("core-0005-late", "g", false)
		k.move("zz-late", "g", false)
		assert.Len(t, k.executions(d), 3)
		assert.Equal(t, 1, k.rollout(d).Notified)
		k.leave("core-0007")
		time.Sleep(85 * time.Second)
		all := k.executions(d)
		assert.Len(t, all, 11)
		assert.NotContains(t, all, "core-0007", "who left before its turn never gets it")
		assert.Equal(t, int64(1), all["zz-late"].Number)
	})
}

func TestACanceledDeploymentReachesNobodyAnyMore(t *testing.T) {
	bubble(t, func(t *testing.T, k *spread) {
		k.members(20)
		k.lead()
		d := k.begin(maximum(60))
		time.Sleep(5500 * time.Millisecond)
		require.Len(t, k.executions(d), 6)
		k.report("core-0000", d.JobID, protocol.JobInProgress)
		require.NoError(t, k.Service.Cancel(k.ctx, d.ID, jobs.Reason{}))
		time.Sleep(time.Minute)
		count := map[protocol.JobStatus]int{}
		for _, e := range k.executions(d) {
			count[e.Status]++
		}
		assert.Equal(t, map[protocol.JobStatus]int{protocol.JobInProgress: 1, protocol.JobCanceled: 5}, count)
		assert.Zero(t, k.rollout(d))
		require.ErrorIs(t, k.Service.Cancel(k.ctx, d.ID, jobs.Reason{}), fault.Conflict)
	})
}

func TestForceEndsWhatRunsAsWell(t *testing.T) {
	bubble(t, func(t *testing.T, k *spread) {
		k.members(3)
		k.lead()
		d := k.begin(greengrass.JobConfig{})
		k.report("core-0000", d.JobID, protocol.JobInProgress)
		require.NoError(t, k.Service.Cancel(k.ctx, d.ID, jobs.Reason{Force: true}))
		time.Sleep(time.Minute)
		for name, e := range k.executions(d) {
			assert.Equal(t, protocol.JobCanceled, e.Status, name)
		}
	})
}

func TestARevisionTakesThePlaceOfOneThatIsStillRollingOut(t *testing.T) {
	bubble(t, func(t *testing.T, k *spread) {
		names := k.members(50)
		k.lead()
		first := k.begin(maximum(60))
		time.Sleep(10500 * time.Millisecond)
		second := k.begin(greengrass.JobConfig{})
		for _, e := range k.executions(first) {
			assert.Equal(t, protocol.JobCanceled, e.Status)
		}
		for _, n := range names {
			assert.Equal(t, []string{second.JobID}, k.jobIDs(n))
		}
		assert.Zero(t, k.rollout(first))
	})
}

func TestARolloutIsAbortedExactlyAtItsCriterion(t *testing.T) {
	for _, c := range []struct {
		name    string
		abort   *greengrass.AbortConfig
		reports []protocol.JobStatus
	}{
		{"failures", aborts("FAILED", 20, 10), slices.Concat(repeat(protocol.JobFailed, 2), repeat(protocol.JobSucceeded, 8))},
		{"too few to judge", aborts("FAILED", 20, 10), slices.Concat(repeat(protocol.JobFailed, 9), repeat(protocol.JobInProgress, 1))},
		{"refusals alone", aborts("REJECTED", 50, 4), slices.Concat(repeat(protocol.JobFailed, 1), repeat(protocol.JobSucceeded, 1), repeat(protocol.JobRejected, 2))},
		{"all together", aborts("ALL", 66.67, 3), slices.Concat(repeat(protocol.JobFailed, 1), repeat(protocol.JobSucceeded, 1), repeat(protocol.JobRejected, 1), repeat(protocol.JobFailed, 1))},
		{"a threshold of two decimals", aborts("FAILED", 33.33, 3), []protocol.JobStatus{protocol.JobSucceeded, protocol.JobInProgress, protocol.JobFailed}},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, k *spread) {
				names := k.members(40)
				k.lead()
				config := maximum(60)
				config.Abort = c.abort
				d := k.begin(config)
				time.Sleep(20500 * time.Millisecond)
				for i, s := range c.reports {
					synctest.Wait()
					stored, err := k.Deployment(k.ctx, d.ID)
					require.NoError(t, err)
					require.Equal(t, greengrass.StatusActive, stored.Status, "before report %d", i)
					k.report(names[i], d.JobID, protocol.JobInProgress)
					synctest.Wait()
					if s != protocol.JobInProgress {
						k.report(names[i], d.JobID, s)
					}
				}
				synctest.Wait()
				stored, err := k.Deployment(k.ctx, d.ID)
				require.NoError(t, err)
				require.Equal(t, greengrass.StatusCanceled, stored.Status)
				got := len(k.executions(d))
				time.Sleep(time.Hour)
				assert.Len(t, k.executions(d), got, "nobody gets it afterwards")
				assert.Zero(t, k.rollout(d))
			})
		})
	}
}

func repeat(s protocol.JobStatus, n int) []protocol.JobStatus {
	return slices.Repeat([]protocol.JobStatus{s}, n)
}

func TestWhatTimesOutCounts(t *testing.T) {
	bubble(t, func(t *testing.T, k *spread) {
		names := k.members(4)
		k.lead()
		minutes := int64(2)
		d := k.begin(greengrass.JobConfig{Abort: aborts("TIMED_OUT", 50, 2), Timeout: &greengrass.TimeoutConfig{Minutes: &minutes}})
		assert.Equal(t, "follow", k.rollout(d).Phase)
		k.report(names[0], d.JobID, protocol.JobInProgress)
		k.report(names[1], d.JobID, protocol.JobSucceeded)
		time.Sleep(2*time.Minute + time.Second)
		n, err := k.jobs.Expire(k.ctx)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		synctest.Wait()
		stored, err := k.Deployment(k.ctx, d.ID)
		require.NoError(t, err)
		assert.Equal(t, greengrass.StatusCanceled, stored.Status)
		assert.Equal(t, protocol.JobTimedOut, k.executions(d)[names[0]].Status)
		assert.Equal(t, protocol.JobCanceled, k.executions(d)[names[2]].Status)
	})
}

func TestCountersAreRightAfterARestart(t *testing.T) {
	for _, compact := range []bool{false, true} {
		t.Run(fmt.Sprint("history is gone ", compact), func(t *testing.T) {
			bubble(t, func(t *testing.T, k *spread) {
				names := k.members(30)
				k.lead()
				d := k.begin(greengrass.JobConfig{Abort: aborts("ALL", 50, 20)})
				for i, n := range names[:15] {
					k.report(n, d.JobID, protocol.JobInProgress)
					if i == 3 {
						time.Sleep(2 * time.Second) // the record takes it over
					}
					if i%3 != 0 {
						k.report(n, d.JobID, protocol.JobFailed)
					}
					if i == 7 {
						k.stop()
						time.Sleep(time.Minute)
					}
				}
				if compact {
					k.store.Compact()
				}
				k.lead()
				time.Sleep(2 * time.Second)
				r := k.rollout(d)
				assert.Equal(t, 15, r.TakenUp)
				assert.Equal(t, 10, r.Failed)
				k.report(names[0], d.JobID, protocol.JobSucceeded)
				time.Sleep(2 * time.Second)
				assert.Equal(t, 1, k.rollout(d).Succeeded)
				assert.Equal(t, 15, k.rollout(d).TakenUp, "it had begun before")
			})
		})
	}
}

func TestACoreCountsOnceHoweverOftenItGetsTheDeployment(t *testing.T) {
	for _, c := range []struct {
		name    string
		restart bool // with no history to follow
		want    rollout.Results
		reports []protocol.JobStatus // the core gets the deployment again before each
	}{
		{"failed twice", false, rollout.Results{TakenUp: 1, Failed: 1}, []protocol.JobStatus{protocol.JobFailed, protocol.JobFailed}},
		{"failed at first", false, rollout.Results{TakenUp: 1, Failed: 1}, []protocol.JobStatus{protocol.JobFailed, protocol.JobSucceeded, protocol.JobInProgress}},
		{"taken up, then delivered anew", false, rollout.Results{TakenUp: 1, Rejected: 1}, []protocol.JobStatus{protocol.JobInProgress, protocol.JobInProgress, protocol.JobRejected, protocol.JobFailed}},
		{"failed twice, counted afresh", true, rollout.Results{TakenUp: 1, Failed: 1}, []protocol.JobStatus{protocol.JobFailed, protocol.JobFailed}},
		{"failed and runs again, counted afresh", true, rollout.Results{TakenUp: 1, Failed: 1}, []protocol.JobStatus{protocol.JobFailed, protocol.JobInProgress}},
		{"taken up and waits again, counted afresh", true, rollout.Results{TakenUp: 1}, []protocol.JobStatus{protocol.JobInProgress, protocol.JobQueued}},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, k *spread) {
				k.members(10)
				if !c.restart {
					k.lead()
				}
				config := maximum(1)
				config.Abort = aborts("ALL", 100, 9)
				d := k.begin(config)
				for _, s := range c.reports {
					k.move("core-0000", "g", true)
					if s != protocol.JobQueued {
						k.report("core-0000", d.JobID, s)
					}
					synctest.Wait()
				}
				if c.restart {
					k.store.Compact()
					k.lead()
				}
				time.Sleep(2 * time.Minute) // the record takes it over with the next one that is notified
				assert.Equal(t, c.want, k.rollout(d).Results)
			})
		})
	}
}

func TestTheRateOfTheServiceHoldsWhereADeploymentNamesNone(t *testing.T) {
	bubble(t, func(t *testing.T, k *spread) {
		k.members(10)
		var err error
		k.Service, err = greengrass.New(greengrass.Config{Store: k.store, Registry: k.registry, Jobs: k.jobs, Components: components{}, Now: k.clock, RolloutRate: 6})
		require.NoError(t, err)
		k.lead()
		d := k.begin(greengrass.JobConfig{})
		time.Sleep(35 * time.Second)
		assert.Len(t, k.executions(d), 4)
	})
}
