package fleet_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/event"
	"github.com/ggfleet/ggfleet/controlplane/internal/fleet"
	"github.com/ggfleet/ggfleet/controlplane/internal/provisioning"
	"github.com/ggfleet/ggfleet/shared/fault"
)

func newDevice(name string) fleet.NewDevice {
	return fleet.NewDevice{Name: name, ProvisioningTemplate: "default", ProvisioningParameters: map[string]string{"ThingName": name}}
}

// devices runs a device task of type Create to its end.
func (k *kit) devices(core string, list ...fleet.NewDevice) fleet.DeviceTask {
	k.t.Helper()
	return k.deviceTask(fleet.NewDeviceTask{Core: core, Type: fleet.CoreTaskCreate, Devices: list})
}

func (k *kit) removeDevices(core, options string, names ...string) fleet.DeviceTask {
	k.t.Helper()
	n := fleet.NewDeviceTask{Core: core, Type: fleet.CoreTaskDelete, Options: json.RawMessage(options)}
	for _, name := range names {
		n.Devices = append(n.Devices, fleet.NewDevice{Name: name})
	}
	return k.deviceTask(n)
}

func (k *kit) deviceTask(n fleet.NewDeviceTask) fleet.DeviceTask {
	k.t.Helper()
	id, err := k.CreateDeviceTask(k.ctx, n, "")
	require.NoError(k.t, err)
	for {
		t, err := k.DeviceTask(k.ctx, id, fleet.Page{})
		require.NoError(k.t, err)
		if t.BatchesComplete != nil && *t.BatchesComplete == *t.BatchesTotal {
			return t
		}
		time.Sleep(100 * time.Millisecond) // virtual
	}
}

// cores makes cores that have reported.
func (k *kit) cores(names ...string) {
	k.t.Helper()
	for _, n := range names {
		require.Equal(k.t, fleet.TaskSuccess, k.create("2.18.0", newCore(n)).Status)
	}
	k.appear(names...)
}

func TestClientDevicesAreCreated(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		k.cores("gw")
		done := k.devices("gw", newDevice("d1"), newDevice("d2"))
		assert.Equal(t, fleet.TaskSuccess, done.Status)
		assert.Equal(t, "gw", done.Core, "W-30")
		require.Len(t, done.Devices, 2)
		assert.Equal(t, fleet.TaskSuccess, done.Devices[0].Status)

		d, err := k.Device(k.ctx, "d1")
		require.NoError(t, err)
		assert.Equal(t, "gw", d.Core)
		assert.Equal(t, "greengrass2/artifacts/d1/d1/certs.zip", d.Artifacts[fleet.ArtifactCerts].Key, "the name twice")
		assert.False(t, d.CreatedAt.IsZero())
		names, _ := k.unzip(k.object(d.Artifacts[fleet.ArtifactCerts].Key))
		assert.Equal(t, []string{"certs/", "certs/cert.pem", "certs/private.key"}, names)
		assert.Equal(t, []string{"d1", "d2"}, k.associated("gw"))
		assert.Len(t, k.told(event.DeviceCreated), 2)

		again := k.devices("gw", newDevice("d1"))
		assert.Equal(t, fleet.TaskSuccess, again.Status)
		assert.Equal(t, "Client device already registered", again.Devices[0].StatusMessage)
		now, err := k.Device(k.ctx, "d1")
		require.NoError(t, err)
		assert.Equal(t, d.Artifacts, now.Artifacts)
		assert.Equal(t, d.CreatedAt, now.CreatedAt)
		assert.Contains(t, k.told(event.DeviceCreated), `{"taskId":"`+again.ID+`","deviceName":"d1","status":"success"}`, "what existed is told of too")
	})
}

func TestADeviceThatIsNamedForAnotherCoreMoves(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		k.cores("a", "b")
		k.devices("a", newDevice("d"))
		require.Equal(t, fleet.TaskSuccess, k.devices("b", newDevice("d")).Status)
		assert.Empty(t, k.associated("a"))
		assert.Equal(t, []string{"d"}, k.associated("b"))
		d, err := k.Device(k.ctx, "d")
		require.NoError(t, err)
		assert.Equal(t, "b", d.Core)

		require.Equal(t, fleet.TaskSuccess, k.remove(both, "a").Status)
		assert.Equal(t, []string{"d"}, k.things("d"), "the former core takes nothing along")
	})
}

