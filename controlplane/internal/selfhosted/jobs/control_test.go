package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/jobs"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// code is that of the *RefusedError which err must be.
func code(t *testing.T, err error) string {
	t.Helper()
	no, ok := errors.AsType[*jobs.RefusedError](err)
	require.True(t, ok, "%v", err)
	return no.Code
}

func TestAnExecutionIsCanceledAndDeletedByTheControlPlane(t *testing.T) {
	k := newKit(t, t.Context())
	k.job("j", "g", 7)
	k.start("j", "core", false)
	require.Equal(t, protocol.CodeVersionMismatch, code(t, k.jobs.Cancel(k.ctx, "core", "j", false, 2, nil)))
	require.Equal(t, protocol.CodeInvalidStateTransition, code(t, k.jobs.Delete(k.ctx, "core", "j", 1, false)))
	require.NoError(t, k.jobs.Cancel(k.ctx, "core", "j", false, 1, nil))
	e, err := k.jobs.Execution(k.ctx, "core", "j", 0)
	require.NoError(t, err)
	require.Equal(t, protocol.JobCanceled, e.Status)
	require.Equal(t, protocol.CodeInvalidStateTransition, code(t, k.jobs.Cancel(k.ctx, "core", "j", true, 0, nil)))
	require.Equal(t, protocol.CodeResourceNotFound, code(t, k.jobs.Cancel(k.ctx, "core", "x", true, 0, nil)))

	k.start("j", "core", true)
	k.update("core", "j", protocol.JobInProgress)
	require.Equal(t, protocol.CodeInvalidStateTransition, code(t, k.jobs.Cancel(k.ctx, "core", "j", false, 0, nil)), "it runs")
	require.NoError(t, k.jobs.Cancel(k.ctx, "core", "j", true, 0, nil))
	k.pass(8 * time.Minute)
	n, err := k.jobs.Expire(k.ctx)
	require.NoError(t, err)
	assert.Zero(t, n, "its deadline went with it")
	assert.Equal(t, protocol.Rejected(protocol.JobUpdate("core", "j")), k.update("core", "j", protocol.JobSucceeded)[0].Topic, "the device's next report is refused")

	require.Equal(t, protocol.CodeResourceNotFound, code(t, k.jobs.Delete(k.ctx, "core", "j", 1, false)), "only the last one is kept")
	require.NoError(t, k.jobs.Delete(k.ctx, "core", "j", 2, false))
	_, err = k.jobs.Execution(k.ctx, "core", "j", 0)
	require.ErrorIs(t, err, fault.NotFound)

	k.start("j", "core", false)
	k.update("core", "j", protocol.JobInProgress)
	require.NoError(t, k.jobs.Delete(k.ctx, "core", "j", 1, true))
	list, err := k.jobs.ExecutionsOf(k.ctx, "core")
	require.NoError(t, err)
	assert.Empty(t, list)
}

func TestAJobIsDeletedWithWhatIsPendingOfIt(t *testing.T) {
	k := newKit(t, t.Context())
	k.job("j", "g", 7)
	k.job("other", "h", 0)
	for _, thing := range []string{"done", "runs", "waits"} {
		k.start("j", thing, false)
	}
	k.start("other", "waits", false)
	k.update("done", "j", protocol.JobSucceeded)
	k.update("runs", "j", protocol.JobInProgress)
	b := state.NewBatch(state.StepDeployment)
	require.NoError(t, k.jobs.CancelBatch(k.ctx, b, "j", jobs.Reason{Code: "ENOUGH", Comment: "enough", Force: true}))
	k.commit(b)
	j, err := k.jobs.Job(k.ctx, "j")
	require.NoError(t, err)
	assert.Equal(t, jobs.Reason{Code: "ENOUGH", Comment: "enough", Force: true}, j.Value.Why)
	assert.False(t, j.Value.CanceledAt.IsZero())

	require.NoError(t, k.jobs.DeleteJob(k.ctx, "j"))
	_, err = k.jobs.Job(k.ctx, "j")
	require.ErrorIs(t, err, fault.NotFound)
	require.ErrorIs(t, k.jobs.DeleteJob(k.ctx, "j"), fault.NotFound)
	for thing, want := range map[string]protocol.JobStatus{"done": protocol.JobSucceeded, "runs": protocol.JobCanceled, "waits": protocol.JobCanceled} {
		e, err := k.jobs.Execution(k.ctx, thing, "j", 0)
		require.NoError(t, err)
		assert.Equal(t, want, e.Status, "%s: what a core did stays known", thing)
	}
	assert.Equal(t, protocol.Rejected(protocol.JobUpdate("runs", "j")), k.update("runs", "j", protocol.JobSucceeded)[0].Topic, "the device's next report is refused")
	assert.Len(t, k.pending("waits"), 1, "other jobs go on")
	k.pass(8 * time.Minute)
	n, err := k.jobs.Expire(k.ctx)
	require.NoError(t, err)
	assert.Zero(t, n, "its deadline went with it")
}

