package greengrass_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/greengrass"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/jobs"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// health is a message of a classic nucleus; change edits it.
func health(change func(m *protocol.FleetStatus)) []byte {
	m := protocol.FleetStatus{
		GGCVersion: "2.18.0", Platform: "linux", Architecture: "amd64", Thing: "core", SequenceNumber: 1, Timestamp: 1760000301250,
		MessageType: protocol.StatusComplete, Trigger: protocol.TriggerCadence, OverallDeviceStatus: protocol.Healthy,
	}
	change(&m)
	b, _ := json.Marshal(m)
	return b
}

func app(name, version, status string, arns ...string) protocol.ComponentStatus {
	return protocol.ComponentStatus{ComponentName: name, Version: version, Status: status, IsRoot: true, FleetConfigARNs: append([]string{}, arns...)}
}

const arn = "arn:aws:greengrass:us-east-1:000000000000:configuration:thinggroup/g:1"

// installed is name to "version state" of what the core has.
func (k *kit) installed(thing string) map[string]string {
	k.t.Helper()
	c, err := k.Core(k.ctx, thing)
	require.NoError(k.t, err)
	out := map[string]string{}
	for _, x := range c.Components {
		out[x.Name] = x.Version + " " + x.State
	}
	require.Len(k.t, c.Components, len(out))
	return out
}

func TestEveryHealthMessageOfARealRuntimeIsUnderstood(t *testing.T) {
	files, err := filepath.Glob("testdata/health/*.jsonl")
	require.NoError(t, err)
	require.Len(t, files, 9)
	want := map[string]map[string]string{
		"01": {"aws.greengrass.TokenExchangeService": "2.6.0 RUNNING"},
		"07": {"aws.greengrass.TokenExchangeService": "2.6.0 RUNNING", "com.heldout.Hello": "1.0.3 RUNNING"},
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			b, err := os.ReadFile(f)
			require.NoError(t, err)
			k := newKit(t, t.Context())
			var last protocol.FleetStatus
			for line := range strings.Lines(string(b)) {
				last, err = protocol.ParseFleetStatus([]byte(line))
				require.NoError(t, err)
				k.things(last.Thing)
				require.NoError(t, k.Report(t.Context(), last.Thing, []byte(line)))
			}
			c, err := k.Core(t.Context(), last.Thing)
			require.NoError(t, err)
			assert.Equal(t, last.OverallDeviceStatus, c.Status)
			assert.Equal(t, protocol.RuntimeLite, c.Runtime)
			assert.Equal(t, "2.6.0", c.Version)
			lite, known, err := k.IsLite(t.Context(), last.Thing)
			require.NoError(t, err)
			assert.True(t, lite && known)
			now := map[string]string{} // lite sends all it has in each message
			for _, x := range last.Components {
				if x.Status != "UNINSTALLED" {
					now[x.ComponentName] = x.Version + " " + x.Status
				}
			}
			assert.Equal(t, now, k.installed(last.Thing))
			if w := want[filepath.Base(f)[:2]]; w != nil {
				assert.Equal(t, w, now)
			}
			if d := last.Deployment; d != nil {
				assert.Equal(t, d.DeploymentID, c.Results[len(c.Results)-1].DeploymentID)
				assert.Equal(t, d.Status, c.Results[len(c.Results)-1].Status)
			}
		})
	}
}

