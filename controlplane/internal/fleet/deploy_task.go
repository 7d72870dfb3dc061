package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/ggfleet/ggfleet/controlplane/internal/event"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/task"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// deploymentBatch is how many cores of a deployment task a worker claims at once
// (cdf-services §3.1).
const deploymentBatch = 50

// deploymentSpec is what a deployment task keeps of its request.
type deploymentSpec struct {
	Template TemplateRef `json:"template"`
	// Targets is as submitted; empty when it is large and kept beside the task.
	Targets      json.RawMessage `json:"targets,omitempty"`
	IoTJobConfig json.RawMessage `json:"iotJobConfig,omitempty"`
	Config       JobConfig       `json:"config"` // of the request over the template
	Force        bool            `json:"force,omitempty"`
	PreStage     bool            `json:"preStage,omitempty"`
	RetryOf      string          `json:"retryOf,omitempty"`
}

// largeTargets is how many bytes of targets the task's own record takes.
const largeTargets = 32 << 10

// CreateDeploymentTask checks the request, stores the task and returns its id.
// Unknown template or version: fault.NotFound.
func (s *Service) CreateDeploymentTask(ctx context.Context, n NewDeploymentTask, idempotencyKey string) (string, error) {
	var t Template
	var err error
	if n.TemplateVersion == 0 {
		t, err = s.Template(ctx, n.TemplateName)
	} else {
		t, err = s.TemplateVersion(ctx, n.TemplateName, n.TemplateVersion)
	}
	if err != nil {
		return "", err
	}
	if err := s.checkTargets(n.Targets); err != nil {
		return "", err
	}
	spec := deploymentSpec{
		Template: TemplateRef{Name: t.Name, Version: t.Version}, IoTJobConfig: n.IoTJobConfig, Force: n.Force, PreStage: s.cfg.PreStage,
	}
	if n.PreStage != nil {
		spec.PreStage = *n.PreStage
	}
	if spec.Config, err = over(t.JobConfig, n.IoTJobConfig); err != nil {
		return "", err
	}
	return s.startDeployment(ctx, spec, n.Targets.Raw, idempotencyKey)
}

func (s *Service) startDeployment(ctx context.Context, spec deploymentSpec, targets json.RawMessage, idempotencyKey string) (string, error) {
	n := task.NewTask{Kind: kindDeployment, BatchSize: deploymentBatch, IdempotencyKey: idempotencyKey}
	if len(targets) > largeTargets {
		n.Blob = targets
	} else {
		spec.Targets = targets
	}
	n.Spec = spec
	t, err := s.tasks.Create(ctx, n)
	return t.ID, err
}

// RetryDeploymentTask makes a task for the cores of an ended one that failed: that
// could not be started, or whose device reported failure and that no later task
// named. They alone get the deployment anew. When none failed: fault.Conflict.
func (s *Service) RetryDeploymentTask(ctx context.Context, id, idempotencyKey string) (string, error) {
	t, err := s.task(ctx, id, kindDeployment)
	if err != nil {
		return "", err
	}
	if !t.Ended() {
		return "", fault.New(fault.Conflict, "task %s is still at work; wait for its end or cancel it", id)
	}
	if _, err := s.settledRollout(ctx, id); err != nil {
		return "", err
	}
	var spec deploymentSpec
	if err := errors.Join(t.Decode(&spec), s.loaded(ctx)); err != nil {
		return "", err
	}
	var again []string
	var failures []error
	newer := map[string]bool{"": false, id: false}
	err = s.items(ctx, t, func(i task.Item) {
		c, _, known := s.cores.Get(coreKey(i.Name))
		switch {
		case known && i.Status == task.Success:
			if c.DeploymentTask == id && c.DeploymentStatus == DeploymentFailure {
				again = append(again, i.Name)
			}
		case i.Status == task.Failure:
			if known {
				if err := s.isNewer(ctx, c.DeploymentTask, t, newer); err != nil {
					failures = append(failures, err)
				}
				if newer[c.DeploymentTask] {
					return // sent somewhere else since
				}
			}
			again = append(again, i.Name)
		}
	})
	err = errors.Join(append(failures, err)...)
	if err != nil {
		return "", err
	}
	if len(again) == 0 {
		return "", fault.New(fault.Conflict, "no core of task %s failed", id)
	}
	targets, err := json.Marshal(map[string][]string{"thingNames": again})
	if err != nil {
		return "", fmt.Errorf("encode targets: %w", err)
	}
	spec.RetryOf = id
	return s.startDeployment(ctx, spec, targets, idempotencyKey)
}

