package greengrass

import (
	"context"
	"errors"
	"fmt"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// coreTagsKey holds a core device's tags beside its record, which reports replace.
func coreTagsKey(thing string) string { return prefix + "core-tags/" + thing }

// CoreTags returns the tags of the core device: none for one that has none or is
// not known.
func (s *Service) CoreTags(ctx context.Context, thing string) (map[string]string, error) {
	t, err := state.ReadOr[map[string]string](ctx, s.store, coreTagsKey(thing))
	if err != nil {
		return nil, fmt.Errorf("read tags of core device %s: %w", thing, err)
	}
	return t.Value, nil
}

// ChangeCoreTags replaces the tags of the core device by what change makes of
// them; it may be asked several times and must not change what it is given. It is
// fault.NotFound for a core device that never reported.
func (s *Service) ChangeCoreTags(ctx context.Context, thing string, change func(map[string]string) (map[string]string, error)) error {
	_, err := state.Update(ctx, s.store, state.StepAccount, coreTagsKey(thing), func(tags *map[string]string, _ bool, b *state.Batch) error {
		if _, err := s.Core(ctx, thing); err != nil {
			return err
		}
		b.IfExists(coreKey(thing)) // one that is forgotten meanwhile leaves no tags
		var err error
		*tags, err = change(*tags)
		return err
	})
	if err != nil {
		return fmt.Errorf("change tags of core device %s: %w", thing, err)
	}
	return nil
}

// ChangeTags is ChangeCoreTags for a deployment: the tags belong to this revision.
func (s *Service) ChangeTags(ctx context.Context, deployment string, change func(map[string]string) (map[string]string, error)) error {
	_, err := state.Update(ctx, s.store, state.StepAccount, deploymentKey(deployment), func(d *Deployment, exists bool, _ *state.Batch) (err error) {
		if !exists {
			return fault.New(fault.NotFound, "deployment %s does not exist", deployment)
		}
		d.Tags, err = change(d.Tags)
		return err
	})
	if err != nil && !errors.Is(err, fault.NotFound) {
		return fmt.Errorf("change tags of deployment %s: %w", deployment, err)
	}
	return err
}
