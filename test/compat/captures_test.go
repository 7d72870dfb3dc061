package compat_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/shared/protocol"
	"github.com/ggfleet/ggfleet/test/captures"
	"github.com/ggfleet/ggfleet/test/internal/world"
)

// TestARecordedNucleusIsServed plays the core's half of every capture but 16
// (provisioning by claim): all by one core in their order, as they were recorded,
// and each by a core that has only connected before. After each it asks the fleet
// API what it made of it.
//
// Deployments are made the way an operator makes them: a template of the
// capture's components and a deployment task, so that they are deployments to a
// thing group where the capture has one to the thing (05-07 and 09). In capture
// 10 two deployments waited for the core, from two groups. A core is in one
// template group only, so there the second is made once the first has succeeded;
// what comes of two that were made while the core was off shows
// TestOfTwoDeploymentsMadeWhileTheCoreWasOffTheLastOneArrives.
func TestARecordedNucleusIsServed(t *testing.T) {
	scripts := replayable(t)
	w := world.Start(t, world.Options{})
	putComponents(t, w, scripts)
	var all captures.Result
	one := newTarget(t, w, "press-07")
	for _, s := range scripts {
		t.Run(s.Name+" after the ones before", func(t *testing.T) {
			one.replay(t, s)
			add(&all, one.results[len(one.results)-1])
			one.check(t)
		})
	}
	t.Logf("all captures by one core: %d packets sent, %d of them fleet statuses, %d answers due, %d answered", all.Sent, all.Statuses, all.Awaited, all.Answered)
	for _, s := range scripts[1:] {
		t.Run(s.Name+" by itself", func(t *testing.T) {
			to := newTarget(t, w, "press:"+s.Name[:2]+"_b") // every kind of character that a thing name may have
			to.replay(t, scripts[0])
			to.replay(t, s)
			to.check(t)
		})
	}
}

// The job of the first template is gone with the core's membership of its group.
func TestOfTwoDeploymentsMadeWhileTheCoreWasOffTheLastOneArrives(t *testing.T) {
	scripts := replayable(t)
	w := world.Start(t, world.Options{})
	putComponents(t, w, scripts)
	to := newTarget(t, w, "press-07")
	to.replay(t, scripts[0])
	old := to.deploy(t, "old-line", world.TemplateComponent{Name: "com.heldout.Broken", Version: "1.0.0"})
	i := slices.IndexFunc(scripts, func(s captures.Script) bool { return strings.HasPrefix(s.Name, "05-") })
	to.replay(t, scripts[i])
	require.Len(t, to.jobs, 2)
	for _, d := range w.Core(t, "press-07").Device.Deployments {
		assert.NotEqual(t, old, d.JobID)
	}
}

func replayable(t *testing.T) []captures.Script {
	t.Helper()
	all, err := captures.Load()
	require.NoError(t, err)
	var list []captures.Script
	for _, s := range all {
		if s.Replayable() {
			list = append(list, s)
		}
	}
	require.Len(t, list, 8)
	require.True(t, strings.HasPrefix(list[0].Name, "01-"))
	return list
}

func putComponents(t *testing.T, w *world.World, scripts []captures.Script) {
	t.Helper()
	list, err := captures.Components(scripts...)
	require.NoError(t, err)
	for _, c := range list {
		w.PutComponent(t, c.Recipe, c.Artifacts)
	}
}

func add(sum *captures.Result, r captures.Result) {
	sum.Sent, sum.Statuses = sum.Sent+r.Sent, sum.Statuses+r.Statuses
	sum.Awaited, sum.Answered = sum.Awaited+r.Answered, sum.Answered+r.Answered
}

// target is one core at the world, and the operator of its deployments.
type target struct {
	captures.Target
	t       *testing.T // of the replay at hand
	w       *world.World
	told    view
	results []captures.Result

	templates []string // in the order deployed
	jobs      []string
	base      int            // deployments before the replay at hand
	later     sync.WaitGroup // a deployment that waits for the one before
}

