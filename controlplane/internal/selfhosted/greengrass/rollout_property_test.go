package greengrass_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/greengrass"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/jobs"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Whatever the rate and the criterion, whoever drives, dies, reports, joins and
// leaves meanwhile: no minute has more notifications than the rate, nobody is told
// twice, the deployment ends exactly with the report that meets its criterion,
// and after an end nobody gets it any more; else everybody does.
func TestARolloutKeepsItsPromises(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { rapid.Check(struct{ testing.TB }{t}, keepsItsPromises) }) // rapid asks a *testing.T for what a bubble does not have
}

func keepsItsPromises(t *rapid.T) {
	k := &spread{kit: newKit(t, context.Background())}
	k.live = true
	k.groups("g")
	defer k.stop()
	names := k.members(rapid.IntRange(1, 40).Draw(t, "members"))
	rate := rapid.Int32Range(1, 120).Draw(t, "rate")
	config := maximum(rate)
	kind := rapid.SampledFrom([]string{"", "FAILED", "REJECTED", "ALL"}).Draw(t, "failures that count")
	threshold := float64(rapid.IntRange(1, 10000).Draw(t, "threshold in hundredths")) / 100
	least := rapid.Int32Range(1, 10).Draw(t, "at least")
	if kind != "" {
		config.Abort = aborts(kind, threshold, least)
	}
	k.lead()
	d := k.begin(config)
	joined, taken, decided := map[string]bool{}, map[string]bool{}, map[string]bool{}
	var failed int
	active, ended := true, time.Time{}
	canceled := func() bool {
		stored, err := k.Deployment(k.ctx, d.ID)
		require.NoError(t, err)
		return stored.Status == greengrass.StatusCanceled
	}
	reports := map[string]bool{"FAILED": kind == "FAILED" || kind == "ALL", "REJECTED": kind == "REJECTED" || kind == "ALL"}
	t.Repeat(map[string]func(*rapid.T){
		"time": func(t *rapid.T) {
			time.Sleep(time.Duration(rapid.IntRange(1, 90_000).Draw(t, "ms")) * time.Millisecond)
		},
		"restart": func(*rapid.T) { k.stop(); k.lead() },
		"away": func(*rapid.T) {
			k.stop()
			time.Sleep(3 * time.Minute)
			k.lead()
		},
		"another": func(*rapid.T) {
			if len(k.stops) < 3 {
				k.lead()
			}
		},
		"at once": func(*rapid.T) {
			done := make(chan error)
			for range 2 {
				go func() { _, err := k.Drive(k.ctx); done <- err }()
			}
			require.NoError(t, <-done)
			require.NoError(t, <-done)
		},
		"join": func(*rapid.T) {
			n := fmt.Sprintf("core-%04d-%d", len(joined)*7%40, len(joined))
			k.things(n)
			k.move(n, "g", false)
			joined[n] = true
		},
		"leave": func(t *rapid.T) {
			n := rapid.SampledFrom(names).Draw(t, "who")
			k.leave(n)
		},
		"again": func(t *rapid.T) {
			n := rapid.SampledFrom(names).Draw(t, "who")
			k.move(n, "g", rapid.Bool().Draw(t, "delivered anew"))
			joined[n] = true
		},
		"cancel": func(*rapid.T) {
			if active && rapid.IntRange(0, 9).Draw(t, "rarely") == 0 {
				require.NoError(t, k.Service.Cancel(k.ctx, d.ID, jobs.Reason{}))
				active, ended = false, time.Now()
			}
		},
		"report": func(t *rapid.T) {
			var waiting []string
			for n, e := range k.executions(d) {
				if !e.Status.Terminal() {
					waiting = append(waiting, n)
				}
			}
			if len(waiting) == 0 {
				return
			}
			slices.Sort(waiting)
			n := rapid.SampledFrom(waiting).Draw(t, "core")
			s := rapid.SampledFrom([]protocol.JobStatus{protocol.JobInProgress, protocol.JobSucceeded, protocol.JobFailed, protocol.JobRejected}).Draw(t, "status")
			k.report(n, d.JobID, s)
			taken[n] = true
			if reports[string(s)] && !decided[n] { // a core counts once
				failed++
			}
			decided[n] = decided[n] || s != protocol.JobInProgress
			if active && failed > 0 && len(taken) >= int(least) && float64(failed)*10000 >= threshold*100*float64(len(taken))-1e-6 {
				active, ended = false, time.Now()
			}
			synctest.Wait()
			require.Equal(t, !active, canceled(), "%d of %d failed", failed, len(taken))
		},
		"": func(t *rapid.T) {
			synctest.Wait()
			require.Equal(t, !active, canceled())
			paced := k.executions(d)
			maps.DeleteFunc(paced, func(n string, _ jobs.Execution) bool { return joined[n] })
			require.LessOrEqual(t, mostIn(times(paced)), max(int(rate)+1, int(rate)*102/100))
			for n, e := range paced {
				require.Equal(t, int64(1), e.Number, n)
				require.False(t, !ended.IsZero() && time.UnixMilli(e.Stamp).After(ended), "%s got it afterwards", n)
			}
		},
	})
	time.Sleep(time.Duration(len(names)+1)*time.Minute/time.Duration(rate) + 10*time.Second)
	synctest.Wait()
	all := k.executions(d)
	for n, e := range all {
		require.False(t, !active && e.Status == protocol.JobQueued, "%s still waits", n)
	}
	for _, n := range names {
		in, err := k.GroupsOf(k.ctx, n)
		require.NoError(t, err)
		if _, ok := all[n]; active && slices.Contains(in, "g") {
			require.True(t, ok, "%s was left out", n)
		}
	}
}
