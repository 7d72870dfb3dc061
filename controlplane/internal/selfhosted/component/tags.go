package component

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"unicode/utf8"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// maxTags is AWS's limit for one resource.
const maxTags = 50

// CheckTags refuses what no resource may be tagged with (greengrassv2-api §9).
func CheckTags(tags map[string]string) error {
	if len(tags) > maxTags {
		return fault.Field("tags", "has %d entries, over the limit of %d", len(tags), maxTags)
	}
	for k, v := range tags {
		switch {
		case k == "" || utf8.RuneCountInString(k) > 128:
			return fault.Field("tags", "the key %.128q must have 1 to 128 characters", k)
		case utf8.RuneCountInString(v) > 256:
			return fault.Field("tags", "the value of %q has more than 256 characters", k)
		case strings.HasPrefix(strings.ToLower(k), "aws:"):
			return fault.Field("tags", "the key %q begins with aws:, which is reserved", k)
		}
	}
	return nil
}

// SetTags lets change edit the tags of a version, which may be a copy several
// times; the outcome is checked by CheckTags. fault.NotFound if there is no
// version of that ARN.
func (s *Service) SetTags(ctx context.Context, arn string, change func(tags map[string]string)) error {
	v, err := s.GetByARN(ctx, arn)
	if err != nil {
		return err
	}
	_, err = state.Update(ctx, s.cfg.Store, state.StepComponent, keyOf(v.Name, v.Version), func(v *Version, exists bool, _ *state.Batch) error {
		if !exists || v.Deleting || v.ARN != arn {
			return fault.New(fault.NotFound, "there is no component version %s", arn)
		}
		tags := maps.Clone(v.Tags)
		if tags == nil {
			tags = map[string]string{}
		}
		if change(tags); maps.Equal(tags, v.Tags) {
			return state.ErrKeep
		}
		v.Tags = tags
		return CheckTags(tags)
	})
	if err != nil {
		return fmt.Errorf("tag component %s %s: %w", v.Name, v.Version, err)
	}
	return nil
}
