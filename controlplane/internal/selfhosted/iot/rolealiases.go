package iot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/tag"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
)

// RoleAlias is what a core names when it asks for credentials.
type RoleAlias struct {
	Name            string            `json:"name"`
	RoleARN         string            `json:"roleArn"`
	DurationSeconds int               `json:"durationSeconds"` // 900 to 43200
	Tags            map[string]string `json:"tags,omitempty"`
	CreatedAt       time.Time         `json:"createdAt"`
	ModifiedAt      time.Time         `json:"modifiedAt,omitzero"`
}

// Limits of role aliases (iot-api §17).
const (
	MaxRoleAliases     = 100
	MinCredentials     = 900   // seconds
	MaxCredentials     = 43200 // seconds
	DefaultCredentials = 3600  // seconds
)

const roleAliasPrefix = prefix + "rolealias/"

func roleAliasKey(name string) string { return roleAliasPrefix + name }

// RoleAlias returns the role alias, or fault.NotFound.
func (r *Registry) RoleAlias(ctx context.Context, name string) (RoleAlias, error) {
	a, err := state.Read[RoleAlias](ctx, r.store, roleAliasKey(name))
	if errors.Is(err, fault.NotFound) {
		return RoleAlias{}, noRoleAlias(name)
	}
	return a.Value, err
}

func noRoleAlias(name string) error {
	return fault.New(fault.NotFound, "role alias %s does not exist", name)
}

// CreateRoleAlias makes the role alias. A duration of 0 is DefaultCredentials. A
// name that is taken is fault.Exists, one alias over MaxRoleAliases
// fault.Exhausted.
func (r *Registry) CreateRoleAlias(ctx context.Context, a RoleAlias) error {
	a.DurationSeconds = cmp.Or(a.DurationSeconds, DefaultCredentials)
	if err := errors.Join(names.CheckRoleAlias(a.Name), checkCredentials(a.DurationSeconds)); err != nil {
		return err
	}
	all, err := r.RoleAliases(ctx)
	if err != nil {
		return err
	}
	if a.Tags, err = tag.Change(nil, a.Tags, nil); err != nil {
		return err
	}
	a.CreatedAt = r.now().UTC()
	a.ModifiedAt = a.CreatedAt
	_, err = state.Update(ctx, r.store, state.StepRegistry, roleAliasKey(a.Name), func(v *RoleAlias, exists bool, _ *state.Batch) error {
		if exists {
			return fault.New(fault.Exists, "role alias %s exists already", a.Name)
		}
		if len(all) >= MaxRoleAliases {
			return fault.New(fault.Exhausted, "there are %d role aliases, which is the limit; delete one that is not used", len(all))
		}
		*v = a
		return nil
	})
	if err != nil {
		return fmt.Errorf("create role alias %s: %w", a.Name, err)
	}
	return nil
}

// UpdateRoleAlias changes what is not zero; the next credentials are as it says.
// fault.NotFound if there is none.
func (r *Registry) UpdateRoleAlias(ctx context.Context, name, roleARN string, durationSeconds int) error {
	if durationSeconds != 0 {
		if err := checkCredentials(durationSeconds); err != nil {
			return err
		}
	}
	return r.changeRoleAlias(ctx, name, func(v *RoleAlias) error {
		v.RoleARN = cmp.Or(roleARN, v.RoleARN)
		v.DurationSeconds = cmp.Or(durationSeconds, v.DurationSeconds)
		v.ModifiedAt = r.now().UTC()
		return nil
	})
}

// TagRoleAlias is TagGroup for a role alias.
func (r *Registry) TagRoleAlias(ctx context.Context, name string, set map[string]string, remove []string) error {
	return r.changeRoleAlias(ctx, name, func(v *RoleAlias) (err error) {
		v.Tags, err = tag.Change(v.Tags, set, remove)
		return err
	})
}

// changeRoleAlias edits the role alias that is there.
func (r *Registry) changeRoleAlias(ctx context.Context, name string, edit func(*RoleAlias) error) error {
	_, err := state.Update(ctx, r.store, state.StepRegistry, roleAliasKey(name), func(v *RoleAlias, exists bool, _ *state.Batch) error {
		if !exists {
			return noRoleAlias(name)
		}
		return edit(v)
	})
	if err != nil {
		return fmt.Errorf("change role alias %s: %w", name, err)
	}
	return nil
}

// DeleteRoleAlias removes the role alias at once: credentials given out are valid
// until they end, new ones are not given. fault.NotFound if there is none.
func (r *Registry) DeleteRoleAlias(ctx context.Context, name string) error {
	_, err := state.Update(ctx, r.store, state.StepRegistry, roleAliasKey(name), func(_ *RoleAlias, exists bool, b *state.Batch) error {
		if !exists {
			return noRoleAlias(name)
		}
		b.Delete(roleAliasKey(name))
		return nil
	})
	if err != nil {
		return fmt.Errorf("delete role alias %s: %w", name, err)
	}
	return nil
}

// RoleAliases returns all, the oldest first.
func (r *Registry) RoleAliases(ctx context.Context) ([]RoleAlias, error) {
	var out []RoleAlias
	err := state.All(ctx, r.store, roleAliasPrefix, func(_ string, a state.Record[RoleAlias]) error {
		out = append(out, a.Value)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list role aliases: %w", err)
	}
	slices.SortFunc(out, func(a, b RoleAlias) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.Name, b.Name))
	})
	return out, nil
}

func checkCredentials(seconds int) error {
	if seconds < MinCredentials || seconds > MaxCredentials {
		return fault.Field("credentialDurationSeconds", "is %d, want %d to %d", seconds, MinCredentials, MaxCredentials)
	}
	return nil
}
