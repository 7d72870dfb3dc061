package fleet

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/event"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/task"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Activations lets agents of devices in; a core that is deleted takes its own along.
type Activations interface {
	// Forget removes what waits for a device: activations, patches; nothing is no error.
	Forget(ctx context.Context, device string) error
}

// devicesAtOnce is how many client devices of one core are taken care of at once.
const devicesAtOnce = 8

// deleteCore takes one core out of the fleet (cdf-services §3.5). Every step can be
// repeated, and none is left out because the record is gone: a second run finishes
// what a first one left. The record goes with the last commit; a device or a
// deployment that came in the meantime makes that commit fail, and all is done again.
func (s *Service) deleteCore(ctx context.Context, w *task.Work, o DeleteOptions) error {
	name := w.Item.Name
	rec, err := state.ReadOr[Core](ctx, s.cfg.Store, coreKey(name))
	if err != nil {
		return fmt.Errorf("read core %s: %w", name, err)
	}
	if rec.Rev == 0 {
		if d, err := s.deviceRecord(ctx, name); err != nil || d.Rev != 0 {
			return orFault(err, fault.Invalid, "%s is a client device, not a core; delete it by DELETE /devices/%s", name, name)
		}
	}
	given, err := state.ReadOr[struct{}](ctx, s.cfg.Store, devicesOfKey(name))
	if err != nil {
		return fmt.Errorf("read client devices of %s: %w", name, err)
	}
	if err := s.releaseDevices(ctx, w, o.DeprovisionClientDevices); err != nil {
		return err
	}
	if err := s.leaveFleet(ctx, name); err != nil {
		return err
	}
	if rec.Rev != 0 { // else they went before the record, and what is there is of a core to come
		if err := s.removeArtifacts(ctx, name); err != nil {
			return failed(err, "Failed removing artifacts")
		}
	}
	r := task.Result{Status: task.Success}
	if rec.Rev == 0 {
		r.Message = "Core already gone"
	}
	last := func(b *state.Batch) error {
		b.Step = state.StepCoreDelete
		now, err := s.unlessReported(ctx, rec)
		if err != nil {
			return err
		}
		b.If(coreKey(name), now).Delete(coreKey(name))
		b.If(devicesOfKey(name), given.Rev).Delete(devicesOfKey(name))
		tell(b, event.CoreDeleted, w, r, s.stamp())
		return w.Finish(ctx, b, r)
	}
	if !o.DeprovisionCores {
		return last(state.NewBatch(state.StepCoreDelete))
	}
	return failed(s.cfg.Cloud.Deprovision(ctx, name, s.cfg.Deprovision, last), "Core cannot be removed from IoT service")
}

// unlessReported returns the revision that the deletion of a core depends on: of
// the record as it was read, or as it is now if only the end of its deployment was
// entered since. Leaving the deployment brings that about, and doing all again for
// it would be in vain.
func (s *Service) unlessReported(ctx context.Context, read state.Record[Core]) (state.Rev, error) {
	if read.Rev == 0 {
		return 0, nil
	}
	now, err := state.ReadOr[Core](ctx, s.cfg.Store, coreKey(read.Value.Name))
	if err != nil {
		return 0, fmt.Errorf("read core %s: %w", read.Value.Name, err)
	}
	c := read.Value
	c.DeploymentStatus, c.DeploymentMessage, c.TakenUp = now.Value.DeploymentStatus, now.Value.DeploymentMessage, now.Value.TakenUp
	c.Reported, c.ReportedOrder, c.UpdatedAt = now.Value.Reported, now.Value.ReportedOrder, now.Value.UpdatedAt
	if reflect.DeepEqual(c, now.Value) {
		return now.Rev, nil
	}
	return read.Rev, nil
}

// leaveFleet ends what a core has beside its record, thing, client devices and
// artifacts: deployments, the cloud's view of its device, its agent.
func (s *Service) leaveFleet(ctx context.Context, core string) error {
	if err := s.cfg.Cloud.Leave(ctx, core, isTemplateGroup); err != nil {
		return failed(fmt.Errorf("take %s out of its deployment: %w", core, err), "Failed removing from existing deployment thing groups")
	}
	if err := s.cfg.Cloud.ForgetCore(ctx, core); err != nil {
		return failed(fmt.Errorf("forget core device %s: %w", core, err), "Failed removing the core device from Greengrass")
	}
	return s.leaveAgent(ctx, core)
}

