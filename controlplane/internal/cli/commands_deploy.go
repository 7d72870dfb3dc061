package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ggfleet/ggfleet/controlplane/api"
)

func (a *app) deploy() *cobra.Command {
	return group("deploy", "Bring templates to cores",
		a.deployCreate(), a.deployList(), a.deployGet(), a.deployCores(), a.deployWatch(), a.deployCancel(), a.deployRetry(), a.deployDelete())
}

// rollout is what the flags of a deployment say of how it is carried out.
type rollout struct {
	rate    int
	abort   []string
	timeout time.Duration
}

// config returns the iotJobConfig; nil when no flag was given.
func (r rollout) config() (api.RawJSON, error) {
	v := map[string]any{}
	if r.rate != 0 {
		v["jobExecutionsRolloutConfig"] = map[string]any{"maximumPerMinute": r.rate}
	}
	var criteria []map[string]any
	for _, text := range r.abort {
		part := strings.Split(text, ":")
		if len(part) != 3 {
			return nil, failure(ExitUsage, "--abort-after %q: want TYPE:PERCENT:CORES, such as FAILED:20:10", text)
		}
		percent, perr := strconv.ParseFloat(strings.TrimSuffix(part[1], "%"), 64)
		cores, cerr := strconv.Atoi(part[2])
		if perr != nil || cerr != nil {
			return nil, failure(ExitUsage, "--abort-after %q: PERCENT and CORES are numbers, as in FAILED:20:10", text)
		}
		criteria = append(criteria, map[string]any{
			"failureType": strings.ToUpper(part[0]), "action": "CANCEL", "thresholdPercentage": percent, "minNumberOfExecutedThings": cores,
		})
	}
	if criteria != nil {
		v["abortConfig"] = map[string]any{"criteriaList": criteria}
	}
	if r.timeout != 0 {
		if r.timeout%time.Minute != 0 {
			return nil, failure(ExitUsage, "--timeout %s: want whole minutes", r.timeout)
		}
		v["timeoutConfig"] = map[string]any{"inProgressTimeoutInMinutes": int(r.timeout.Minutes())}
	}
	if len(v) == 0 {
		return nil, nil
	}
	return raw(v)
}

// raw encodes a part of a request.
func raw(v any) (api.RawJSON, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encoding the request: %w", err)
	}
	return b, nil
}

// targets is whom a deployment is for.
type targets struct {
	cores, groups, assetDevices, assetGroups []string
	assetQuery                               string
}

func (t targets) encode() (api.RawJSON, error) {
	v := map[string]any{}
	for member, names := range map[string][]string{
		"thingNames": t.cores, "thingGroupNames": t.groups, "assetLibraryDeviceIds": t.assetDevices, "assetLibraryGroupPaths": t.assetGroups,
	} {
		if len(names) > 0 {
			v[member] = names
		}
	}
	if t.assetQuery != "" {
		query := api.RawJSON(t.assetQuery)
		if path, ok := strings.CutPrefix(t.assetQuery, "@"); ok {
			var err error
			if query, err = jsonFile("--asset-query", path); err != nil {
				return nil, err
			}
		}
		if !json.Valid(query) {
			return nil, failure(ExitUsage, "--asset-query is no JSON; give a search such as {\"types\":[\"press\"]}, or @FILE")
		}
		v["assetLibraryQuery"] = query
	}
	if len(v) == 0 {
		return nil, failure(ExitUsage, "nobody to deploy to; name some with --core, --group, --asset-device, --asset-group or --asset-query")
	}
	return raw(v)
}

