package fleet

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/ggfleet/ggfleet/controlplane/internal/event"
	"github.com/ggfleet/ggfleet/controlplane/internal/provisioning"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/task"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// createDevice brings one client device into being and gives it to the core. Its
// archive is put before anything is registered and overwritten by a retry; then one
// commit has certificate, thing, association, record, result and event. Nothing
// stays of a device that cannot be (W-51).
func (s *Service) createDevice(ctx context.Context, w *task.Work, core string) error {
	return s.orNothing(ctx, w.Item.Name, s.makeDevice(ctx, w, core))
}

func (s *Service) makeDevice(ctx context.Context, w *task.Work, core string) error {
	var n NewDevice
	if err := w.Item.Decode(&n); err != nil {
		return err
	}
	a, err := s.adoption(ctx, w, core, n.Name)
	if err != nil {
		return err
	}
	switch _, err := s.cfg.Cloud.Thing(ctx, n.Name); {
	case err == nil:
		return s.associate(ctx, a)
	case !errors.Is(err, fault.NotFound):
		return fmt.Errorf("look up thing %s: %w", n.Name, err) // only not-found means absent (W-42)
	}
	p, err := s.prepareDevice(ctx, n)
	if err != nil {
		return failed(err, "Failed provisioning")
	}
	a.device.ProvisioningTemplate, a.device.Artifacts = n.ProvisioningTemplate, nil
	a.device.CertificatePending, a.device.Pending, a.device.Completed = p.Deferred != nil, p.Deferred, nil
	if p.Certificate != "" {
		certs, err := s.putCerts(ctx, n.Name, p)
		if err != nil {
			return failed(err, "Failed uploading certs")
		}
		a.device.Artifacts = map[string]Artifact{ArtifactCerts: certs}
	}
	p.Registration.ClientOf = core
	err = s.cfg.Cloud.Register(ctx, p.Registration, func(b *state.Batch) error { return a.commit(ctx, b, "") })
	return failed(err, "Failed provisioning")
}

// orNothing returns the error of a creation. If it is for good, the archive of a key
// that was never registered goes first (W-66).
func (s *Service) orNothing(ctx context.Context, name string, created error) error {
	if !fault.Permanent(created) {
		return created
	}
	for _, key := range []string{coreKey(name), deviceKey(name)} {
		if _, err := s.cfg.Store.Get(ctx, key); !errors.Is(err, fault.NotFound) {
			return errors.Join(created, err)
		}
	}
	if _, err := s.cfg.Cloud.Thing(ctx, name); !errors.Is(err, fault.NotFound) {
		return errors.Join(created, err)
	}
	if err := s.removeArtifacts(ctx, name); err != nil {
		return fmt.Errorf("after a failed creation: %w", err)
	}
	return created
}

func (s *Service) prepareDevice(ctx context.Context, n NewDevice) (provisioning.Prepared, error) {
	p, err := s.cfg.Provisioner.Prepare(ctx, provisioning.Request{
		Template: n.ProvisioningTemplate, Parameters: n.ProvisioningParameters, CDF: n.CDFProvisioningParameters,
	})
	switch {
	case err != nil:
		return p, err
	case p.ThingName != n.Name:
		return p, fault.New(fault.Invalid, "the provisioning template %s names the thing %q, but the client device is %q; set provisioningParameters.ThingName to the device's name", n.ProvisioningTemplate, p.ThingName, n.Name)
	}
	return p, nil
}

// adoption is a device on its way to a core.
type adoption struct {
	s      *Service
	w      *task.Work
	core   string
	former string    // the core that has it now; empty: none
	owner  state.Rev // of the core's record; 0: the fleet has none
	rev    state.Rev // of the device's record; 0: none yet
	device Device    // as it will be
}

// adoption looks at both sides: a core of the fleet is nobody's client device, and
// the core must be one that reported.
func (s *Service) adoption(ctx context.Context, w *task.Work, core, name string) (adoption, error) {
	switch known, err := s.cfg.Cloud.HasCore(ctx, core); {
	case err != nil:
		return adoption{}, fmt.Errorf("look up core device %s: %w", core, err)
	case !known:
		return adoption{}, fault.New(fault.NotFound, "Client device cannot be associated with core %s: it is not registered with Greengrass V2", core)
	}
	if is, err := s.isCore(ctx, name); err != nil || is {
		return adoption{}, orFault(err, fault.Invalid, "%s is a core of this fleet and cannot be a client device", name)
	}
	owner, err := state.ReadOr[Core](ctx, s.cfg.Store, coreKey(core))
	if err != nil {
		return adoption{}, err
	}
	rec, err := s.deviceRecord(ctx, name)
	if err != nil {
		return adoption{}, err
	}
	a := adoption{s: s, w: w, core: core, owner: owner.Rev, rev: rec.Rev, device: rec.Value}
	if rec.Rev == 0 {
		a.device = Device{Name: name, CreatedAt: w.Item.CreatedAt}
	} else if rec.Value.Core != core {
		a.former = rec.Value.Core
	}
	a.device.Artifacts = maps.Clone(a.device.Artifacts)
	a.device.Core, a.device.UpdatedAt = core, s.stamp()
	return a, nil
}

// associate gives a thing that exists to the core, and takes it from the former one
// in the same change.
func (s *Service) associate(ctx context.Context, a adoption) error {
	const message = "Client device already registered"
	err := s.cfg.Cloud.Associate(ctx, a.core, a.device.Name, func(b *state.Batch) error {
		if a.former == "" {
			return a.commit(ctx, b, message)
		}
		return s.cfg.Cloud.Disassociate(ctx, a.former, a.device.Name, func(left *state.Batch) error {
			return a.commit(ctx, b.Add(left), message)
		})
	})
	return failed(err, "Client device cannot be associated with core "+a.core)
}

// commit ends the item with what b holds already.
func (a adoption) commit(ctx context.Context, b *state.Batch, message string) error {
	b.Step = state.StepDevice
	b.If(deviceKey(a.device.Name), a.rev).Put(deviceKey(a.device.Name), a.device)
	b.If(coreKey(a.device.Name), 0)
	if a.owner == 0 {
		b.If(coreKey(a.core), 0)
	} else {
		b.IfExists(coreKey(a.core)) // it was not deleted meanwhile
	}
	b.Put(devicesOfKey(a.core), struct{}{})
	b.Put(deviceTaskKey(a.core, a.w.Task.ID), struct{}{})
	r := task.Result{Status: task.Success, Message: message}
	a.s.tellDevice(b, event.DeviceCreated, a.device.Name, a.w.Task.ID, r)
	return a.w.Finish(ctx, b, r)
}
