package cli

import (
	"context"
	"encoding/base64"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ggfleet/ggfleet/controlplane/api"
)

func (a *app) patchTemplate() *cobra.Command {
	return group("patch-template", "Keep the playbooks that devices are patched with",
		a.patchTemplateCreate(), a.patchTemplateUpdate(), a.patchTemplateList(),
		a.command("get NAME", "Show a patch template", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
			t, err := get[api.PatchTemplate](c.GetPatchTemplate(ctx, args[0]))
			if err != nil {
				return result{}, err
			}
			return patchTemplates(t, t), nil
		}),
		a.conditional(a.command("delete NAME", "Delete a patch template with all its versions", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
			return result{}, done(c.DeletePatchTemplate(ctx, args[0], nil))
		})),
	)
}

// playbook reads a playbook in base64, with its file's name; nothing for "".
func playbook(path string) (name, text string, err error) {
	if path == "" {
		return "", "", nil
	}
	b, err := contents(path)
	if path != "-" {
		name = filepath.Base(path)
	}
	return name, base64.StdEncoding.EncodeToString(b), err
}

func (a *app) patchTemplateCreate() *cobra.Command {
	var path, description string
	var vars []string
	var disabled bool
	cmd := a.command("create NAME", "Create a patch template from an Ansible playbook", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
		t := api.NewPatchTemplate{Name: args[0], PatchType: agentBased, Description: description}
		var err error
		if t.PlaybookName, t.PlaybookFileContents, err = playbook(path); err != nil {
			return result{}, err
		}
		if t.ExtraVars, err = pairs("--var", vars); err != nil {
			return result{}, err
		}
		if disabled {
			t.Enabled = new(bool)
		}
		b, err := body(t)
		if err != nil {
			return result{}, err
		}
		made, err := get[api.PatchTemplate](c.CreatePatchTemplateWithBody(ctx, nil, api.MediaType, b))
		if err != nil {
			return result{}, err
		}
		return patchTemplates(made, made), nil
	})
	f := cmd.Flags()
	f.StringVar(&path, "playbook", "", "file with the playbook; - for standard input")
	f.StringVar(&description, "description", "", "what it does")
	f.StringArrayVar(&vars, "var", nil, "variable as NAME=VALUE; may be repeated")
	f.BoolVar(&disabled, "disabled", false, "refuse patches with it")
	_ = cmd.MarkFlagRequired("playbook") // the flag is there
	return a.posting(cmd)
}

// agentBased is the only type of patch.
const agentBased = "agentbased"

func (a *app) patchTemplateUpdate() *cobra.Command {
	var path, description string
	var vars, without []string
	var enabled bool
	var cmd *cobra.Command
	cmd = a.command("update NAME", "Write a patch template's next version", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
		var t api.PatchTemplateChange
		var err error
		if t.PlaybookName, t.PlaybookFileContents, err = playbook(path); err != nil {
			return result{}, err
		}
		set, err := pairs("--var", vars)
		if err != nil {
			return result{}, err
		}
		for k, v := range set {
			if t.ExtraVars == nil {
				t.ExtraVars = map[string]*string{}
			}
			t.ExtraVars[k] = &v
		}
		for _, k := range without {
			if t.ExtraVars == nil {
				t.ExtraVars = map[string]*string{}
			}
			t.ExtraVars[k] = nil
		}
		if cmd.Flags().Changed("description") {
			t.Description = &description
		}
		if cmd.Flags().Changed("enabled") {
			t.Enabled = &enabled
		}
		b, err := body(t)
		if err != nil {
			return result{}, err
		}
		return result{}, done(c.UpdatePatchTemplateWithBody(ctx, args[0], nil, api.MediaType, b))
	})
	f := cmd.Flags()
	f.StringVar(&path, "playbook", "", "file with the new playbook; - for standard input")
	f.StringVar(&description, "description", "", "what it does")
	f.StringArrayVar(&vars, "var", nil, "variable as NAME=VALUE; the others stay; may be repeated")
	f.StringArrayVar(&without, "without-var", nil, "variable to remove; may be repeated")
	f.BoolVar(&enabled, "enabled", true, "false: refuse patches with it")
	return a.conditional(cmd)
}

func (a *app) patchTemplateList() *cobra.Command {
	var limit int
	return limited(a.command("list", "List patch templates", cobra.NoArgs, func(ctx context.Context, c *client, _ []string) (result, error) {
		all, err := pages(limit, func(count *int, after *string) ([]api.PatchTemplate, string, error) {
			l, err := get[api.PatchTemplateList](c.ListPatchTemplates(ctx, &api.ListPatchTemplatesParams{Count: count, ExclusiveStartName: after}))
			return l.Templates, l.Pagination.LastEvaluated.Name, err
		})
		if err != nil {
			return result{}, err
		}
		return patchTemplates(api.PatchTemplateList{Templates: all}, all...), nil
	}), &limit)
}

func patchTemplates(value any, ts ...api.PatchTemplate) result {
	r := result{value: value, header: []string{"NAME", "VERSION", "PLAYBOOK", "ENABLED", "DESCRIPTION"}}
	for _, t := range ts {
		r.rows = append(r.rows, []any{t.Name, t.VersionNo, t.PlaybookName, t.Enabled, t.Description})
	}
	return r
}