func TestADeviceThatCannotBeLeavesNothing(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		k.cores("gw", "other")
		k.provisioningTemplate("nopolicy", strings.Replace(string(provisioning.DefaultTemplate), "CDFGreengrass2CorePolicy", "NoSuchPolicy", 1))
		k.provisioningTemplate("device-key", string(provisioning.DeviceKeyTemplate))
		for _, c := range []struct {
			name string
			edit func(*fleet.NewDevice)
			says string
		}{
			{"an unknown provisioning template", func(d *fleet.NewDevice) { d.ProvisioningTemplate = "nope" }, "Failed provisioning: INVALID_PROVISIONING_TEMPLATE: nope"},
			{"another thing name", func(d *fleet.NewDevice) { d.ProvisioningParameters = map[string]string{"ThingName": "x"} }, "provisioningParameters.ThingName"},
			{"a policy that is not there", func(d *fleet.NewDevice) { d.ProvisioningTemplate = "nopolicy" }, "NoSuchPolicy"},
			{"a core of the fleet", func(d *fleet.NewDevice) { *d = newDevice("other") }, "other is a core of this fleet"},
		} {
			in(t, c.name, func(t *testing.T) {
				bad := newDevice("bad")
				c.edit(&bad)
				done := k.devices("gw", bad, newDevice("good"))
				assert.Equal(t, fleet.TaskFailure, done.Status)
				assert.Equal(t, fleet.TaskFailure, done.Devices[0].Status)
				assert.Contains(t, done.Devices[0].StatusMessage, c.says)
				assert.Equal(t, fleet.TaskSuccess, done.Devices[1].Status)
				assert.Empty(t, k.things("bad"))
				assert.Zero(t, k.artifacts("bad"), "W-51: no key of a device that is none")
				_, err := k.Device(k.ctx, bad.Name)
				require.ErrorIs(t, err, fault.NotFound)
				failed := 0
				for _, d := range k.told(event.DeviceCreated) {
					if strings.Contains(d, done.ID) && strings.Contains(d, `"status":"failed"`) {
						failed++
					}
				}
				assert.Equal(t, 1, failed, "W-50: a failure is told")
			})
		}
	})
}

func TestW51ACoreThatLeavesMeanwhileGetsNoDevice(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		k.cores("gw")
		var away atomic.Bool
		away.Store(true)
		k.objects.Fail = func(op, key string) error {
			if away.Load() && op == "put" && strings.Contains(key, "/d/") {
				return fault.New(fault.Unavailable, "away")
			}
			return nil
		}
		id, err := k.CreateDeviceTask(k.ctx, fleet.NewDeviceTask{Core: "gw", Type: fleet.CoreTaskCreate, Devices: []fleet.NewDevice{newDevice("d")}}, "")
		require.NoError(t, err)
		time.Sleep(time.Second)
		require.Equal(t, fleet.TaskSuccess, k.remove(both, "gw").Status)
		away.Store(false)
		time.Sleep(time.Minute)
		done, err := k.DeviceTask(k.ctx, id, fleet.Page{})
		require.NoError(t, err)
		assert.Equal(t, fleet.TaskFailure, done.Status)
		assert.Contains(t, done.Devices[0].StatusMessage, "Client device cannot be associated with core gw")
		assert.Empty(t, k.things("d"))
		assert.Empty(t, k.associated("gw"))
		_, err = k.Device(k.ctx, "d")
		require.ErrorIs(t, err, fault.NotFound)
	})
}

