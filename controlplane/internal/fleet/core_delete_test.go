package fleet_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/event"
	"github.com/ggfleet/ggfleet/controlplane/internal/fleet"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// remove runs a core task of type Delete to its end.
func (k *kit) remove(options string, names ...string) fleet.CoreTask {
	k.t.Helper()
	n := fleet.NewCoreTask{Type: fleet.CoreTaskDelete, Options: json.RawMessage(options)}
	for _, name := range names {
		n.Cores = append(n.Cores, fleet.NewCore{Name: name})
	}
	id, err := k.CreateCoreTask(k.ctx, n, "")
	require.NoError(k.t, err)
	for {
		t, err := k.CoreTask(k.ctx, id, fleet.Page{})
		require.NoError(k.t, err)
		if t.BatchesComplete != nil && *t.BatchesComplete == *t.BatchesTotal {
			return t
		}
		time.Sleep(100 * time.Millisecond) // virtual
	}
}

const (
	both    = `{"deprovisionCores":true,"deprovisionClientDevices":true}`
	neither = `{"deprovisionCores":false,"deprovisionClientDevices":false}`
)

// told returns the details of the events of a type that wait to be published.
func (k *kit) told(t event.Type) (details []string) {
	k.t.Helper()
	require.NoError(k.t, state.All(k.ctx, k.store, state.Root+"event/outbox/", func(_ string, r state.Record[event.Event]) error {
		if r.Value.Type == t {
			details = append(details, string(r.Value.Detail))
		}
		return nil
	}))
	return details
}

func (k *kit) things(names ...string) (there []string) {
	k.t.Helper()
	for _, n := range names {
		if _, err := k.cloud.Thing(k.ctx, n); err == nil {
			there = append(there, n)
		} else {
			require.ErrorIs(k.t, err, fault.NotFound)
		}
	}
	return there
}

func (k *kit) associated(core string) (devices []string) {
	k.t.Helper()
	require.NoError(k.t, k.cloud.Associated(k.ctx, core, func(d string) error {
		devices = append(devices, d)
		return nil
	}))
	return devices
}

func (k *kit) artifacts(name string) int {
	k.t.Helper()
	list, err := k.objects.List(k.ctx, "greengrass2/artifacts/"+name+"/", "", 0)
	require.NoError(k.t, err)
	return len(list)
}

// breakAt lets the n-th commit from now on fail, those of the task engine not
// counted; it returns whether one did.
func (k *kit) breakAt(n int32, err error) func() bool {
	var left atomic.Int32
	left.Store(n)
	f := func(b *state.Batch) error {
		if !strings.HasPrefix(string(b.Step), "task.") && left.Add(-1) == 0 {
			return err
		}
		return nil
	}
	k.fail.Store(&f)
	return func() bool {
		k.fail.Store(nil)
		return left.Load() <= 0
	}
}

// remains lists the records that still speak of one of the names, but for tasks,
// events and what the cloud keeps for a minute so that clocks may differ.
func (k *kit) remains(names ...string) (keys []string) {
	k.t.Helper()
	page, err := k.store.List(k.ctx, "", "", 0)
	require.NoError(k.t, err)
	for _, e := range page.Entries {
		kept := func(area string) bool { return strings.HasPrefix(e.Key, state.Root+area) }
		if kept("task/") || kept("event/") || kept("fleet/device-task/") || kept("jobs/deadline/") || kept("jobs/latest/") {
			continue
		}
		for _, n := range names {
			if slices.Contains(strings.Split(e.Key, "/"), n) || strings.Contains(string(e.Value), `"`+n+`"`) {
				keys = append(keys, e.Key)
			}
		}
	}
	return keys
}

// full is a fleet with one core that has all that a core can have.
func (k *kit) full() {
	k.t.Helper()
	require.Equal(k.t, fleet.TaskSuccess, k.create("2.18.0", newCore("gw")).Status)
	k.appear("gw")
	k.template("t", "1.0.0")
	k.deploy("t", 1, to("gw"))
	require.Equal(k.t, fleet.TaskSuccess, k.devices("gw", newDevice("d1"), newDevice("d2")).Status)
	r := cloud.Registration{Thing: protocol.AgentThing("gw")}
	require.NoError(k.t, k.cloud.Register(k.ctx, r, func(b *state.Batch) error { return k.cloud.Commit(k.ctx, b) }))
}