func TestHowMessagesAreMerged(t *testing.T) {
	partial := func(trigger string, list ...protocol.ComponentStatus) []byte {
		return health(func(m *protocol.FleetStatus) {
			m.MessageType, m.Trigger, m.Components = protocol.StatusPartial, trigger, list
		})
	}
	own := app("main", "2.18.0", "FINISHED")
	own.IsRoot = false
	start := health(func(m *protocol.FleetStatus) {
		m.Components = []protocol.ComponentStatus{app("a", "1.0.0", "RUNNING", arn), app("b", "1.0.0", "RUNNING", arn), own}
	})
	all := map[string]string{"a": "1.0.0 RUNNING", "b": "1.0.0 RUNNING", "main": "2.18.0 FINISHED"}
	without := func(names ...string) map[string]string {
		out := maps.Clone(all)
		for _, n := range names {
			delete(out, n)
		}
		return out
	}
	with := func(name, v string) map[string]string {
		out := maps.Clone(all)
		out[name] = v
		return out
	}
	dropped := app("b", "1.0.0", "RUNNING")
	dropped.IsRoot = false // it is a root of nothing any more
	lite := health(func(m *protocol.FleetStatus) {
		m.Runtime, m.MessageType, m.Trigger = protocol.RuntimeLite, protocol.StatusPartial, protocol.TriggerThingGroupDeployment
		m.Components = []protocol.ComponentStatus{app("a", "1.0.0", "RUNNING"), app("b", "", "UNINSTALLED")}
	})
	for _, c := range []struct {
		name string
		msg  []byte
		want map[string]string
	}{
		{"complete replaces", health(func(m *protocol.FleetStatus) { m.Components = []protocol.ComponentStatus{app("a", "2.0.0", "RUNNING")} }), map[string]string{"a": "2.0.0 RUNNING"}},
		{"partial changes", partial(protocol.TriggerComponentStatusChange, app("a", "1.0.0", "BROKEN", arn)), with("a", "1.0.0 BROKEN")},
		{"partial adds", partial(protocol.TriggerThingGroupDeployment, app("c", "1.0.0", "RUNNING", arn)), with("c", "1.0.0 RUNNING")},
		{"uninstalled removes", partial(protocol.TriggerThingGroupDeployment, app("b", "1.0.0", "UNINSTALLED")), without("b")},
		{"uninstalled of the unknown", partial(protocol.TriggerThingGroupDeployment, app("z", "", "UNINSTALLED")), all},
		{"older classic removes without a word", partial(protocol.TriggerThingGroupDeployment, dropped), without("b")},
		{"own services stay", partial(protocol.TriggerThingGroupDeployment, own), all},
		{"outside of deployments nothing is dropped", partial(protocol.TriggerComponentStatusChange, app("b", "1.0.0", "RUNNING")), all},
		{"lite removes with an empty version", lite, without("b")},
		{"reconnect without components", partial(protocol.TriggerReconnect), all},
		{"a sequence that starts over", health(func(m *protocol.FleetStatus) {
			m.SequenceNumber, m.Trigger, m.Components = 0, protocol.TriggerNucleusLaunch, []protocol.ComponentStatus{app("a", "1.0.0", "NEW")}
		}), map[string]string{"a": "1.0.0 NEW"}},
		{"a bare local deployment id", partial(protocol.TriggerLocalDeployment, app("a", "1.0.0", "RUNNING", "0f8fad5b-d9cb-469f-a165-70867728950e")), all},
		{"a name twice counts once", partial(protocol.TriggerComponentStatusChange, app("a", "1.0.0", "ERRORED", arn), app("a", "1.0.0", "RUNNING", arn)), all},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := newKit(t, t.Context(), "core")
			require.NoError(t, k.Report(t.Context(), "core", start))
			require.NoError(t, k.Report(t.Context(), "core", c.msg))
			assert.Equal(t, c.want, k.installed("core"))
		})
	}
}