func (a *app) deployCreate() *cobra.Command {
	var to targets
	var how rollout
	var force, preStage, watch bool
	var w waits
	var cmd *cobra.Command
	cmd = a.command("create TEMPLATE[:VERSION]", "Deploy a template", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
		name, version, _ := strings.Cut(args[0], ":")
		template := map[string]any{"name": name}
		if version != "" {
			template["version"] = version
		}
		v := map[string]any{"template": template}
		var err error
		if v["targets"], err = to.encode(); err != nil {
			return result{}, err
		}
		config, err := how.config()
		if err != nil {
			return result{}, err
		}
		if config != nil {
			v["iotJobConfig"] = config
		}
		if force {
			v["force"] = true
		}
		if cmd.Flags().Changed("pre-stage") {
			v["preStage"] = preStage
		}
		b, err := body(v)
		if err != nil {
			return result{}, err
		}
		res, err := c.CreateDeploymentTaskWithBody(ctx, nil, api.MediaType, b)
		return w.begin(res, err, func(id string) (result, error) { return a.waitDeployment(ctx, c, id, watch) })
	})
	f := cmd.Flags()
	f.StringSliceVar(&to.cores, "core", nil, "core to deploy to; may be repeated")
	f.StringSliceVar(&to.groups, "group", nil, "thing group to deploy to; may be repeated")
	f.StringSliceVar(&to.assetDevices, "asset-device", nil, "device of the Asset Library; may be repeated")
	f.StringSliceVar(&to.assetGroups, "asset-group", nil, "path of a group of the Asset Library; may be repeated")
	f.StringVar(&to.assetQuery, "asset-query", "", "search of the Asset Library as JSON, or @FILE")
	f.IntVar(&how.rate, "rate", 0, "cores to begin with per minute; 0: as the template says")
	f.StringArrayVar(&how.abort, "abort-after", nil, "TYPE:PERCENT:CORES stops when that share of at least so many cores ended as TYPE: FAILED, REJECTED, TIMED_OUT or ALL; may be repeated")
	f.DurationVar(&how.timeout, "timeout", 0, "how long a core may take, in whole minutes; 0: as the template says")
	f.BoolVar(&force, "force", false, "deliver it anew to cores that have it already")
	f.BoolVar(&preStage, "pre-stage", false, "let cores that never connected wait for it; false: let them fail (default: as the server is set)")
	f.BoolVar(&watch, "watch", false, "wait until every core has reported, too")
	a.waiting(cmd, &w)
	cmd.MarkFlagsMutuallyExclusive("no-wait", "watch")
	return cmd
}

func (a *app) deployGet() *cobra.Command {
	return a.command("get ID", "Show a deployment task", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
		t, err := get[api.DeploymentTask](c.GetDeploymentTask(ctx, args[0], nil))
		if err != nil {
			return result{}, err
		}
		return deployments(t, t), nil
	})
}

func (a *app) deployWatch() *cobra.Command {
	return a.command("watch ID", "Wait until every core of a deployment task has reported", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
		return a.waitDeployment(ctx, c, args[0], true)
	})
}

func (a *app) deployList() *cobra.Command {
	var limit int
	return limited(a.command("list", "List deployment tasks, newest first", cobra.NoArgs, func(ctx context.Context, c *client, _ []string) (result, error) {
		all, err := newest(limit, func(t api.DeploymentTask) api.Timestamp { return t.CreatedAt }, func(count *int, after *string) ([]api.DeploymentTask, string, error) {
			l, err := get[api.DeploymentTaskList](c.ListDeploymentTasks(ctx, &api.ListDeploymentTasksParams{Count: count, ExclusiveStartTaskID: after}))
			return l.DeploymentTasks, l.Pagination.LastEvaluated.TaskID, err
		})
		if err != nil {
			return result{}, err
		}
		r := result{value: api.DeploymentTaskList{DeploymentTasks: all}, header: []string{"TASK", "TEMPLATE", "STATUS", "CREATED", "MESSAGE"}}
		for _, t := range all {
			r.rows = append(r.rows, []any{t.ID, ref(t.Template.Name, t.Template.Version), t.TaskStatus, t.CreatedAt.String(), t.StatusMessage})
		}
		return r, nil
	}), &limit)
}

func (a *app) deployCores() *cobra.Command {
	var failed bool
	var limit int
	cmd := a.command("cores ID", "List the cores of a deployment task", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
		all, err := pages(limit, func(count *int, after *string) ([]api.Deployment, string, error) {
			l, err := get[api.DeploymentTaskCoreList](c.ListDeploymentTaskCores(ctx, args[0], &api.ListDeploymentTaskCoresParams{Count: count, ExclusiveStartThingName: after}))
			next := l.Pagination.LastEvaluated.ThingName
			if !failed {
				return l.Cores, next, err
			}
			var out []api.Deployment
			for _, d := range l.Cores {
				if d.TaskStatus == api.TaskStatusFailure || d.DeploymentStatus == api.DeploymentStatusFailure {
					out = append(out, d)
				}
			}
			return out, next, err
		})
		if err != nil {
			return result{}, err
		}
		r := result{value: api.DeploymentTaskCoreList{Cores: all}, header: []string{"CORE", "STARTED", "ON THE DEVICE", "MESSAGE"}}
		for _, d := range all {
			r.rows = append(r.rows, []any{d.CoreName, d.TaskStatus, d.DeploymentStatus, why(d)})
		}
		return r, nil
	})
	cmd.Flags().BoolVar(&failed, "failed", false, "only those that failed, in the cloud or on the device")
	return limited(cmd, &limit)
}