func TestADeletedCoreLeavesNothing(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		k.full()
		done := k.remove(both, "gw")
		require.Equal(t, fleet.TaskSuccess, done.Status, done.Cores)
		assert.Empty(t, done.Cores[0].StatusMessage)

		_, err := k.Core(k.ctx, "gw")
		require.ErrorIs(t, err, fault.NotFound)
		_, err = k.Device(k.ctx, "d1")
		require.ErrorIs(t, err, fault.NotFound)
		assert.Empty(t, k.things("gw", "gw:agent", "d1", "d2"))
		assert.Zero(t, k.artifacts("gw")+k.artifacts("d1")+k.artifacts("d2"), "W-66: no private key stays behind")
		known, err := k.cloud.HasCore(k.ctx, "gw")
		require.NoError(t, err)
		assert.False(t, known)
		assert.Empty(t, k.remains("gw", "gw:agent", "d1", "d2"))
		_, forgot := k.forgot.Load("gw")
		assert.True(t, forgot, "its activation")

		assert.Equal(t, []string{`{"coreName":"gw","taskId":"` + done.ID + `","status":"success"}`}, k.told(event.CoreDeleted))
		assert.Len(t, k.told(event.DeviceDeleted), 2)
		settled, err := k.Settled(k.ctx)
		require.NoError(t, err)
		assert.True(t, settled)

		list, _, err := k.CoreTasks(k.ctx, fleet.Page{})
		require.NoError(t, err)
		types := map[string]int{}
		for _, x := range list {
			types[x.Type]++
		}
		assert.Equal(t, map[string]int{"Create": 1, "Delete": 1}, types, "one list has both types")
	})
}

func TestWhatTheOptionsKeepStays(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		in(t, "neither: thing and certificate stay, devices keep a record without core", func(t *testing.T) {
			k.full()
			require.Equal(t, fleet.TaskSuccess, k.remove(neither, "gw").Status)
			_, err := k.Core(k.ctx, "gw")
			require.ErrorIs(t, err, fault.NotFound)
			assert.Equal(t, []string{"gw", "d1", "d2"}, k.things("gw", "gw:agent", "d1", "d2"))
			thing, err := k.cloud.Thing(k.ctx, "gw")
			require.NoError(t, err)
			assert.Len(t, thing.Certificates, 1)
			assert.Empty(t, thing.Groups, "out of the deployment's group")
			assert.Empty(t, k.associated("gw"))
			d, err := k.Device(k.ctx, "d1")
			require.NoError(t, err)
			assert.Empty(t, d.Core)
			assert.Equal(t, 1, k.artifacts("d1"))
			assert.Empty(t, k.told(event.DeviceDeleted))
			list, _, err := k.Devices(k.ctx, fleet.DeviceFilter{Core: "gw"}, fleet.Page{})
			require.NoError(t, err)
			assert.Empty(t, list)
		})
		in(t, "deprovisionCores in a second run, when the record is gone", func(t *testing.T) {
			done := k.remove(`{"deprovisionCores":true}`, "gw")
			assert.Equal(t, fleet.TaskSuccess, done.Status)
			assert.Equal(t, "Core already gone", done.Cores[0].StatusMessage)
			assert.Equal(t, []string{"d1", "d2"}, k.things("gw", "d1", "d2"))
		})
		in(t, "W-49: a core without devices obeys deprovisionCores, not deprovisionClientDevices", func(t *testing.T) {
			k.create("2.18.0", newCore("a"), newCore("b"))
			require.Equal(t, fleet.TaskSuccess, k.remove(`{"deprovisionClientDevices":true}`, "a").Status)
			require.Equal(t, fleet.TaskSuccess, k.remove(`{"deprovisionCores":true,"deprovisionClientDevices":false}`, "b").Status)
			assert.Equal(t, []string{"a"}, k.things("a", "b"))
		})
	})
}

func TestW44DeletingAnUnknownCoreMakesNoRecord(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		done := k.remove(both, "never", "ever")
		assert.Equal(t, fleet.TaskSuccess, done.Status)
		for _, c := range done.Cores {
			assert.Equal(t, fleet.TaskSuccess, c.Status)
			assert.Equal(t, "Core already gone", c.StatusMessage)
		}
		assert.Zero(t, k.Count())
		assert.Empty(t, k.remains("never", "ever"))
		assert.Len(t, k.told(event.CoreDeleted), 2)
	})
}

func TestW47ACoreIsNotDeletedUnderItsDevices(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		k.full()
		k.objects.Fail = func(op, key string) error {
			if op == "delete" && strings.Contains(key, "/d2/") {
				return fault.New(fault.Denied, "the artifact store refuses")
			}
			return nil
		}
		done := k.remove(both, "gw")
		assert.Equal(t, fleet.TaskFailure, done.Status)
		assert.Equal(t, fleet.TaskFailure, done.Cores[0].Status)
		assert.Equal(t, "Client device d2 cannot be deleted or disassociated: the artifact store refuses", done.Cores[0].StatusMessage)
		assert.NotEmpty(t, k.core("gw").Name, "the core is there")
		assert.Equal(t, []string{"gw", "d2"}, k.things("gw", "d1", "d2"))
		assert.Contains(t, k.told(event.CoreDeleted)[0], `"status":"failed"`, "W-48")

		k.objects.Fail = nil
		require.Equal(t, fleet.TaskSuccess, k.remove(both, "gw").Status, "a second run finishes")
		assert.Empty(t, k.things("gw", "gw:agent", "d1", "d2"))
	})
}