// isNewer notes in known whether task id was made after t.
func (s *Service) isNewer(ctx context.Context, id string, t task.Task, known map[string]bool) error {
	if _, ok := known[id]; ok {
		return nil
	}
	other, err := s.tasks.Get(ctx, id)
	if errors.Is(err, fault.NotFound) {
		known[id] = false // deleted since
		return nil
	}
	known[id] = err == nil && other.CreatedAt.After(t.CreatedAt)
	return err
}

// CancelDeploymentTask stops a task: no further core joins once it returned, items
// that have not begun end as Failure, and what cores have not taken up yet is
// withdrawn. A task with nothing left to stop is fault.Conflict.
func (s *Service) CancelDeploymentTask(ctx context.Context, id string) error {
	t, err := s.task(ctx, id, kindDeployment)
	if err != nil {
		return err
	}
	if err := s.loaded(ctx); err != nil {
		return err
	}
	if t.Ended() && s.unfinished(id) == 0 {
		return fault.New(fault.Conflict, "task %s has ended and its cores have reported; there is nothing to cancel", id)
	}
	return s.stopRollout(ctx, id, "canceled by an operator")
}

// DeleteDeploymentTask removes an ended task and its items; cores and deployments
// stay as they are. A task at work is fault.Conflict.
func (s *Service) DeleteDeploymentTask(ctx context.Context, id string) error {
	t, err := s.task(ctx, id, kindDeployment)
	if err != nil {
		return err
	}
	r, err := s.settledRollout(ctx, id)
	if err != nil {
		return err
	}
	return s.tasks.Delete(ctx, id, func(b *state.Batch) error {
		b.If(rolloutKey(id), r.Rev).Delete(rolloutKey(id))
		event.Add(b, event.DeploymentTaskDeleted, "", s.stamp(), taskDetail{TaskID: t.ID, Status: eventSuccess})
		return nil
	})
}

// DeploymentTask returns a deployment task, or fault.NotFound; the page is that of
// its items, as in [Service.CoreTask].
func (s *Service) DeploymentTask(ctx context.Context, id string, p Page) (DeploymentTask, error) {
	t, err := s.task(ctx, id, kindDeployment)
	if err != nil {
		return DeploymentTask{}, err
	}
	out, err := s.deploymentTask(ctx, t, false)
	if err != nil {
		return DeploymentTask{}, err
	}
	out.Next, err = s.itemPage(ctx, t, p, func(i task.Item) {
		d := s.deploymentOf(t, out.Template, i)
		d.Waiting = s.waitsFor(ctx, t, d)
		out.Deployments = append(out.Deployments, d)
	})
	return out, err
}

// deploymentTask is the task without its items. Large targets are not part of a
// list: they would be read for each task.
func (s *Service) deploymentTask(ctx context.Context, t task.Task, list bool) (DeploymentTask, error) {
	var spec deploymentSpec
	if err := t.Decode(&spec); err != nil {
		return DeploymentTask{}, err
	}
	targets := spec.Targets
	switch {
	case len(targets) > 0:
	case list:
		targets = json.RawMessage(`{}`)
	default:
		var err error
		if targets, err = s.targetsOf(ctx, t, spec); err != nil {
			return DeploymentTask{}, err
		}
	}
	out := DeploymentTask{
		TaskState: taskState(t), Template: spec.Template, Targets: targets, IoTJobConfig: spec.IoTJobConfig, Deployments: []Deployment{},
		Force: spec.Force, PreStage: spec.PreStage, RetryOf: spec.RetryOf,
	}
	if r, _, ok := s.rollouts.Get(rolloutKey(t.ID)); ok {
		out.Rollout = r.state()
	}
	return out, nil
}

// targetsOf returns the targets as they were submitted.
func (s *Service) targetsOf(ctx context.Context, t task.Task, spec deploymentSpec) (json.RawMessage, error) {
	if len(spec.Targets) > 0 {
		return spec.Targets, nil
	}
	raw, err := s.tasks.Blob(ctx, t.ID)
	if err != nil {
		return nil, fmt.Errorf("targets of task %s: %w", t.ID, err)
	}
	return raw, nil
}

