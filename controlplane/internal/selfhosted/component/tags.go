package component

import (
	"context"
	"fmt"
	"maps"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/tag"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// SetTags lets change edit the tags of a version, which may be a copy several
// times; tag.Check judges the outcome. fault.NotFound if there is no version of
// that ARN.
func (s *Service) SetTags(ctx context.Context, arn string, change func(tags map[string]string)) error {
	v, err := s.GetByARN(ctx, arn)
	if err != nil {
		return err
	}
	_, err = state.Update(ctx, s.cfg.Store, state.StepComponent, keyOf(v.Name, v.Version), func(v *Version, exists bool, _ *state.Batch) error {
		if !exists || v.Deleting || v.ARN != arn {
			return fault.New(fault.NotFound, "there is no component version %s", arn)
		}
		tags, err := tag.Edit(v.Tags, change)
		if err == nil && maps.Equal(tags, v.Tags) {
			return state.ErrKeep
		}
		v.Tags = tags
		return err
	})
	if err != nil {
		return fmt.Errorf("tag component %s %s: %w", v.Name, v.Version, err)
	}
	return nil
}
