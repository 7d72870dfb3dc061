package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/event"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/task"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// tagTask is the tag of a template version's group and deployment: the task that
// made them (cdf-services §3.8).
const tagTask = "cdf-greengrass2-provisioning-deployment-task-id"

// Reasons why a core cannot be deployed to, in the words of the original.
const notRegistered = "Core device not registered with Greengrass V2"

// deploymentItem is what each item carries: reading the task's own spec for each
// core would read all targets as often as there are targets.
type deploymentItem struct {
	Template TemplateRef `json:"template"`
	Paced    bool        `json:"paced,omitempty"`
	Force    bool        `json:"force,omitempty"`
	PreStage bool        `json:"preStage,omitempty"`
	Timeout  int         `json:"timeoutMinutes,omitempty"`
}

// deployment is the kind of task that deploys a template version to cores. An
// item's Success means that the deployment was started on the core, not that the
// core is done with it.
func (s *Service) deployment() task.Kind {
	return task.Kind{Name: kindDeployment, Do: s.deployCore, Expand: s.expandTargets, Failed: s.recordFailure}
}

// expandTargets turns the targets into things. Groups count as their members of
// this moment that are cores of the fleet; a thing named twice counts once.
func (s *Service) expandTargets(ctx context.Context, t task.Task) ([]task.NewItem, string, error) {
	var spec deploymentSpec
	if err := t.Decode(&spec); err != nil {
		return nil, "", err
	}
	if err := s.loaded(ctx); err != nil {
		return nil, "", err
	}
	raw, err := s.targetsOf(ctx, t, spec)
	if err != nil {
		return nil, "", err
	}
	targets, err := ParseTargets(raw)
	if err != nil {
		return nil, "", err
	}
	x := expansion{s: s, item: deploymentItem{
		Template: spec.Template, Paced: spec.Config.Paced(), Force: spec.Force, PreStage: spec.PreStage, Timeout: spec.Config.TimeoutMinutes,
	}}
	if err := x.run(ctx, targets); err != nil {
		return nil, "", err
	}
	if err := s.beginRollout(ctx, t.ID, spec.Config); err != nil {
		return nil, "", fmt.Errorf("begin rollout of task %s: %w", t.ID, err)
	}
	return x.result()
}

// deployCore starts the deployment on one core: it moves the core into the group
// of the template version as one change, together with the core's record, the
// task's rollout and the item's result.
func (s *Service) deployCore(ctx context.Context, w *task.Work) error {
	var spec deploymentItem
	if err := w.Item.Decode(&spec); err != nil {
		return err
	}
	rec, err := s.deployable(ctx, w.Item.Name, spec)
	if err != nil {
		return err
	}
	if err := s.ensureDeployment(ctx, spec.Template, w.Task.ID); err != nil {
		return failed(err, "Failed to create deployment")
	}
	if !spec.Paced {
		if r, _, ok := s.rollouts.Get(rolloutKey(w.Task.ID)); ok && r.Stopped != "" {
			return fault.New(fault.Invalid, "the task was stopped before this core: %s", r.Stopped)
		}
		return s.join(ctx, w, spec, rec, state.Record[taskRollout]{})
	}
	return s.joinInTurn(ctx, w, spec, rec)
}

// deployable returns the core's record, or why nothing can be deployed to it.
func (s *Service) deployable(ctx context.Context, name string, spec deploymentItem) (state.Record[Core], error) {
	rec, err := s.record(ctx, name)
	if errors.Is(err, fault.NotFound) {
		return rec, fault.New(fault.NotFound, notRegistered)
	}
	if err != nil || spec.PreStage {
		return rec, err
	}
	switch known, err := s.cfg.Cloud.HasCore(ctx, name); {
	case err != nil:
		return rec, fmt.Errorf("look up core device %s: %w", name, err)
	case !known:
		return rec, fault.New(fault.NotFound, notRegistered)
	}
	return rec, nil
}

