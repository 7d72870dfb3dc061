package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ggfleet/ggfleet/controlplane/api"
	"github.com/ggfleet/ggfleet/shared/run"
)

func (a *app) core() *cobra.Command {
	var in struct {
		template, version, generator, caID, country, key string
		noWait                                           bool
	}
	create := a.command("create NAME...", "Create cores and wait for the task", cobra.MinimumNArgs(1), func(ctx context.Context, c *client, names []string) (result, error) {
		task := api.NewCoreTask{Type: api.Create, CoreVersion: in.version}
		params := map[string]any{"certInfo": map[string]any{"country": in.country}}
		if in.caID != "" {
			params["caId"] = in.caID
		}
		raw, err := json.Marshal(params)
		if err != nil {
			return result{}, fmt.Errorf("encoding the request: %w", err)
		}
		for _, n := range names {
			task.Cores = append(task.Cores, api.NewCore{
				Name: n, ProvisioningTemplate: in.template, ProvisioningParameters: map[string]string{"ThingName": n},
				CdfProvisioningParameters: raw, ConfigFileGenerator: in.generator,
			})
		}
		b, err := body(task)
		if err != nil {
			return result{}, err
		}
		header, _, err := read(c.CreateCoreTaskWithBody(ctx, &api.CreateCoreTaskParams{IdempotencyKey: given(in.key)}, api.MediaType, b))
		if err != nil {
			return result{}, err
		}
		id := header.Get("x-taskid")
		if in.noWait {
			return result{value: map[string]string{"taskId": id}, line: id}, nil
		}
		return a.waitCore(ctx, c, id)
	})
	f := create.Flags()
	f.StringVar(&in.template, "provisioning-template", "default", "provisioning template")
	f.StringVar(&in.version, "core-version", "2.14.0", "nucleus version in the installer configuration")
	f.StringVar(&in.generator, "generator", "MANUAL_INSTALL", "generator of the installer configuration; empty: none")
	f.StringVar(&in.caID, "ca-id", "", "CA that signs (default: the server's own)")
	f.StringVar(&in.country, "country", "US", "country in the certificate's subject, two letters")
	f.StringVar(&in.key, "idempotency-key", "", "send the request again safely")
	f.BoolVar(&in.noWait, "no-wait", false, "print the task's id and do not wait")

	var onlyTemplate, onlyFailed string
	var onlyVersion int
	listCmd := a.command("list", "List cores", cobra.NoArgs, func(ctx context.Context, c *client, _ []string) (result, error) {
		var all []api.CoreListItem
		p := api.ListCoresParams{TemplateName: given(onlyTemplate), TemplateVersion: given(onlyVersion), FailedOnly: given(onlyFailed)}
		for {
			l, err := get[api.CoreList](c.ListCores(ctx, &p))
			if err != nil {
				return result{}, err
			}
			all = append(all, l.Cores...)
			if p.ExclusiveStartThingName = given(l.Pagination.LastEvaluated.ThingName); p.ExclusiveStartThingName == nil {
				break
			}
		}
		r := result{value: all, header: []string{"NAME", "DESIRED", "REPORTED", "DEPLOYMENT"}}
		for _, i := range all {
			r.rows = append(r.rows, []any{i.Name, ref(i.Template.Desired.Name, i.Template.Desired.Version), ref(i.Template.Reported.Name, i.Template.Reported.Version), i.Template.Reported.DeploymentStatus})
		}
		return r, nil
	})
	listCmd.Flags().StringVar(&onlyTemplate, "template", "", "only cores whose desired template is this one")
	listCmd.Flags().IntVar(&onlyVersion, "template-version", 0, "only this version of it")
	listCmd.Flags().StringVar(&onlyFailed, "failed-only", "false", "true: only cores whose last deployment failed")

	return group("core", "Create and show core devices", create, listCmd,
		a.command("get NAME", "Show a core", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
			v, err := get[api.Core](c.GetCore(ctx, args[0]))
			if err != nil {
				return result{}, err
			}
			return result{value: v, header: []string{"NAME", "STATUS", "CONNECTED", "LAST SEEN", "DESIRED", "REPORTED", "DEPLOYMENT", "AGENT", "NUCLEUS"}, rows: [][]any{{
				v.Name, v.Device.Status, v.Device.Connected, v.Device.LastSeen.String(), ref(v.Template.Desired.Name, v.Template.Desired.Version), ref(v.Template.Reported.Name, v.Template.Reported.Version), v.Template.Reported.DeploymentStatus,
				agentText(v.Agent), nucleusText(v.Agent.Nucleus),
			}}}, nil
		}),
		a.command("task ID", "Show a core task", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
			t, err := get[api.CoreTask](c.GetCoreTask(ctx, args[0]))
			if err != nil {
				return result{}, err
			}
			return coreTask(t), nil
		}),
	)
}

// given makes an optional parameter: nil for the zero value.
func given[T comparable](v T) *T {
	if v == *new(T) {
		return nil
	}
	return &v
}

