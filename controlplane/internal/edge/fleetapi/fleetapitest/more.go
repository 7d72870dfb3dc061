package fleetapitest

import (
	"context"
	"fmt"
	"slices"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/fleet"
	"github.com/ggfleet/ggfleet/controlplane/internal/provisioning"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// CreateDeviceTask creates or deletes every device at once.
func (f *Fake) CreateDeviceTask(_ context.Context, t fleet.NewDeviceTask, key string) (string, error) {
	done, err := f.lock()
	defer done()
	f.LastDeviceTask = t
	if err != nil {
		return "", err
	}
	if id := f.keys[key]; key != "" && id != "" {
		return id, nil
	}
	one := 1
	id := fmt.Sprintf("devi-%04d", len(f.devTasks)+1)
	task := fleet.DeviceTask{
		TaskState: fleet.TaskState{ID: id, Status: fleet.TaskSuccess, CreatedAt: Now(), UpdatedAt: Now(), BatchesComplete: &one, BatchesTotal: &one},
		Core:      t.Core, Type: t.Type, Options: t.Options,
	}
	for _, d := range t.Devices {
		task.Devices = append(task.Devices, fleet.TaskItem{Name: d.Name, Status: fleet.TaskSuccess, CreatedAt: Now(), UpdatedAt: Now()})
		if t.Type == fleet.CoreTaskDelete {
			delete(f.devices, d.Name)
			continue
		}
		f.devices[d.Name] = fleet.Device{
			Name: d.Name, Core: t.Core, ProvisioningTemplate: d.ProvisioningTemplate, CreatedAt: Now(),
			Artifacts: map[string]fleet.Artifact{fleet.ArtifactCerts: {Bucket: "ggfleet", Key: "greengrass2/artifacts/" + t.Core + "/" + d.Name + "/certs.zip", CreatedAt: Now()}},
		}
	}
	task.Items, task.Succeeded = len(task.Devices), len(task.Devices)
	f.devTasks[id] = task
	f.keys[key] = id
	return id, nil
}

// DeviceTask returns a task.
func (f *Fake) DeviceTask(_ context.Context, id string, p fleet.Page) (fleet.DeviceTask, error) {
	t, err := get(f, f.devTasks, "device task", id)
	if err != nil {
		return t, err
	}
	t.Devices, t.Next, err = pageOf(t.Devices, taskItemName, p)
	return t, err
}

// DeviceTasks lists tasks.
func (f *Fake) DeviceTasks(_ context.Context, core string, p fleet.Page) ([]fleet.DeviceTask, string, error) {
	done, err := f.lock()
	defer done()
	if err != nil {
		return nil, "", err
	}
	ts := slices.DeleteFunc(sorted(f.devTasks), func(t fleet.DeviceTask) bool { return core != "" && t.Core != core })
	return pageOf(ts, func(t fleet.DeviceTask) string { return t.ID }, p)
}

// Device returns a client device.
func (f *Fake) Device(_ context.Context, name string) (fleet.Device, error) {
	return get(f, f.devices, "client device", name)
}

// Devices lists client devices.
func (f *Fake) Devices(_ context.Context, filter fleet.DeviceFilter, p fleet.Page) ([]fleet.Device, string, error) {
	done, err := f.lock()
	defer done()
	if err != nil {
		return nil, "", err
	}
	ds := slices.DeleteFunc(sorted(f.devices), func(d fleet.Device) bool { return filter.Core != "" && d.Core != filter.Core })
	return pageOf(ds, func(d fleet.Device) string { return d.Name }, p)
}

// DeleteDevice forgets a client device.
func (f *Fake) DeleteDevice(_ context.Context, name string, d fleet.DeleteDevice) error {
	f.mu.Lock()
	f.LastDelete = d
	f.mu.Unlock()
	return remove(f, f.devices, "client device", name)
}

// CancelDeploymentTask cancels a task that Running named.
func (f *Fake) CancelDeploymentTask(_ context.Context, id string) error {
	done, err := f.lock()
	defer done()
	if err != nil {
		return err
	}
	t, ok := f.deploys[id]
	if !ok {
		return missing("deployment task", id)
	}
	if t.Status != fleet.TaskInProgress {
		return fault.New(fault.Conflict, "deployment task %s has ended", id)
	}
	t.Status = fleet.TaskFailure
	f.deploys[id] = t
	return nil
}

// SetDeployment replaces a deployment task.
func (f *Fake) SetDeployment(t fleet.DeploymentTask) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.deploys[t.ID] = t
}

