package fleet

import (
	"context"
	"fmt"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/event"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/task"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/run"
)

// deleteDeviceItem is one client device of a task of type Delete. One that is
// gone is a success; what may be left of it goes all the same.
func (s *Service) deleteDeviceItem(ctx context.Context, w *task.Work, spec deviceTaskSpec) error {
	o, err := deleteOptions(spec.Options, optionDevices)
	if err != nil {
		return err
	}
	rec, err := s.deviceRecord(ctx, w.Item.Name)
	if err != nil {
		return err
	}
	if c := rec.Value.Core; c != "" && c != spec.Core {
		return fault.New(fault.Invalid, "Client device belongs to core %s, not to %s; delete it there, or by DELETE /devices/%s", c, spec.Core, w.Item.Name)
	}
	r := task.Result{Status: task.Success}
	if rec.Rev == 0 {
		r.Message = "Client device already gone"
	}
	d := removal{name: w.Item.Name, rev: rec.Rev, core: spec.Core, deprovision: o.DeprovisionClientDevices}
	err = s.removeDevice(ctx, d, func(b *state.Batch) error {
		b.Put(deviceTaskKey(spec.Core, w.Task.ID), struct{}{})
		s.tellDevice(b, event.DeviceDeleted, w.Item.Name, w.Task.ID, r)
		return w.Finish(ctx, b, r)
	})
	return failed(err, "Failed deleting client device")
}

// deleteAttempts bounds how often DeleteDevice tries again when something changed
// in the moment, or does not answer.
const deleteAttempts = 8

// DeleteDevice deletes a client device and what d says goes with it. It can be
// repeated after any failure; an unknown one is fault.NotFound.
func (s *Service) DeleteDevice(ctx context.Context, name string, d DeleteDevice) error {
	err := run.Retry(ctx, run.Backoff{Min: 10 * time.Millisecond}, deleteAttempts, func(ctx context.Context) error {
		rec, err := s.deviceRecord(ctx, name)
		if err != nil {
			return err
		}
		if rec.Rev == 0 {
			return noDevice(name)
		}
		x := removal{name: name, rev: rec.Rev, deprovision: d.Deprovision}
		if d.Disassociate {
			x.core = rec.Value.Core
		}
		return s.removeDevice(ctx, x, func(b *state.Batch) error {
			s.tellDevice(b, event.DeviceDeleted, name, "", task.Result{Status: task.Success})
			_, err := s.cfg.Store.Commit(ctx, b)
			return err
		})
	})
	if err != nil {
		return fmt.Errorf("delete client device %s: %w", name, err)
	}
	return nil
}

// removal is a client device on its way out.
type removal struct {
	name        string
	rev         state.Rev // of the record; 0: there is none
	core        string    // to be disassociated from; empty: none
	deprovision bool
}

// removeDevice takes association, agent, artifacts and, if asked, the thing away, and
// the record last, together with what end adds and commits. A core of the fleet
// keeps its thing and artifacts, whoever called it a client device.
func (s *Service) removeDevice(ctx context.Context, d removal, end func(*state.Batch) error) error {
	last := func(b *state.Batch) error {
		b.Step = state.StepDevice
		return end(b.If(deviceKey(d.name), d.rev).Delete(deviceKey(d.name)))
	}
	if d.core != "" {
		if err := s.cfg.Cloud.Disassociate(ctx, d.core, d.name, s.commitTo(ctx)); err != nil {
			return err
		}
	}
	is, err := s.isCore(ctx, d.name)
	if err != nil {
		return err
	}
	if !is && d.rev != 0 { // they go before the record: without it there are none, or those of a device to come
		if err := s.leaveAgent(ctx, d.name); err != nil {
			return err
		}
		if err := s.removeArtifacts(ctx, d.name); err != nil {
			return err
		}
	}
	if is || !d.deprovision {
		return last(state.NewBatch(state.StepDevice))
	}
	return s.cfg.Cloud.Deprovision(ctx, d.name, s.cfg.Deprovision, last)
}

// commitTo commits what a port did and nothing else.
func (s *Service) commitTo(ctx context.Context) func(*state.Batch) error {
	return func(b *state.Batch) error {
		if b.Len() == 0 { // there was nothing to remove
			return nil
		}
		_, err := s.cfg.Store.Commit(ctx, b)
		return err
	}
}

// removeArtifacts deletes whatever lies in the folder of a core or client device.
func (s *Service) removeArtifacts(ctx context.Context, name string) error {
	folder := s.cfg.ArtifactPrefix + name + "/"
	list, err := s.cfg.Objects.List(ctx, folder, "", 0)
	if err != nil {
		return fmt.Errorf("list artifacts of %s: %w", name, err)
	}
	for _, o := range list {
		if err := s.cfg.Objects.Delete(ctx, o.Key); err != nil {
			return fmt.Errorf("delete %s: %w", o.Key, err)
		}
	}
	return nil
}
