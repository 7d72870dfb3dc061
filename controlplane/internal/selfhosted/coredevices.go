package selfhosted

import (
	"context"
	"errors"
	"fmt"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/greengrass"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
)

// HasCore implements cloud.CoreDevices.
func (c *Cloud) HasCore(ctx context.Context, name string) (bool, error) {
	return c.Greengrass.HasCore(ctx, name)
}

// Core implements cloud.CoreDevices.
func (c *Cloud) Core(ctx context.Context, name string) (cloud.CoreDevice, error) {
	d, err := c.Greengrass.Core(ctx, name)
	if err != nil {
		return cloud.CoreDevice{}, err
	}
	out := cloud.CoreDevice{
		Status: d.Status, CoreVersion: d.Version, Platform: d.Platform, Architecture: d.Architecture, Runtime: d.Runtime,
		LastStatusUpdate: d.LastStatusAt,
	}
	out.Connected, out.LastSeen = c.Presence.Presence(name)
	if d.LastStatusAt.After(out.LastSeen) {
		out.LastSeen = d.LastStatusAt
	}
	for _, x := range d.Components {
		out.Installed = append(out.Installed, cloud.InstalledComponent{Name: x.Name, Version: x.Version, State: x.State, Reason: x.Reason, IsRoot: x.IsRoot})
	}
	if out.Tags, err = c.Greengrass.CoreTags(ctx, name); err != nil {
		return out, err
	}
	effective, err := c.Greengrass.EffectiveDeployments(ctx, name)
	if err != nil {
		return out, fmt.Errorf("effective deployments of %s: %w", name, err)
	}
	for _, e := range effective {
		out.EffectiveDeployments = append(out.EffectiveDeployments, cloud.EffectiveDeployment{
			DeploymentID: e.Deployment.ID, DeploymentName: e.Deployment.Name, JobID: e.JobID, JobARN: e.JobARN,
			TargetARN: e.TargetARN, Status: e.Status, Reason: e.Reason, CreatedAt: e.CreatedAt, UpdatedAt: e.UpdatedAt,
		})
	}
	return out, nil
}

// ForgetCore implements cloud.CoreDevices.
func (c *Cloud) ForgetCore(ctx context.Context, name string) error {
	return c.Greengrass.ForgetCore(ctx, name)
}

// Statuses implements cloud.CoreDevices. It tells the cursor as soon as it knows
// one, with no change.
func (c *Cloud) Statuses(ctx context.Context, from string, handle func([]cloud.StatusChange, string) error) error {
	rev, err := revision(from)
	if err != nil {
		return err
	}
	tell := func(list []greengrass.StatusChange, at state.Rev) error {
		out := make([]cloud.StatusChange, len(list))
		for i, x := range list {
			out[i] = cloud.StatusChange{Core: x.Thing, Status: x.Status, At: x.At}
		}
		return handle(out, cursorOf(at))
	}
	for {
		if rev == 0 {
			if rev, err = c.Greengrass.Now(ctx); err == nil {
				err = handle(nil, cursorOf(rev))
			}
			if err != nil {
				return err
			}
		}
		err = c.Greengrass.Statuses(ctx, rev, tell)
		if !errors.Is(err, state.ErrCompacted) {
			return err
		}
		// That history is gone. What it led to is still there.
		list, at, err := c.Greengrass.LastStatuses(ctx, rev)
		if err != nil {
			return err
		}
		rev = at
		if err := tell(list, at); err != nil {
			return err
		}
	}
}

// Associate implements cloud.Associations.
func (c *Cloud) Associate(ctx context.Context, core, device string, commit func(*state.Batch) error) error {
	b := state.NewBatch(state.StepAssociate)
	if err := c.Greengrass.AssociateBatch(ctx, b, core, device); err != nil {
		return err
	}
	return commit(b)
}

// Disassociate implements cloud.Associations.
func (c *Cloud) Disassociate(_ context.Context, core, device string, commit func(*state.Batch) error) error {
	b := state.NewBatch(state.StepAssociate)
	c.Greengrass.DisassociateBatch(b, core, device)
	return commit(b)
}

// Associated implements cloud.Associations.
func (c *Cloud) Associated(ctx context.Context, core string, each func(device string) error) error {
	for after := ""; ; {
		page, more, err := c.Greengrass.Associations(ctx, core, after, 1000)
		if err != nil {
			return err
		}
		for _, a := range page {
			if err := each(a.Device); err != nil {
				return err
			}
			after = a.Device
		}
		if !more {
			return nil
		}
	}
}
