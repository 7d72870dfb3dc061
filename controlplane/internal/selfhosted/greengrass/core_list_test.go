package greengrass_test

import (
	"context"
	"fmt"
	"os"
	"strings"
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

// listing is the service with its mirrors running, in the place of k's own; what
// k's jobs commit is in them at once.
func (k *kit) listing(t testing.TB) {
	t.Helper()
	hub := state.NewHub(k.store)
	var err error
	k.jobs, err = jobs.New(jobs.Config{Store: hub, Now: k.clock})
	require.NoError(t, err)
	k.Service, err = greengrass.New(greengrass.Config{Store: hub, Registry: k.registry, Jobs: k.jobs, Components: components{}, Now: k.clock})
	require.NoError(t, err)
	k.run()
}

// cores are the names of all pages of size that f selects.
func (k *kit) cores(f greengrass.CoreFilter, size int) []string {
	k.t.Helper()
	out := []string{}
	for after := ""; ; {
		list, more, err := k.Cores(k.ctx, f, after, size)
		require.NoError(k.t, err)
		for _, c := range list {
			out = append(out, c.Thing)
			after = c.Thing
		}
		if !more {
			return out
		}
		require.Len(k.t, list, size)
	}
}

func (k *kit) appears(thing, status, runtime string) {
	k.t.Helper()
	require.NoError(k.t, k.Report(k.ctx, thing, health(func(m *protocol.FleetStatus) {
		m.Thing, m.OverallDeviceStatus, m.Runtime = thing, status, runtime
	})))
}

func TestCoresAreListedByNameAndFilter(t *testing.T) {
	k := newKit(t, t.Context(), "a", "a:1", "b", "c", "d")
	k.listing(t)
	assert.Empty(t, k.cores(greengrass.CoreFilter{}, 10), "a thing is no core device before it reported")
	k.appears("d", protocol.Healthy, protocol.RuntimeLite)
	k.appears("c", protocol.Unhealthy, "")
	k.appears("a:1", protocol.Unhealthy, protocol.RuntimeLite)
	k.appears("a", protocol.Healthy, "")

	k.groups("g", "other")
	g := k.create(group("g", "1.0.0"))
	for _, thing := range []string{"a", "c", "d"} {
		k.move(thing, "g", false)
	}
	k.report("a", g.JobID, protocol.JobSucceeded)
	k.report("d", g.JobID, protocol.JobSucceeded)
	k.report("c", g.JobID, protocol.JobFailed)
	own := k.create(greengrass.NewDeployment{Kind: names.TargetThing, Target: "c", Policies: greengrass.DefaultPolicies()})
	k.report("c", own.JobID, protocol.JobSucceeded)

	for _, c := range []struct {
		name string
		f    greengrass.CoreFilter
		want []string
	}{
		{"all", greengrass.CoreFilter{}, []string{"a", "a:1", "c", "d"}},
		{"by status", greengrass.CoreFilter{Status: protocol.Unhealthy}, []string{"a:1", "c"}},
		{"classic, which does not name itself", greengrass.CoreFilter{Runtime: protocol.RuntimeClassic}, []string{"a", "c"}},
		{"by runtime and status", greengrass.CoreFilter{Runtime: protocol.RuntimeLite, Status: protocol.Unhealthy}, []string{"a:1"}},
		{"who ran a deployment of the group with success", greengrass.CoreFilter{Group: "g"}, []string{"a", "d"}},
		{"by all three", greengrass.CoreFilter{Group: "g", Status: protocol.Healthy, Runtime: protocol.RuntimeLite}, []string{"d"}},
		{"a group that nobody ran", greengrass.CoreFilter{Group: "other"}, []string{}},
		{"a group whose name begins another's", greengrass.CoreFilter{Group: "othe"}, []string{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, size := range []int{1, 2, 100} {
				assert.Equal(t, c.want, k.cores(c.f, size), "pages of %d", size)
			}
		})
	}

	k.move("a", "other", false)
	assert.Equal(t, []string{"a", "d"}, k.cores(greengrass.CoreFilter{Group: "g"}, 10), "one that left stays listed")
	require.NoError(t, k.ForgetCore(t.Context(), "a"))
	assert.Equal(t, []string{"d"}, k.cores(greengrass.CoreFilter{Group: "g"}, 10))
	k.appears("a", protocol.Healthy, "")
	assert.Equal(t, []string{"a", "a:1", "c", "d"}, k.cores(greengrass.CoreFilter{}, 10), "it comes back with its next report")
	assert.Equal(t, []string{"d"}, k.cores(greengrass.CoreFilter{Group: "g"}, 10), "and has forgotten what it ran")
}

func TestAListKnowsReportsThatChangedNothing(t *testing.T) {
	k := newKit(t, t.Context(), "core")
	k.listing(t)
	k.appears("core", protocol.Healthy, "")
	k.pass(time.Hour)
	k.appears("core", protocol.Healthy, "")
	list, _, err := k.Cores(t.Context(), greengrass.CoreFilter{}, "", 10)
	require.NoError(t, err)
	assert.Equal(t, k.clock(), list[0].LastStatusAt)
}

func TestAListWaitsForTheRecordsOnlyAsLongAsItsCallerDoes(t *testing.T) {
	k := newKit(t, t.Context())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err := k.Cores(ctx, greengrass.CoreFilter{}, "", 10)
	require.ErrorIs(t, err, fault.Unavailable)
}

// capture reports what a real lite said in one recording, line by line.
func (k *kit) capture(file string, each func(m protocol.FleetStatus)) {
	k.t.Helper()
	raw, err := os.ReadFile("testdata/health/" + file)
	require.NoError(k.t, err)
	for line := range strings.Lines(string(raw)) {
		m, err := protocol.ParseFleetStatus([]byte(line))
		require.NoError(k.t, err)
		require.NoError(k.t, k.Report(k.ctx, m.Thing, []byte(line)))
		each(m)
	}
}

func (k *kit) components(thing string) map[string]greengrass.InstalledComponent {
	k.t.Helper()
	list, err := k.Installed(k.ctx, thing, true)
	require.NoError(k.t, err)
	out := map[string]greengrass.InstalledComponent{}
	for _, x := range list {
		out[x.Name] = x
	}
	return out
}

func TestWhatARealRuntimeInstalledAndBroke(t *testing.T) {
	const core, hello = "heldout-core-1", "com.heldout.Hello"
	id := func(n int) string { return fmt.Sprintf("11111111-aaaa-4bbb-8ccc-%012d", n) }
	files, err := os.ReadDir("testdata/health")
	require.NoError(t, err)
	named := func(number string) string {
		for _, f := range files {
			if strings.HasPrefix(f.Name(), number) {
				return f.Name()
			}
		}
		t.Fatalf("no recording %s", number)
		return ""
	}
	k := newKit(t, t.Context(), core)
	step := func(protocol.FleetStatus) { k.pass(time.Minute) }

	k.capture(named("05"), step)
	got := k.components(core)
	assert.Equal(t, id(4), got[hello].Source, "the deployment that brought it")
	assert.Empty(t, got["aws.greengrass.TokenExchangeService"].Source, "no deployment names it")
	since := got[hello].ChangedAt

	k.capture(named("07"), step)
	got = k.components(core)
	assert.NotContains(t, got, "com.heldout.Artifact", "UNINSTALLED")
	assert.Equal(t, id(6), got[hello].Source)
	assert.Equal(t, since, got[hello].ChangedAt, "it ran all the time")
	assert.True(t, got[hello].LastReportedAt.After(since))

	told := k.clock()
	k.capture(named("08"), func(protocol.FleetStatus) { told = k.clock(); k.pass(time.Minute) })
	got = k.components(core)
	assert.Equal(t, id(6), got[hello].Source, "a message without a deployment changes nothing")
	assert.Equal(t, since, got[hello].ChangedAt)
	assert.Equal(t, told, got[hello].LastReportedAt, "also of the last message, which changed nothing")

	k.capture(named("09"), step)
	got = k.components(core)
	assert.Equal(t, "BROKEN", got["com.heldout.Broken"].State)
	assert.Equal(t, id(7), got["com.heldout.Broken"].Source)
	assert.Equal(t, id(7), got[hello].Source)
	c, err := k.Core(t.Context(), core)
	require.NoError(t, err)
	assert.Equal(t, protocol.Unhealthy, c.Status)
}

func TestWhereAComponentComesFrom(t *testing.T) {
	const (
		old   = "arn:aws:greengrass:us-east-1:000000000000:configuration:thinggroup/g:1"
		now   = "arn:aws:greengrass:us-east-1:000000000000:configuration:thinggroup/g:2"
		other = "arn:aws:greengrass:us-east-1:000000000000:configuration:thing/core:7"
		bare  = "0f8fad5b-d9cb-469f-a165-70867728950e"
	)
	by := func(arn, id, trigger string, unchanged []string, list ...protocol.ComponentStatus) []byte {
		return health(func(m *protocol.FleetStatus) {
			m.MessageType, m.Trigger, m.Components = protocol.StatusPartial, trigger, list
			if id != "" {
				m.Deployment = &protocol.DeploymentInformation{DeploymentID: id, FleetConfigurationARN: arn, Status: "SUCCEEDED", UnchangedRootComponents: unchanged}
			}
		})
	}
	group := func(arn, id string, list ...protocol.ComponentStatus) []byte {
		return by(arn, id, protocol.TriggerThingGroupDeployment, nil, list...)
	}
	for _, c := range []struct {
		name     string
		messages [][]byte
		want     string
	}{
		{"the deployment that is told with it", [][]byte{group(now, "two", app("a", "1.0.0", "RUNNING", now))}, "two"},
		{"of several targets the last", [][]byte{group(other, "own", app("a", "1.0.0", "RUNNING", other)), group(now, "two", app("a", "1.0.0", "RUNNING", other, now))}, "two"},
		{"a deployment of another target changes nothing", [][]byte{group(now, "two", app("a", "1.0.0", "RUNNING", now)), group(other, "own", app("a", "1.0.0", "RUNNING", now))}, "two"},
		{"a root that the deployment left as it was", [][]byte{
			group(old, "one", app("a", "1.0.0", "RUNNING", old)),
			by(now, "two", protocol.TriggerThingGroupDeployment, []string{"a", "unknown"}, app("b", "1.0.0", "RUNNING", now)),
		}, "two"},
		{"a later message without a deployment", [][]byte{group(now, "two", app("a", "1.0.0", "RUNNING", now)), group("", "", app("a", "1.0.0", "ERRORED", now))}, "two"},
		{"a deployment on the device, by its bare id", [][]byte{by(bare, bare, protocol.TriggerLocalDeployment, nil, app("a", "1.0.0", "RUNNING", bare))}, greengrass.SourceLocal},
		{"a bare id in a message without a deployment", [][]byte{group("", "", app("a", "1.0.0", "RUNNING", bare))}, greengrass.SourceLocal},
		{"a configuration that nobody knows", [][]byte{group("", "", app("a", "1.0.0", "RUNNING", "arn:aws:greengrass:us-east-1:000000000000:configuration:thinggroup/none:1"))}, ""},
		{"the runtime's own", [][]byte{group("", "", app("a", "1.0.0", "RUNNING"))}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := newKit(t, t.Context(), "core")
			for _, m := range c.messages {
				require.NoError(t, k.Report(t.Context(), "core", m))
			}
			assert.Equal(t, c.want, k.components("core")["a"].Source)
		})
	}
	t.Run("only its configuration, after the core was forgotten", func(t *testing.T) {
		k := newKit(t, t.Context(), "core")
		k.groups("g")
		k.create(greengrass.NewDeployment{Kind: names.TargetThingGroup, Target: "g", Policies: greengrass.DefaultPolicies()})
		two := k.create(greengrass.NewDeployment{Kind: names.TargetThingGroup, Target: "g", Policies: greengrass.DefaultPolicies()})
		require.NoError(t, k.Report(t.Context(), "core", health(func(m *protocol.FleetStatus) {
			m.Components = []protocol.ComponentStatus{app("a", "1.0.0", "RUNNING", now), app("b", "1.0.0", "RUNNING", old)}
		})))
		assert.Equal(t, two.ID, k.components("core")["a"].Source)
		assert.Empty(t, k.components("core")["b"].Source, "of a revision that is not the current one")
	})
}