func ref(name string, version int) string {
	if version == 0 {
		return name
	}
	return name + ":" + strconv.Itoa(version)
}

// agentText is empty for a core without agent.
func agentText(a api.CoreAgent) string {
	switch {
	case a.LastReport.IsZero():
		return ""
	case a.Connected:
		return "connected"
	}
	return "last report " + a.LastReport.String()
}

func nucleusText(n api.AgentNucleus) string {
	return strings.Join(strings.Fields(string(n.State)+" "+n.Version), " ")
}

func coreTask(t api.CoreTask) result {
	r := result{value: t, header: []string{"TASK", "CORE", "STATUS", "MESSAGE"}}
	for _, i := range t.Cores {
		r.rows = append(r.rows, []any{t.ID, i.Name, i.TaskStatus, i.StatusMessage})
	}
	return r
}

// finished reports whether work on a task has ended: a Failure is set while
// batches still run (spec cdf-services §3.2).
func finished(s api.TaskStatus, complete, total *int) bool {
	switch s {
	case api.TaskStatusSuccess, api.TaskStatusFailure:
		return complete == nil || total == nil || *complete >= *total
	case api.TaskStatusWaiting, api.TaskStatusInProgress:
	}
	return false
}

func (a *app) waitCore(ctx context.Context, c *client, id string) (result, error) {
	for {
		t, err := get[api.CoreTask](c.GetCoreTask(ctx, id))
		if err != nil {
			return result{}, err
		}
		c.progress("core task %s: %s %s", id, t.TaskStatus, part(t.BatchesComplete, t.BatchesTotal))
		if finished(t.TaskStatus, t.BatchesComplete, t.BatchesTotal) {
			c.progress("")
			if t.TaskStatus == api.TaskStatusFailure {
				return coreTask(t), failure(ExitTaskFailed, "core task %s ended in Failure%s", id, because(t.StatusMessage))
			}
			return coreTask(t), nil
		}
		if err := run.Sleep(ctx, a.wait); err != nil {
			return result{}, failure(ExitFailed, "waiting for core task %s: %w", id, err)
		}
	}
}

// because adds a message that may be empty; items have messages of their own.
func because(message string) string {
	if message == "" {
		return ""
	}
	return ": " + message
}

func part(n, total *int) string {
	if n == nil || total == nil {
		return ""
	}
	return fmt.Sprintf("(batch %d of %d)", *n, *total)
}

// progress overwrites one line, on a terminal only.
func (c *client) progress(format string, args ...any) {
	f, ok := c.log.(*os.File)
	if !ok {
		return
	}
	if i, err := f.Stat(); err != nil || i.Mode()&os.ModeCharDevice == 0 {
		return
	}
	fmt.Fprintf(f, "\r\x1b[K"+format, args...)
}

func (a *app) deploy() *cobra.Command {
	var things, groups []string
	var key string
	var noWait, watch bool
	create := a.command("create TEMPLATE[:VERSION]", "Deploy a template and wait for the task", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
		name, version, _ := strings.Cut(args[0], ":")
		template := map[string]any{"name": name}
		if version != "" {
			template["version"] = version
		}
		b, err := body(map[string]any{"template": template, "targets": map[string]any{"thingNames": append([]string{}, things...), "thingGroupNames": append([]string{}, groups...)}})
		if err != nil {
			return result{}, err
		}
		header, _, err := read(c.CreateDeploymentTaskWithBody(ctx, &api.CreateDeploymentTaskParams{IdempotencyKey: given(key)}, api.MediaType, b))
		if err != nil {
			return result{}, err
		}
		id := header.Get("x-taskid")
		if noWait {
			return result{value: map[string]string{"taskId": id}, line: id}, nil
		}
		return a.waitDeployment(ctx, c, id, watch)
	})
	f := create.Flags()
	f.StringSliceVar(&things, "core", nil, "core to deploy to; may be repeated")
	f.StringSliceVar(&groups, "group", nil, "thing group to deploy to; may be repeated")
	f.StringVar(&key, "idempotency-key", "", "send the request again safely")
	f.BoolVar(&noWait, "no-wait", false, "print the task's id and do not wait")
	f.BoolVar(&watch, "watch", false, "wait until every core has reported, too")
	create.MarkFlagsMutuallyExclusive("no-wait", "watch")
	return group("deploy", "Bring templates to cores", create,
		a.command("get ID", "Show a deployment task", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
			t, err := get[api.DeploymentTask](c.GetDeploymentTask(ctx, args[0]))
			if err != nil {
				return result{}, err
			}
			return deploymentTask(t), nil
		}),
		a.command("watch ID", "Wait until every core of a deployment task has reported", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
			return a.waitDeployment(ctx, c, args[0], true)
		}),
		a.command("list", "List deployment tasks", cobra.NoArgs, func(ctx context.Context, c *client, _ []string) (result, error) {
			l, err := get[api.DeploymentTaskList](c.ListDeploymentTasks(ctx, &api.ListDeploymentTasksParams{}))
			if err != nil {
				return result{}, err
			}
			r := result{value: l, header: []string{"TASK", "TEMPLATE", "STATUS", "CREATED"}}
			for _, t := range l.DeploymentTasks {
				r.rows = append(r.rows, []any{t.ID, ref(t.Template.Name, t.Template.Version), t.TaskStatus, t.CreatedAt.String()})
			}
			return r, nil
		}),
	)
}