// DeploymentTasks lists deployment tasks without their items, by id. Targets of
// more than 32 KiB are shown as an empty object.
func (s *Service) DeploymentTasks(ctx context.Context, p Page) ([]DeploymentTask, string, error) {
	list, more, err := s.tasks.List(ctx, kindDeployment, p.After, count(p))
	if err != nil {
		return nil, "", err
	}
	out := make([]DeploymentTask, len(list))
	for i, t := range list {
		if out[i], err = s.deploymentTask(ctx, t, true); err != nil {
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
	var spec deploymentSpec
	if err := t.Decode(&spec); err != nil {
		return nil, "", err
	}
	list, more, err := s.tasks.Items(ctx, id, p.After, count(p))
	if err != nil {
		return nil, "", err
	}
	out := make([]Deployment, len(list))
	for i, it := range list {
		out[i] = s.deploymentOf(t, spec.Template, it)
		out[i].Waiting = s.waitsFor(ctx, t, out[i])
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
	var spec deploymentSpec
	if err := t.Decode(&spec); err != nil {
		return Deployment{}, err
	}
	i, err := s.tasks.Item(ctx, id, name)
	if err != nil {
		return Deployment{}, err
	}
	d := s.deploymentOf(t, spec.Template, i)
	d.Waiting = s.waitsFor(ctx, t, d)
	return d, nil
}

// CoreDeployments lists the deployment tasks that named the core, newest first.
// An unknown core has none.
func (s *Service) CoreDeployments(ctx context.Context, name string, p Page) ([]Deployment, string, error) {
	list, more, err := s.tasks.ListByName(ctx, kindDeployment, name, p.After, count(p))
	if err != nil {
		return nil, "", err
	}
	out := make([]Deployment, len(list))
	for i, n := range list {
		var spec deploymentSpec
		if err := n.Task.Decode(&spec); err != nil {
			return nil, "", err
		}
		out[i] = s.deploymentOf(n.Task, spec.Template, n.Item)
	}
	if !more {
		return out, "", nil
	}
	return out, list[len(list)-1].Task.ID, nil
}

// deploymentOf adds to the item what the device made of it.
func (s *Service) deploymentOf(t task.Task, ref TemplateRef, i task.Item) Deployment {
	d := Deployment{TaskItem: taskItem(i), TaskID: t.ID, Template: ref}
	c, _, ok := s.cores.Get(coreKey(i.Name))
	switch {
	case !ok:
	case c.DeploymentTask == t.ID:
		d.DeploymentStatus, d.DeploymentMessage = c.DeploymentStatus, c.DeploymentMessage
	default:
		for _, p := range c.Past {
			if p.Task == t.ID {
				d.DeploymentStatus, d.DeploymentMessage = p.Status, p.Message
			}
		}
	}
	return d
}

// waitsFor says in words why an item or its core is not done yet.
func (s *Service) waitsFor(ctx context.Context, t task.Task, d Deployment) string {
	r, _, paced := s.rollouts.Get(rolloutKey(t.ID))
	switch {
	case d.Status == TaskWaiting, d.Status == TaskInProgress:
		if paced && r.Stopped != "" {
			return "the end of the task, which was stopped: " + r.Stopped
		}
		if paced && r.Rate() > 0 {
			return fmt.Sprintf("its turn: cores join at %g a minute, %d have", r.Rate(), r.Notified)
		}
		return "a worker"
	case d.DeploymentStatus != DeploymentInProgress:
		return ""
	}
	if c, _, ok := s.cores.Get(coreKey(d.Name)); ok && c.DeploymentTask != t.ID {
		return "nothing any more: task " + c.DeploymentTask + " named the core before it had reported"
	}
	connected, last, err := s.cfg.Cloud.Seen(ctx, d.Name)
	switch {
	case err != nil:
		return "the core's report; whether it is connected is not known now"
	case connected:
		return "the core's report; it is connected"
	case last.IsZero():
		return "the core to connect; it was not heard of since this server began to watch"
	default:
		return "the core to connect; it was last heard of at " + last.UTC().Format("2006-01-02T15:04:05Z")
	}
}