func TestOfTwoThatEndAtOnceTheNewerIsRemembered(t *testing.T) {
	k := newKit(t, t.Context())
	for _, id := range []string{"b", "a", "next"} { // keys in another order than time
		k.job(id, "g", 0)
		if id != "next" {
			k.start(id, "core", false)
		}
	}
	next, err := k.jobs.Job(k.ctx, "next")
	require.NoError(t, err)
	known, err := k.jobs.Known(k.ctx, next.Value, []string{"core"})
	require.NoError(t, err)
	b := state.NewBatch(state.StepExecutions)
	_, err = k.jobs.HandBatch(k.ctx, b, next, known["core"])
	require.NoError(t, err)
	k.commit(b)
	pending, ended, err := k.jobs.Of(k.ctx, "core")
	require.NoError(t, err)
	require.Len(t, pending, 1)
	require.Len(t, ended, 1)
	assert.Equal(t, "a", ended[0].JobID)
}

func TestTheExecutionsOfAJobArePagedWhateverElseThereIs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := newKit(t, context.Background())
		k.job("j", "g", 0)
		k.job("other", "h", 0)
		want := map[string]bool{}
		for i := range rapid.IntRange(0, 30).Draw(t, "things") {
			thing := rapid.StringMatching(`[ab:_-]{1,3}`).Draw(t, "thing")
			if i%3 == 0 {
				k.start("other", thing, false)
				continue
			}
			e := k.start("j", thing, false)
			want[fmt.Sprint(thing, e.Number)] = true
			if rapid.Bool().Draw(t, "ends") {
				k.update(thing, "j", protocol.JobSucceeded)
				if rapid.Bool().Draw(t, "again") {
					e := k.start("j", thing, true)
					want[fmt.Sprint(thing, e.Number)] = true
				}
			}
		}
		// Of what ended for a target only the last one is known.
		limit := rapid.IntRange(1, 7).Draw(t, "limit")
		got, after := map[string]bool{}, ""
		for {
			list, next, err := k.jobs.ExecutionsOfJob(k.ctx, "j", after, limit)
			require.NoError(t, err)
			require.LessOrEqual(t, len(list), limit)
			for _, e := range list {
				require.False(t, got[fmt.Sprint(e.Thing, e.Number)], "%s twice", e.Thing)
				got[fmt.Sprint(e.Thing, e.Number)] = true
			}
			if after = next; after == "" {
				break
			}
		}
		known := map[string]bool{}
		for id := range want {
			e, err := k.jobs.Execution(k.ctx, id[:len(id)-1], "j", int64(id[len(id)-1]-'0'))
			if err == nil {
				known[fmt.Sprint(e.Thing, e.Number)] = true
			}
		}
		require.Equal(t, known, got)
	})
}

func TestWithdrawEndsWhatIsQueued(t *testing.T) {
	for _, force := range []bool{false, true} {
		t.Run(fmt.Sprint("force ", force), func(t *testing.T) {
			k := newKit(t, t.Context())
			k.job("j", "g", 0)
			k.job("other", "h", 0)
			for i := range 300 {
				thing := fmt.Sprintf("core-%d", i)
				k.start("j", thing, false)
				if i%10 == 0 {
					k.start("other", thing, false)
				}
				if i%3 == 0 {
					k.update(thing, "j", protocol.JobInProgress)
				}
			}
			require.NoError(t, k.jobs.Withdraw(k.ctx, "j", force))
			count := map[protocol.JobStatus]int{}
			list, _, err := k.jobs.ExecutionsOfJob(k.ctx, "j", "", 1000)
			require.NoError(t, err)
			for _, e := range list {
				count[e.Status]++
			}
			if force {
				assert.Equal(t, map[protocol.JobStatus]int{protocol.JobCanceled: 300}, count)
			} else {
				assert.Equal(t, map[protocol.JobStatus]int{protocol.JobCanceled: 200, protocol.JobInProgress: 100}, count)
			}
			assert.Len(t, k.pending("core-10"), 1)
		})
	}
}