func TestAnUnchangedMessageCommitsNothing(t *testing.T) {
	k := newKit(t, t.Context(), "core")
	msg := func(sequence int64) []byte {
		return health(func(m *protocol.FleetStatus) {
			m.SequenceNumber, m.Timestamp = sequence, sequence
			m.Components = []protocol.ComponentStatus{app("b", "1.0.0", "RUNNING", arn), app("a", "1.0.0", "RUNNING")}
			m.Deployment = &protocol.DeploymentInformation{DeploymentID: "d", Status: "SUCCEEDED"}
		})
	}
	require.NoError(t, k.Report(t.Context(), "core", msg(1)))
	before := k.commits.Load()
	k.pass(time.Hour)
	require.NoError(t, k.Report(t.Context(), "core", msg(2)))
	require.NoError(t, k.Report(t.Context(), "core", health(func(m *protocol.FleetStatus) {
		m.MessageType, m.Trigger = protocol.StatusPartial, protocol.TriggerReconnect
	})))
	assert.Equal(t, before, k.commits.Load())
	c, err := k.Core(t.Context(), "core")
	require.NoError(t, err)
	assert.Equal(t, k.clock(), c.LastStatusAt, "but it was heard of")
	require.NoError(t, k.Report(t.Context(), "core", health(func(m *protocol.FleetStatus) { m.OverallDeviceStatus = protocol.Unhealthy })))
	assert.Equal(t, before+1, k.commits.Load())
}

func TestChunksAreOneMessage(t *testing.T) {
	k := newKit(t, t.Context(), "core")
	chunk := func(sequence int64, id, total int, list ...protocol.ComponentStatus) error {
		return k.Report(t.Context(), "core", health(func(m *protocol.FleetStatus) {
			m.SequenceNumber, m.ChunkInfo, m.Components = sequence, &protocol.ChunkInfo{ChunkID: id, TotalChunks: total}, list
			if id == 1 {
				m.Deployment = &protocol.DeploymentInformation{DeploymentID: "d", Status: "SUCCEEDED"}
			}
		}))
	}
	require.NoError(t, chunk(1, 2, 3, app("b", "1.0.0", "RUNNING")))
	require.NoError(t, chunk(1, 1, 3, app("a", "1.0.0", "RUNNING")))
	require.NoError(t, chunk(1, 1, 3, app("a", "1.0.0", "RUNNING")), "a chunk twice")
	_, err := k.Core(t.Context(), "core")
	require.ErrorIs(t, err, fault.NotFound, "not whole yet")
	require.NoError(t, chunk(1, 3, 3, app("b", "1.0.0", "RUNNING"), app("c", "1.0.0", "RUNNING")))
	assert.Equal(t, []string{"a", "b", "c"}, slices.Sorted(maps.Keys(k.installed("core"))))
	c, err := k.Core(t.Context(), "core")
	require.NoError(t, err)
	assert.Len(t, c.Results, 1)

	require.NoError(t, chunk(2, 1, 2, app("x", "1.0.0", "RUNNING")))
	require.NoError(t, chunk(3, 2, 2, app("y", "1.0.0", "RUNNING")))
	require.NoError(t, chunk(3, 1, 2, app("z", "1.0.0", "RUNNING")), "of another message")
	assert.Equal(t, []string{"y", "z"}, slices.Sorted(maps.Keys(k.installed("core"))))
	require.NoError(t, chunk(4, 1, 1, app("w", "1.0.0", "RUNNING")))
	assert.Equal(t, []string{"w"}, slices.Sorted(maps.Keys(k.installed("core"))))

	many := make([]protocol.ComponentStatus, 600)
	for i := range many {
		many[i] = app(fmt.Sprint("c", i), "1.0.0", "RUNNING")
	}
	require.NoError(t, chunk(5, 1, 3, many...))
	require.ErrorIs(t, chunk(5, 2, 3, many...), fault.Invalid, "together too many")
	require.NoError(t, chunk(5, 3, 3, app("v", "1.0.0", "RUNNING")))
	assert.Equal(t, []string{"w"}, slices.Sorted(maps.Keys(k.installed("core"))), "nothing of it is kept")
}

