package greengrass

import (
	"context"
	"fmt"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/tag"
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

// SetCoreTags lets change edit a copy of the core device's tags, maybe several
// times; tag.Check judges the outcome. It is fault.NotFound for a core device that
// never reported.
func (s *Service) SetCoreTags(ctx context.Context, thing string, change func(tags map[string]string)) error {
	_, err := state.Update(ctx, s.store, state.StepAccount, coreTagsKey(thing), func(tags *map[string]string, _ bool, b *state.Batch) (err error) {
		if _, err = s.Core(ctx, thing); err != nil {
			return err
		}
		b.IfExists(coreKey(thing)) // one that is forgotten meanwhile leaves no tags
		*tags, err = tag.Edit(*tags, change)
		return err
	})
	if err != nil {
		return fmt.Errorf("tag core device %s: %w", thing, err)
	}
	return nil
}

// SetTags is SetCoreTags for a deployment: the tags belong to this revision.
func (s *Service) SetTags(ctx context.Context, deployment string, change func(tags map[string]string)) error {
	_, err := state.Update(ctx, s.store, state.StepAccount, deploymentKey(deployment), func(d *Deployment, exists bool, _ *state.Batch) (err error) {
		if !exists {
			return fault.New(fault.NotFound, "deployment %s does not exist", deployment)
		}
		d.Tags, err = tag.Edit(d.Tags, change)
		return err
	})
	if err != nil {
		return fmt.Errorf("tag deployment %s: %w", deployment, err)
	}
	return nil
}
