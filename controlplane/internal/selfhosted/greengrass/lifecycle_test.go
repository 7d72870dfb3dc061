package greengrass_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/clienttoken"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/greengrass"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

func thing(name, version string) greengrass.NewDeployment {
	n := group("", version)
	n.Kind, n.Target = names.TargetThing, name
	return n
}

func (k *kit) status(id string) greengrass.Status {
	k.t.Helper()
	d, err := k.Deployment(k.ctx, id)
	require.NoError(k.t, err)
	return d.Status
}

func (k *kit) latest(id string) bool {
	k.t.Helper()
	d, err := k.Deployment(k.ctx, id)
	require.NoError(k.t, err)
	is, err := k.Latest(k.ctx, d)
	require.NoError(k.t, err)
	return is
}

func TestTheDeploymentOfAThingEndsWithItsExecution(t *testing.T) {
	for _, c := range []struct {
		name   string
		end    func(k *kit, job string)
		status greengrass.Status
	}{
		{"it waits", func(*kit, string) {}, greengrass.StatusActive},
		{"it runs", func(k *kit, job string) { k.report("core", job, protocol.JobInProgress) }, greengrass.StatusActive},
		{"success", func(k *kit, job string) { k.report("core", job, protocol.JobSucceeded) }, greengrass.StatusCompleted},
		{"failure", func(k *kit, job string) { k.report("core", job, protocol.JobFailed) }, greengrass.StatusFailed},
		{"refusal", func(k *kit, job string) { k.report("core", job, protocol.JobRejected) }, greengrass.StatusFailed},
		{"time is over", func(k *kit, job string) {
			k.report("core", job, protocol.JobInProgress)
			k.pass(2 * time.Minute)
			_, err := k.jobs.Expire(k.ctx)
			require.NoError(k.t, err)
		}, greengrass.StatusFailed},
		{"its execution is canceled", func(k *kit, job string) {
			require.NoError(k.t, k.jobs.Cancel(k.ctx, "core", job, false, 0, nil))
		}, greengrass.StatusCanceled},
		{"its execution is canceled while it runs", func(k *kit, job string) {
			k.report("core", job, protocol.JobInProgress)
			require.NoError(k.t, k.jobs.Cancel(k.ctx, "core", job, true, 0, nil))
		}, greengrass.StatusCanceled},
		{"its execution is deleted", func(k *kit, job string) {
			require.NoError(k.t, k.jobs.Delete(k.ctx, "core", job, 1, true))
		}, greengrass.StatusCanceled},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := newKit(t, t.Context(), "core")
			n := thing("core", "1.0.0")
			n.JobConfig.Timeout = &greengrass.TimeoutConfig{Minutes: new(int64(1))}
			d := k.create(n)
			assert.Equal(t, []string{d.JobID}, k.jobIDs("core"), "it is delivered in the same commit")
			c.end(k, d.JobID)
			assert.Equal(t, c.status, k.status(d.ID))
			assert.True(t, k.latest(d.ID))
			next := k.create(thing("core", "2.0.0"))
			if c.status == greengrass.StatusActive {
				c.status = greengrass.StatusInactive
			}
			assert.Equal(t, c.status, k.status(d.ID), "what has ended keeps its status")
			assert.False(t, k.latest(d.ID))
			assert.True(t, k.latest(next.ID))
			assert.Contains(t, k.jobIDs("core"), next.JobID)
		})
	}
}

func TestCancelStopsWhatNobodyTookUp(t *testing.T) {
	k := newKit(t, t.Context(), "waits", "runs", "late", "own")
	k.groups("g")
	k.move("waits", "g", false)
	k.move("runs", "g", false)
	d := k.create(group("g", "1.0.0"))
	k.report("runs", d.JobID, protocol.JobInProgress)
	require.NoError(t, k.Cancel(t.Context(), d.ID))
	k.drive()
	assert.Equal(t, greengrass.StatusCanceled, k.status(d.ID))
	assert.True(t, k.latest(d.ID), "a canceled deployment stays the latest")
	assert.Equal(t, []string{d.JobID}, k.jobIDs("runs"), "what runs goes on")
	assert.Empty(t, k.move("late", "g", false).JobID, "who joins gets nothing")
	k.report("runs", d.JobID, protocol.JobSucceeded)
	assert.Equal(t, greengrass.StatusCanceled, k.status(d.ID))

	own := k.create(thing("own", "1.0.0"))
	require.NoError(t, k.Cancel(t.Context(), own.ID))
	assert.Empty(t, k.jobIDs("own"))
	assert.Equal(t, greengrass.StatusCanceled, k.status(own.ID))

	for _, id := range []string{d.ID, own.ID} {
		err := k.Cancel(t.Context(), id)
		require.ErrorIs(t, err, fault.Conflict)
		var about *greengrass.ResourceError
		require.ErrorAs(t, err, &about)
		assert.Equal(t, "deployment", about.Type)
		assert.Equal(t, id, about.ID)
	}
	require.ErrorIs(t, k.Cancel(t.Context(), "none"), fault.NotFound)
	next := k.create(group("g", "2.0.0"))
	assert.Equal(t, 2, next.Revision)
	assert.Equal(t, greengrass.StatusCanceled, k.status(d.ID))
}

