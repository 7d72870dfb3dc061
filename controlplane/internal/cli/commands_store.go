package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ggfleet/ggfleet/controlplane/api"
)

// input opens a file, or standard input for "-".
func input(path string) (io.ReadCloser, error) {
	if path == "-" {
		return io.NopCloser(os.Stdin), nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, failure(ExitUsage, "%w", err)
	}
	return f, nil
}

func (a *app) template() *cobra.Command {
	var file string
	var components []string
	// write sends a template that stands in a file or in NAME=VERSION flags.
	write := func(use, short string, update bool) *cobra.Command {
		cmd := a.command(use, short, cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
			b, err := templateBody(args[0], file, components)
			if err != nil {
				return result{}, err
			}
			call := func() (string, error) {
				if update {
					h, _, err := read(c.UpdateTemplateWithBody(ctx, args[0], nil, api.MediaType, b))
					return h.Get("x-version"), err
				}
				h, _, err := read(c.CreateTemplateWithBody(ctx, nil, api.MediaType, b))
				return h.Get("x-version"), err
			}
			version, err := call()
			if err != nil {
				return result{}, err
			}
			return result{value: map[string]string{"name": args[0], "version": version}, line: args[0] + ":" + version}, nil
		})
		cmd.Flags().StringVarP(&file, "file", "f", "", "JSON body of the request; - for standard input")
		cmd.Flags().StringArrayVar(&components, "component", nil, "component as NAME=VERSION; may be repeated")
		return cmd
	}
	return group("template", "Name sets of components", write("create NAME", "Create a template", false), write("update NAME", "Write a template's next version", true),
		a.command("get NAME[:VERSION]", "Show a template", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
			name, version, _ := strings.Cut(args[0], ":")
			if version == "" {
				version = "latest"
			}
			t, err := get[api.Template](c.GetTemplateVersion(ctx, name, version))
			if err != nil {
				return result{}, err
			}
			r := result{value: t, header: []string{"TEMPLATE", "COMPONENT", "VERSION"}}
			for _, i := range t.Components {
				r.rows = append(r.rows, []any{ref(t.Name, t.Version), i.Key, i.Version})
			}
			return r, nil
		}),
		a.command("list", "List templates", cobra.NoArgs, func(ctx context.Context, c *client, _ []string) (result, error) {
			l, err := get[api.TemplateList](c.ListTemplates(ctx, &api.ListTemplatesParams{}))
			if err != nil {
				return result{}, err
			}
			r := result{value: l, header: []string{"NAME", "VERSION", "CREATED", "UPDATED"}}
			for _, t := range l.Templates {
				r.rows = append(r.rows, []any{t.Name, t.Version, t.CreatedAt.String(), t.UpdatedAt.String()})
			}
			return r, nil
		}),
	)
}

func templateBody(name, file string, components []string) (io.Reader, error) {
	if file != "" {
		return input(file)
	}
	t := api.NewTemplate{Name: name}
	for _, c := range components {
		key, version, ok := strings.Cut(c, "=")
		if !ok {
			return nil, failure(ExitUsage, "--component %q: want NAME=VERSION", c)
		}
		t.Components = append(t.Components, api.TemplateComponent{Key: key, Version: version})
	}
	return body(t)
}

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
	return group("component", "Keep recipes and artifacts", importCmd, createCmd,
		a.command("list [NAME]", "List components, or the versions of one", cobra.MaximumNArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
			var l api.ComponentList
			var err error
			if len(args) == 1 {
				l, err = get[api.ComponentList](c.ListComponentVersions(ctx, args[0], &api.ListComponentVersionsParams{}))
			} else {
				l, err = get[api.ComponentList](c.ListComponents(ctx, &api.ListComponentsParams{}))
			}
			if err != nil {
				return result{}, err
			}
			r := componentVersions(l.Components...)
			r.value = l
			return r, nil
		}),
		a.command("get NAME VERSION", "Show a component version", cobra.ExactArgs(2), func(ctx context.Context, c *client, args []string) (result, error) {
			v, err := get[api.ComponentVersion](c.GetComponentVersion(ctx, args[0], args[1]))
			if err != nil {
				return result{}, err
			}
			return componentVersions(v), nil
		}),
	)
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

