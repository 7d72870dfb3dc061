package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/ggfleet/ggfleet/controlplane/internal/task"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
)

// deploymentBatch is how many cores of a deployment task a worker claims at once
// (cdf-services §3.1).
const deploymentBatch = 50

// maxTargets bounds the names in one request.
const maxTargets = 100_000

// deploymentSpec is what a deployment task keeps of its request.
type deploymentSpec struct {
	Template     TemplateRef     `json:"template"`
	ThingNames   []string        `json:"thingNames,omitempty"`
	ThingGroups  []string        `json:"thingGroups,omitempty"`
	Targets      json.RawMessage `json:"targets"`
	IoTJobConfig json.RawMessage `json:"iotJobConfig,omitempty"`
}

// deploymentItem is what each item carries: reading the task's own spec for each
// core would read all targets as often as there are targets.
type deploymentItem struct {
	Template TemplateRef `json:"template"`
}

// CreateDeploymentTask checks the request, stores the task and returns its id.
// Unknown template or version: fault.NotFound.
func (s *Service) CreateDeploymentTask(ctx context.Context, n NewDeploymentTask, idempotencyKey string) (string, error) {
	ref := TemplateRef{Name: n.TemplateName, Version: n.TemplateVersion}
	if ref.Version == 0 {
		h, err := s.head(ctx, ref.Name)
		if err != nil {
			return "", err
		}
		ref.Version = h.Latest
	} else if _, err := s.TemplateVersion(ctx, ref.Name, ref.Version); err != nil {
		return "", err
	}
	if len(n.Targets.ThingNames)+len(n.Targets.ThingGroupNames) == 0 {
		return "", fault.Field("targets", "names nothing; want thingNames or thingGroupNames with at least one entry")
	}
	if len(n.Targets.ThingNames) > maxTargets {
		return "", fault.Field("targets.thingNames", "has %d entries, over the limit of %d", len(n.Targets.ThingNames), maxTargets)
	}
	for i, name := range n.Targets.ThingNames {
		if err := names.CheckThing(name); err != nil {
			return "", fault.Field(fmt.Sprintf("targets.thingNames[%d]", i), "%s", fault.Message(err))
		}
	}
	for i, name := range n.Targets.ThingGroupNames {
		if err := names.CheckThingGroup(name); err != nil {
			return "", fault.Field(fmt.Sprintf("targets.thingGroupNames[%d]", i), "%s", fault.Message(err))
		}
	}
	t, err := s.tasks.Create(ctx, task.NewTask{
		Kind: kindDeployment, BatchSize: deploymentBatch, IdempotencyKey: idempotencyKey,
		Spec: deploymentSpec{
			Template: ref, ThingNames: n.Targets.ThingNames, ThingGroups: n.Targets.ThingGroupNames, Targets: n.Targets.Raw, IoTJobConfig: n.IoTJobConfig,
		},
	})
	return t.ID, err
}

// DeploymentTask returns a deployment task with its items, or fault.NotFound.
func (s *Service) DeploymentTask(ctx context.Context, id string) (DeploymentTask, error) {
	t, err := s.task(ctx, id, kindDeployment)
	if err != nil {
		return DeploymentTask{}, err
	}
	out, err := deploymentTask(t)
	if err != nil {
		return DeploymentTask{}, err
	}
	err = s.items(ctx, t, func(i task.Item) { out.Deployments = append(out.Deployments, s.deploymentOf(t, out.Template, i)) })
	return out, err
}

func deploymentTask(t task.Task) (DeploymentTask, error) {
	var spec deploymentSpec
	if err := t.Decode(&spec); err != nil {
		return DeploymentTask{}, err
	}
	return DeploymentTask{
		TaskState: taskState(t), Template: spec.Template, Targets: spec.Targets, IoTJobConfig: spec.IoTJobConfig, Deployments: []Deployment{},
	}, nil
}

// deploymentOf adds to the item what the device made of it: known as long as no
// later task named the core.
func (s *Service) deploymentOf(t task.Task, ref TemplateRef, i task.Item) Deployment {
	d := Deployment{TaskItem: taskItem(i), TaskID: t.ID, Template: ref}
	if c, _, ok := s.cores.Get(coreKey(i.Name)); ok && c.DeploymentTask == t.ID && c.Desired == ref {
		d.DeploymentStatus = c.DeploymentStatus
	}
	return d
}

// DeploymentTasks lists deployment tasks without their items, by id.
func (s *Service) DeploymentTasks(ctx context.Context, p Page) ([]DeploymentTask, string, error) {
	list, more, err := s.tasks.List(ctx, kindDeployment, p.After, count(p))
	if err != nil {
		return nil, "", err
	}
	out := make([]DeploymentTask, len(list))
	for i, t := range list {
		if out[i], err = deploymentTask(t); err != nil {
			return nil, "", err
		}
	}
	if !more {
		return out, "", nil
	}
	return out, list[len(list)-1].ID, nil
}

// DeploymentTaskCores lists the cores of a deployment task in its order. An
// unknown task has none.
func (s *Service) DeploymentTaskCores(ctx context.Context, id string, p Page) ([]Deployment, string, error) {
	t, err := s.task(ctx, id, kindDeployment)
	if errors.Is(err, fault.NotFound) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	head, err := deploymentTask(t)
	if err != nil {
		return nil, "", err
	}
	list, more, err := s.tasks.Items(ctx, id, p.After, count(p))
	if err != nil {
		return nil, "", err
	}
	out := make([]Deployment, len(list))
	for i, it := range list {
		out[i] = s.deploymentOf(t, head.Template, it)
	}
	if !more {
		return out, "", nil
	}
	return out, list[len(list)-1].Name, nil
}

// DeploymentTaskCore returns one core of a deployment task, or fault.NotFound.
func (s *Service) DeploymentTaskCore(ctx context.Context, id, name string) (Deployment, error) {
	t, err := s.task(ctx, id, kindDeployment)
	if err != nil {
		return Deployment{}, err
	}
	head, err := deploymentTask(t)
	if err != nil {
		return Deployment{}, err
	}
	i, err := s.tasks.Item(ctx, id, name)
	if err != nil {
		return Deployment{}, err
	}
	return s.deploymentOf(t, head.Template, i), nil
}

// CoreDeployments lists the deployment tasks that named the core, by task id. An
// unknown core has none.
func (s *Service) CoreDeployments(ctx context.Context, name string, p Page) ([]Deployment, string, error) {
	list, more, err := s.tasks.ListByName(ctx, kindDeployment, name, p.After, count(p))
	if err != nil {
		return nil, "", err
	}
	out := make([]Deployment, len(list))
	for i, n := range list {
		head, err := deploymentTask(n.Task)
		if err != nil {
			return nil, "", err
		}
		out[i] = s.deploymentOf(n.Task, head.Template, n.Item)
	}
	if !more {
		return out, "", nil
	}
	return out, list[len(list)-1].Task.ID, nil
}
