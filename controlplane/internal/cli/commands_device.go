package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/ggfleet/ggfleet/controlplane/api"
)

func (a *app) device() *cobra.Command {
	c := group("device", "Create, show and delete client devices of cores, and help from afar",
		a.deviceCreate(), a.deviceDelete(), a.deviceList(), a.deviceGet(), a.deviceTasks(), a.deviceTask())
	c.AddCommand(a.deviceHelp()...)
	return c
}

func (a *app) deviceCreate() *cobra.Command {
	var p provision
	var core string
	var w waits
	cmd := a.command("create NAME...", "Create client devices of a core that has connected once", cobra.MinimumNArgs(1), func(ctx context.Context, c *client, names []string) (result, error) {
		task := api.NewDeviceTask{Type: api.Create}
		cdf, err := p.cdfParameters()
		if err != nil {
			return result{}, err
		}
		for _, n := range names {
			values, err := p.values(n)
			if err != nil {
				return result{}, err
			}
			task.Devices = append(task.Devices, api.NewDevice{Name: n, ProvisioningTemplate: p.template, ProvisioningParameters: values, CdfProvisioningParameters: cdf})
		}
		return a.deviceTaskOf(ctx, c, core, task, w)
	})
	p.flags(cmd.Flags(), "US")
	cmd.Flags().StringVar(&core, "core", "", "core that they belong to")
	_ = cmd.MarkFlagRequired("core") // the flag is there
	return a.waiting(cmd, &w)
}

func (a *app) deviceDelete() *cobra.Command {
	var keepThing, keepAssociation bool
	var core string
	var w waits
	cmd := a.command("delete NAME...", "Delete client devices, one after the other or, with --core, as a task", cobra.MinimumNArgs(1), func(ctx context.Context, c *client, names []string) (result, error) {
		if core == "" {
			return result{}, deleteDevices(ctx, c, names, &api.DeleteDeviceParams{
				Deprovision: given(strconv.FormatBool(!keepThing)), DisassociateDeviceFromCore: given(strconv.FormatBool(!keepAssociation)),
			})
		}
		options, err := json.Marshal(map[string]bool{"deprovisionClientDevices": !keepThing})
		if err != nil {
			return result{}, fmt.Errorf("encoding the request: %w", err)
		}
		task := api.NewDeviceTask{Type: api.Delete, Options: options}
		for _, n := range names {
			task.Devices = append(task.Devices, api.NewDevice{Name: n})
		}
		return a.deviceTaskOf(ctx, c, core, task, w)
	})
	cmd.Flags().StringVar(&core, "core", "", "core that they belong to: delete them in one task")
	cmd.Flags().BoolVar(&keepThing, "keep-thing", false, "keep their things and certificates")
	cmd.Flags().BoolVar(&keepAssociation, "keep-association", false, "keep their association with the core; not with --core")
	cmd.MarkFlagsMutuallyExclusive("core", "keep-association")
	return a.waiting(cmd, &w)
}

// deleteDevices goes on after a refusal; every refusal is told.
func deleteDevices(ctx context.Context, c *client, names []string, p *api.DeleteDeviceParams) error {
	var all []error
	for _, n := range names {
		if err := done(c.DeleteDevice(ctx, n, p)); err != nil {
			all = append(all, err)
		}
	}
	if len(all) == 1 {
		return all[0]
	}
	return errors.Join(all...)
}

func (a *app) deviceTaskOf(ctx context.Context, c *client, core string, task api.NewDeviceTask, w waits) (result, error) {
	b, err := body(task)
	if err != nil {
		return result{}, err
	}
	res, err := c.CreateDeviceTaskWithBody(ctx, core, nil, api.MediaType, b)
	return w.begin(res, err, func(id string) (result, error) {
		return a.await(ctx, c, "device task "+id, func() (look, error) {
			t, err := get[api.DeviceTask](c.GetDeviceTask(ctx, id, &api.GetDeviceTaskParams{Count: given(1)}))
			ended := finished(t.TaskStatus, t.BatchesComplete, t.BatchesTotal)
			if err == nil && ended {
				t, err = get[api.DeviceTask](c.GetDeviceTask(ctx, id, nil))
			}
			return look{
				result: deviceTask(t), text: counted(t.TaskStatus, t.ItemsSucceeded, t.ItemsFailed, t.ItemsTotal),
				ended: ended, failed: t.TaskStatus == api.TaskStatusFailure, message: t.StatusMessage,
			}, err
		})
	})
}

