package greengrass

import (
	"context"
	"errors"
	"fmt"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
)

// DeleteThing removes a thing and all that is of it, but for the last step, which
// it returns for the caller to commit: the thing is there until then, and all of
// it can be repeated. Of a thing that is gone the last step is empty.
func (s *Service) DeleteThing(ctx context.Context, thing string, o cloud.Deprovision) (*state.Batch, error) {
	for range 16 {
		b, err := s.deleteThing(ctx, thing, o)
		if errors.Is(err, fault.Conflict) {
			continue // the device reported, or a certificate was attached elsewhere
		}
		if err != nil {
			return nil, fmt.Errorf("delete thing %s: %w", thing, err)
		}
		return b, nil
	}
	return nil, fmt.Errorf("delete thing %s: %w", thing, fault.Conflict)
}

func (s *Service) deleteThing(ctx context.Context, thing string, o cloud.Deprovision) (*state.Batch, error) {
	t, err := s.registry.Retreat(ctx, thing, o.Policies)
	if errors.Is(err, fault.NotFound) {
		return state.NewBatch(state.StepCoreDelete), nil
	}
	if err != nil {
		return nil, err
	}
	p := parcels{store: s.store, b: state.NewBatch(state.StepDeprovision)}
	add := func(b *state.Batch) error { return p.add(ctx, b) }
	if err := s.forgetDeployed(ctx, thing, add); err != nil {
		return nil, err
	}
	if err := s.jobs.Forget(ctx, thing, add); err != nil {
		return nil, err
	}
	if err := s.dissociate(ctx, thing, add); err != nil {
		return nil, err
	}
	b := state.NewBatch(state.StepDeprovision)
	if err := s.endTargetBatch(ctx, b, names.TargetThing, thing); err != nil {
		return nil, err
	}
	s.forgetBatch(b.Delete(connectivityKey(thing)), thing)
	if err := add(b); err != nil {
		return nil, err
	}
	if err := s.registry.Delete(ctx, t, o.Certificates, add); err != nil {
		return nil, err
	}
	p.b.Step = state.StepCoreDelete
	return p.b, nil
}

// dissociate ends all associations of the thing, as a core and as a device.
func (s *Service) dissociate(ctx context.Context, thing string, each func(*state.Batch) error) error {
	end := func(core, device string) error {
		b := state.NewBatch(state.StepDeprovision)
		s.DisassociateBatch(b, core, device)
		return each(b)
	}
	for after := ""; ; {
		page, more, err := s.Associations(ctx, thing, after, 1000)
		if err != nil {
			return err
		}
		for _, a := range page {
			if err := end(thing, a.Device); err != nil {
				return err
			}
			after = a.Device
		}
		if !more {
			break
		}
	}
	return s.CoresOf(ctx, thing, func(core string) error { return end(core, thing) })
}

// lastStep is how many operations the last step of a deletion may hold: whoever
// commits it adds to it.
const lastStep = 48

// parcels gathers small batches and commits them whenever they become too many;
// the rest stays in b.
type parcels struct {
	store state.Store
	b     *state.Batch
}

func (p *parcels) add(ctx context.Context, b *state.Batch) error {
	if p.b.Len()+b.Len() > lastStep && p.b.Len() > 0 {
		if _, err := p.store.Commit(ctx, p.b); err != nil {
			return err
		}
		p.b = state.NewBatch(state.StepDeprovision)
	}
	p.b.Add(b)
	return nil
}

// Retire cancels the group's deployment and removes the group, which must be
// empty (else fault.Conflict), with what is kept of the deployment for each
// thing. It can be repeated; an unknown group is no error.
func (s *Service) Retire(ctx context.Context, group string) error {
	var err error
	for range 4 {
		if err = s.retire(ctx, group); !errors.Is(err, fault.Conflict) {
			return err
		}
	}
	return err
}

func (s *Service) retire(ctx context.Context, group string) error {
	g, err := s.registry.CloseGroup(ctx, group)
	if errors.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := s.forgetGroup(ctx, group); err != nil {
		return err
	}
	if err := s.jobs.ForgetTarget(ctx, names.TargetThingGroup, group); err != nil {
		return err
	}
	b := state.NewBatch(state.StepDeployment)
	if err := s.endTargetBatch(ctx, b, names.TargetThingGroup, group); err != nil {
		return err
	}
	if err := s.registry.DeleteGroupBatch(ctx, b, g); err != nil {
		return err
	}
	_, err = s.store.Commit(ctx, b)
	return err
}