// What is read by ranges is what single reads give, whatever lies in between, and
// what is handed out in bulk is what would have been handed out singly.
func TestHandingOutInBulkIsHandingOutSingly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ctx := context.Background()
		bulk, single := newKit(t, ctx), newKit(t, ctx)
		name := rapid.StringMatching(`[ab:_-]{1,4}`)
		things := rapid.SliceOfNDistinct(name, 1, 60, rapid.ID).Draw(t, "things")
		others := rapid.SliceOfN(name, 0, 60).Draw(t, "others")
		for _, k := range []*kit{bulk, single} {
			k.job("old", "g", 0)
			k.job("new", "g", 0)
			k.job("else", "h", 0)
			for i, o := range others {
				k.start([]string{"old", "else", "new"}[i%3], o, false)
				if i%4 == 0 {
					k.update(o, []string{"old", "else", "new"}[i%3], protocol.JobInProgress)
				}
				if i%8 == 0 {
					k.update(o, []string{"old", "else", "new"}[i%3], protocol.JobFailed)
				}
			}
		}
		j, err := bulk.jobs.Job(ctx, "new")
		require.NoError(t, err)
		known, err := bulk.jobs.Known(ctx, j.Value, things)
		require.NoError(t, err)
		pack := jobs.Packer{Commit: func(b *state.Batch, _ []string) error {
			_, err := bulk.store.Commit(ctx, b)
			return err
		}}
		for _, n := range things {
			b := state.NewBatch(state.StepExecutions)
			_, err := bulk.jobs.HandBatch(ctx, b, j, known[n])
			require.NoError(t, err)
			require.NoError(t, pack.Add(n, b))

			b = state.NewBatch(state.StepExecutions)
			j, err := single.jobs.Job(ctx, "new")
			require.NoError(t, err)
			if e, ok, err := single.jobs.Last(ctx, n, "new", names.TargetThingGroup, "g"); err != nil || !ok || e.JobID != "new" {
				require.NoError(t, single.jobs.ClearBatch(ctx, b, n, names.TargetThingGroup, "g", "new", protocol.JobCanceled))
				_, err = single.jobs.StartBatch(ctx, b, j, n, jobs.Start{})
				require.NoError(t, err)
				single.commit(b)
			}
		}
		require.NoError(t, pack.Flush())
		dump := func(k *kit) map[string]string {
			page, err := k.store.List(ctx, "", "", 0)
			require.NoError(t, err)
			out := map[string]string{}
			for _, e := range page.Entries {
				out[e.Key] = string(e.Value)
			}
			return out
		}
		require.Equal(t, dump(single), dump(bulk))
	})
}

func TestWhatFollowsFromAnEndIsInTheSameCommit(t *testing.T) {
	k := newKit(t, t.Context())
	k.jobs.OnEnd(func(_ context.Context, b *state.Batch, e jobs.Execution) error {
		if e.Thing == "fails" {
			return errors.New("no")
		}
		b.Put("/test/"+e.Thing, e.Status)
		return nil
	})
	k.job("j", "g", 1)
	for _, n := range []string{"reports", "late", "removed", "fails"} {
		k.start("j", n, false)
	}
	k.update("reports", "j", protocol.JobSucceeded)
	k.remove("removed", "j")
	k.update("late", "j", protocol.JobInProgress)
	k.pass(2 * time.Minute)
	_, err := k.jobs.Expire(k.ctx)
	require.NoError(t, err)
	_, err = k.jobs.Apply(k.ctx, jobs.Update{Thing: "fails", JobID: "j", Status: protocol.JobSucceeded})
	require.Error(t, err)
	assert.Len(t, k.pending("fails"), 1)
	for n, want := range map[string]protocol.JobStatus{"reports": protocol.JobSucceeded, "removed": protocol.JobRemoved, "late": protocol.JobTimedOut} {
		got, err := state.Read[protocol.JobStatus](k.ctx, k.store, "/test/"+n)
		require.NoError(t, err)
		assert.Equal(t, want, got.Value)
	}
}
