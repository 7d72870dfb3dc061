package fleet

import (
	"context"
	"errors"
	"fmt"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/task"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// tagTask is the tag of a template version's group and deployment: the task that
// made them (cdf-services §3.8).
const tagTask = "cdf-greengrass2-provisioning-deployment-task-id"

// Reasons why a core cannot be deployed to, in the words of the original.
const notRegistered = "Core device not registered with Greengrass V2"

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
	what := deploymentItem{Template: spec.Template}
	items := make([]task.NewItem, 0, len(spec.ThingNames))
	for _, n := range spec.ThingNames {
		items = append(items, task.NewItem{Name: n, Spec: what})
	}
	for _, g := range spec.ThingGroups {
		err := s.cfg.Cloud.Members(ctx, g, func(thing string) error {
			if _, _, ok := s.cores.Get(coreKey(thing)); ok {
				items = append(items, task.NewItem{Name: thing, Spec: what})
			}
			return nil
		})
		if err != nil {
			return nil, "", err
		}
	}
	if len(items) == 0 {
		return nil, "", fault.New(fault.Invalid, "the targets name no core: the thing groups have no members that are cores of this fleet")
	}
	return items, "", nil
}

// deployCore starts the deployment on one core: it moves the core into the group
// of the template version as one change, together with the core's record and the
// item's result.
func (s *Service) deployCore(ctx context.Context, w *task.Work) error {
	var spec deploymentItem
	if err := w.Item.Decode(&spec); err != nil {
		return err
	}
	name := w.Item.Name
	rec, err := s.record(ctx, name)
	if errors.Is(err, fault.NotFound) {
		return fault.New(fault.NotFound, notRegistered)
	}
	if err != nil {
		return err
	}
	switch known, err := s.cfg.Cloud.HasCore(ctx, name); {
	case err != nil:
		return fmt.Errorf("look up core device %s: %w", name, err)
	case !known:
		return fault.New(fault.NotFound, notRegistered)
	}
	ref := spec.Template
	if _, err := s.ensureDeployment(ctx, ref, w.Task.ID); err != nil {
		return failed(err, "Failed to create deployment")
	}
	// A core that failed at just this version gets it once more, it alone
	// (cdf-services §3.8); one that has it or is at it keeps what it has.
	again := rec.Value.Desired == ref && rec.Value.DeploymentStatus == DeploymentFailure
	m := cloud.Move{Core: name, Leave: isTemplateGroup, Join: groupOf(ref), Again: again}
	err = s.cfg.Cloud.Move(ctx, m, func(b *state.Batch, e cloud.Execution) error {
		if e.JobID == "" { // the deployment was canceled since: make it anew
			s.forgetDeployment(ref)
			return fmt.Errorf("thing group %s has no active deployment: %w", groupOf(ref), fault.Conflict)
		}
		core := rec.Value
		core.Desired, core.DeploymentTask, core.UpdatedAt = ref, w.Task.ID, s.stamp()
		core.Execution = ExecutionRef{JobID: e.JobID, Number: e.Number}
		core.DeploymentStatus, core.DeploymentMessage = DeploymentInProgress, ""
		if e.Ended { // it was there already, and is done
			core.DeploymentStatus, core.DeploymentMessage = outcome(e)
			if e.Status == statusSucceeded {
				core.Reported = ref
			}
		}
		b.If(coreKey(name), rec.Rev).Put(coreKey(name), core)
		return w.Finish(ctx, b, task.Result{Status: task.Success})
	})
	return failed(err, "Failed to add core device to deployment thing group target")
}

// recordFailure is what the core's record says of a deployment that could not be
// started (cdf-services §3.8, step 4). A name that is no core has no record.
func (s *Service) recordFailure(ctx context.Context, t task.Task, i task.Item, message string, b *state.Batch) error {
	var spec deploymentItem
	if err := i.Decode(&spec); err != nil {
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
	core.Desired, core.DeploymentTask, core.UpdatedAt = spec.Template, t.ID, s.stamp()
	core.Execution = ExecutionRef{}
	core.DeploymentStatus, core.DeploymentMessage = DeploymentFailure, message
	b.If(coreKey(i.Name), rec.Rev).Put(coreKey(i.Name), core)
	return nil
}

// ensureDeployment returns the deployment of a template version, which is made
// once, at the first core that is sent there.
func (s *Service) ensureDeployment(ctx context.Context, ref TemplateRef, taskID string) (TemplateDeployment, error) {
	s.mu.Lock()
	d, ok := s.deployed[ref]
	s.mu.Unlock()
	if ok {
		return d, nil
	}
	t, err := s.TemplateVersion(ctx, ref.Name, ref.Version)
	if err != nil {
		return TemplateDeployment{}, err
	}
	group := groupOf(ref)
	made, err := s.cfg.Cloud.Ensure(ctx, groupDeployment(t, group, taskID), group)
	if err != nil {
		return TemplateDeployment{}, err
	}
	d = TemplateDeployment{ID: made.ID, ThingGroup: group, JobID: made.JobID}
	_, err = state.Update(ctx, s.cfg.Store, state.StepTemplateDeploy, deployedKey(ref), func(v *TemplateDeployment, _ bool, _ *state.Batch) error {
		if *v == d {
			return state.ErrKeep
		}
		*v = d
		return nil
	})
	if err != nil {
		return TemplateDeployment{}, fmt.Errorf("store deployment of template %s version %d: %w", ref.Name, ref.Version, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deployed[ref] = d
	return d, nil
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
