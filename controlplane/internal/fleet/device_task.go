package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/ggfleet/ggfleet/controlplane/internal/event"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/task"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
)

const kindDevice = "device"

// deviceBatch is how many client devices a worker claims at once.
const deviceBatch = 100

// deviceTaskSpec is what a device task keeps of its request.
type deviceTaskSpec struct {
	Core    string          `json:"core"`
	Type    string          `json:"type"`
	Options json.RawMessage `json:"options,omitempty"`
}

// A device task can be found by its core.
func deviceTasksOf(core string) string     { return prefix + "device-task/" + core + "/" }
func deviceTaskKey(core, id string) string { return deviceTasksOf(core) + id }

// device is the kind of task that creates and deletes client devices
// (cdf-services §3.6).
func (s *Service) device() task.Kind {
	return task.Kind{Name: kindDevice, Do: s.doDevice, Failed: s.deviceFailed}
}

func (s *Service) doDevice(ctx context.Context, w *task.Work) error {
	var spec deviceTaskSpec
	if err := w.Task.Decode(&spec); err != nil {
		return err
	}
	if spec.Type == CoreTaskDelete {
		return s.deleteDeviceItem(ctx, w, spec)
	}
	return s.createDevice(ctx, w, spec.Core)
}

// deviceFailed tells of a device whose item failed.
func (s *Service) deviceFailed(_ context.Context, t task.Task, i task.Item, message string, b *state.Batch) error {
	var spec deviceTaskSpec
	if err := t.Decode(&spec); err != nil {
		return err
	}
	what := event.DeviceCreated
	if spec.Type == CoreTaskDelete {
		what = event.DeviceDeleted
	}
	s.tellDevice(b, what, i.Name, t.ID, task.Result{Status: task.Failure, Message: message})
	return nil
}

// CreateDeviceTask checks the request, stores the task and returns its id. A core
// that never reported to the cloud is fault.Invalid, whatever the type
// (cdf-services §2.4 E15).
func (s *Service) CreateDeviceTask(ctx context.Context, n NewDeviceTask, idempotencyKey string) (string, error) {
	if err := names.CheckThing(n.Core); err != nil {
		return "", fault.Field("coreName", "%s", fault.Message(err))
	}
	items, err := s.deviceItems(n)
	if err != nil {
		return "", err
	}
	switch known, err := s.cfg.Cloud.HasCore(ctx, n.Core); {
	case err != nil:
		return "", fmt.Errorf("look up core device %s: %w", n.Core, err)
	case !known:
		return "", fault.Field("coreName", "FAILED_VALIDATION: %s is not a core device that is registered with Greengrass V2; its nucleus must have connected once", n.Core)
	}
	t, err := s.tasks.Create(ctx, task.NewTask{
		Kind: kindDevice, Spec: deviceTaskSpec{Core: n.Core, Type: n.Type, Options: n.Options},
		Items: items, BatchSize: deviceBatch, IdempotencyKey: idempotencyKey,
	})
	if err != nil {
		return "", err
	}
	// Each item enters it too, so a crash just here loses nothing for long.
	b := state.NewBatch(state.StepDevice).Put(deviceTaskKey(n.Core, t.ID), struct{}{})
	if _, err := s.cfg.Store.Commit(ctx, b); err != nil {
		return "", fmt.Errorf("file device task %s: %w", t.ID, err)
	}
	return t.ID, nil
}

