package greengrass_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/greengrass"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/jobs"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

func TestADeploymentReachesEveryMemberAndLateJoiners(t *testing.T) {
	k := newKit(t, t.Context(), "a", "b", "late")
	k.groups("g")
	k.move("a", "g", false)
	k.move("b", "g", false)
	d := k.create(group("g", "1.0.0"))
	assert.Equal(t, 1, d.Revision)
	assert.Equal(t, greengrass.StatusActive, d.Status)
	assert.Equal(t, []string{d.JobID}, k.jobIDs("a"))
	assert.Equal(t, []string{d.JobID}, k.jobIDs("b"))
	assert.Empty(t, k.jobIDs("late"))
	e := k.move("late", "g", false)
	assert.Equal(t, d.JobID, e.JobID)
	assert.Equal(t, []string{d.JobID}, k.jobIDs("late"))
	assert.Len(t, d.ID, 36, "a topic of 256 characters has room for no more")
	assert.Len(t, d.JobID, 36)
}

func TestTheDocumentThatDevicesGet(t *testing.T) {
	k := newKit(t, t.Context(), "core")
	user, windows := "cam:cam", "cam"
	memory, cpus := int64(1024), 0.5
	d := k.create(greengrass.NewDeployment{
		Name: "presses, cell 3", Kind: names.TargetThing, Target: "core", Policies: greengrass.DefaultPolicies(),
		Components: map[string]greengrass.Component{
			"com.example.Plain": {Version: "1.0.0"},
			"com.example.Camera": {
				Version: "1.4.0", Update: &greengrass.ConfigurationUpdate{Merge: new(`{ "port": 8080, "sink": {"url": "x"} }`), Reset: []string{"", "/legacy"}},
				RunWith: &greengrass.RunWith{PosixUser: &user, WindowsUser: &windows, Limits: &protocol.DocumentLimits{Memory: &memory, CPUs: &cpus}},
			},
		},
	})
	j, err := k.jobs.Job(t.Context(), d.JobID)
	require.NoError(t, err)
	var doc map[string]any
	require.NoError(t, json.Unmarshal(j.Value.Document, &doc))
	delete(doc, "creationTimestamp") // each execution's own
	got, err := json.Marshal(doc)
	require.NoError(t, err)
	assert.JSONEq(t, `{
		"schemaDate": "2021-05-17", "deploymentId": "`+d.ID+`", "deploymentName": "presses, cell 3",
		"configurationArn": "arn:aws:greengrass:us-east-1:000000000000:configuration:thing/core:1",
		"components": {
			"com.example.Plain": {"version": "1.0.0"},
			"com.example.Camera": {
				"version": "1.4.0", "configurationUpdate": {"merge": {"port": 8080, "sink": {"url": "x"}}, "reset": ["", "/legacy"]},
				"runWith": {"posixUser": "cam:cam", "windowsUser": "cam", "systemResourceLimits": {"memory": 1024, "cpus": 0.5}}
			}
		},
		"failureHandlingPolicy": "ROLLBACK",
		"componentUpdatePolicy": {"timeout": 60, "action": "NOTIFY_COMPONENTS"},
		"configurationValidationPolicy": {"timeout": 30}
	}`, string(got))
}

func TestADeploymentThatCannotBeStoresNothing(t *testing.T) {
	k := newKit(t, t.Context(), "core")
	k.groups("g")
	with := func(c greengrass.Component) greengrass.NewDeployment {
		n := group("g", "1.0.0")
		n.Components = map[string]greengrass.Component{"com.example.App": c}
		return n
	}
	unknown := group("g", "1.0.0")
	unknown.Components["com.example.Unknown"] = greengrass.Component{Version: "9.0.0"}
	long := group("g", "1.0.0")
	long.Name = strings.Repeat("x", 257)
	big := with(greengrass.Component{Version: "1.0.0", Update: merge(`{"a":"` + strings.Repeat("x", 31<<10) + `"}`)})
	thing := with(greengrass.Component{Version: "1.0.0", Update: merge(`{"a":"` + strings.Repeat("x", 7<<10) + `"}`)})
	thing.Kind, thing.Target = names.TargetThing, "core"
	nobody := group("none", "1.0.0")
	before := k.dump()
	for _, c := range []struct {
		name string
		n    greengrass.NewDeployment
		kind error
		says string
	}{
		{"an unknown component", unknown, fault.NotFound, "com.example.Unknown"},
		{"an unknown group", nobody, fault.NotFound, "none"},
		{"a long name", long, fault.Invalid, "deploymentName"},
		{"merge of an array", with(greengrass.Component{Version: "1.0.0", Update: merge(`[]`)}), fault.Invalid, "com.example.App"},
		{"merge of null", with(greengrass.Component{Version: "1.0.0", Update: merge(`null`)}), fault.Invalid, "merge"},
		{"merge of a text", with(greengrass.Component{Version: "1.0.0", Update: merge(`"x"`)}), fault.Invalid, "merge"},
		{"broken merge", with(greengrass.Component{Version: "1.0.0", Update: merge(`{`)}), fault.Invalid, "merge"},
		{"over 31 KB for a group", big, fault.Invalid, "31744"},
		{"over 7 KB for a thing", thing, fault.Invalid, "7168"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := k.Create(t.Context(), c.n)
			require.ErrorIs(t, err, c.kind)
			assert.Contains(t, fault.Message(err), c.says)
			assert.Equal(t, before, k.dump())
		})
	}
	fits := big
	fits.Components = map[string]greengrass.Component{"com.example.App": {Version: "1.0.0", Update: merge(`{"a":"` + strings.Repeat("x", 8<<10) + `"}`)}}
	_, err := k.Create(t.Context(), fits)
	require.NoError(t, err, "what is too much for a thing is not for a group")
	empty := group("g", "")
	empty.Components = nil
	_, err = k.Create(t.Context(), empty)
	require.NoError(t, err, "no components: all are removed")
}