// RetryDeploymentTask makes another task with the same content.
func (f *Fake) RetryDeploymentTask(_ context.Context, id, key string) (string, error) {
	done, err := f.lock()
	defer done()
	if err != nil {
		return "", err
	}
	t, ok := f.deploys[id]
	if !ok {
		return "", missing("deployment task", id)
	}
	if known := f.keys[key]; key != "" && known != "" {
		return known, nil
	}
	t.RetryOf, t.ID = id, fmt.Sprintf("depl-%04d", len(f.deploys)+1)
	f.deploys[t.ID], f.keys[key] = t, t.ID
	return t.ID, nil
}

// DeleteDeploymentTask forgets a task that has ended.
func (f *Fake) DeleteDeploymentTask(_ context.Context, id string) error {
	f.mu.Lock()
	running := f.deploys[id].Status == fleet.TaskInProgress
	f.mu.Unlock()
	if running {
		return fault.New(fault.Conflict, "deployment task %s has not ended; cancel it first", id)
	}
	return remove(f, f.deploys, "deployment task", id)
}

// Provision makes a thing with one certificate, named by parameter ThingName. Template "none" does not exist.
func (f *Fake) Provision(_ context.Context, t provisioning.NewThing) (provisioning.Provisioned, error) {
	done, err := f.lock()
	defer done()
	f.LastThing = t
	if err != nil {
		return provisioning.Provisioned{}, err
	}
	if t.TemplateID == "none" {
		return provisioning.Provisioned{}, fault.New(fault.Invalid, "INVALID_PROVISIONING_TEMPLATE: none")
	}
	name := t.Parameters["ThingName"]
	arn := "arn:aws:iot:us-east-1:000000000000:"
	f.things[name] = cloud.ThingDetail{
		Name: name, ARN: arn + "thing/" + name,
		Certificates: []cloud.CertificateDetail{{ID: "c1", ARN: arn + "cert/c1", Status: cloud.Active, PEM: "certificate"}},
		Policies:     []cloud.PolicyDetail{{Name: "gauges", ARN: arn + "policy/gauges", Document: `{"Version":"2012-10-17","Statement":[]}`}},
		Groups:       []cloud.GroupDetail{{Name: "hall-b", ARN: arn + "thinggroup/hall-b"}},
	}
	return provisioning.Provisioned{
		ThingName: name, CertificatePEM: "certificate", PrivateKey: "key of " + name,
		ResourceARNs: map[string]string{"thing": arn + "thing/" + name, "certificate": arn + "cert/c1"},
	}, nil
}

// Thing returns a thing.
func (f *Fake) Thing(_ context.Context, name string) (cloud.ThingDetail, error) {
	return get(f, f.things, "thing", name)
}

// Delete forgets a thing.
func (f *Fake) Delete(_ context.Context, name string) error {
	return remove(f, f.things, "thing", name)
}

// SetCertificates sets the status of a thing's certificates.
func (f *Fake) SetCertificates(_ context.Context, name string, s cloud.CertificateStatus) error {
	done, err := f.lock()
	defer done()
	if err != nil {
		return err
	}
	t, ok := f.things[name]
	if !ok {
		return missing("thing", name)
	}
	for i := range t.Certificates {
		t.Certificates[i].Status = s
	}
	return nil
}

// CreateBulk makes a task that has ended.
func (f *Fake) CreateBulk(_ context.Context, n provisioning.NewBulk, key string) (string, error) {
	done, err := f.lock()
	defer done()
	if err != nil {
		return "", err
	}
	if id := f.keys[key]; key != "" && id != "" {
		return id, nil
	}
	id := fmt.Sprintf("bulk-%04d", len(f.bulks)+1)
	f.bulks[id] = provisioning.Bulk{TaskID: id, Status: "Completed", CreatedAt: Now(), UpdatedAt: Now(), Success: len(n.Things), Percentage: 100}
	f.keys[key] = id
	return id, nil
}

// Bulk returns a bulk task.
func (f *Fake) Bulk(_ context.Context, id string) (provisioning.Bulk, error) {
	return get(f, f.bulks, "bulk task", id)
}

func get[T any](f *Fake, m map[string]T, what, name string) (T, error) {
	done, err := f.lock()
	defer done()
	v, ok := m[name]
	if err == nil && !ok {
		err = missing(what, name)
	}
	return v, err
}

func remove[T any](f *Fake, m map[string]T, what, name string) error {
	done, err := f.lock()
	defer done()
	if _, ok := m[name]; err == nil && !ok {
		err = missing(what, name)
	}
	if err == nil {
		delete(m, name)
	}
	return err
}
