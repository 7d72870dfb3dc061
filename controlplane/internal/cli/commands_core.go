package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ggfleet/ggfleet/controlplane/api"
)

func (a *app) core() *cobra.Command {
	c := group("core", "Create, show and delete core devices, and help from afar",
		a.coreCreate(), a.coreDelete(), a.coreList(), a.coreGet(), a.coreDeployments(), a.coreDevices(), a.coreHistory(), a.coreTasks(), a.coreTask())
	c.AddCommand(a.coreHelp()...)
	return c
}

func (a *app) coreCreate() *cobra.Command {
	var p provision
	var version, generator, overlay string
	var claim bool
	var w waits
	cmd := a.command("create NAME...", "Create cores", cobra.MinimumNArgs(1), func(ctx context.Context, c *client, names []string) (result, error) {
		task := api.NewCoreTask{Type: api.Create, CoreVersion: version}
		cdf, err := p.cdfParameters()
		if err != nil {
			return result{}, err
		}
		var merged api.RawJSON
		if overlay != "" {
			if merged, err = jsonFile("--overlay", overlay); err != nil {
				return result{}, err
			}
		}
		for _, n := range names {
			values, err := p.values(n)
			if err != nil {
				return result{}, err
			}
			task.Cores = append(task.Cores, api.NewCore{
				Name: n, ProvisioningTemplate: p.template, ProvisioningParameters: values, CdfProvisioningParameters: cdf,
				ConfigFileGenerator: generator, ConfigOverlay: merged, Claim: claim,
			})
		}
		return a.coreTaskOf(ctx, c, task, w)
	})
	f := cmd.Flags()
	p.flags(f, "US")
	f.StringVar(&version, "core-version", "2.14.0", "nucleus version in the installer configuration")
	f.StringVar(&generator, "generator", "MANUAL_INSTALL", "generator of the installer configuration; empty: none")
	f.StringVar(&overlay, "overlay", "", "file with JSON that is merged into the installer configuration of each; - for standard input")
	f.BoolVar(&claim, "claim", false, "the device makes its thing itself when it claims the name")
	return a.waiting(cmd, &w)
}

func (a *app) coreDelete() *cobra.Command {
	var thing, devices bool
	var w waits
	cmd := a.command("delete NAME...", "Delete cores; what an earlier try left behind goes too", cobra.MinimumNArgs(1), func(ctx context.Context, c *client, names []string) (result, error) {
		options, err := json.Marshal(map[string]bool{"deprovisionCores": thing, "deprovisionClientDevices": devices})
		if err != nil {
			return result{}, fmt.Errorf("encoding the request: %w", err)
		}
		task := api.NewCoreTask{Type: api.Delete, Options: options}
		for _, n := range names {
			task.Cores = append(task.Cores, api.NewCore{Name: n})
		}
		return a.coreTaskOf(ctx, c, task, w)
	})
	cmd.Flags().BoolVar(&thing, "deprovision", false, "remove the cores' things and certificates as well")
	cmd.Flags().BoolVar(&devices, "deprovision-devices", false, "remove the things and certificates of their client devices as well")
	return a.waiting(cmd, &w)
}

func (a *app) coreTaskOf(ctx context.Context, c *client, task api.NewCoreTask, w waits) (result, error) {
	b, err := body(task)
	if err != nil {
		return result{}, err
	}
	res, err := c.CreateCoreTaskWithBody(ctx, nil, api.MediaType, b)
	return w.begin(res, err, func(id string) (result, error) {
		return a.await(ctx, c, "core task "+id, func() (look, error) {
			t, err := get[api.CoreTask](c.GetCoreTask(ctx, id, &api.GetCoreTaskParams{Count: given(1)}))
			ended := finished(t.TaskStatus, t.BatchesComplete, t.BatchesTotal)
			if err == nil && ended {
				t, err = get[api.CoreTask](c.GetCoreTask(ctx, id, nil))
			}
			return look{
				result: coreTask(t), text: counted(t.TaskStatus, t.ItemsSucceeded, t.ItemsFailed, t.ItemsTotal),
				ended: ended, failed: t.TaskStatus == api.TaskStatusFailure, message: t.StatusMessage,
			}, err
		})
	})
}

func (a *app) coreList() *cobra.Command {
	var template, failed, agent string
	var version, limit int
	cmd := a.command("list", "List cores", cobra.NoArgs, func(ctx context.Context, c *client, _ []string) (result, error) {
		all, err := pages(limit, func(count *int, after *string) ([]api.CoreListItem, string, error) {
			l, err := get[api.CoreList](c.ListCores(ctx, &api.ListCoresParams{
				Count: count, ExclusiveStartThingName: after, TemplateName: given(template), TemplateVersion: given(version), FailedOnly: given(failed), Agent: given(api.ListCoresParamsAgent(agent)),
			}))
			return l.Cores, l.Pagination.LastEvaluated.ThingName, err
		})
		if err != nil {
			return result{}, err
		}
		r := result{value: api.CoreList{Cores: all}, header: []string{"NAME", "DESIRED", "REPORTED", "DEPLOYMENT", "AGENT"}}
		for _, i := range all {
			r.rows = append(r.rows, []any{
				i.Name, ref(i.Template.Desired.Name, i.Template.Desired.Version), ref(i.Template.Reported.Name, i.Template.Reported.Version), i.Template.Reported.DeploymentStatus,
				agentText(i.Agent),
			})
		}
		return r, nil
	})
	cmd.Flags().StringVar(&template, "template", "", "only cores whose desired template is this one")
	cmd.Flags().IntVar(&version, "template-version", 0, "only this version of it")
	cmd.Flags().StringVar(&failed, "failed-only", "false", "true: only cores whose last deployment failed")
	cmd.Flags().Lookup("failed-only").NoOptDefVal = "true"
	cmd.Flags().StringVar(&agent, "agent", "", "only cores whose agent is connected or offline, or shows this warning, such as lowDisk or clockWrong")
	return limited(cmd, &limit)
}