// joinInTurn waits, without a worker, until the rollout lets the core join.
func (s *Service) joinInTurn(ctx context.Context, w *task.Work, spec deploymentItem, rec state.Record[Core]) error {
	id := w.Task.ID
	leave, err := s.pace.enter(ctx, id)
	if err != nil {
		return err
	}
	defer leave()
	r, err := state.Read[taskRollout](ctx, s.cfg.Store, rolloutKey(id))
	if err != nil {
		return fmt.Errorf("read rollout of task %s: %w", id, err)
	}
	if r.Value.Stopped != "" {
		return fault.New(fault.Invalid, "the task was stopped before this core: %s", r.Value.Stopped)
	}
	if spec.delivers(rec.Value) {
		if wait := s.pace.turn(id, w.Item.Seq, s.now(), r.Value.Due(s.now())); wait > 0 {
			return task.Later(wait)
		}
		r.Value.Joined(s.now().UTC())
	}
	err = s.join(ctx, w, spec, rec, r)
	if err == nil {
		s.pace.done(id, w.Item.Seq)
	} else if errors.Is(err, fault.Conflict) {
		// If a report was counted, or another replica's join, this one is as good as
		// new; else it has to do with the core, and does not go on for ever.
		now, rerr := state.ReadOr[taskRollout](ctx, s.cfg.Store, rolloutKey(id))
		if rerr == nil && now.Rev != r.Rev {
			return task.Later(10 * time.Millisecond)
		}
	}
	return err
}

// again reports whether the core gets the deployment anew although it is in the
// group: it is forced to, or the last one failed (cdf-services §3.8). That may have
// been another version, which could not be started and left the core in the group.
func (d deploymentItem) again(c Core) bool { return d.Force || c.DeploymentStatus == DeploymentFailure }

// delivers reports whether joining gives the core something to do.
func (d deploymentItem) delivers(c Core) bool { return c.Desired != d.Template || d.again(c) }

// join makes the core join. What this replica remembers of the deployment may be
// old: another one deleted the template, and it was made anew.
func (s *Service) join(ctx context.Context, w *task.Work, spec deploymentItem, rec state.Record[Core], r state.Record[taskRollout]) error {
	err := s.move(ctx, w, spec, rec, r)
	switch {
	case errors.Is(err, fault.NotFound):
		s.forgetDeployment(spec.Template)
		if err = s.ensureDeployment(ctx, spec.Template, w.Task.ID); err != nil {
			return failed(err, "Failed to create deployment")
		}
		err = s.move(ctx, w, spec, rec, r)
	case errors.Is(err, fault.Conflict):
		s.forgetDeployment(spec.Template)
	}
	return failed(err, "Failed to add core device to deployment thing group target")
}

// move is the one change. r is the rollout as it will be; without a revision there
// must be none.
func (s *Service) move(ctx context.Context, w *task.Work, spec deploymentItem, rec state.Record[Core], r state.Record[taskRollout]) error {
	ref, key := spec.Template, rolloutKey(w.Task.ID)
	m := cloud.Move{
		Core: w.Item.Name, Leave: isTemplateGroup, Join: groupOf(ref), Again: spec.again(rec.Value), TimeoutMinutes: spec.Timeout,
	}
	return s.cfg.Cloud.Move(ctx, m, func(b *state.Batch, e cloud.Execution) error {
		if e.JobID == "" { // the deployment was canceled since: make it anew
			return fmt.Errorf("thing group %s has no active deployment: %w", groupOf(ref), fault.Conflict)
		}
		core := rec.Value
		core.remember()
		core.Desired, core.DeploymentTask, core.UpdatedAt = ref, w.Task.ID, s.stamp()
		core.Execution, core.Paced, core.TakenUp = refOf(e), spec.Paced, false
		core.DeploymentStatus, core.DeploymentMessage = DeploymentInProgress, ""
		if e.Ended { // it was there already, and is done
			core.DeploymentStatus, core.DeploymentMessage = outcome(e)
			core.report(e, ref)
		}
		b.If(coreKey(core.Name), rec.Rev).Put(coreKey(core.Name), core).If(key, r.Rev)
		b.IfExists(templateKey(ref.Name)) // nobody joins a template that leaves
		if r.Rev != 0 {
			b.Put(key, r.Value)
		}
		result := task.Result{Status: task.Success}
		tell(b, event.DeploymentTaskCreated, w, result, core.UpdatedAt)
		return w.Finish(ctx, b, result)
	})
}