func TestANewRevisionTakesOver(t *testing.T) {
	k := newKit(t, t.Context(), "waits", "runs", "done")
	k.groups("g")
	for _, n := range []string{"waits", "runs", "done"} {
		k.move(n, "g", false)
	}
	first := k.create(group("g", "1.0.0"))
	k.report("runs", first.JobID, protocol.JobInProgress)
	k.report("done", first.JobID, protocol.JobSucceeded)
	k.pass(time.Minute)
	second := k.create(group("g", "2.0.0"))
	assert.Equal(t, 2, second.Revision)

	old, err := k.Deployment(t.Context(), first.ID)
	require.NoError(t, err)
	assert.Equal(t, greengrass.StatusInactive, old.Status)
	assert.Equal(t, []string{second.JobID}, k.jobIDs("waits"), "what waited is canceled")
	assert.Equal(t, []string{first.JobID, second.JobID}, k.jobIDs("runs"), "what runs goes on")
	assert.Equal(t, []string{second.JobID}, k.jobIDs("done"))
	k.report("runs", first.JobID, protocol.JobFailed)
	assert.Equal(t, []string{second.JobID}, k.jobIDs("runs"))
	_, err = k.Deployment(t.Context(), "none")
	require.ErrorIs(t, err, fault.NotFound)
}

// A process killed before any commit of three revisions leaves, after a restart,
// what a process that was not killed leaves.
func TestARollOutSurvivesAKillAtEachCommit(t *testing.T) {
	things := []string{"a", "b", "c"}
	for at := int64(0); ; at++ {
		k := newKit(t, t.Context(), things...)
		k.groups("g")
		for _, n := range things {
			k.move(n, "g", false)
		}
		var d greengrass.Deployment
		finished := true
		k.kill.Store(at)
		for i := range 3 {
			n := group("g", fmt.Sprint(i+1, ".0.0"))
			n.Token = n.Components["com.example.App"].Version
			var err error
			if d, err = k.Create(t.Context(), n); err != nil {
				require.ErrorIs(t, err, killedError{})
				finished = false
				if i < 2 { // the next revision is made by a process that knows nothing of this one
					k.kill.Store(-1)
					continue
				}
				k.restart()
				d, err = k.Create(t.Context(), n) // the caller tries again
				require.NoError(t, err)
			}
		}
		k.restart()
		for _, n := range things {
			assert.Equal(t, []string{d.JobID}, k.jobIDs(n), "killed before commit %d", at)
		}
		for _, e := range k.dump() {
			assert.NotContains(t, e.Key, "/rollout/", "nothing is left to do")
		}
		if finished {
			require.GreaterOrEqual(t, at, int64(10))
			return
		}
	}
}

func TestATokenMakesOneDeployment(t *testing.T) {
	k := newKit(t, t.Context(), "core")
	k.groups("g")
	k.move("core", "g", false)
	n := group("g", "1.0.0")
	n.Token = "t"
	ids := make([]string, 8)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			d, err := k.Create(t.Context(), n)
			assert.NoError(t, err)
			ids[i] = d.ID
		})
	}
	wg.Wait()
	for _, id := range ids {
		assert.Equal(t, ids[0], id)
	}
	assert.Len(t, k.pending("core"), 1)
	k.create(group("g", "2.0.0"))
	assert.NotEqual(t, ids[0], k.create(n).ID, "a token counts as long as its deployment is the current one")
}

func TestRevisionsMadeAtOnceAllCount(t *testing.T) {
	k := newKit(t, t.Context(), "core")
	k.groups("g")
	k.move("core", "g", false)
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			_, err := k.Create(t.Context(), group("g", "1.0.0"))
			assert.NoError(t, err)
		})
	}
	wg.Wait()
	last := k.create(group("g", "1.0.0"))
	assert.Equal(t, 7, last.Revision)
	assert.Equal(t, []string{last.JobID}, k.jobIDs("core"))
}