func TestADeviceTaskThatCannotBeIsRefused(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		k.create("2.18.0", newCore("cold"))
		k.cores("gw")
		for _, c := range []struct {
			name string
			edit func(*fleet.NewDeviceTask)
			says string
		}{
			{"A-03: a core that is not known", func(n *fleet.NewDeviceTask) { n.Core = "none" }, "coreName: FAILED_VALIDATION"},
			{"a core that never reported", func(n *fleet.NewDeviceTask) { n.Core = "cold" }, "coreName: FAILED_VALIDATION"},
			{"that core, to delete", func(n *fleet.NewDeviceTask) {
				n.Core, n.Type, n.Options = "cold", fleet.CoreTaskDelete, json.RawMessage(`{"deprovisionClientDevices":true}`)
			}, "coreName: FAILED_VALIDATION"},
			{"unknown type", func(n *fleet.NewDeviceTask) { n.Type = "Update" }, "type:"},
			{"no devices", func(n *fleet.NewDeviceTask) { n.Devices = nil }, "devices:"},
			{"a bad name", func(n *fleet.NewDeviceTask) { n.Devices[0].Name = "a b" }, "devices[0].name"},
			{"a name twice", func(n *fleet.NewDeviceTask) { n.Devices = append(n.Devices, newDevice("d")) }, "devices[1].name"},
			{"the core itself", func(n *fleet.NewDeviceTask) { n.Devices[0].Name = "gw" }, "devices[0].name"},
			{"no template", func(n *fleet.NewDeviceTask) { n.Devices[0].ProvisioningTemplate = "" }, "devices[0].provisioningTemplate"},
			{"a bad country", func(n *fleet.NewDeviceTask) {
				n.Devices[0].CDFProvisioningParameters = json.RawMessage(`{"certInfo":{"country":"Germany"}}`)
			}, "devices[0].cdfProvisioningParameters.certInfo.country"},
			{"delete without options", func(n *fleet.NewDeviceTask) { n.Type = fleet.CoreTaskDelete }, "options:"},
			{"delete with options of cores", func(n *fleet.NewDeviceTask) {
				n.Type, n.Options = fleet.CoreTaskDelete, json.RawMessage(`{"deprovisionCores":true}`)
			}, "options.deprovisionCores"},
		} {
			in(t, c.name, func(t *testing.T) {
				n := fleet.NewDeviceTask{Core: "gw", Type: fleet.CoreTaskCreate, Devices: []fleet.NewDevice{newDevice("d")}}
				c.edit(&n)
				_, err := k.CreateDeviceTask(k.ctx, n, "")
				require.ErrorIs(t, err, fault.Invalid)
				assert.ErrorContains(t, err, c.says)
			})
		}
		list, _, err := k.DeviceTasks(k.ctx, "", fleet.Page{})
		require.NoError(t, err)
		assert.Empty(t, list)
	})
}

func TestClientDevicesAreDeletedByATask(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		k.cores("gw", "other")
		k.devices("gw", newDevice("keep"), newDevice("go"))
		k.devices("other", newDevice("theirs"))
		done := k.removeDevices("gw", `{"deprovisionClientDevices":false}`, "keep")
		assert.Equal(t, fleet.TaskSuccess, done.Status)
		assert.Equal(t, []string{"keep"}, k.things("keep"))
		assert.Equal(t, []string{"go"}, k.associated("gw"))

		done = k.removeDevices("gw", `{"deprovisionClientDevices":true}`, "go", "never", "theirs")
		assert.Equal(t, fleet.TaskFailure, done.Status)
		assert.Equal(t, fleet.TaskSuccess, done.Devices[0].Status)
		assert.Equal(t, fleet.TaskSuccess, done.Devices[1].Status, "W-52: one that is gone ended too")
		assert.Equal(t, "Client device already gone", done.Devices[1].StatusMessage)
		assert.Contains(t, done.Devices[2].StatusMessage, "belongs to core other, not to gw")
		assert.Empty(t, k.things("go", "never"))
		assert.Equal(t, []string{"theirs"}, k.associated("other"))
		assert.Empty(t, k.remains("go"))
		assert.Zero(t, k.artifacts("go")+k.artifacts("keep"))
		assert.Len(t, k.told(event.DeviceDeleted), 4)

		list, next, err := k.DeviceTasks(k.ctx, "gw", fleet.Page{Count: 2})
		require.NoError(t, err)
		require.Len(t, list, 2)
		rest, end, err := k.DeviceTasks(k.ctx, "gw", fleet.Page{After: next})
		require.NoError(t, err)
		assert.Len(t, rest, 1)
		assert.Empty(t, end)
		all, _, err := k.DeviceTasks(k.ctx, "", fleet.Page{})
		require.NoError(t, err)
		assert.Len(t, all, 4)
		_, err = k.CoreTask(k.ctx, all[0].ID, fleet.Page{})
		require.ErrorIs(t, err, fault.NotFound, "a task of another kind")
	})
}

func TestOneDeviceIsDeletedAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		k.cores("gw")
		k.devices("gw", newDevice("a"), newDevice("b"), newDevice("c"), newDevice("d"))
		for _, c := range []struct {
			name       string
			what       fleet.DeleteDevice
			thing      bool
			associated bool
		}{
			{"a", fleet.DeleteDevice{Deprovision: true, Disassociate: true}, false, false},
			{"b", fleet.DeleteDevice{Disassociate: true}, true, false},
			{"c", fleet.DeleteDevice{}, true, true},
			{"d", fleet.DeleteDevice{Deprovision: true}, false, false}, // without the thing there is nothing to associate
		} {
			in(t, "W-31: "+c.name, func(t *testing.T) {
				require.NoError(t, k.DeleteDevice(k.ctx, c.name, c.what))
				_, err := k.Device(k.ctx, c.name)
				require.ErrorIs(t, err, fault.NotFound)
				assert.Equal(t, c.thing, len(k.things(c.name)) == 1)
				assert.Equal(t, c.associated, strings.Contains(strings.Join(k.associated("gw"), " "), c.name))
				assert.Zero(t, k.artifacts(c.name))
				assert.Contains(t, k.told(event.DeviceDeleted), `{"deviceName":"`+c.name+`","status":"success"}`, "without taskId")
				require.ErrorIs(t, k.DeleteDevice(k.ctx, c.name, c.what), fault.NotFound)
			})
		}
	})
}

func TestDeletingADeviceThatBreaksAnywhereIsRepeated(t *testing.T) {
	for n := int32(1); ; n++ {
		broke := false
		bubble(t, func(t *testing.T, k *kit) {
			k.cores("gw")
			k.devices("gw", newDevice("d"))
			did := k.breakAt(n, fault.New(fault.Denied, "cut off here"))
			err := k.DeleteDevice(k.ctx, "d", fleet.DeleteDevice{Deprovision: true, Disassociate: true})
			if broke = did(); broke {
				require.Error(t, err)
				require.NoError(t, k.DeleteDevice(k.ctx, "d", fleet.DeleteDevice{Deprovision: true, Disassociate: true}))
			}
			assert.Empty(t, k.remains("d"), "broken at commit %d", n)
			assert.Empty(t, k.things("d"))
			assert.Len(t, k.told(event.DeviceDeleted), 1)
		})
		if !broke {
			assert.Greater(t, n, int32(2))
			return
		}
	}
}

func TestDevicesAreListedByCore(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		k.cores("a", "a-1")
		var list []fleet.NewDevice
		for i := range 7 {
			list = append(list, newDevice(fmt.Sprintf("d%d", i)))
		}
		k.devices("a", list...)
		k.devices("a-1", newDevice("x"))
		var got []string
		for after := ""; ; {
			page, next, err := k.Devices(k.ctx, fleet.DeviceFilter{Core: "a"}, fleet.Page{After: after, Count: 3})
			require.NoError(t, err)
			for _, d := range page {
				got = append(got, d.Name)
			}
			if after = next; after == "" {
				break
			}
		}
		assert.Equal(t, []string{"d0", "d1", "d2", "d3", "d4", "d5", "d6"}, got)
		all, next, err := k.Devices(k.ctx, fleet.DeviceFilter{}, fleet.Page{})
		require.NoError(t, err)
		assert.Len(t, all, 8)
		assert.Empty(t, next)
		none, _, err := k.Devices(k.ctx, fleet.DeviceFilter{Core: "none"}, fleet.Page{})
		require.NoError(t, err)
		assert.Empty(t, none)
		_, err = k.Device(k.ctx, "a/b")
		require.ErrorIs(t, err, fault.NotFound)
	})
}