func (a *app) nucleus() *cobra.Command {
	var format string
	var activate bool
	importCmd := a.command("import NAME VERSION ARCHIVE", "Upload a nucleus archive", cobra.ExactArgs(3), func(ctx context.Context, c *client, args []string) (result, error) {
		f, err := input(args[2])
		if err != nil {
			return result{}, err
		}
		defer f.Close()
		archive := bufio.NewReader(f)
		how := format
		if how == "" {
			if how, err = archiveFormat(archive, args[2]); err != nil {
				return result{}, err
			}
		}
		d, err := get[api.Distribution](c.PutDistributionWithBody(ctx, args[0], args[1], &api.PutDistributionParams{Format: api.PutDistributionParamsFormat(how)}, "application/octet-stream", archive))
		if err == nil && activate {
			d, err = get[api.Distribution](c.ActivateDistribution(ctx, args[0], args[1], nil))
		}
		if err != nil {
			return result{}, err
		}
		return distributions(d), nil
	})
	importCmd.Flags().StringVar(&format, "format", "", "tar.gz or zip (default: what the first bytes say)")
	importCmd.Flags().BoolVar(&activate, "activate", false, "offer it to agents at once")
	return group("nucleus", "Keep the nucleus archives that agents are offered", importCmd,
		a.command("list", "List nucleus archives", cobra.NoArgs, func(ctx context.Context, c *client, _ []string) (result, error) {
			l, err := get[api.DistributionList](c.ListDistributions(ctx))
			if err != nil {
				return result{}, err
			}
			r := distributions(l.Distributions...)
			r.value = l
			return r, nil
		}),
		a.command("activate NAME VERSION", "Offer an archive to agents", cobra.ExactArgs(2), func(ctx context.Context, c *client, args []string) (result, error) {
			d, err := get[api.Distribution](c.ActivateDistribution(ctx, args[0], args[1], nil))
			if err != nil {
				return result{}, err
			}
			return distributions(d), nil
		}),
	)
}

// archiveFormat tells the two formats apart by their first bytes and consumes none.
func archiveFormat(r *bufio.Reader, path string) (string, error) {
	magic, err := r.Peek(4)
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		return "tar.gz", nil
	case bytes.Equal(magic, []byte("PK\x03\x04")):
		return "zip", nil
	case err != nil && !errors.Is(err, io.EOF):
		return "", failure(ExitUsage, "reading %s: %w", path, err)
	}
	return "", failure(ExitUsage, "%s is neither a tar.gz nor a zip; give an archive with distribution.json at its top", path)
}

func distributions(ds ...api.Distribution) result {
	r := result{value: ds, header: []string{"NAME", "VERSION", "FORMAT", "BYTES", "CURRENT", "SHA-256"}}
	if len(ds) == 1 {
		r.value = ds[0]
	}
	for _, d := range ds {
		r.rows = append(r.rows, []any{d.Name, d.Version, d.Format, d.Size, d.Current, d.Digest})
	}
	return r
}

func (a *app) provisioningTemplate() *cobra.Command {
	return group("provisioning-template", "Keep provisioning templates",
		a.command("put ID FILE", "Create or replace a provisioning template", cobra.ExactArgs(2), func(ctx context.Context, c *client, args []string) (result, error) {
			f, err := input(args[1])
			if err != nil {
				return result{}, err
			}
			defer f.Close()
			return result{}, done(c.PutProvisioningTemplateWithBody(ctx, args[0], nil, api.MediaType, f))
		}),
		a.command("get ID", "Print a provisioning template", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
			_, b, err := read(c.GetProvisioningTemplate(ctx, args[0]))
			if err != nil {
				return result{}, err
			}
			return result{value: api.RawJSON(b), line: string(b)}, nil
		}),
		a.command("list", "List provisioning templates", cobra.NoArgs, func(ctx context.Context, c *client, _ []string) (result, error) {
			l, err := get[api.ProvisioningTemplateList](c.ListProvisioningTemplates(ctx))
			if err != nil {
				return result{}, err
			}
			r := result{value: l, header: []string{"ID", "BYTES", "UPDATED"}}
			for _, t := range l.ProvisioningTemplates {
				r.rows = append(r.rows, []any{t.ID, t.Size, t.UpdatedAt.String()})
			}
			return r, nil
		}),
	)
}