func TestInstalledComponentsAreRootsUnlessAllAreAskedFor(t *testing.T) {
	k := newKit(t, t.Context(), "core")
	_, err := k.Installed(t.Context(), "core", true)
	require.ErrorIs(t, err, fault.NotFound)
	dependency := app("b", "1.0.0", "BROKEN")
	dependency.IsRoot = false
	dependency.Details = &protocol.ComponentStatusDetails{StatusCodes: []string{"RUN_ERROR"}, StatusReason: strings.Repeat("é", 1500)}
	require.NoError(t, k.Report(t.Context(), "core", health(func(m *protocol.FleetStatus) {
		m.Components = []protocol.ComponentStatus{app("c", "1.0.0", "RUNNING"), dependency, app("a", "1.0.0", "RUNNING")}
	})))
	roots, err := k.Installed(t.Context(), "core", false)
	require.NoError(t, err)
	assert.Equal(t, []string{"a", "c"}, []string{roots[0].Name, roots[1].Name})
	all := k.components("core")
	assert.Len(t, all, 3)
	assert.Equal(t, strings.Repeat("é", 1000), all["b"].Reason)
	assert.Equal(t, []string{"RUN_ERROR"}, all["b"].Codes)
	since := all["b"].ChangedAt
	k.pass(time.Minute)
	require.NoError(t, k.Report(t.Context(), "core", health(func(m *protocol.FleetStatus) {
		m.MessageType = protocol.StatusPartial
		m.Components = []protocol.ComponentStatus{app("b", "1.0.0", "BROKEN"), app("a", "1.0.0", "FINISHED")}
	})))
	all = k.components("core")
	assert.Equal(t, since, all["b"].ChangedAt, "other details are no other state")
	assert.Equal(t, k.clock(), all["a"].ChangedAt)
	assert.Equal(t, since, all["c"].LastReportedAt, "not told of")
}