func (a *app) deviceList() *cobra.Command {
	var core string
	var limit int
	cmd := a.command("list", "List client devices", cobra.NoArgs, func(ctx context.Context, c *client, _ []string) (result, error) {
		return listDevices(ctx, c, core, limit)
	})
	cmd.Flags().StringVar(&core, "core", "", "only those of this core")
	return limited(cmd, &limit)
}

// listDevices lists the devices of a core, or all.
func listDevices(ctx context.Context, c *client, core string, limit int) (result, error) {
	all, err := pages(limit, func(count *int, after *string) ([]api.Device, string, error) {
		var l api.DeviceList
		var err error
		if core == "" {
			l, err = get[api.DeviceList](c.ListDevices(ctx, &api.ListDevicesParams{Count: count, ExclusiveStartThingName: after}))
		} else {
			l, err = get[api.DeviceList](c.ListCoreDevices(ctx, core, &api.ListCoreDevicesParams{Count: count, ExclusiveStartThingName: after}))
		}
		return l.Devices, l.Pagination.LastEvaluated.ThingName, err
	})
	if err != nil {
		return result{}, err
	}
	return devices(api.DeviceList{Devices: all}, all...), nil
}

func devices(value any, ds ...api.Device) result {
	r := result{value: value, header: []string{"NAME", "CORE", "PROVISIONING TEMPLATE", "CREATED"}}
	for _, d := range ds {
		r.rows = append(r.rows, []any{d.Name, d.CoreName, d.ProvisioningTemplate, d.CreatedAt.String()})
	}
	return r
}

func (a *app) deviceGet() *cobra.Command {
	return a.command("get NAME", "Show a client device", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
		d, err := get[api.Device](c.GetDevice(ctx, args[0]))
		if err != nil {
			return result{}, err
		}
		r := devices(d, d)
		r.header = append(r.header, "AGENT")
		r.rows[0] = append(r.rows[0], agentText(listed(d.Agent)))
		return r, nil
	})
}

func (a *app) deviceTasks() *cobra.Command {
	var core string
	var limit int
	cmd := a.command("tasks", "List device tasks", cobra.NoArgs, func(ctx context.Context, c *client, _ []string) (result, error) {
		all, err := pages(limit, func(count *int, after *string) ([]api.DeviceTask, string, error) {
			var l api.DeviceTaskList
			var err error
			if core == "" {
				l, err = get[api.DeviceTaskList](c.ListDeviceTasks(ctx, &api.ListDeviceTasksParams{Count: count, ExclusiveStartTaskID: after}))
			} else {
				l, err = get[api.DeviceTaskList](c.ListCoreDeviceTasks(ctx, core, &api.ListCoreDeviceTasksParams{Count: count, ExclusiveStartTaskID: after}))
			}
			return l.Tasks, l.Pagination.LastEvaluated.TaskID, err
		})
		if err != nil {
			return result{}, err
		}
		r := result{value: api.DeviceTaskList{Tasks: all}, header: []string{"TASK", "CORE", "TYPE", "STATUS", "CREATED", "MESSAGE"}}
		for _, t := range all {
			r.rows = append(r.rows, []any{t.ID, t.CoreName, t.Type, t.TaskStatus, t.CreatedAt.String(), t.StatusMessage})
		}
		return r, nil
	})
	cmd.Flags().StringVar(&core, "core", "", "only those of this core")
	return limited(cmd, &limit)
}

func (a *app) deviceTask() *cobra.Command {
	return a.command("task ID", "Show a device task", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
		t, err := get[api.DeviceTask](c.GetDeviceTask(ctx, args[0], nil))
		if err != nil {
			return result{}, err
		}
		return deviceTask(t), nil
	})
}

func deviceTask(t api.DeviceTask) result {
	r := result{value: t, header: []string{"TASK", "DEVICE", "STATUS", "MESSAGE"}}
	for _, i := range t.Devices {
		r.rows = append(r.rows, []any{t.ID, i.Name, i.TaskStatus, i.StatusMessage})
	}
	return r
}