func (a *app) coreGet() *cobra.Command {
	return a.command("get NAME", "Show a core", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
		v, err := get[api.Core](c.GetCore(ctx, args[0]))
		if err != nil {
			return result{}, err
		}
		return result{value: v, header: []string{"NAME", "STATUS", "CONNECTED", "LAST SEEN", "DESIRED", "REPORTED", "DEPLOYMENT", "AGENT", "NUCLEUS"}, rows: [][]any{{
			v.Name, v.Device.Status, v.Device.Connected, v.Device.LastSeen.String(), ref(v.Template.Desired.Name, v.Template.Desired.Version), ref(v.Template.Reported.Name, v.Template.Reported.Version), v.Template.Reported.DeploymentStatus,
			agentText(listed(v.Agent)), nucleusText(v.Agent.Nucleus),
		}}}, nil
	})
}

func (a *app) coreDeployments() *cobra.Command {
	var limit int
	return limited(a.command("deployments NAME", "List the deployments of a core, newest first", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
		all, err := pages(limit, func(count *int, after *string) ([]api.Deployment, string, error) {
			l, err := get[api.DeploymentList](c.ListCoreDeployments(ctx, args[0], &api.ListCoreDeploymentsParams{Count: count, ExclusiveStartTaskID: after}))
			return l.Deployments, l.Pagination.LastEvaluated.TaskID, err
		})
		if err != nil {
			return result{}, err
		}
		return deployments(api.DeploymentList{Deployments: all}, api.DeploymentTask{Deployments: all}), nil
	}), &limit)
}

func (a *app) coreDevices() *cobra.Command {
	var limit int
	return limited(a.command("devices NAME", "List the client devices of a core", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
		return listDevices(ctx, c, args[0], limit)
	}), &limit)
}

func (a *app) coreHistory() *cobra.Command {
	var limit int
	return limited(a.command("history NAME", "List what happened to a core, newest first", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
		all, err := pages(limit, func(count *int, after *string) ([]api.Event, string, error) {
			l, err := get[api.EventList](c.ListCoreHistory(ctx, args[0], &api.ListCoreHistoryParams{Count: count, ExclusiveStartToken: after}))
			return l.Events, l.Pagination.LastEvaluated.NextToken, err
		})
		if err != nil {
			return result{}, err
		}
		r := result{value: api.EventList{Events: all}, header: []string{"TIME", "WHAT", "DETAIL"}}
		for _, e := range all {
			r.rows = append(r.rows, []any{e.Time.String(), e.DetailType, detailText(e)})
		}
		return r, nil
	}), &limit)
}

func (a *app) coreTasks() *cobra.Command {
	var limit int
	return limited(a.command("tasks", "List core tasks, newest first", cobra.NoArgs, func(ctx context.Context, c *client, _ []string) (result, error) {
		all, err := newest(limit, func(t api.CoreTask) api.Timestamp { return t.CreatedAt }, func(count *int, after *string) ([]api.CoreTask, string, error) {
			l, err := get[api.CoreTaskList](c.ListCoreTasks(ctx, &api.ListCoreTasksParams{Count: count, ExclusiveStartTaskID: after}))
			return l.Tasks, l.Pagination.LastEvaluated.TaskID, err
		})
		if err != nil {
			return result{}, err
		}
		r := result{value: api.CoreTaskList{Tasks: all}, header: []string{"TASK", "TYPE", "STATUS", "CREATED", "MESSAGE"}}
		for _, t := range all {
			r.rows = append(r.rows, []any{t.ID, t.Type, t.TaskStatus, t.CreatedAt.String(), t.StatusMessage})
		}
		return r, nil
	}), &limit)
}

func (a *app) coreTask() *cobra.Command {
	return a.command("task ID", "Show a core task", cobra.ExactArgs(1), func(ctx context.Context, c *client, args []string) (result, error) {
		t, err := get[api.CoreTask](c.GetCoreTask(ctx, args[0], nil))
		if err != nil {
			return result{}, err
		}
		return coreTask(t), nil
	})
}

func coreTask(t api.CoreTask) result {
	r := result{value: t, header: []string{"TASK", "CORE", "STATUS", "MESSAGE"}}
	for _, i := range t.Cores {
		r.rows = append(r.rows, []any{t.ID, i.Name, i.TaskStatus, i.StatusMessage})
	}
	return r
}

func ref(name string, version int) string {
	if version == 0 {
		return name
	}
	return name + ":" + strconv.Itoa(version)
}

// listed is of an agent what lists show.
func listed(a api.CoreAgent) api.CoreListAgent {
	return api.CoreListAgent{Connected: a.Connected, Version: a.Version, LastReport: a.LastReport, Warnings: a.Warnings}
}

// agentText is empty for a core without agent.
func agentText(a api.CoreListAgent) string {
	if a.LastReport.IsZero() {
		return ""
	}
	words := []string{a.Version, "connected"}
	if !a.Connected {
		words[1] = "offline, last report " + a.LastReport.String()
	}
	for _, w := range a.Warnings {
		words = append(words, string(w))
	}
	return strings.TrimSpace(strings.Join(words, " "))
}

func nucleusText(n api.AgentNucleus) string {
	return strings.Join(strings.Fields(string(n.State)+" "+n.Version), " ")
}