func TestAnAbortThatLosesItsRacesIsNotGivenUp(t *testing.T) {
	k := newKit(t, t.Context(), "core")
	k.groups("g")
	k.move("core", "g", false)
	n := group("g", "1.0.0")
	n.JobConfig.Abort = aborts("FAILED", 50, 1)
	d := k.create(n)
	k.report("core", d.JobID, protocol.JobFailed)
	races := 40
	k.store.FailCommit = func(b *state.Batch) error {
		if races--; races > 0 && b.Step == state.StepDeployment {
			return fault.New(fault.Conflict, "others are faster")
		}
		return nil
	}
	k.drive()
	assert.Equal(t, greengrass.StatusCanceled, k.status(d.ID))
}

func TestRevisionsNeverGoBack(t *testing.T) {
	k := newKit(t, t.Context(), "core")
	k.groups("g")
	var all []greengrass.Deployment
	for i := range 3 {
		all = append(all, k.create(group("g", fmt.Sprint(i+1, ".0.0"))))
	}
	require.ErrorIs(t, k.Delete(t.Context(), all[2].ID), fault.Conflict, "an ACTIVE one must be canceled first")
	require.NoError(t, k.Cancel(t.Context(), all[2].ID))
	require.NoError(t, k.Delete(t.Context(), all[2].ID))
	require.ErrorIs(t, k.Delete(t.Context(), all[2].ID), fault.NotFound)
	assert.True(t, k.latest(all[1].ID), "the next older one that remains is the latest")
	assert.Equal(t, greengrass.StatusInactive, k.status(all[1].ID), "and stays what it is")
	assert.Empty(t, k.move("core", "g", false).JobID)
	require.NoError(t, k.Delete(t.Context(), all[0].ID))
	assert.True(t, k.latest(all[1].ID))
	require.NoError(t, k.Delete(t.Context(), all[1].ID))
	assert.Equal(t, 4, k.create(group("g", "4.0.0")).Revision, "also when none remain")

	own := k.create(thing("core", "1.0.0"))
	require.NoError(t, k.RemoveThing(t.Context(), "core", nil))
	assert.Equal(t, greengrass.StatusCanceled, k.status(own.ID))
	k.things("core")
	assert.Equal(t, 2, k.create(thing("core", "1.0.0")).Revision, "a thing of the same name goes on from there")
}

func TestTheJobOfADeletedDeploymentStaysAsLongAsSomebodyCarriesItOut(t *testing.T) {
	k := newKit(t, t.Context(), "runs", "done")
	k.groups("g")
	k.move("runs", "g", false)
	d, own := k.create(group("g", "1.0.0")), k.create(thing("done", "1.0.0"))
	k.report("runs", d.JobID, protocol.JobInProgress)
	k.report("done", own.JobID, protocol.JobSucceeded)
	require.NoError(t, k.Cancel(t.Context(), d.ID))
	for _, id := range []string{d.ID, own.ID} {
		require.NoError(t, k.Delete(t.Context(), id))
	}
	there := func() (ids []string) {
		require.NoError(t, k.jobs.Prune(t.Context()))
		list, _, err := k.jobs.Jobs(t.Context(), "", 10)
		require.NoError(t, err)
		for _, j := range list {
			ids = append(ids, j.ID)
		}
		return ids
	}
	assert.Equal(t, []string{d.JobID}, there())
	k.report("runs", d.JobID, protocol.JobSucceeded)
	assert.Empty(t, there())
	marks, err := k.store.List(t.Context(), state.Root+"jobs/discarded/", "", 0)
	require.NoError(t, err)
	assert.Empty(t, marks.Entries)
}

