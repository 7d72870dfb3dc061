package cli

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ggfleet/ggfleet/controlplane/api"
)

func (a *app) component() *cobra.Command {
	// create sends a recipe and, if dir is given, the files that it names.
	create := func(ctx context.Context, c *client, recipe, dir string) (result, error) {
		f, err := input(recipe)
		if err != nil {
			return result{}, err
		}
		defer f.Close()
		v, err := get[api.ComponentVersion](c.CreateComponentWithBody(ctx, nil, "application/yaml", f))
		if err != nil {
			return result{}, err
		}
		if dir != "" {
			for _, artifact := range v.MissingArtifacts {
				c.progress("uploading %s", artifact)
				if v, err = uploadArtifact(ctx, c, v, dir, artifact); err != nil {
					return result{}, err
				}
			}
			c.progress("")
		}
		return componentVersions(v), nil
	}
	var createDir, importDir string
	createCmd := a.command("create RECIPE", "Create a component version from a recipe, JSON or YAML", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
		return create(ctx, c, args[0], createDir)
	})
	createCmd.Flags().StringVar(&createDir, "artifacts", "", "directory with the files that the recipe names; none: upload nothing")
	importCmd := a.command("import RECIPE", "Create a component version with its artifacts, in the place of a stub if there is one", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
		return create(ctx, c, args[0], importDir)
	})
	importCmd.Flags().StringVar(&importDir, "artifacts", ".", "directory with the files that the recipe names")
	return group("component", "Keep recipes and artifacts", a.posting(importCmd), a.posting(createCmd),
		a.componentList(),
		a.command("get NAME VERSION", "Show a component version", cobra.ExactArgs(2), func(ctx context.Context, c *client, args []string) (result, error) {
			v, err := get[api.ComponentVersion](c.GetComponentVersion(ctx, args[0], args[1]))
			if err != nil {
				return result{}, err
			}
			return componentVersions(v), nil
		}),
		a.command("delete NAME VERSION", "Delete a component version with its artifacts", cobra.ExactArgs(2), func(ctx context.Context, c *client, args []string) (result, error) {
			return result{}, done(c.DeleteComponentVersion(ctx, args[0], args[1]))
		}),
	)
}

func (a *app) componentList() *cobra.Command {
	var limit int
	return limited(a.command("list [NAME]", "List components, or the versions of one", cobra.MaximumNArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
		all, err := pages(limit, func(count *int, after *string) ([]api.ComponentVersion, string, error) {
			if len(args) == 1 {
				l, err := get[api.ComponentList](c.ListComponentVersions(ctx, args[0], &api.ListComponentVersionsParams{Count: count, ExclusiveStartVersion: after}))
				return l.Components, l.Pagination.LastEvaluated.ComponentVersion, err
			}
			l, err := get[api.ComponentList](c.ListComponents(ctx, &api.ListComponentsParams{Count: count, ExclusiveStartName: after}))
			return l.Components, l.Pagination.LastEvaluated.Name, err
		})
		if err != nil {
			return result{}, err
		}
		r := componentVersions(all...)
		r.value = api.ComponentList{Components: all}
		return r, nil
	}), &limit)
}

// uploadArtifact sends one file. os.Root keeps a recipe's names inside dir.
func uploadArtifact(ctx context.Context, c *client, v api.ComponentVersion, dir, artifact string) (api.ComponentVersion, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return v, failure(ExitUsage, "--artifacts: %w", err)
	}
	defer func() { _ = root.Close() }() // only read
	f, err := root.Open(filepath.FromSlash(artifact))
	if err != nil {
		return v, failure(ExitUsage, "the recipe names artifact %s: %w; point --artifacts at its directory", artifact, err)
	}
	defer func() { _ = f.Close() }() // only read
	return get[api.ComponentVersion](c.PutArtifactWithBody(ctx, v.Name, v.Version, artifact, "application/octet-stream", f))
}

func componentVersions(vs ...api.ComponentVersion) result {
	r := result{value: vs, header: []string{"NAME", "VERSION", "STATE", "STUB", "MISSING"}}
	if len(vs) == 1 {
		r.value = vs[0]
	}
	for _, v := range vs {
		stub := ""
		if v.Stub {
			stub = "stub"
		}
		r.rows = append(r.rows, []any{v.Name, v.Version, v.State, stub, strings.Join(v.MissingArtifacts, ", ")})
	}
	return r
}