func TestEffectiveDeploymentsSayWhyOneFailed(t *testing.T) {
	k := newKit(t, t.Context(), "core")
	k.groups("g")
	k.move("core", "g", false)
	details := map[string]string{
		protocol.DetailStatus: "FAILED_NO_STATE_CHANGE", protocol.DetailFailureCause: "no version", protocol.DetailErrorStack: `["DEPLOYMENT_FAILURE","NO_AVAILABLE_COMPONENT_VERSION"]`, protocol.DetailErrorTypes: `["REQUEST_ERROR"]`,
	}
	only := func() greengrass.Effective {
		t.Helper()
		list, err := k.EffectiveDeployments(t.Context(), "core")
		require.NoError(t, err)
		require.Len(t, list, 1)
		return list[0]
	}
	d := k.create(group("g", "1.0.0"))
	k.move("core", "g", false)
	assert.Equal(t, "QUEUED", only().Status)
	assert.Nil(t, only().ErrorStack, "nothing failed")
	apply := func(job string, status protocol.JobStatus, details map[string]string) {
		_, err := k.jobs.Apply(t.Context(), jobs.Update{Thing: "core", JobID: job, Status: status, Details: details})
		require.NoError(t, err)
	}
	apply(d.JobID, protocol.JobFailed, details)
	e := only()
	assert.Equal(t, []string{"DEPLOYMENT_FAILURE", "NO_AVAILABLE_COMPONENT_VERSION"}, e.ErrorStack)
	assert.Equal(t, []string{"REQUEST_ERROR"}, e.ErrorTypes)
	assert.Equal(t, "no version", e.Reason)
	assert.Equal(t, d.JobID, e.JobID)

	d = k.create(group("g", "1.0.1"))
	k.move("core", "g", false)
	apply(d.JobID, protocol.JobSucceeded, map[string]string{protocol.DetailStatus: "SUCCESSFUL", protocol.DetailErrorStack: `[]`, protocol.DetailErrorTypes: `[]`})
	e = only()
	assert.Equal(t, "SUCCEEDED", e.Status)
	assert.Equal(t, "SUCCESSFUL", e.Reason)
	assert.Nil(t, e.ErrorStack)
	assert.Nil(t, e.ErrorTypes)

	d = k.create(group("g", "1.0.2"))
	k.move("core", "g", false)
	apply(d.JobID, protocol.JobRejected, map[string]string{protocol.DetailErrorStack: "no JSON"})
	e = only()
	assert.Equal(t, "REJECTED", e.Status)
	assert.Equal(t, []string{}, e.ErrorStack, "there, and empty")
	assert.Equal(t, []string{}, e.ErrorTypes)
}

