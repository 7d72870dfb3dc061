package cli

import (
	"context"
	"io"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ggfleet/ggfleet/controlplane/api"
)

func (a *app) template() *cobra.Command {
	return group("template", "Name sets of components",
		a.posting(a.templateWrite("create NAME", "Create a template", func(ctx context.Context, c *client, _ string, b io.Reader) (*http.Response, error) {
			return c.CreateTemplateWithBody(ctx, nil, api.MediaType, b)
		})),
		a.conditional(a.templateWrite("update NAME", "Write a template's next version", func(ctx context.Context, c *client, name string, b io.Reader) (*http.Response, error) {
			return c.UpdateTemplateWithBody(ctx, name, nil, api.MediaType, b)
		})),
		a.templateGet(), a.templateList(), a.templateVersions(),
		a.conditional(a.command("delete NAME", "Delete a template with all its versions, if no core wants it", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
			return result{}, done(c.DeleteTemplate(ctx, args[0], nil))
		})),
	)
}

// templateWrite sends a template that stands in a file or in NAME=VERSION flags.
func (a *app) templateWrite(use, short string, send func(ctx context.Context, c *client, name string, b io.Reader) (*http.Response, error)) *cobra.Command {
	var path string
	var components []string
	cmd := a.command(use, short, cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
		b, err := templateBody(args[0], path, components)
		if err != nil {
			return result{}, err
		}
		defer func() { _ = b.Close() }() // only read
		header, _, err := read(send(ctx, c, args[0], b))
		if err != nil {
			return result{}, err
		}
		version := header.Get("x-version")
		return result{value: map[string]string{"name": args[0], "version": version}, line: args[0] + ":" + version}, nil
	})
	cmd.Flags().StringVarP(&path, "file", "f", "", "JSON body of the request; - for standard input")
	cmd.Flags().StringArrayVar(&components, "component", nil, "component as NAME=VERSION; may be repeated")
	return cmd
}

func templateBody(name, path string, components []string) (io.ReadCloser, error) {
	if path != "" {
		return input(path)
	}
	t := api.NewTemplate{Name: name}
	for _, c := range components {
		key, version, ok := strings.Cut(c, "=")
		if !ok {
			return nil, failure(ExitUsage, "--component %q: want NAME=VERSION", c)
		}
		t.Components = append(t.Components, api.TemplateComponent{Key: key, Version: version})
	}
	b, err := body(t)
	return io.NopCloser(b), err
}

func (a *app) templateGet() *cobra.Command {
	return a.command("get NAME[:VERSION]", "Show a template", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
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
	})
}

func (a *app) templateList() *cobra.Command {
	var limit int
	return limited(a.command("list", "List templates", cobra.NoArgs, func(ctx context.Context, c *client, _ []string) (result, error) {
		all, err := pages(limit, func(count *int, after *string) ([]api.Template, string, error) {
			l, err := get[api.TemplateList](c.ListTemplates(ctx, &api.ListTemplatesParams{Count: count, ExclusiveStartName: after}))
			return l.Templates, l.Pagination.LastEvaluated.Name, err
		})
		return templates(all), err
	}), &limit)
}

func (a *app) templateVersions() *cobra.Command {
	var limit int
	return limited(a.command("versions NAME", "List the versions of a template", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
		all, err := pages(limit, func(count, after *int) ([]api.Template, int, error) {
			l, err := get[api.TemplateList](c.ListTemplateVersions(ctx, args[0], &api.ListTemplateVersionsParams{Count: count, ExclusiveStartVersion: after}))
			return l.Templates, l.Pagination.LastEvaluated.Version, err
		})
		return templates(all), err
	}), &limit)
}

func templates(all []api.Template) result {
	if all == nil {
		return result{}
	}
	r := result{value: api.TemplateList{Templates: all}, header: []string{"NAME", "VERSION", "CREATED", "UPDATED"}}
	for _, t := range all {
		r.rows = append(r.rows, []any{t.Name, t.Version, t.CreatedAt.String(), t.UpdatedAt.String()})
	}
	return r
}