func TestBackToAFormerVersionIsANewExecution(t *testing.T) {
	k := newKit(t, t.Context(), "core")
	k.groups("v1", "v2")
	one, two := k.create(group("v1", "1.0.0")), k.create(group("v2", "2.0.0"))
	first := k.move("core", "v1", false)
	k.report("core", one.JobID, protocol.JobSucceeded)
	second := k.move("core", "v2", false)
	k.report("core", two.JobID, protocol.JobSucceeded)
	third := k.move("core", "v1", false)
	assert.Equal(t, one.JobID, third.JobID)
	assert.Equal(t, int64(2), third.Number)
	assert.Equal(t, protocol.JobQueued, third.Status)
	assert.Greater(t, third.QueuedAt, first.QueuedAt)
	assert.Greater(t, third.Stamp, second.Stamp, "classic would reject an older document")
	assert.Equal(t, []string{one.JobID}, k.jobIDs("core"))
}

func TestAMoveTakesWhatWaitsAlong(t *testing.T) {
	k := newKit(t, t.Context(), "core")
	k.groups("v1", "v2", "plant")
	one, two := k.create(group("v1", "1.0.0")), k.create(group("v2", "2.0.0"))
	k.move("core", "v1", false)
	k.move("core", "v2", false)
	assert.Equal(t, []string{two.JobID}, k.jobIDs("core"))
	assert.Equal(t, protocol.JobRemoved, k.last("core", one))

	there := k.move("core", "v2", false)
	assert.Equal(t, int64(1), there.Number, "it is there already")
	k.report("core", two.JobID, protocol.JobFailed)
	assert.Equal(t, protocol.JobFailed, k.move("core", "v2", false).Status)
	again := k.move("core", "v2", true)
	assert.Equal(t, int64(2), again.Number)
	assert.Equal(t, []string{two.JobID}, k.jobIDs("core"))

	none := k.move("core", "plant", false)
	assert.Empty(t, none.JobID, "a group without deployment")
	assert.Empty(t, k.jobIDs("core"))
	_, err := k.tryMove("nobody", "plant", false)
	require.ErrorIs(t, err, fault.NotFound)
}

// What Move hands to commit is true when the commit succeeds: a report that
// comes in between makes it fail.
func TestAMoveThatLostARaceStoresNothing(t *testing.T) {
	for _, c := range []struct {
		name string
		race func(k *kit, d greengrass.Deployment)
	}{
		{"the core reports", func(k *kit, d greengrass.Deployment) { k.report("core", d.JobID, protocol.JobSucceeded) }},
		{"a revision is made", func(k *kit, _ greengrass.Deployment) { k.create(group("v1", "1.1.0")) }},
		{"the core is moved", func(k *kit, _ greengrass.Deployment) { k.move("core", "v2", false) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := newKit(t, t.Context(), "core")
			k.groups("v1", "v2")
			d := k.create(group("v1", "1.0.0"))
			k.move("core", "v1", false)
			err := k.Move(t.Context(), "core", func(string) bool { return true }, "v1", jobs.Start{}, func(b *state.Batch, _ jobs.Execution) error {
				c.race(k, d)
				_, err := k.store.Commit(t.Context(), b.Put(state.Root+"fleet/core/core", "x"))
				return err
			})
			require.ErrorIs(t, err, fault.Conflict)
		})
	}
}

func TestACoreNeverSeesTwoTemplateGroupsNorNone(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	k := newKit(t, ctx, "core")
	k.groups("v1", "v2", "v3", "plant")
	k.move("core", "v1", false)
	var seen int
	done := make(chan error, 1)
	page, err := k.store.List(ctx, "", "", 1)
	require.NoError(t, err)
	go func() {
		done <- k.store.Watch(ctx, state.Root+"iot/thing/core", page.At, func(events []state.Event) error { // at every revision
			for _, e := range events {
				r, err := state.Decode[struct{ Groups []string }](e.Entry)
				if err != nil || len(r.Value.Groups) != 1 {
					return fmt.Errorf("the core is in %v: %w", r.Value.Groups, err)
				}
				seen++
			}
			return nil
		})
	}()
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for range 200 {
				groups, err := k.GroupsOf(ctx, "core")
				assert.NoError(t, err)
				assert.Len(t, groups, 1)
			}
		})
	}
	for i := range 60 {
		_, err := k.tryMove("core", fmt.Sprint("v", i%3+1), false)
		require.NoError(t, err)
	}
	wg.Wait()
	stop()
	require.NoError(t, <-done)
}

func TestWhoLeavesDuringARollOutGetsNothing(t *testing.T) {
	k := newKit(t, t.Context(), "a", "b")
	k.groups("g", "elsewhere")
	k.move("a", "g", false)
	k.move("b", "g", false)
	left := false
	k.store.FailCommit = func(b *state.Batch) error {
		if b.Step == state.StepExecutions && !left { // the first member's execution is about to be stored
			left = true
			k.move("a", "elsewhere", false)
			k.move("b", "elsewhere", false)
		}
		return nil
	}
	k.create(group("g", "1.0.0"))
	assert.True(t, left)
	assert.Empty(t, k.jobIDs("a"))
	assert.Empty(t, k.jobIDs("b"))
}
