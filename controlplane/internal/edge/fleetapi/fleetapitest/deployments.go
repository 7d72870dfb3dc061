package fleetapitest

import (
	"context"
	"fmt"
	"slices"

	"github.com/ggfleet/ggfleet/controlplane/internal/fleet"
	"github.com/ggfleet/ggfleet/controlplane/internal/telemetry"
)

// CreateDeploymentTask deploys at once.
func (f *Fake) CreateDeploymentTask(_ context.Context, t fleet.NewDeploymentTask, key string) (string, error) {
	done, err := f.lock()
	defer done()
	f.LastDeployment = t
	if err != nil {
		return "", err
	}
	if id := f.keys[key]; key != "" && id != "" {
		return id, nil
	}
	vs := f.templates[t.TemplateName]
	if t.TemplateVersion == 0 {
		t.TemplateVersion = len(vs)
	}
	if t.TemplateVersion < 1 || t.TemplateVersion > len(vs) {
		return "", missing("template", t.TemplateName)
	}
	ref := fleet.TemplateRef{Name: t.TemplateName, Version: t.TemplateVersion}
	one := 1
	id := fmt.Sprintf("depl-%04d", len(f.deploys)+1)
	task := fleet.DeploymentTask{
		TaskState: fleet.TaskState{ID: id, Status: fleet.TaskSuccess, CreatedAt: Now(), UpdatedAt: Now(), BatchesComplete: &one, BatchesTotal: &one},
		Template:  ref, Targets: t.Targets.Raw, IoTJobConfig: t.IoTJobConfig, Force: t.Force, PreStage: t.PreStage != nil && *t.PreStage,
	}
	for _, n := range slices.Sorted(slices.Values(t.Targets.ThingNames)) {
		task.Deployments = append(task.Deployments, fleet.Deployment{
			TaskItem: fleet.TaskItem{Name: n, Status: fleet.TaskSuccess, CreatedAt: Now(), UpdatedAt: Now()}, TaskID: id, Template: ref, DeploymentStatus: fleet.DeploymentSuccess,
		})
		c := f.cores[n]
		c.Name, c.CreatedAt = n, Now()
		c.Desired, c.Reported, c.DeploymentStatus, c.DeploymentTask = ref, ref, fleet.DeploymentSuccess, id
		f.cores[n] = c
	}
	task.Items, task.Succeeded = len(task.Deployments), len(task.Deployments)
	f.deploys[id] = task
	f.keys[key] = id
	return id, nil
}

// DeploymentTask returns a task.
func (f *Fake) DeploymentTask(_ context.Context, id string, p fleet.Page) (fleet.DeploymentTask, error) {
	done, err := f.lock()
	defer done()
	if err != nil {
		return fleet.DeploymentTask{}, err
	}
	t, ok := f.deploys[id]
	if !ok {
		return t, missing("deployment task", id)
	}
	t.Deployments, t.Next, err = pageOf(t.Deployments, func(d fleet.Deployment) string { return d.Name }, p)
	return t, err
}

// DeploymentTasks lists tasks.
func (f *Fake) DeploymentTasks(_ context.Context, p fleet.Page) ([]fleet.DeploymentTask, string, error) {
	done, err := f.lock()
	defer done()
	if err != nil {
		return nil, "", err
	}
	return pageOf(sorted(f.deploys), func(t fleet.DeploymentTask) string { return t.ID }, p)
}

// DeploymentTaskCores lists the cores of a task.
func (f *Fake) DeploymentTaskCores(_ context.Context, id string, p fleet.Page) ([]fleet.Deployment, string, error) {
	done, err := f.lock()
	defer done()
	if err != nil {
		return nil, "", err
	}
	return pageOf(f.deploys[id].Deployments, func(d fleet.Deployment) string { return d.Name }, p)
}

// DeploymentTaskCore returns one core of a task.
func (f *Fake) DeploymentTaskCore(_ context.Context, id, core string) (fleet.Deployment, error) {
	done, err := f.lock()
	defer done()
	if err != nil {
		return fleet.Deployment{}, err
	}
	for _, d := range f.deploys[id].Deployments {
		if d.Name == core {
			return d, nil
		}
	}
	return fleet.Deployment{}, missing("deployment of core", core)
}

// CoreDeployments lists what was deployed to a core.
func (f *Fake) CoreDeployments(_ context.Context, core string, p fleet.Page) ([]fleet.Deployment, string, error) {
	done, err := f.lock()
	defer done()
	if err != nil {
		return nil, "", err
	}
	var out []fleet.Deployment
	for _, t := range sorted(f.deploys) {
		for _, d := range t.Deployments {
			if d.Name == core {
				out = append(out, d)
			}
		}
	}
	slices.Reverse(out)
	return pageOf(out, func(d fleet.Deployment) string { return d.TaskID }, p)
}

// Summary counts cores. It holds a row for None, which the edge must hide.
func (f *Fake) Summary(context.Context) (fleet.Summary, error) {
	done, err := f.lock()
	defer done()
	if err != nil {
		return fleet.Summary{}, err
	}
	s := fleet.Summary{Templates: map[string]fleet.TemplateSummary{fleet.NoTemplate: {}}, Agents: fleet.AgentCounts{Warnings: map[telemetry.Warning]int{}}}
	for _, c := range f.cores {
		switch {
		case c.Agent == nil:
			continue
		case c.Agent.Connected:
			s.Agents.Connected++
		default:
			s.Agents.Offline++
		}
		for _, w := range c.Agent.Warnings {
			s.Agents.Warnings[w]++
		}
	}
	for name, vs := range f.templates {
		rows := map[int]fleet.Counter{}
		for _, v := range vs {
			var n fleet.Counter
			for _, c := range f.cores {
				if c.Desired == (fleet.TemplateRef{Name: name, Version: v.Version}) {
					n.DesiredInUse++
					n.ReportedInUse++
					n.LastDeploymentSuccess++
				}
			}
			rows[v.Version] = n
		}
		s.Templates[name] = fleet.TemplateSummary{LatestVersion: len(vs), Versions: rows}
	}
	return s, nil
}
