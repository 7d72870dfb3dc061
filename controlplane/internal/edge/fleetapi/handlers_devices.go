package fleetapi

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ggfleet/ggfleet/controlplane/api"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/fleetapi/gen"
	"github.com/ggfleet/ggfleet/controlplane/internal/fleet"
	"github.com/ggfleet/ggfleet/shared/fault"
)

func (s *server) CreateDeviceTask(ctx context.Context, r gen.CreateDeviceTaskRequestObject) (gen.CreateDeviceTaskResponseObject, error) {
	in, err := newDeviceTask(r.Name, r.Body)
	if err != nil {
		return nil, err
	}
	id, err := s.Devices.CreateDeviceTask(ctx, in, idempotency(ctx))
	if err != nil {
		return nil, fmt.Errorf("creating a device task for core %s: %w", r.Name, err)
	}
	return gen.CreateDeviceTask202Response{Headers: taskAccepted("/deviceTasks/", id)}, nil
}

// newDeviceTask translates a body and checks what the document can not say. The
// older spelling of the type counts when the other is absent (spec cdf-services
// D-01); the core is that of the path.
func newDeviceTask(core string, b *api.NewDeviceTask) (fleet.NewDeviceTask, error) {
	t := fleet.NewDeviceTask{Core: core, Type: string(b.Type), Options: b.Options, Devices: make([]fleet.NewDevice, len(b.Devices))}
	if t.Type == "" {
		t.Type = string(b.Types)
	}
	switch t.Type {
	case "":
		return t, fault.Field("type", "is missing")
	case fleet.CoreTaskDelete:
		if err := checkDeleteOptions(b.Options, "deprovisionClientDevices"); err != nil {
			return t, err
		}
	}
	seen := make(map[string]int, len(b.Devices))
	for i, d := range b.Devices {
		if first, twice := seen[d.Name]; twice {
			return t, fault.Field(fmt.Sprintf("devices[%d].name", i), "%q is already the name of devices[%d]", d.Name, first)
		}
		seen[d.Name] = i
		if t.Type == fleet.CoreTaskCreate && d.ProvisioningTemplate == "" {
			return t, fault.Field(fmt.Sprintf("devices[%d].provisioningTemplate", i), "is missing")
		}
		t.Devices[i] = fleet.NewDevice{
			Name:                      d.Name,
			ProvisioningTemplate:      d.ProvisioningTemplate,
			ProvisioningParameters:    d.ProvisioningParameters,
			CDFProvisioningParameters: d.CdfProvisioningParameters,
		}
	}
	return t, nil
}

// checkDeleteOptions demands at least one of the known options, each true or
// false.
func checkDeleteOptions(raw json.RawMessage, known ...string) error {
	value, err := decodeStrict(raw)
	members, _ := value.(map[string]any)
	if err != nil || len(members) == 0 {
		return fault.Field("options", "must say at least one of %s", strings.Join(known, ", "))
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if !slices.Contains(known, name) {
			return fault.Field("options."+clip(name), "is unknown; known here: %s", strings.Join(known, ", "))
		}
		if _, ok := members[name].(bool); !ok {
			return fault.Field("options."+name, "want true or false, got %s", show(members[name]))
		}
	}
	return nil
}

func (s *server) GetDeviceTask(ctx context.Context, r gen.GetDeviceTaskRequestObject) (gen.GetDeviceTaskResponseObject, error) {
	p := r.Params
	t, err := s.Devices.DeviceTask(ctx, r.TaskID, page(opt(p.Count), opt(p.ExclusiveStartThingName)))
	if err != nil {
		return nil, fmt.Errorf("reading device task %s: %w", r.TaskID, err)
	}
	out := deviceTask(t)
	out.Pagination = pagination(opt(p.Count), api.LastEvaluated{ThingName: t.Next})
	return gen.GetDeviceTask200ApplicationVndAwsCdfV10PlusJSONResponse(out), nil
}

func (s *server) ListDeviceTasks(ctx context.Context, r gen.ListDeviceTasksRequestObject) (gen.ListDeviceTasksResponseObject, error) {
	l, err := s.deviceTasks(ctx, "", opt(r.Params.Count), opt(r.Params.ExclusiveStartTaskID))
	if err != nil {
		return nil, err
	}
	return gen.ListDeviceTasks200ApplicationVndAwsCdfV10PlusJSONResponse{DeviceTasksFoundApplicationVndAwsCdfV10PlusJSONResponse: l}, nil
}

func (s *server) ListCoreDeviceTasks(ctx context.Context, r gen.ListCoreDeviceTasksRequestObject) (gen.ListCoreDeviceTasksResponseObject, error) {
	l, err := s.deviceTasks(ctx, r.Name, opt(r.Params.Count), opt(r.Params.ExclusiveStartTaskID))
	if err != nil {
		return nil, err
	}
	return gen.ListCoreDeviceTasks200ApplicationVndAwsCdfV10PlusJSONResponse{DeviceTasksFoundApplicationVndAwsCdfV10PlusJSONResponse: l}, nil
}

