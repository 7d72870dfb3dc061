package fleet_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ggfleet/ggfleet/controlplane/internal/event"
	"github.com/ggfleet/ggfleet/controlplane/internal/fleet"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/iot"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/jobs"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/selfhostedtest"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// life is a fleet in which everything happens at once: tasks are started and not
// waited for, devices report, the process dies in between.
type life struct {
	*kit
	tasks struct{ core, device, deployment []string }
	kept  map[string]bool // things that some delete was told to leave
	ended map[string]bool // task and item
}

var (
	lifeCores   = []string{"a", "b", "c"}
	lifeDevices = []string{"d1", "d2"}

	lifeTemplates = []string{"t", "u"}
)

func some(t *rapid.T, of []string) []string {
	n := rapid.SliceOfNDistinct(rapid.SampledFrom(of), 1, len(of), rapid.ID).Draw(t, "names")
	return n
}

func (l *life) options(t *rapid.T, names ...string) json.RawMessage {
	cores, devices := rapid.Bool().Draw(t, "cores"), rapid.Bool().Draw(t, "devices")
	for _, n := range names {
		l.kept[n] = l.kept[n] || !cores
	}
	if !devices {
		for _, n := range lifeDevices {
			l.kept[n] = true
		}
	}
	return json.RawMessage(fmt.Sprintf(`{"deprovisionCores":%v,"deprovisionClientDevices":%v}`, cores, devices))
}

func (l *life) core(t *rapid.T, n fleet.NewCoreTask) {
	id, err := l.CreateCoreTask(l.ctx, n, "")
	require.NoError(t, err)
	l.tasks.core = append(l.tasks.core, id)
}

// ours lets a device task start only where it can.
func (l *life) device(t *rapid.T, n fleet.NewDeviceTask) {
	id, err := l.CreateDeviceTask(l.ctx, n, "")
	if err != nil {
		require.ErrorIs(t, err, fault.Invalid, "the core is none")
		return
	}
	l.tasks.device = append(l.tasks.device, id)
}

// die lets the process stop working after so many commits, and starts another.
func (l *life) die(t *rapid.T) {
	var left atomic.Int32
	left.Store(int32(rapid.IntRange(0, 25).Draw(t, "commits")))
	f := func(*state.Batch) error {
		if left.Add(-1) < 0 {
			return fault.New(fault.Unavailable, "dead")
		}
		return nil
	}
	l.fail.Store(&f)
	time.Sleep(time.Duration(rapid.IntRange(0, 3000).Draw(t, "milliseconds")) * time.Millisecond)
	l.stop()
	l.fail.Store(nil)
	l.start()
}

