package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ggfleet/ggfleet/controlplane/api"
)

func (a *app) provisioningTemplate() *cobra.Command {
	return group("provisioning-template", "Keep provisioning templates", a.provisioningTemplatePut(), a.provisioningTemplateGet(),
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
		a.conditional(a.command("delete ID", "Delete a provisioning template", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
			return result{}, done(c.DeleteProvisioningTemplate(ctx, args[0], nil))
		})),
	)
}

func (a *app) provisioningTemplatePut() *cobra.Command {
	var fresh bool
	cmd := a.command("put ID FILE", "Create or replace a provisioning template; prints its new ETag", cobra.ExactArgs(2), func(ctx context.Context, c *client, args []string) (result, error) {
		f, err := input(args[1])
		if err != nil {
			return result{}, err
		}
		defer func() { _ = f.Close() }() // only read
		var p api.PutProvisioningTemplateParams
		if fresh {
			p.IfNoneMatch = given("*")
		}
		header, _, err := read(c.PutProvisioningTemplateWithBody(ctx, args[0], &p, api.MediaType, f))
		if err != nil {
			return result{}, err
		}
		return etag(header.Get("ETag")), nil
	})
	cmd.Flags().BoolVar(&fresh, "new", false, "only if there is none with this id")
	a.conditional(cmd)
	cmd.MarkFlagsMutuallyExclusive("new", "if-match")
	return cmd
}

func (a *app) provisioningTemplateGet() *cobra.Command {
	var only bool
	cmd := a.command("get ID", "Print a provisioning template", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
		header, b, err := read(c.GetProvisioningTemplate(ctx, args[0]))
		if err != nil {
			return result{}, err
		}
		if only {
			return etag(header.Get("ETag")), nil
		}
		return result{value: api.RawJSON(b), line: strings.TrimRight(string(b), "\n")}, nil
	})
	cmd.Flags().BoolVar(&only, "etag", false, "print its ETag instead, for --if-match")
	return cmd
}

// etag prints an ETag without its quotes, which --if-match adds.
func etag(header string) result {
	text := strings.Trim(header, `"`)
	return result{value: map[string]string{"etag": text}, line: text}
}
