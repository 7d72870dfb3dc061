package component

import (
	"context"
	_ "embed" // the table of stubs
	"encoding/json"
	"errors"
	"fmt"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/recipe"
)

//go:embed stubs.json
var stubTable []byte

type stub struct {
	Name        string   `json:"name"`
	Versions    []string `json:"versions"`
	Description string   `json:"description"`
	// Private stubs may stand in templates and deployments, but are never handed
	// to a core: a nucleus that took a recipe without artifacts for its next
	// version would replace itself by nothing.
	Private bool `json:"private"`
}

// recipe is one that every runtime accepts and that does nothing.
func (b stub) recipe(version string) ([]byte, error) {
	all := map[string]any{"Platform": map[string]string{"os": "*", "runtime": "*"}, "Lifecycle": map[string]any{}, "Artifacts": []any{}}
	return json.Marshal(map[string]any{
		"RecipeFormatVersion": recipe.FormatVersion, "ComponentName": b.Name, "ComponentVersion": version,
		"ComponentType": "aws.greengrass.generic", "ComponentPublisher": "AWS", "ComponentDescription": b.Description,
		"Manifests": []any{all},
	})
}

// EnsureStubs puts the recipe stubs for what AWS provides where no version
// stands yet. An import replaces a stub with the real component. It is meant for
// the first start; calling it again adds only what is absent.
func (s *Service) EnsureStubs(ctx context.Context) error {
	var table []stub
	if err := json.Unmarshal(stubTable, &table); err != nil {
		return fmt.Errorf("read the table of stubs: %w", err)
	}
	public := names.Realm{Region: s.cfg.Realm.Region, Account: "aws"}
	for {
		b := state.NewBatch(state.StepComponent)
		for _, t := range table {
			for _, version := range t.Versions {
				if err := s.addStub(ctx, b, t, version, public); err != nil {
					return fmt.Errorf("stub of %s %s: %w", t.Name, version, err)
				}
			}
		}
		if b.Len() == 0 {
			return nil
		}
		if _, err := s.cfg.Store.Commit(ctx, b); !errors.Is(err, fault.Conflict) {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

func (s *Service) addStub(ctx context.Context, b *state.Batch, t stub, version string, public names.Realm) error {
	key := keyOf(t.Name, version)
	old, err := state.ReadOr[Version](ctx, s.cfg.Store, key)
	if err != nil || old.Rev != 0 {
		return err
	}
	src, err := t.recipe(version)
	if err != nil {
		return err
	}
	r, err := recipe.Parse(src)
	if err != nil {
		return err
	}
	v := s.versionOf(r, src)
	v.ARN = public.ComponentVersion(t.Name, version)
	v.Public, v.Stub, v.Private = true, true, t.Private
	if err := v.settle(); err != nil {
		return err
	}
	b.If(key, 0).Put(key, v)
	return nil
}