func (s *Service) deviceItems(n NewDeviceTask) ([]task.NewItem, error) {
	switch n.Type {
	case CoreTaskCreate:
	case CoreTaskDelete:
		if _, err := deleteOptions(n.Options, optionDevices); err != nil {
			return nil, err
		}
	default:
		return nil, fault.Field("type", "is %q, want %s or %s", n.Type, CoreTaskCreate, CoreTaskDelete)
	}
	if len(n.Devices) == 0 {
		return nil, fault.Field("devices", "is empty, want at least one client device")
	}
	items := make([]task.NewItem, len(n.Devices))
	seen := make(map[string]int, len(n.Devices))
	for i, d := range n.Devices {
		at := fmt.Sprintf("devices[%d]", i)
		if err := s.checkNewDevice(n, d); err != nil {
			return nil, fault.Under(at, err)
		}
		if j, dup := seen[d.Name]; dup {
			return nil, fault.Field(at+".name", "%q stands at devices[%d] already", d.Name, j)
		}
		seen[d.Name] = i
		items[i] = task.NewItem{Name: d.Name}
		if n.Type == CoreTaskCreate {
			items[i].Spec = d
		}
	}
	return items, nil
}

func (s *Service) checkNewDevice(n NewDeviceTask, d NewDevice) error {
	if err := names.CheckThing(d.Name); err != nil {
		return fault.Field("name", "%s", fault.Message(err))
	}
	if d.Name == n.Core {
		return fault.Field("name", "%q is the core itself; a core is no client device of its own", d.Name)
	}
	if n.Type == CoreTaskDelete {
		return nil
	}
	if err := names.CheckProvisioningTemplate(d.ProvisioningTemplate); err != nil {
		return fault.Field("provisioningTemplate", "%s", fault.Message(err))
	}
	if err := checkParameters(d.ProvisioningParameters); err != nil {
		return err
	}
	return s.cfg.Provisioner.Check(d.CDFProvisioningParameters)
}

// DeviceTask returns a device task, or fault.NotFound; the page is that of its
// items, as in [Service.CoreTask].
func (s *Service) DeviceTask(ctx context.Context, id string, p Page) (DeviceTask, error) {
	t, err := s.task(ctx, id, kindDevice)
	if err != nil {
		return DeviceTask{}, err
	}
	out, err := deviceTask(t)
	if err != nil {
		return DeviceTask{}, err
	}
	out.Next, err = s.itemPage(ctx, t, p, func(i task.Item) { out.Devices = append(out.Devices, taskItem(i)) })
	return out, err
}

func deviceTask(t task.Task) (DeviceTask, error) {
	var spec deviceTaskSpec
	if err := t.Decode(&spec); err != nil {
		return DeviceTask{}, err
	}
	return DeviceTask{TaskState: taskState(t), Core: spec.Core, Type: spec.Type, Options: spec.Options, Devices: []TaskItem{}}, nil
}

// DeviceTasks lists device tasks without their items, by id: those of a core, or
// all if core is empty. An unknown core has none.
func (s *Service) DeviceTasks(ctx context.Context, core string, p Page) ([]DeviceTask, string, error) {
	list, more, err := s.deviceTasks(ctx, core, p)
	if err != nil {
		return nil, "", err
	}
	out := make([]DeviceTask, len(list))
	for i, t := range list {
		if out[i], err = deviceTask(t); err != nil {
			return nil, "", err
		}
	}
	if !more || len(list) == 0 {
		return out, "", nil
	}
	return out, list[len(list)-1].ID, nil
}

func (s *Service) deviceTasks(ctx context.Context, core string, p Page) ([]task.Task, bool, error) {
	if core == "" {
		return s.tasks.List(ctx, kindDevice, p.After, count(p))
	}
	if names.CheckThing(core) != nil {
		return nil, false, nil
	}
	under := deviceTasksOf(core)
	page, err := s.cfg.Store.List(ctx, under, after(under, p.After), count(p))
	if err != nil {
		return nil, false, fmt.Errorf("list device tasks of %s: %w", core, err)
	}
	var out []task.Task
	for _, e := range page.Entries {
		t, err := s.task(ctx, strings.TrimPrefix(e.Key, under), kindDevice)
		if errors.Is(err, fault.NotFound) {
			continue
		}
		if err != nil {
			return nil, false, err
		}
		out = append(out, t)
	}
	return out, page.More, nil
}