func (a *app) deployCancel() *cobra.Command {
	return a.posting(a.command("cancel ID", "Stop a deployment task; what a core has begun goes on", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
		return result{}, done(c.CancelDeploymentTask(ctx, args[0], nil))
	}))
}

func (a *app) deployRetry() *cobra.Command {
	var w waits
	var watch bool
	cmd := a.command("retry ID", "Deploy again to the cores of a task that failed, and to no other", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
		res, err := c.RetryDeploymentTask(ctx, args[0], nil)
		return w.begin(res, err, func(id string) (result, error) { return a.waitDeployment(ctx, c, id, watch) })
	})
	cmd.Flags().BoolVar(&watch, "watch", false, "wait until every core has reported, too")
	a.waiting(cmd, &w)
	cmd.MarkFlagsMutuallyExclusive("no-wait", "watch")
	return cmd
}

func (a *app) deployDelete() *cobra.Command {
	return a.command("delete ID", "Forget a deployment task that has ended; nothing on a device changes", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
		return result{}, done(c.DeleteDeploymentTask(ctx, args[0]))
	})
}

// deployments shows the deployments of t; those of several tasks name theirs.
func deployments(value any, t api.DeploymentTask) result {
	r := result{value: value, header: []string{"TASK", "TEMPLATE", "CORE", "STARTED", "ON THE DEVICE", "MESSAGE"}}
	for _, d := range t.Deployments {
		id, template := t.ID, t.Template
		if d.TaskID != "" {
			id = d.TaskID
		}
		if d.Template.Name != "" {
			template = d.Template
		}
		r.rows = append(r.rows, []any{id, ref(template.Name, template.Version), d.CoreName, d.TaskStatus, d.DeploymentStatus, why(d)})
	}
	return r
}

// why says what became of a core, or what it waits for.
func why(d api.Deployment) string {
	if d.StatusMessage == "" && d.WaitingFor != "" {
		return "waits for " + d.WaitingFor
	}
	return cmp.Or(d.StatusMessage, d.DeploymentStatusMessage)
}

// waitDeployment waits until the task has ended and, if reported, until every
// core of it has said what became of it.
func (a *app) waitDeployment(ctx context.Context, c *client, id string, reported bool) (result, error) {
	return a.await(ctx, c, "deployment task "+id, func() (look, error) {
		t, err := get[api.DeploymentTask](c.GetDeploymentTask(ctx, id, nil))
		open, failed := 0, t.TaskStatus == api.TaskStatusFailure
		for _, d := range t.Deployments {
			if d.TaskStatus == api.TaskStatusSuccess && d.DeploymentStatus != api.DeploymentStatusSuccess && d.DeploymentStatus != api.DeploymentStatusFailure {
				open++
			}
			failed = failed || reported && d.DeploymentStatus == api.DeploymentStatusFailure
		}
		text := fmt.Sprintf("%s, %d cores still to report", counted(t.TaskStatus, t.ItemsSucceeded, t.ItemsFailed, t.ItemsTotal), open)
		message := t.StatusMessage
		if r := t.Rollout; r != nil {
			text += fmt.Sprintf(", %d begun", r.Notified)
			if r.RatePerMinute > 0 {
				text += fmt.Sprintf(" at %g a minute", r.RatePerMinute)
			}
			if message == "" {
				message = r.Stopped
			}
		}
		return look{
			result: deployments(t, t), text: text, failed: failed, message: message,
			ended: finished(t.TaskStatus, t.BatchesComplete, t.BatchesTotal) && (!reported || open == 0),
		}, err
	})
}