func newTarget(t *testing.T, w *world.World, core string) *target {
	t.Helper()
	made := w.CreateCores(t, core)[0]
	to := &target{w: w, Target: captures.Target{
		MQTT: w.MQTT, DataPlane: w.Device, Credentials: w.Device, Thing: core, RoleAlias: "GGFleetTokenExchangeRoleAlias", Region: "us-east-1",
		Certificate: made.Certificate, RootCAs: w.Roots,
	}}
	to.Driver = to
	return to
}

// replay plays one capture, which must be answered as the contract says, and
// waits until the core's health is known: a core that never reported cannot be
// deployed to.
func (to *target) replay(t *testing.T, s captures.Script) {
	t.Helper()
	to.t, to.base = t, len(to.jobs)
	res, err := captures.Replay(t.Context(), s, to.Target)
	t.Log(res)
	require.NoError(t, err)
	to.later.Wait()
	assert.Empty(t, res.Violations)
	assert.Equal(t, res.Awaited, res.Answered)
	to.results = append(to.results, res)
	to.told = fold(t, to.told, s)
	world.Eventually(t, func() string { // health comes with QoS 0: nothing says when it was read
		got := to.w.Core(t, to.Thing).Device
		if got.Connected || got.Status != to.told.status || !sameElements(slices.Collect(maps.Values(to.told.components)), got.Installed) {
			return fmt.Sprintf("core %s is %+v, was told %+v", to.Thing, got, to.told)
		}
		return ""
	})
}

// Deploy implements captures.Driver. A second deployment of a capture is made
// when the first has ended; its job is then the next to come.
func (to *target) Deploy(_ context.Context, spec captures.DeploymentSpec) (string, error) {
	var list []world.TemplateComponent
	for name, c := range spec.Components {
		tc := world.TemplateComponent{Name: name, Version: c.Version}
		if u := c.ConfigurationUpdate; u != nil {
			tc.ConfigurationUpdate = &world.ConfigurationUpdate{Merge: string(u.Merge), Reset: u.Reset}
		}
		list = append(list, tc)
	}
	name := fmt.Sprintf("line_%s-%d", strings.ReplaceAll(to.Thing, ":", "_"), len(to.jobs))
	if len(to.jobs) == to.base {
		return to.deploy(to.t, name, list...), nil
	}
	to.later.Go(func() {
		to.waitReported(to.templates[len(to.templates)-1])
		to.deploy(to.t, name, list...)
	})
	return "", nil
}

func (to *target) waitReported(template string) {
	world.Eventually(to.t, func() string {
		if r := to.w.Core(to.t, to.Thing).Template.Reported; r.Name != template || r.DeploymentStatus != "Success" {
			return fmt.Sprintf("template %s is not reported: %+v", template, r)
		}
		return ""
	})
}

func (to *target) deploy(t *testing.T, template string, components ...world.TemplateComponent) string {
	t.Helper()
	version := to.w.PutTemplate(t, template, components...)
	task := to.w.WaitTask(t, to.w.Deploy(t, template, version, to.Thing))
	require.Equal(t, "Success", task.Status, "%+v", task)
	var got struct {
		Deployment struct {
			JobID string `json:"jobId"`
		} `json:"deployment"`
	}
	to.w.Call(t, http.MethodGet, "/templates/"+template, nil, &got)
	require.NotEmpty(t, got.Deployment.JobID)
	to.templates, to.jobs = append(to.templates, template), append(to.jobs, got.Deployment.JobID)
	return got.Deployment.JobID
}

// view is what a core's fleet statuses say together.
type view struct {
	status      string
	version     string
	components  map[string]world.InstalledComponent
	deployments []string // results in order
}

// fold adds the fleet statuses of a capture: COMPLETE is the whole list, PARTIAL
// changes it, UNINSTALLED takes away (nucleus-contract §2.4).
func fold(t *testing.T, v view, s captures.Script) view {
	t.Helper()
	for _, e := range s.Entries {
		if e.Packet == nil || !e.Core || !strings.HasSuffix(e.Packet.Topic, "/greengrassv2/health/json") {
			continue
		}
		m, err := protocol.ParseFleetStatus(e.Packet.Payload)
		require.NoError(t, err)
		v.status, v.version = m.OverallDeviceStatus, m.GGCVersion
		if v.components == nil || m.MessageType == protocol.StatusComplete {
			v.components = map[string]world.InstalledComponent{}
		}
		for _, c := range m.Components {
			if c.Status == "UNINSTALLED" {
				delete(v.components, c.ComponentName)
				continue
			}
			v.components[c.ComponentName] = world.InstalledComponent{Name: c.ComponentName, Version: c.Version, State: c.Status, IsRoot: c.IsRoot}
		}
		if m.Deployment != nil {
			v.deployments = append(v.deployments, m.Deployment.Status)
		}
	}
	return v
}

