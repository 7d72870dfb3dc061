package iot

import (
	"context"
	"fmt"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/tag"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
)

// TagGroup sets tags of the group and takes those with the keys in remove away. More
// than tag.Max are fault.Exhausted.
func (r *Registry) TagGroup(ctx context.Context, name string, set map[string]string, remove []string) error {
	_, err := state.Update(ctx, r.store, state.StepGroup, groupKey(name), func(g *Group, exists bool, _ *state.Batch) (err error) {
		if !exists {
			return noGroup(name)
		}
		g.Tags, err = tag.Change(g.Tags, set, remove)
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
		t.Tags, err = tag.Change(t.Tags, set, remove)
		return err
	})
}