func (l *life) actions() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"create": func(t *rapid.T) {
			n := fleet.NewCoreTask{Type: fleet.CoreTaskCreate, CoreVersion: "2.18.0"}
			for _, c := range some(t, lifeCores) {
				n.Cores = append(n.Cores, newCore(c))
			}
			l.core(t, n)
		},
		"delete": func(t *rapid.T) {
			names := some(t, lifeCores)
			n := fleet.NewCoreTask{Type: fleet.CoreTaskDelete, Options: l.options(t, names...)}
			for _, c := range names {
				n.Cores = append(n.Cores, fleet.NewCore{Name: c})
			}
			l.core(t, n)
		},
		"devices": func(t *rapid.T) {
			n := fleet.NewDeviceTask{Core: rapid.SampledFrom(lifeCores).Draw(t, "core"), Type: fleet.CoreTaskCreate}
			for _, d := range some(t, lifeDevices) {
				n.Devices = append(n.Devices, newDevice(d))
			}
			l.device(t, n)
		},
		"deleteDevices": func(t *rapid.T) {
			n := fleet.NewDeviceTask{Core: rapid.SampledFrom(lifeCores).Draw(t, "core"), Type: fleet.CoreTaskDelete, Options: l.options(t)}
			for _, d := range some(t, lifeDevices) {
				n.Devices = append(n.Devices, fleet.NewDevice{Name: d})
			}
			l.device(t, n)
		},
		"deploy": func(t *rapid.T) {
			n := fleet.NewDeploymentTask{
				TemplateName: rapid.SampledFrom(lifeTemplates).Draw(t, "template"), TemplateVersion: rapid.IntRange(0, 2).Draw(t, "version"), Targets: to(some(t, lifeCores)...), Force: rapid.Bool().Draw(t, "force"),
			}
			if rapid.Bool().Draw(t, "paced") {
				n.IoTJobConfig = json.RawMessage(`{"jobExecutionsRolloutConfig":{"maximumPerMinute":30},"abortConfig":{"criteriaList":[
					{"failureType":"ALL","action":"CANCEL","thresholdPercentage":50,"minNumberOfExecutedThings":2}]}}`)
			}
			id, err := l.CreateDeploymentTask(l.ctx, n, "")
			if err != nil {
				require.ErrorIs(t, err, fault.NotFound, "the template was dropped")
				return
			}
			l.tasks.deployment = append(l.tasks.deployment, id)
		},
		"template": func(t *rapid.T) {
			n := aTemplate(rapid.SampledFrom(lifeTemplates).Draw(t, "template"))
			if _, err := l.CreateTemplate(l.ctx, n); err != nil {
				_, _ = l.UpdateTemplate(l.ctx, n.Name, n) // it is being dropped
			}
		},
		"drop": func(t *rapid.T) {
			_ = l.DeleteTemplate(l.ctx, rapid.SampledFrom(lifeTemplates).Draw(t, "template"), 0) // often it is in use
		},
		"cancel": func(t *rapid.T) {
			if len(l.tasks.deployment) > 0 {
				_ = l.CancelDeploymentTask(l.ctx, rapid.SampledFrom(l.tasks.deployment).Draw(t, "task")) // a task that has ended refuses
			}
		},
		"retry": func(t *rapid.T) {
			if len(l.tasks.deployment) == 0 {
				return
			}
			if id, err := l.RetryDeploymentTask(l.ctx, rapid.SampledFrom(l.tasks.deployment).Draw(t, "task"), ""); err == nil {
				l.tasks.deployment = append(l.tasks.deployment, id)
			}
		},
		"appear": func(t *rapid.T) {
			n := rapid.SampledFrom(lifeCores).Draw(t, "core")
			if _, err := l.cloud.Thing(l.ctx, n); err == nil { // else it cannot connect
				_ = l.cloud.Appear(l.ctx, n) // or is being deleted
			}
		},
		"report": func(t *rapid.T) {
			n := rapid.SampledFrom(lifeCores).Draw(t, "core")
			list, err := l.cloud.Jobs.Pending(l.ctx, n)
			require.NoError(t, err)
			if len(list) > 0 {
				s := rapid.SampledFrom([]protocol.JobStatus{protocol.JobInProgress, protocol.JobSucceeded, protocol.JobFailed}).Draw(t, "status")
				_, _ = l.cloud.Jobs.Apply(l.ctx, jobs.Update{Thing: n, JobID: list[0].JobID, Status: s}) // may have been withdrawn
			}
		},
		"pass": func(t *rapid.T) {
			time.Sleep(time.Duration(rapid.IntRange(1, 4000).Draw(t, "milliseconds")) * time.Millisecond)
		},
		"die": l.die,
	}
}

// Whatever is created, deleted, deployed and reported at once, and wherever the
// process dies: every item ends once, the summary equals a recount, nothing is
// left that belongs to nobody, and each end is told once.
func TestAnyInterleavingLeavesTheFleetWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(struct{ testing.TB }{t}, func(t *rapid.T) { // rapid asks a *testing.T for what a bubble does not have
			l := &life{kit: newKit(selfhostedtest.TB(t)), kept: map[string]bool{}, ended: map[string]bool{}}
			defer func() { l.stop() }()
			l.template("t", "1.0.0")
			l.template("t", "2.0.0")
			actions := l.actions()
			names := make([]string, 0, len(actions))
			for n := range actions {
				names = append(names, n)
			}
			slices.Sort(names)
			for range rapid.IntRange(5, 30).Draw(t, "steps") {
				actions[rapid.SampledFrom(names).Draw(t, "action")](t)
				synctest.Wait()
				same, err := l.Settled(l.ctx)
				require.NoError(t, err)
				require.True(t, same, "the summary is not a recount")
			}
			l.settle(t)
			l.whole(t)
		})
	})
}

// settle waits until every task has ended, and checks that each item did.
func (l *life) settle(t *rapid.T) {
	final := func(id string, items []fleet.TaskItem) {
		for _, i := range items {
			l.ended[id+" "+i.Name] = true
			require.Contains(t, []fleet.TaskStatus{fleet.TaskSuccess, fleet.TaskFailure}, i.Status, i.Name)
		}
	}
	await := func(read func() (fleet.TaskState, error)) {
		for n := 0; ; n++ {
			s, err := read()
			require.NoError(t, err)
			if s.BatchesTotal != nil && *s.BatchesComplete == *s.BatchesTotal || s.BatchesTotal == nil && s.Status == fleet.TaskFailure {
				return
			}
			require.Less(t, n, 3600, "task %s does not end: %+v", s.ID, s)
			time.Sleep(time.Second)
		}
	}
	for _, id := range l.tasks.core {
		await(func() (fleet.TaskState, error) {
			x, err := l.CoreTask(l.ctx, id, fleet.Page{})
			return x.TaskState, err
		})
		x, err := l.CoreTask(l.ctx, id, fleet.Page{})
		require.NoError(t, err)
		final(id, x.Cores)
	}
	for _, id := range l.tasks.device {
		await(func() (fleet.TaskState, error) {
			x, err := l.DeviceTask(l.ctx, id, fleet.Page{})
			return x.TaskState, err
		})
		x, err := l.DeviceTask(l.ctx, id, fleet.Page{})
		require.NoError(t, err)
		final(id, x.Devices)
	}
	for _, id := range l.tasks.deployment {
		await(func() (fleet.TaskState, error) {
			x, err := l.DeploymentTask(l.ctx, id, fleet.Page{})
			return x.TaskState, err
		})
		x, err := l.DeploymentTask(l.ctx, id, fleet.Page{})
		require.NoError(t, err)
		for _, d := range x.Deployments {
			final(id, []fleet.TaskItem{d.TaskItem})
		}
	}
	time.Sleep(15 * time.Second) // what was stopped is withdrawn
	synctest.Wait()
}