func deploymentTask(t api.DeploymentTask) result {
	r := result{value: t, header: []string{"TASK", "TEMPLATE", "CORE", "STARTED", "ON THE DEVICE", "MESSAGE"}}
	for _, d := range t.Deployments {
		r.rows = append(r.rows, []any{t.ID, ref(t.Template.Name, t.Template.Version), d.CoreName, d.TaskStatus, d.DeploymentStatus, d.StatusMessage})
	}
	return r
}

// waitDeployment waits until the task has ended and, if reported, until every
// core of it has said what became of it.
func (a *app) waitDeployment(ctx context.Context, c *client, id string, reported bool) (result, error) {
	for {
		t, err := get[api.DeploymentTask](c.GetDeploymentTask(ctx, id))
		if err != nil {
			return result{}, err
		}
		open, failed := 0, t.TaskStatus == api.TaskStatusFailure
		for _, d := range t.Deployments {
			if d.TaskStatus == api.TaskStatusSuccess && d.DeploymentStatus != "Success" && d.DeploymentStatus != "Failure" {
				open++
			}
			failed = failed || reported && d.DeploymentStatus == "Failure"
		}
		c.progress("deployment task %s: %s %s, %d of %d cores still to report", id, t.TaskStatus, part(t.BatchesComplete, t.BatchesTotal), open, len(t.Deployments))
		if finished(t.TaskStatus, t.BatchesComplete, t.BatchesTotal) && (!reported || open == 0) {
			c.progress("")
			if failed {
				return deploymentTask(t), failure(ExitTaskFailed, "deployment task %s ended in Failure%s", id, because(t.StatusMessage))
			}
			return deploymentTask(t), nil
		}
		if err := run.Sleep(ctx, a.wait); err != nil {
			return result{}, failure(ExitFailed, "waiting for deployment task %s: %w", id, err)
		}
	}
}

func (a *app) fleet() *cobra.Command {
	return group("fleet", "Show what runs where", a.command("summary", "Count cores by template version", cobra.NoArgs, func(ctx context.Context, c *client, _ []string) (result, error) {
		s, err := get[api.FleetSummary](c.GetFleetSummary(ctx))
		if err != nil {
			return result{}, err
		}
		r := result{value: s, header: []string{"TEMPLATE", "VERSION", "DESIRED", "REPORTED", "SUCCESS", "FAILED", "IN PROGRESS"}}
		for _, name := range slices.Sorted(maps.Keys(s.Templates)) {
			rows := s.Templates[name].Versions
			versions := slices.SortedFunc(maps.Keys(rows), func(a, b string) int { // numbers as text: 2 before 10
				if len(a) != len(b) {
					return len(a) - len(b)
				}
				return strings.Compare(a, b)
			})
			for _, v := range versions {
				n := rows[v]
				r.rows = append(r.rows, []any{name, v, n.DesiredInUse, n.ReportedInUse, n.LastDeploymentSuccess, n.LastDeploymentFailed, n.LastDeploymentInProgress})
			}
		}
		return r, nil
	}))
}

func (a *app) activation() *cobra.Command {
	var valid time.Duration
	var limit int
	create := a.command("create DEVICE", "Let a device enrol; prints the enrolment string", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
		b, err := body(api.NewActivation{DeviceID: args[0], ExpiresInSeconds: int(valid.Seconds()), RegistrationLimit: limit})
		if err != nil {
			return result{}, err
		}
		v, err := get[api.IssuedActivation](c.CreateActivationWithBody(ctx, nil, api.MediaType, b))
		if err != nil {
			return result{}, err
		}
		return result{value: v, line: v.Enrollment, vars: [][2]string{{"GGFLEET_ENROLLMENT", v.Enrollment}, {"GGFLEET_ACTIVATION_ID", v.ActivationID}}}, nil
	})
	create.Flags().DurationVar(&valid, "valid-for", 24*time.Hour, "how long it can be used")
	create.Flags().IntVar(&limit, "registrations", 1, "how often it can be used")
	return group("activation", "Let devices enrol", create,
		a.command("get ID", "Show an activation", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
			v, err := get[api.Activation](c.GetActivation(ctx, args[0]))
			if err != nil {
				return result{}, err
			}
			return result{value: v, header: []string{"ID", "DEVICE", "USED", "EXPIRES"}, rows: [][]any{{v.ActivationID, v.DeviceID, fmt.Sprintf("%d of %d", v.Registrations, v.RegistrationLimit), v.ExpiresAt.String()}}}, nil
		}),
		a.command("delete ID", "Withdraw an activation", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
			return result{}, done(c.DeleteActivation(ctx, args[0]))
		}),
	)
}
