package fleet_test

import (
	"encoding/json"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ggfleet/ggfleet/controlplane/internal/event"
	"github.com/ggfleet/ggfleet/controlplane/internal/fleet"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/selfhostedtest"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
)

var (
	someCores     = []string{"a", "b"}
	someDevices   = []string{"x", "y"}
	someTemplates = []string{"t", "u"}
)

// Tasks of all kinds run over and through each other, commits fail, the process
// starts anew. Once all is quiet, the summary is a recount, every item has ended
// and was told of once, and things, artifacts and associations are those of the
// records.
func TestWhateverHappensAtOnceNothingIsOrphaned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(struct{ testing.TB }{t}, func(t *rapid.T) { // rapid asks a *testing.T for what a bubble does not have
			k := newKit(selfhostedtest.TB(t))
			defer func() { k.stop() }()
			core, device := rapid.SampledFrom(someCores), rapid.SampledFrom(someDevices)
			started := map[string]bool{}
			note := func(id string, err error) {
				if err == nil {
					started[id] = true
				}
			}
			t.Repeat(map[string]func(*rapid.T){
				"create": func(t *rapid.T) {
					note(k.CreateCoreTask(k.ctx, fleet.NewCoreTask{Type: fleet.CoreTaskCreate, CoreVersion: "2.18.0", Cores: []fleet.NewCore{newCore(core.Draw(t, "core"))}}, ""))
				},
				"delete": func(t *rapid.T) {
					note(k.CreateCoreTask(k.ctx, fleet.NewCoreTask{Type: fleet.CoreTaskDelete, Options: json.RawMessage(both), Cores: []fleet.NewCore{{Name: core.Draw(t, "core")}}}, ""))
				},
				"appear": func(t *rapid.T) {
					if name := core.Draw(t, "core"); len(k.things(name)) == 1 {
						_ = k.cloud.Appear(k.ctx, name) // it may be leaving
					}
				},
				"give": func(t *rapid.T) {
					note(k.CreateDeviceTask(k.ctx, fleet.NewDeviceTask{Core: core.Draw(t, "core"), Type: fleet.CoreTaskCreate, Devices: []fleet.NewDevice{newDevice(device.Draw(t, "device"))}}, ""))
				},
				"take": func(t *rapid.T) {
					_ = k.DeleteDevice(k.ctx, device.Draw(t, "device"), fleet.DeleteDevice{Deprovision: true, Disassociate: true}) // often there is none
				},
				"template": func(t *rapid.T) {
					n := aTemplate(rapid.SampledFrom(someTemplates).Draw(t, "template"))
					if _, err := k.CreateTemplate(k.ctx, n); err != nil {
						_, _ = k.UpdateTemplate(k.ctx, n.Name, n) // a commit may fail
					}
				},
				"drop": func(t *rapid.T) { _ = k.DeleteTemplate(k.ctx, rapid.SampledFrom(someTemplates).Draw(t, "template"), 0) }, // often it is in use
				"deploy": func(t *rapid.T) {
					n := fleet.NewDeploymentTask{TemplateName: rapid.SampledFrom(someTemplates).Draw(t, "template"), Targets: to(core.Draw(t, "core"))}
					note(k.CreateDeploymentTask(k.ctx, n, ""))
				},
				"finish": func(t *rapid.T) {
					name := core.Draw(t, "core")
					if list, err := k.cloud.Jobs.Pending(k.ctx, name); err == nil && len(list) > 0 {
						_ = k.cloud.Finish(k.ctx, name, list[0].JobID, "SUCCEEDED") // it may be leaving
					}
				},
				"break": func(t *rapid.T) {
					k.breakAt(rapid.Int32Range(1, 6).Draw(t, "commit"), fault.New(fault.Unavailable, "away"))
				},
				"restart": func(*rapid.T) { k.stop(); k.start() },
				"wait": func(t *rapid.T) {
					time.Sleep(time.Duration(rapid.IntRange(1, 2000).Draw(t, "ms")) * time.Millisecond)
				},
			})
			k.fail.Store(nil)
			time.Sleep(20 * time.Minute) // everything ends or is given up
			synctest.Wait()
			k.quiet(started)
		})
	})
}