func TestW26W46HundredsOfDevicesGoWithTheirCore(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		k.create("2.18.0", newCore("gw"))
		k.appear("gw")
		var list []fleet.NewDevice
		for i := range 230 {
			list = append(list, newDevice(fmt.Sprintf("d%03d", i)))
		}
		require.Equal(t, fleet.TaskSuccess, k.devices("gw", list...).Status)
		require.Len(t, k.associated("gw"), 230)
		require.Equal(t, fleet.TaskSuccess, k.remove(both, "gw").Status)
		all, _, err := k.Devices(k.ctx, fleet.DeviceFilter{}, fleet.Page{})
		require.NoError(t, err)
		assert.Empty(t, all)
		assert.Empty(t, k.associated("gw"))
	})
}

func TestADeleteThatBreaksAnywhereIsFinished(t *testing.T) {
	lost := fault.New(fault.Denied, "cut off here") // permanent: the item fails
	for n := int32(1); ; n++ {
		broke := false
		bubble(t, func(t *testing.T, k *kit) {
			k.full()
			did := k.breakAt(n, lost)
			first := k.remove(both, "gw")
			broke = did()
			if first.Status == fleet.TaskSuccess {
				assert.Empty(t, k.remains("gw", "gw:agent", "d1", "d2"), "broken at commit %d", n)
				return
			}
			second := k.remove(both, "gw")
			require.Equal(t, fleet.TaskSuccess, second.Status, "broken at commit %d: %v", n, second.Cores)
			assert.Empty(t, k.remains("gw", "gw:agent", "d1", "d2"), "broken at commit %d", n)
			assert.Empty(t, k.things("gw", "gw:agent", "d1", "d2"))
			assert.Zero(t, k.artifacts("gw"))
		})
		if !broke {
			assert.Greater(t, n, int32(10), "every commit of the delete had its turn")
			return
		}
	}
}

func TestOptionsOfADeleteAreReadStrictly(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		for _, c := range []struct{ name, options, says string }{
			{"missing", ``, "options: is missing"},
			{"null", `null`, "options: is missing"},
			{"empty", `{}`, "options: is missing or empty"},
			{"no object", `[true]`, "options: is not an object"},
			{"W-31: text is no boolean", `{"deprovisionCores":"false"}`, `options.deprovisionCores: is "false", want true or false`},
			{"a number", `{"deprovisionClientDevices":1}`, "options.deprovisionClientDevices"},
			{"null inside", `{"deprovisionCores":null}`, "options.deprovisionCores"},
			{"unknown", `{"deprovisionCore":true}`, "options.deprovisionCore: is not known"},
		} {
			in(t, c.name, func(t *testing.T) {
				_, err := k.CreateCoreTask(k.ctx, fleet.NewCoreTask{Type: fleet.CoreTaskDelete, Cores: []fleet.NewCore{{Name: "a"}}, Options: json.RawMessage(c.options)}, "")
				require.ErrorIs(t, err, fault.Invalid)
				assert.ErrorContains(t, err, c.says)
			})
		}
		_, err := k.CreateCoreTask(k.ctx, fleet.NewCoreTask{Type: fleet.CoreTaskDelete, Options: json.RawMessage(both), Cores: []fleet.NewCore{{Name: "a"}, {Name: "a"}}}, "")
		require.ErrorIs(t, err, fault.Invalid)
		assert.Equal(t, "cores[1].name", fault.FieldOf(err))
	})
}

func TestADeploymentAndADeleteOfOneCoreAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		var names []string
		var cores []fleet.NewCore
		for i := range 20 {
			names = append(names, fmt.Sprintf("gw-%02d", i))
			cores = append(cores, newCore(names[i]))
		}
		k.create("2.18.0", cores...)
		k.appear(names...)
		k.template("t", "1.0.0")
		id, err := k.CreateDeploymentTask(k.ctx, fleet.NewDeploymentTask{TemplateName: "t", Targets: to(names...)}, "")
		require.NoError(t, err)
		require.Equal(t, fleet.TaskSuccess, k.remove(neither, names...).Status)
		k.await(id)
		assert.Zero(t, k.Count())
		for _, n := range names {
			thing, err := k.cloud.Thing(k.ctx, n)
			require.NoError(t, err)
			assert.Empty(t, thing.Groups, "no core without record is in a deployment's group")
		}
		settled, err := k.Settled(k.ctx)
		require.NoError(t, err)
		assert.True(t, settled)
	})
}
