package iot

import (
	"context"
	"fmt"
	"maps"
	"strings"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// MaxTags is how many tags a resource may have.
const MaxTags = 50

func checkTags(tags map[string]string) error {
	if len(tags) > MaxTags {
		return fault.Field("tags", "has %d tags, over the limit of %d", len(tags), MaxTags)
	}
	for k := range tags {
		if strings.HasPrefix(strings.ToLower(k), "aws:") {
			return fault.Field("tags", "has the key %s; keys that begin with aws: are reserved", k)
		}
	}
	return nil
}

// retag is what tags become when set are set and those of the keys in remove go.
func retag(tags, set map[string]string, remove []string) (map[string]string, error) {
	out := map[string]string{}
	maps.Copy(out, tags)
	maps.Copy(out, set)
	for _, k := range remove {
		delete(out, k)
	}
	if len(out) > MaxTags {
		return nil, fault.New(fault.Exhausted, "there would be %d tags, over the limit of %d", len(out), MaxTags)
	}
	return out, checkTags(set)
}

// TagGroup sets tags of the group and takes those with the keys in remove away. More
// than MaxTags are fault.Exhausted.
func (r *Registry) TagGroup(ctx context.Context, name string, set map[string]string, remove []string) error {
	_, err := state.Update(ctx, r.store, state.StepGroup, groupKey(name), func(g *Group, exists bool, _ *state.Batch) (err error) {
		if !exists {
			return noGroup(name)
		}
		g.Tags, err = retag(g.Tags, set, remove)
		return err
	})
	if err != nil {
		return fmt.Errorf("tag thing group %s: %w", name, err)
	}
	return nil
}

// TagThingType is TagGroup for a thing type.
func (r *Registry) TagThingType(ctx context.Context, name string, set map[string]string, remove []string) error {
	return r.changeType(ctx, name, func(t *ThingType) (err error) {
		t.Tags, err = retag(t.Tags, set, remove)
		return err
	})
}