// quiet checks a fleet in which nothing goes on.
func (k *kit) quiet(started map[string]bool) {
	k.t.Helper()
	same, err := k.Settled(k.ctx)
	require.NoError(k.t, err)
	require.True(k.t, same, "the summary is a recount")

	told := map[string]int{}
	require.NoError(k.t, state.All(k.ctx, k.store, state.Root+"event/outbox/", func(_ string, r state.Record[event.Event]) error {
		var d struct{ TaskID, Status string }
		if r.Value.Type == event.DeviceDeleted { // by the task of its core
			return nil
		}
		if err := json.Unmarshal(r.Value.Detail, &d); err != nil {
			return err
		}
		told[d.TaskID]++
		return nil
	}))
	for id := range started {
		require.True(k.t, k.ended(id), "task %s", id)
		require.Equal(k.t, 1, told[id], "task %s ended its item once and told of it once", id)
	}

	for _, name := range someCores {
		_, err := k.Core(k.ctx, name)
		require.Equal(k.t, err == nil, len(k.things(name)) == 1, "core %s and its thing", name)
		require.True(k.t, err == nil || k.artifacts(name) == 0, "artifacts of %s", name)
		devices, _, err := k.Devices(k.ctx, fleet.DeviceFilter{Core: name}, fleet.Page{})
		require.NoError(k.t, err)
		var own []string
		for _, d := range devices {
			own = append(own, d.Name)
		}
		require.Equal(k.t, own, k.associated(name), "client devices of %s", name)
	}
	for _, name := range someDevices {
		_, err := k.Device(k.ctx, name)
		require.Equal(k.t, err == nil, len(k.things(name)) == 1, "device %s and its thing", name)
		require.True(k.t, err == nil || k.artifacts(name) == 0, "artifacts of %s", name)
	}
	k.groups()
}

// groups checks that every core is in the group of the template that it was sent
// to, and that the template exists.
func (k *kit) groups() {
	k.t.Helper()
	cores, _, err := k.Cores(k.ctx, fleet.CoreFilter{}, fleet.Page{})
	require.NoError(k.t, err)
	for _, c := range cores {
		thing, err := k.cloud.Thing(k.ctx, c.Name)
		require.NoError(k.t, err)
		var want []string
		if c.Execution != (fleet.ExecutionRef{}) {
			v, err := k.TemplateVersion(k.ctx, c.Desired.Name, c.Desired.Version)
			require.NoError(k.t, err, "template of core %s", c.Name)
			require.NotNil(k.t, v.Deployed)
			want = []string{v.Deployed.ThingGroup}
			require.True(k.t, slices.Equal(want, thing.Groups), "core %s is in %v, was sent to %v", c.Name, thing.Groups, want)
		}
	}
}

// ended reports whether a task of whatever kind is over, with every item.
func (k *kit) ended(id string) bool {
	k.t.Helper()
	over := func(s fleet.TaskState, items []fleet.TaskItem) bool {
		for _, i := range items {
			if i.Status != fleet.TaskSuccess && i.Status != fleet.TaskFailure {
				return false
			}
		}
		return s.BatchesTotal != nil && *s.BatchesComplete == *s.BatchesTotal
	}
	if t, err := k.CoreTask(k.ctx, id); err == nil {
		return over(t.TaskState, t.Cores)
	}
	if t, err := k.DeviceTask(k.ctx, id); err == nil {
		return over(t.TaskState, t.Devices)
	}
	t, err := k.DeploymentTask(k.ctx, id)
	require.NoError(k.t, err)
	var items []fleet.TaskItem
	for _, d := range t.Deployments {
		items = append(items, d.TaskItem)
	}
	return over(t.TaskState, items)
}