func TestAGroupThatIsRemovedMeanwhileGetsNoDeployment(t *testing.T) {
	k := newKit(t, t.Context())
	k.groups("g")
	raced := false
	k.store.FailCommit = func(b *state.Batch) error {
		if b.Step == state.StepDeployment && !raced {
			raced = true
			require.NoError(t, k.RemoveGroup(t.Context(), "g", nil))
		}
		return nil
	}
	_, err := k.Service.Create(t.Context(), group("g", "1.0.0"))
	require.ErrorIs(t, err, fault.NotFound)
	assert.True(t, raced)
}

func TestAClientTokenGivesTheSameDeploymentForEightHours(t *testing.T) {
	k := newKit(t, t.Context(), "core")
	k.groups("g")
	n := group("g", "1.0.0")
	first, err := k.CreateOnce(t.Context(), n, "tok")
	require.NoError(t, err)
	k.restart()
	again, err := k.CreateOnce(t.Context(), group("g", "2.0.0"), "tok")
	require.NoError(t, err)
	assert.Equal(t, first, again, "the token wins, also after a restart")
	assert.Equal(t, names.TargetThingGroup, again.Kind)
	other, err := k.CreateOnce(t.Context(), n, "other")
	require.NoError(t, err)
	assert.NotEqual(t, first.ID, other.ID)
	again, err = k.CreateOnce(t.Context(), n, "tok")
	require.NoError(t, err)
	assert.Equal(t, first.ID, again.ID, "also when it is not the current one any more")
	_, err = k.CreateOnce(t.Context(), group("none", "1.0.0"), "failed")
	require.ErrorIs(t, err, fault.NotFound)
	failed, err := k.CreateOnce(t.Context(), n, "failed")
	require.NoError(t, err, "a failure is not remembered")
	k.pass(clienttoken.Life)
	fresh, err := k.CreateOnce(t.Context(), n, "failed")
	require.NoError(t, err)
	assert.NotEqual(t, failed.ID, fresh.ID)

	var wg sync.WaitGroup
	ids := sync.Map{}
	for range 8 {
		wg.Go(func() {
			d, err := k.CreateOnce(t.Context(), n, "many")
			if err != nil {
				assert.ErrorIs(t, err, clienttoken.ErrInProgress)
				return
			}
			ids.Store(d.ID, nil)
		})
	}
	wg.Wait()
	count := 0
	ids.Range(func(any, any) bool { count++; return true })
	assert.Equal(t, 1, count)
}

func (k *kit) regroup(thing string, join ...string) {
	k.t.Helper()
	require.NoError(k.t, k.Regroup(k.ctx, thing, nil, join))
}

func TestListsAreNewestFirstAndStable(t *testing.T) {
	k := newKit(t, t.Context(), "core")
	k.groups("a", "b", "child")
	var ids []string
	add := func(n greengrass.NewDeployment) string {
		k.pass(time.Second)
		d := k.create(n)
		ids = append([]string{d.ID}, ids...)
		return d.ID
	}
	a1 := add(group("a", "1.0.0"))
	own := add(thing("core", "1.0.0"))
	a2 := add(group("a", "2.0.0"))
	b := add(group("b", "1.0.0"))
	n := group("child", "1.0.0")
	n.Parent = "a"
	child := add(n)
	k.run()
	list := func(f greengrass.Filter) []string {
		t.Helper()
		out, next, err := k.List(t.Context(), f, "", 100)
		require.NoError(t, err)
		assert.Empty(t, next)
		var got []string
		for _, h := range out {
			assert.Equal(t, h.ID != a1, h.Latest)
			got = append(got, h.ID)
		}
		return got
	}
	assert.Equal(t, ids, list(greengrass.Filter{}))
	assert.Equal(t, []string{child, b, a2, own}, list(greengrass.Filter{LatestOnly: true}))
	assert.Equal(t, []string{a2, a1}, list(greengrass.Filter{Kind: names.TargetThingGroup, Target: "a"}))
	assert.Equal(t, []string{a2}, list(greengrass.Filter{Kind: names.TargetThingGroup, Target: "a", LatestOnly: true}))
	assert.Empty(t, list(greengrass.Filter{Kind: names.TargetThing, Target: "a"}))
	assert.Equal(t, []string{child}, list(greengrass.Filter{Parent: "a"}))

	var paged []string
	for after := ""; ; {
		page, next, err := k.List(t.Context(), greengrass.Filter{}, after, 2)
		require.NoError(t, err)
		for _, h := range page {
			paged = append(paged, h.ID)
		}
		if after = next; next == "" {
			break
		}
		k.pass(time.Second)
		k.create(group("b", "9.0.0")) // what is made meanwhile does not come in between
	}
	assert.Equal(t, ids, paged)
	_, _, err := k.List(t.Context(), greengrass.Filter{}, "x", 2)
	require.ErrorIs(t, err, fault.Invalid)

	by, err := k.UsedBy(t.Context(), "com.example.App", "2.0.0")
	require.NoError(t, err)
	assert.Equal(t, a2, by)
	by, err = k.UsedBy(t.Context(), "com.example.App", "3.0.0")
	require.NoError(t, err)
	assert.Empty(t, by)
}