// recordFailure is what the core's record says of a deployment that could not be
// started (cdf-services §3.8, step 4). A name that is no core has no record, and
// a task that was stopped before the core's turn changes nothing for it.
func (s *Service) recordFailure(ctx context.Context, t task.Task, i task.Item, message string, b *state.Batch) error {
	var spec deploymentItem
	if err := i.Decode(&spec); err != nil {
		return err
	}
	event.Add(b, event.DeploymentTaskCreated, i.Name, s.stamp(), coreDetail{CoreName: i.Name, TaskID: t.ID, Status: eventFailed, Message: message})
	s.pace.done(t.ID, i.Seq)
	r, err := state.ReadOr[taskRollout](ctx, s.cfg.Store, rolloutKey(t.ID))
	if err != nil || r.Value.Stopped != "" {
		return err
	}
	rec, err := s.record(ctx, i.Name)
	if errors.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	core := rec.Value
	core.remember()
	core.Desired, core.DeploymentTask, core.UpdatedAt = spec.Template, t.ID, s.stamp()
	core.Execution, core.Paced, core.TakenUp = ExecutionRef{}, false, false
	core.DeploymentStatus, core.DeploymentMessage = DeploymentFailure, message
	b.If(coreKey(i.Name), rec.Rev).Put(coreKey(i.Name), core)
	return nil
}

// ensureDeployment makes the deployment of a template version, once: at the first
// core that is sent there.
func (s *Service) ensureDeployment(ctx context.Context, ref TemplateRef, taskID string) error {
	s.mu.Lock()
	made := s.deployed[ref]
	s.mu.Unlock()
	if made {
		return nil
	}
	t, err := s.TemplateVersion(ctx, ref.Name, ref.Version)
	if err != nil {
		return err
	}
	group := groupOf(ref)
	d, err := s.cfg.Cloud.Ensure(ctx, groupDeployment(t, group, taskID), group)
	if err != nil {
		return err
	}
	now := TemplateDeployment{ID: d.ID, ThingGroup: group, JobID: d.JobID}
	_, err = state.Update(ctx, s.cfg.Store, state.StepTemplateDeploy, deployedKey(ref), func(v *TemplateDeployment, _ bool, _ *state.Batch) error {
		if *v == now {
			return state.ErrKeep
		}
		*v = now
		return nil
	})
	if err != nil {
		return fmt.Errorf("store deployment of template %s version %d: %w", ref.Name, ref.Version, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deployed[ref] = true
	return nil
}

func (s *Service) forgetDeployment(ref TemplateRef) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.deployed, ref)
}

func groupDeployment(t Template, group, taskID string) cloud.GroupDeployment {
	d := cloud.GroupDeployment{
		Group: group, Name: fmt.Sprintf("CDF Greengrass2 Provisioning: template %s version %d", t.Name, t.Version),
		Description: fmt.Sprintf("Cores that template %s version %d is deployed to", t.Name, t.Version),
		JobConfig:   t.JobConfig, Policies: t.Policies, Tags: map[string]string{tagTask: taskID},
	}
	for _, c := range t.Components {
		x := cloud.DeployComponent{Name: c.Key, Version: c.Version}
		if c.Config != nil {
			x.Merge, x.Reset = c.Config.Merge, c.Config.Reset
		}
		if c.RunWith != nil {
			x.PosixUser = c.RunWith.PosixUser
		}
		d.Components = append(d.Components, x)
	}
	return d
}

// EnrollCore tells the enrolment what an agent has to know of its core.
func (s *Service) EnrollCore(ctx context.Context, name string) (certificatePending bool, certsKey, configKey string, err error) {
	c, err := s.record(ctx, name)
	return c.Value.CertificatePending, c.Value.Artifacts[ArtifactCerts].Key, c.Value.Artifacts[ArtifactConfig].Key, err
}

// EnrollDevice is EnrollCore for a client device.
func (s *Service) EnrollDevice(ctx context.Context, name string) (core string, certificatePending bool, certsKey string, err error) {
	d, err := s.Device(ctx, name)
	return d.Core, d.CertificatePending, d.Artifacts[ArtifactCerts].Key, err
}