func TestAMessageThatCannotBeReadIsRefused(t *testing.T) {
	k := newKit(t, t.Context())
	many := make([]protocol.ComponentStatus, 1001)
	for i := range many {
		many[i] = protocol.ComponentStatus{ComponentName: fmt.Sprint(i)}
	}
	for _, c := range []struct {
		name string
		msg  []byte
		kind error
	}{
		{"no JSON", []byte("{"), fault.Invalid},
		{"of another thing", health(func(m *protocol.FleetStatus) { m.Thing = "other" }), fault.Invalid},
		{"no status", health(func(m *protocol.FleetStatus) { m.OverallDeviceStatus = "" }), fault.Invalid},
		{"no type", health(func(m *protocol.FleetStatus) { m.MessageType = "" }), fault.Invalid},
		{"a chunk too far", health(func(m *protocol.FleetStatus) { m.ChunkInfo = &protocol.ChunkInfo{ChunkID: 3, TotalChunks: 2} }), fault.Invalid},
		{"too many components", health(func(m *protocol.FleetStatus) { m.Components = many }), fault.Invalid},
		{"too many bytes", []byte(strings.Repeat(" ", 200_000)), fault.TooLarge},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.ErrorIs(t, k.Report(t.Context(), "core", c.msg), c.kind)
			assert.Empty(t, k.dump())
		})
	}
}

func TestEffectiveDeploymentsAreOnePerTarget(t *testing.T) {
	k := newKit(t, t.Context(), "core")
	k.groups("v1", "v2")
	k.create(group("v1", "1.0.0"))
	k.move("core", "v1", false)
	two := k.create(group("v2", "2.0.0"))
	k.move("core", "v2", false)
	own := k.create(greengrass.NewDeployment{Kind: names.TargetThing, Target: "core", Policies: greengrass.DefaultPolicies()})
	k.pass(time.Minute)
	_, err := k.jobs.Apply(t.Context(), jobs.Update{Thing: "core", JobID: two.JobID, Status: protocol.JobFailed})
	require.NoError(t, err)
	k.pass(time.Second)
	k.report("core", own.JobID, protocol.JobSucceeded)
	require.NoError(t, k.Report(t.Context(), "core", health(func(m *protocol.FleetStatus) {
		m.Deployment = &protocol.DeploymentInformation{DeploymentID: two.ID, Status: "FAILED", StatusDetails: &protocol.DeploymentDetails{DetailedStatus: "FAILED_ROLLBACK_NOT_REQUESTED", FailureCause: "it broke"}}
	})))
	list, err := k.EffectiveDeployments(t.Context(), "core")
	require.NoError(t, err)
	require.Len(t, list, 2, "not of the group that it left")
	assert.Equal(t, "COMPLETED", list[0].Status, "of a thing")
	assert.Equal(t, "arn:aws:iot:us-east-1:000000000000:thing/core", list[0].TargetARN)
	assert.Empty(t, list[0].JobID+list[0].JobARN, "jobs are of groups")
	assert.Equal(t, "FAILED", list[1].Status)
	assert.Equal(t, "it broke", list[1].Reason, "the status message knows what lite's job update does not say")
	assert.Equal(t, "FAILED_ROLLBACK_NOT_REQUESTED", list[1].Detailed)
	assert.Equal(t, "arn:aws:iot:us-east-1:000000000000:thinggroup/v2", list[1].TargetARN)
	assert.Contains(t, list[1].JobARN, two.JobID)
	assert.True(t, list[1].UpdatedAt.After(list[1].CreatedAt))
	_, err = k.EffectiveDeployments(t.Context(), "none")
	require.ErrorIs(t, err, fault.NotFound)
}

func TestResultsAreBounded(t *testing.T) {
	k := newKit(t, t.Context(), "core")
	for i := range 25 {
		require.NoError(t, k.Report(t.Context(), "core", health(func(m *protocol.FleetStatus) {
			m.Deployment = &protocol.DeploymentInformation{
				DeploymentID: fmt.Sprint(i), Status: "FAILED", StatusDetails: &protocol.DeploymentDetails{FailureCause: strings.Repeat("é", 2000)},
			}
		})))
	}
	c, err := k.Core(t.Context(), "core")
	require.NoError(t, err)
	require.Len(t, c.Results, 10)
	assert.Equal(t, "24", c.Results[9].DeploymentID)
	assert.Equal(t, strings.Repeat("é", 1000), c.Results[9].Cause)
}