func TestWhatACoreRunsStaysEffectiveWhenItLeavesTheGroup(t *testing.T) {
	k := newKit(t, t.Context(), "core")
	k.groups("g", "h")
	d := k.create(group("g", "1.0.0"))
	k.move("core", "g", false)
	_, err := k.jobs.Apply(t.Context(), jobs.Update{Thing: "core", JobID: d.JobID, Status: protocol.JobInProgress})
	require.NoError(t, err)
	k.pass(time.Minute)
	k.move("core", "h", false)
	targets := func() (out []string) {
		t.Helper()
		list, err := k.EffectiveDeployments(t.Context(), "core")
		require.NoError(t, err)
		for _, e := range list {
			out = append(out, e.TargetARN[strings.LastIndex(e.TargetARN, "/")+1:]+" "+e.Status)
		}
		return out
	}
	assert.Equal(t, []string{"g IN_PROGRESS"}, targets(), "what runs goes on")
	k.report("core", d.JobID, protocol.JobSucceeded)
	assert.Empty(t, targets(), "nothing says that anything of it is there")
	tell := func(arn string) {
		t.Helper()
		require.NoError(t, k.Report(t.Context(), "core", health(func(m *protocol.FleetStatus) {
			m.Components = []protocol.ComponentStatus{app("com.example.App", "1.0.0", "RUNNING", arn)}
		})))
	}
	tell("arn:aws:greengrass:us-east-1:000000000000:configuration:thinggroup/g:1")
	assert.Equal(t, []string{"g SUCCEEDED"}, targets())
	two := k.create(group("h", "2.0.0"))
	k.move("core", "h", false)
	k.pass(time.Minute)
	k.report("core", two.JobID, protocol.JobSucceeded)
	assert.Equal(t, []string{"h SUCCEEDED", "g SUCCEEDED"}, targets(), "the newest change first")
	tell("arn:aws:greengrass:us-east-1:000000000000:configuration:thinggroup/h:1")
	assert.Equal(t, []string{"h SUCCEEDED"}, targets(), "the next deployment took it away")
}

func BenchmarkCoresOfAGroupOfWhichFewPass(b *testing.B) {
	k := newKit(b, b.Context())
	for i := range 10_000 {
		c := greengrass.CoreDevice{Thing: fmt.Sprintf("core-%05d", i), Status: protocol.Healthy}
		if i%1000 == 0 {
			c.Status = protocol.Unhealthy
		}
		_, err := k.store.Commit(b.Context(), state.NewBatch(state.StepFleetStatus).Put(state.Root+"greengrass/core/"+c.Thing, c).
			Put(state.Root+"greengrass/deployed/g/"+c.Thing, struct{}{}))
		require.NoError(b, err)
	}
	k.listing(b)
	for b.Loop() {
		_, _, err := k.Cores(b.Context(), greengrass.CoreFilter{Group: "g", Status: protocol.Unhealthy}, "", 50)
		require.NoError(b, err)
	}
}