func (a *app) patch() *cobra.Command {
	return group("patch", "Run playbooks on devices",
		a.patchCreate(), a.patchList(), a.patchRetry(),
		a.command("get ID", "Show a patch", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
			p, err := get[api.Patch](c.GetPatch(ctx, args[0]))
			if err != nil {
				return result{}, err
			}
			return patches(p, p), nil
		}),
		a.command("delete ID", "Delete a patch; one that waits is not run", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
			return result{}, done(c.DeletePatch(ctx, args[0]))
		}),
	)
}

func (a *app) patchCreate() *cobra.Command {
	var vars []string
	var w waits
	cmd := a.command("create TEMPLATE DEVICE...", "Patch devices", cobra.MinimumNArgs(2), func(ctx context.Context, c *client, args []string) (result, error) {
		extra, err := pairs("--var", vars)
		if err != nil {
			return result{}, err
		}
		var task api.NewPatchTask
		for _, d := range args[1:] {
			task.Patches = append(task.Patches, api.NewPatch{DeviceID: d, PatchTemplateName: args[0], ExtraVars: extra})
		}
		b, err := body(task)
		if err != nil {
			return result{}, err
		}
		res, err := c.CreatePatchTaskWithBody(ctx, nil, api.MediaType, b)
		return w.begin(res, err, func(id string) (result, error) { return a.waitPatches(ctx, c, id) })
	})
	cmd.Flags().StringArrayVar(&vars, "var", nil, "variable as NAME=VALUE, over that of the template; may be repeated")
	return a.waiting(cmd, &w)
}

// waitPatches waits until every patch of a task has ended. One waits itself for
// a device that is away.
func (a *app) waitPatches(ctx context.Context, c *client, task string) (result, error) {
	return a.await(ctx, c, "patch task "+task, func() (look, error) {
		all, err := taskPatches(ctx, c, task, 0)
		ended, failed := 0, 0
		for _, p := range all {
			switch p.PatchStatus {
			case "success":
				ended++
			case "failed":
				ended++
				failed++
			}
		}
		return look{
			result: patches(api.PatchList{Patches: all}, all...), text: fmt.Sprintf("%d of %d patches have ended", ended, len(all)),
			ended: ended == len(all), failed: failed > 0, message: fmt.Sprintf("%d of %d patches failed", failed, len(all)),
		}, err
	})
}

func taskPatches(ctx context.Context, c *client, task string, limit int) ([]api.Patch, error) {
	return pages(limit, func(count *int, after *string) ([]api.Patch, string, error) {
		l, err := get[api.PatchList](c.ListPatchTaskPatches(ctx, task, &api.ListPatchTaskPatchesParams{Count: count, ExclusiveStartToken: after}))
		return l.Patches, l.Pagination.LastEvaluated.NextToken, err
	})
}

func (a *app) patchList() *cobra.Command {
	var task, device, status string
	var limit int
	cmd := a.command("list", "List the patches of a task or of a device", cobra.NoArgs, func(ctx context.Context, c *client, _ []string) (result, error) {
		var all []api.Patch
		var err error
		if task != "" {
			all, err = taskPatches(ctx, c, task, limit)
		} else {
			all, err = pages(limit, func(count *int, after *string) ([]api.Patch, string, error) {
				l, err := get[api.PatchList](c.ListDevicePatches(ctx, device, &api.ListDevicePatchesParams{Count: count, ExclusiveStartToken: after, PatchStatus: given(status)}))
				return l.Patches, l.Pagination.LastEvaluated.NextToken, err
			})
		}
		if err != nil {
			return result{}, err
		}
		return patches(api.PatchList{Patches: all}, all...), nil
	})
	cmd.Flags().StringVar(&task, "task", "", "patches of this task")
	cmd.Flags().StringVar(&device, "device", "", "patches of this device")
	cmd.Flags().StringVar(&status, "status", "", "with --device: only those that are created, pending, success or failed")
	cmd.MarkFlagsOneRequired("task", "device")
	cmd.MarkFlagsMutuallyExclusive("task", "device")
	cmd.MarkFlagsMutuallyExclusive("task", "status")
	return limited(cmd, &limit)
}

func (a *app) patchRetry() *cobra.Command {
	var template string
	var vars []string
	cmd := a.command("retry ID", "Run a patch again", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
		p := api.PatchChange{PatchStatus: api.PatchRetry, PatchTemplateName: template}
		if len(vars) > 0 {
			var err error
			if p.ExtraVars, err = pairs("--var", vars); err != nil {
				return result{}, err
			}
		}
		b, err := body(p)
		if err != nil {
			return result{}, err
		}
		return result{}, done(c.UpdatePatchWithBody(ctx, args[0], api.MediaType, b))
	})
	cmd.Flags().StringVar(&template, "patch-template", "", "run this patch template instead")
	cmd.Flags().StringArrayVar(&vars, "var", nil, "variables as NAME=VALUE in place of those of the patch; may be repeated")
	return cmd
}

func patches(value any, ps ...api.Patch) result {
	r := result{value: value, header: []string{"ID", "DEVICE", "TEMPLATE", "STATUS", "MESSAGE"}}
	for _, p := range ps {
		lines := strings.Split(strings.TrimSpace(p.StatusMessage), "\n") // a playbook says its result last
		r.rows = append(r.rows, []any{p.PatchID, p.DeviceID, p.PatchTemplateName, p.PatchStatus, lines[len(lines)-1]})
	}
	return r
}