func (s *server) deviceTasks(ctx context.Context, core string, count api.Count, after string) (gen.DeviceTasksFoundApplicationVndAwsCdfV10PlusJSONResponse, error) {
	ts, next, err := s.Devices.DeviceTasks(ctx, core, page(count, after))
	if err != nil {
		return gen.DeviceTasksFoundApplicationVndAwsCdfV10PlusJSONResponse{}, fmt.Errorf("listing device tasks: %w", err)
	}
	return gen.DeviceTasksFoundApplicationVndAwsCdfV10PlusJSONResponse{
		Tasks: each(ts, func(t fleet.DeviceTask) api.DeviceTask {
			t.Devices = nil
			return deviceTask(t)
		}),
		Pagination: pagination(count, api.LastEvaluated{TaskID: next}),
	}, nil
}

func (s *server) GetDevice(ctx context.Context, r gen.GetDeviceRequestObject) (gen.GetDeviceResponseObject, error) {
	d, err := s.Devices.Device(ctx, r.Name)
	if err != nil {
		return nil, fmt.Errorf("reading client device %s: %w", r.Name, err)
	}
	out := device(d)
	if r := s.Devices.Agent(r.Name); r != nil {
		out.Agent = coreAgent(*r)
	}
	return gen.GetDevice200ApplicationVndAwsCdfV10PlusJSONResponse(out), nil
}

func (s *server) ListDevices(ctx context.Context, r gen.ListDevicesRequestObject) (gen.ListDevicesResponseObject, error) {
	l, err := s.devices(ctx, fleet.DeviceFilter{}, opt(r.Params.Count), opt(r.Params.ExclusiveStartThingName))
	if err != nil {
		return nil, err
	}
	return gen.ListDevices200ApplicationVndAwsCdfV10PlusJSONResponse{DevicesFoundApplicationVndAwsCdfV10PlusJSONResponse: l}, nil
}

func (s *server) ListCoreDevices(ctx context.Context, r gen.ListCoreDevicesRequestObject) (gen.ListCoreDevicesResponseObject, error) {
	l, err := s.devices(ctx, fleet.DeviceFilter{Core: r.Name}, opt(r.Params.Count), opt(r.Params.ExclusiveStartThingName))
	if err != nil {
		return nil, err
	}
	return gen.ListCoreDevices200ApplicationVndAwsCdfV10PlusJSONResponse{DevicesFoundApplicationVndAwsCdfV10PlusJSONResponse: l}, nil
}

func (s *server) devices(ctx context.Context, f fleet.DeviceFilter, count api.Count, after string) (gen.DevicesFoundApplicationVndAwsCdfV10PlusJSONResponse, error) {
	ds, next, err := s.Devices.Devices(ctx, f, page(count, after))
	if err != nil {
		return gen.DevicesFoundApplicationVndAwsCdfV10PlusJSONResponse{}, fmt.Errorf("listing client devices: %w", err)
	}
	return gen.DevicesFoundApplicationVndAwsCdfV10PlusJSONResponse{Devices: each(ds, device), Pagination: pagination(count, api.LastEvaluated{ThingName: next})}, nil
}

// DeleteDevice takes both options as true when they are absent (spec
// cdf-services D-05), and the text false as false.
func (s *server) DeleteDevice(ctx context.Context, r gen.DeleteDeviceRequestObject) (gen.DeleteDeviceResponseObject, error) {
	d := fleet.DeleteDevice{Deprovision: !denied(r.Params.Deprovision), Disassociate: !denied(r.Params.DisassociateDeviceFromCore)}
	if err := s.Devices.DeleteDevice(ctx, r.Name, d); err != nil {
		return nil, fmt.Errorf("deleting client device %s: %w", r.Name, err)
	}
	return gen.DeleteDevice204Response{}, nil
}

// denied reports whether a truth value was given and false; the document lets
// true, false, 1 and 0 pass.
func denied(p *string) bool { return p != nil && (*p == "false" || *p == "0") }

func deviceTask(t fleet.DeviceTask) api.DeviceTask {
	return api.DeviceTask{
		ID:            t.ID,
		CoreName:      t.Core,
		Type:          api.CoreTaskType(t.Type),
		Options:       t.Options,
		TaskStatus:    api.TaskStatus(t.Status),
		StatusMessage: t.StatusMessage,
		Devices: each(t.Devices, func(i fleet.TaskItem) api.DeviceTaskItem {
			return api.DeviceTaskItem{
				Name: i.Name, CoreName: t.Core, TaskStatus: api.TaskStatus(i.Status), StatusMessage: i.StatusMessage,
				CreatedAt: api.At(i.CreatedAt), UpdatedAt: api.At(i.UpdatedAt),
			}
		}),
		CreatedAt:       api.At(t.CreatedAt),
		UpdatedAt:       api.At(t.UpdatedAt),
		BatchesComplete: t.BatchesComplete,
		BatchesTotal:    t.BatchesTotal,
		ItemsTotal:      t.Items,
		ItemsSucceeded:  t.Succeeded,
		ItemsFailed:     t.Failed,
	}
}

func device(d fleet.Device) api.Device {
	return api.Device{
		Name:                 d.Name,
		CoreName:             d.Core,
		Artifacts:            artifacts(d.Artifacts),
		ProvisioningTemplate: d.ProvisioningTemplate,
		CreatedAt:            api.At(d.CreatedAt),
		UpdatedAt:            api.At(d.UpdatedAt),
	}
}

func artifacts(m map[string]fleet.Artifact) map[string]api.Artifact {
	out := make(map[string]api.Artifact, len(m))
	for kind, a := range m {
		out[kind] = api.Artifact{Bucket: a.Bucket, Key: a.Key, CreatedAt: api.At(a.CreatedAt)}
	}
	return out
}