// check compares what the fleet API says of a core with what it was told.
func (to *target) check(t *testing.T) {
	t.Helper()
	told, w := to.told, to.w
	checkTemplate(t, w, to, told)
	got := w.Core(t, to.Thing)
	assert.Equal(t, told.version, got.Device.CoreVersion)
	assert.Equal(t, protocol.RuntimeLite, got.Device.Runtime)

	require.Len(t, to.jobs, len(told.deployments), "every deployment was reported")
	summary := map[string]map[string]int{}
	for i, result := range told.deployments {
		last := i == len(to.jobs)-1
		reason := map[string]string{"SUCCEEDED": "SUCCESSFUL", "FAILED": "FAILED_ROLLBACK_NOT_REQUESTED"}[result]
		found := 0
		for _, d := range got.Device.Deployments {
			if d.JobID == to.jobs[i] {
				found++
				assert.Equal(t, result, d.Status)
				assert.Contains(t, d.Reason, reason, "the core's own word")
				assert.Contains(t, d.TargetARN, ":thinggroup/")
			}
		}
		if last {
			assert.Equal(t, 1, found, "effective deployment of job %s: %+v", to.jobs[i], got.Device.Deployments)
		}
		want := map[string]int{"desiredInUse": 0, "reportedInUse": 0, "lastDeploymentSuccess": 0, "lastDeploymentFailed": 0, "lastDeploymentInProgress": 0}
		if last {
			want["desiredInUse"] = 1
			want[map[string]string{"SUCCEEDED": "lastDeploymentSuccess", "FAILED": "lastDeploymentFailed"}[result]] = 1
		}
		if i == lastSuccess(told) {
			want["reportedInUse"] = 1
		}
		summary[to.templates[i]] = want
	}
	var fleet struct {
		Templates map[string]struct {
			Versions map[string]map[string]int `json:"versions"`
		} `json:"templates"`
	}
	w.Call(t, http.MethodGet, "/fleet/summary", nil, &fleet)
	for template, want := range summary {
		assert.Equal(t, want, fleet.Templates[template].Versions["1"], "summary of %s", template)
	}
}

func checkTemplate(t *testing.T, w *world.World, to *target, told view) {
	t.Helper()
	want := world.TemplateState{Name: "None", DeploymentStatus: "None"}
	if i := lastSuccess(told); i >= 0 {
		want = world.TemplateState{Name: to.templates[i], Version: 1}
	}
	if n := len(told.deployments); n > 0 {
		want.DeploymentStatus = map[string]string{"SUCCEEDED": "Success", "FAILED": "Failure"}[told.deployments[n-1]]
	}
	var got world.TemplateState
	world.Eventually(t, func() string { // the reported state follows the job's end
		if got = w.Core(t, to.Thing).Template.Reported; got.DeploymentStatus != want.DeploymentStatus {
			return fmt.Sprintf("reported template is %+v, want %+v", got, want)
		}
		return ""
	})
	if want.DeploymentStatus == "Failure" {
		assert.Contains(t, got.Message, "FAILED") // lite's job update says no more (nucleus-contract §3)
	}
	got.Message = ""
	assert.Equal(t, want, got)
}

// lastSuccess is the deployment whose template the core has, -1 for none.
func lastSuccess(v view) int {
	for i, result := range slices.Backward(v.deployments) {
		if result == "SUCCEEDED" {
			return i
		}
	}
	return -1
}

func sameElements(a, b []world.InstalledComponent) bool {
	count := map[world.InstalledComponent]int{}
	for _, c := range a {
		count[c]++
	}
	for _, c := range b {
		count[c]--
	}
	for _, n := range count {
		if n != 0 {
			return false
		}
	}
	return true
}