func TestWhatAThingRunsIsInUse(t *testing.T) {
	k := newKit(t, t.Context(), "core")
	k.listing(t)
	user := func(version string) string {
		by, err := k.UsedBy(t.Context(), "com.example.App", version)
		require.NoError(t, err)
		return by
	}
	done := k.create(thing("core", "1.0.0"))
	k.report("core", done.JobID, protocol.JobSucceeded)
	assert.Equal(t, greengrass.StatusCompleted, k.status(done.ID))
	assert.Equal(t, done.ID, user("1.0.0"), "the core runs it")
	failed := k.create(thing("core", "2.0.0"))
	assert.Empty(t, user("1.0.0"), "a newer deployment took its place")
	k.report("core", failed.JobID, protocol.JobFailed)
	assert.Empty(t, user("2.0.0"))
}

// run follows what lists are answered from.
func (k *kit) run() {
	k.t.Helper()
	go func() { _ = k.Run(k.ctx) }()
	require.NoError(k.t, k.Loaded(k.ctx))
}

func TestWhoLeavesCanBeSentADeploymentAtOnce(t *testing.T) {
	for _, c := range []struct {
		name string
		prep func(k *kit) string // returns the job that the core is sent
	}{
		{"its own deployment", func(k *kit) string {
			d := k.create(thing("core", "1.0.0"))
			k.report("core", d.JobID, protocol.JobSucceeded)
			return d.JobID
		}},
		{"that of another group, if its own was canceled", func(k *kit) string {
			require.NoError(k.t, k.Cancel(k.ctx, k.create(thing("core", "1.0.0")).ID))
			d := k.create(group("stays", "1.0.0"))
			k.report("core", d.JobID, protocol.JobSucceeded)
			return d.JobID
		}},
		{"that of another group, if its own failed", func(k *kit) string {
			k.report("core", k.create(thing("core", "1.0.0")).JobID, protocol.JobFailed)
			d := k.create(group("stays", "1.0.0"))
			k.report("core", d.JobID, protocol.JobSucceeded)
			return d.JobID
		}},
		{"its own that failed, if there is no other", func(k *kit) string {
			d := k.create(thing("core", "1.0.0"))
			k.report("core", d.JobID, protocol.JobFailed)
			return d.JobID
		}},
		{"an empty one, if there is nothing else", func(*kit) string { return "" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := newKit(t, t.Context(), "core")
			k.onLeave = true
			k.restart()
			k.groups("left", "stays")
			k.regroup("core", "left", "stays")
			brought := k.create(group("left", "1.0.0"))
			k.report("core", brought.JobID, protocol.JobSucceeded)
			want := c.prep(k)
			require.Empty(t, k.jobIDs("core"))
			k.pass(time.Second)
			require.NoError(t, k.Regroup(t.Context(), "core", []string{"left"}, nil))
			list := k.pending("core")
			require.Len(t, list, 1)
			if want != "" {
				assert.Equal(t, want, list[0].JobID)
				assert.Equal(t, int64(2), list[0].Number)
				return
			}
			d, err := k.Deployment(t.Context(), list[0].DeploymentID)
			require.NoError(t, err)
			assert.Equal(t, names.TargetThing, d.Kind)
			assert.Empty(t, d.Components)
		})
	}
	k := newKit(t, t.Context(), "core")
	k.groups("left")
	k.regroup("core", "left")
	k.report("core", k.create(group("left", "1.0.0")).JobID, protocol.JobSucceeded)
	require.NoError(t, k.Leave(t.Context(), "core", func(string) bool { return true }))
	assert.Empty(t, k.jobIDs("core"), "only if the option is set")
}