// leaveAgent ends what lets an agent of the core or client device in, and the agent.
func (s *Service) leaveAgent(ctx context.Context, device string) error {
	if s.cfg.Activations != nil { // first: no agent comes after this
		if err := s.cfg.Activations.Forget(ctx, device); err != nil {
			return failed(fmt.Errorf("forget activations of %s: %w", device, err), "Failed removing activations")
		}
	}
	agent := protocol.AgentThing(device)
	if names.CheckThing(agent) != nil {
		return nil
	}
	err := s.cfg.Cloud.Deprovision(ctx, agent, cloud.Deprovision{Certificates: true}, s.commitTo(ctx))
	if err != nil {
		return failed(fmt.Errorf("remove agent of %s: %w", device, err), "Failed removing the agent")
	}
	return nil
}

// releaseDevices ends every association of the core. Devices keep their record
// without core, or go with it.
func (s *Service) releaseDevices(ctx context.Context, w *task.Work, deprovision bool) error {
	core := w.Item.Name
	list, err := s.devicesOf(ctx, core)
	if err != nil {
		return fmt.Errorf("list client devices of %s: %w", core, err)
	}
	var g errgroup.Group
	g.SetLimit(devicesAtOnce)
	for _, name := range list {
		g.Go(func() error {
			if err := s.releaseDevice(ctx, w, name, deprovision); err != nil {
				return about(err, "Client device %s cannot be deleted or disassociated", name)
			}
			return nil
		})
	}
	return g.Wait()
}

// devicesOf returns the devices that the cloud or the fleet knows as the core's.
func (s *Service) devicesOf(ctx context.Context, core string) ([]string, error) {
	if err := s.loaded(ctx); err != nil {
		return nil, err
	}
	all := map[string]bool{}
	own, _ := s.devices.names(core, "", task.MaxItems)
	for _, d := range own {
		all[d] = true
	}
	err := s.cfg.Cloud.Associated(ctx, core, func(device string) error {
		all[device] = true
		return nil
	})
	return slices.Sorted(maps.Keys(all)), err
}

func (s *Service) releaseDevice(ctx context.Context, w *task.Work, name string, deprovision bool) error {
	core := w.Item.Name
	rec, err := s.deviceRecord(ctx, name)
	if err != nil {
		return err
	}
	mine := rec.Rev == 0 || rec.Value.Core == "" || rec.Value.Core == core
	if deprovision && mine {
		d := removal{name: name, rev: rec.Rev, core: core, deprovision: true}
		return s.removeDevice(ctx, d, func(b *state.Batch) error {
			s.tellDevice(b, event.DeviceDeleted, name, w.Task.ID, task.Result{Status: task.Success})
			_, err := s.cfg.Store.Commit(ctx, b)
			return err
		})
	}
	return s.cfg.Cloud.Disassociate(ctx, core, name, func(b *state.Batch) error {
		if rec.Value.Core == core {
			rec.Value.Core, rec.Value.UpdatedAt = "", s.stamp()
			b.If(deviceKey(name), rec.Rev).Put(deviceKey(name), rec.Value)
			b.Step = state.StepDevice
		}
		_, err := s.cfg.Store.Commit(ctx, b)
		return err
	})
}

// about puts what it was about before an error that the item will show.
func about(err error, format string, args ...any) error {
	kind, what := fault.KindOf(err), fmt.Sprintf(format, args...)
	if kind == "" {
		kind = fault.Unavailable // unclassified errors are tried again
	}
	if m := fault.Message(err); m != "" {
		what += ": " + m
	}
	return fmt.Errorf("%w (%w)", fault.New(kind, "%s", what), err)
}

// orFault is err, or else a fault.
func orFault(err error, k fault.Kind, format string, args ...any) error {
	if err != nil {
		return err
	}
	return fault.New(k, format, args...)
}