// whole checks what is left when everything has ended.
func (l *life) whole(t *rapid.T) {
	p, err := l.store.List(l.ctx, state.Root, "", 0)
	require.NoError(t, err)
	records := map[string][]byte{}
	for _, e := range p.Entries {
		records[strings.TrimPrefix(e.Key, state.Root)] = e.Value
	}
	has := func(format string, args ...any) bool { _, ok := records[fmt.Sprintf(format, args...)]; return ok }
	told := map[string]int{}
	for key, value := range records {
		part := strings.Split(key, "/")
		switch {
		case strings.HasPrefix(key, "iot/thing/"):
			n := part[2]
			var x iot.Thing
			require.NoError(t, json.Unmarshal(value, &x))
			require.False(t, x.Deleting, "thing %s was left half deleted", n)
			require.True(t, l.kept[n] || has("fleet/core/%s", n) || has("fleet/device/%s", n), "thing %s is an orphan", n)
		case strings.HasPrefix(key, "iot/cert/"):
			var x iot.Certificate
			require.NoError(t, json.Unmarshal(value, &x))
			require.NotEmpty(t, x.Things, "certificate %s is an orphan", part[2])
			for _, n := range x.Things {
				require.True(t, has("iot/thing/%s", n), "certificate of %s, which is gone", n)
			}
		case strings.HasPrefix(key, "iot/member/"):
			require.True(t, has("iot/thing/%s", part[3]), "%s is an orphan", key)
		case strings.HasPrefix(key, "jobs/execution/"):
			require.True(t, has("iot/thing/%s", part[3]), "%s is an orphan", key)
		case strings.HasPrefix(key, "greengrass/assoc/"):
			require.True(t, has("iot/thing/%s", part[3]), "%s is an orphan", key)
		case strings.HasPrefix(key, "fleet/core/"), strings.HasPrefix(key, "fleet/device/"):
			require.True(t, has("iot/thing/%s", part[2]), "record %s has no thing", key)
		case strings.HasPrefix(key, "event/outbox/"):
			var e event.Event
			require.NoError(t, json.Unmarshal(value, &e))
			var d struct{ TaskID, CoreName, DeviceName string }
			require.NoError(t, json.Unmarshal(e.Detail, &d))
			if d.TaskID != "" {
				told[d.TaskID+" "+d.CoreName+d.DeviceName]++
			}
		}
	}
	for item := range l.ended {
		require.Equal(t, 1, told[item], "how often the end of the item was told: %s", item)
	}
	for _, c := range lifeCores {
		devices, _, err := l.Devices(l.ctx, fleet.DeviceFilter{Core: c}, fleet.Page{})
		require.NoError(t, err)
		var own []string
		for _, d := range devices {
			own = append(own, d.Name)
		}
		require.Subset(t, l.associated(c), own, "client devices of %s", c)
	}
	l.groups(t)
	objects, err := l.objects.List(l.ctx, "greengrass2/artifacts/", "", 0)
	require.NoError(t, err)
	for _, o := range objects {
		n := strings.Split(o.Key, "/")[2]
		require.True(t, has("fleet/core/%s", n) || has("fleet/device/%s", n), "artifact %s is an orphan", o.Key)
	}
	same, err := l.Settled(l.ctx)
	require.NoError(t, err)
	require.True(t, same)
}

// groups checks that every core is in the group of the template that it was sent
// to, and that the template exists.
func (l *life) groups(t *rapid.T) {
	cores, _, err := l.Cores(l.ctx, fleet.CoreFilter{}, fleet.Page{})
	require.NoError(t, err)
	for _, c := range cores {
		if c.Execution == (fleet.ExecutionRef{}) {
			continue
		}
		thing, err := l.cloud.Thing(l.ctx, c.Name)
		require.NoError(t, err)
		v, err := l.TemplateVersion(l.ctx, c.Desired.Name, c.Desired.Version)
		require.NoError(t, err, "template of core %s", c.Name)
		require.NotNil(t, v.Deployed)
		require.Equal(t, []string{v.Deployed.ThingGroup}, thing.Groups, "core %s was sent elsewhere", c.Name)
	}
}
