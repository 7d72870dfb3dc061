package fleetapi

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/ggfleet/ggfleet/controlplane/api"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/fleetapi/gen"
	"github.com/ggfleet/ggfleet/controlplane/internal/fleet"
	"github.com/ggfleet/ggfleet/shared/fault"
)

func (s *server) CreateDeploymentTask(ctx context.Context, r gen.CreateDeploymentTaskRequestObject) (gen.CreateDeploymentTaskResponseObject, error) {
	targets, err := newTargets(r.Body.Targets)
	if err != nil {
		return nil, fault.Under("targets", err)
	}
	id, err := s.Deployments.CreateDeploymentTask(ctx, fleet.NewDeploymentTask{
		TemplateName:    r.Body.Template.Name,
		TemplateVersion: int(r.Body.Template.Version),
		Targets:         targets,
		IoTJobConfig:    r.Body.IotJobConfig,
		Force:           r.Body.Force,
		PreStage:        r.Body.PreStage,
	}, idempotency(ctx))
	if err != nil {
		return nil, fmt.Errorf("creating a deployment task: %w", err)
	}
	return gen.CreateDeploymentTask202Response{Headers: taskAccepted("/deploymentTasks/", id)}, nil
}

// newTargets reads the targets, older spellings included (spec cdf-services
// D-10), each name once. Raw keeps them as they were sent.
func newTargets(raw json.RawMessage) (fleet.Targets, error) {
	t := fleet.Targets{Raw: raw}
	var in struct {
		ThingNames      []string `json:"thingNames"`
		ThingGroupNames []string `json:"thingGroupNames"`
		ThingGroups     []string `json:"thingGroups"`

		DeviceIDs  []string        `json:"assetLibraryDeviceIds"`
		GroupPaths []string        `json:"assetLibraryGroupPaths"`
		Query      json.RawMessage `json:"assetLibraryQuery"`
	}
	if err := json.Unmarshal(raw, &in); err != nil {
		return t, decodeError(err)
	}
	t.ThingNames = distinct(in.ThingNames)
	t.ThingGroupNames = distinct(append(in.ThingGroupNames, in.ThingGroups...))
	t.DeviceIDs = distinct(in.DeviceIDs)
	t.GroupPaths = distinct(in.GroupPaths)
	var query map[string]json.RawMessage
	if len(in.Query) > 0 {
		_ = json.Unmarshal(in.Query, &query) // it is an object: the document says so
	}
	if len(query) > 0 { // an empty one would find everything
		t.Query = in.Query
	}
	if len(t.ThingNames)+len(t.ThingGroupNames)+len(t.DeviceIDs)+len(t.GroupPaths)+len(t.Query) == 0 {
		return t, fault.New(fault.Invalid, "targets: name at least one in thingNames, thingGroupNames, assetLibraryDeviceIds, assetLibraryGroupPaths or assetLibraryQuery")
	}
	return t, nil
}

// distinct drops repetitions and keeps the order.
func distinct(names []string) []string {
	seen := make(map[string]bool, len(names))
	return slices.DeleteFunc(names, func(n string) bool {
		twice := seen[n]
		seen[n] = true
		return twice
	})
}

func (s *server) GetDeploymentTask(ctx context.Context, r gen.GetDeploymentTaskRequestObject) (gen.GetDeploymentTaskResponseObject, error) {
	p := r.Params
	t, err := s.Deployments.DeploymentTask(ctx, r.TaskID, page(opt(p.Count), opt(p.ExclusiveStartThingName)))
	if err != nil {
		return nil, fmt.Errorf("reading deployment task %s: %w", r.TaskID, err)
	}
	out := deploymentTask(t)
	out.Pagination = pagination(opt(p.Count), api.LastEvaluated{ThingName: t.Next})
	return gen.GetDeploymentTask200ApplicationVndAwsCdfV10PlusJSONResponse(out), nil
}

func (s *server) CancelDeploymentTask(ctx context.Context, r gen.CancelDeploymentTaskRequestObject) (gen.CancelDeploymentTaskResponseObject, error) {
	if err := s.Deployments.CancelDeploymentTask(ctx, r.TaskID); err != nil {
		return nil, fmt.Errorf("cancelling deployment task %s: %w", r.TaskID, err)
	}
	return gen.CancelDeploymentTask202Response{}, nil
}

func (s *server) RetryDeploymentTask(ctx context.Context, r gen.RetryDeploymentTaskRequestObject) (gen.RetryDeploymentTaskResponseObject, error) {
	id, err := s.Deployments.RetryDeploymentTask(ctx, r.TaskID, idempotency(ctx))
	if err != nil {
		return nil, fmt.Errorf("retrying deployment task %s: %w", r.TaskID, err)
	}
	return gen.RetryDeploymentTask202Response{Headers: taskAccepted("/deploymentTasks/", id)}, nil
}

func (s *server) DeleteDeploymentTask(ctx context.Context, r gen.DeleteDeploymentTaskRequestObject) (gen.DeleteDeploymentTaskResponseObject, error) {
	if err := s.Deployments.DeleteDeploymentTask(ctx, r.TaskID); err != nil {
		return nil, fmt.Errorf("deleting deployment task %s: %w", r.TaskID, err)
	}
	return gen.DeleteDeploymentTask204Response{}, nil
}

func (s *server) ListDeploymentTasks(ctx context.Context, r gen.ListDeploymentTasksRequestObject) (gen.ListDeploymentTasksResponseObject, error) {
	p := r.Params
	ts, next, err := s.Deployments.DeploymentTasks(ctx, page(opt(p.Count), opt(p.ExclusiveStartTaskID)))
	if err != nil {
		return nil, fmt.Errorf("listing deployment tasks: %w", err)
	}
	return gen.ListDeploymentTasks200ApplicationVndAwsCdfV10PlusJSONResponse{
		DeploymentTasks: each(ts, func(t fleet.DeploymentTask) api.DeploymentTask {
			t.Deployments = nil
			return deploymentTask(t)
		}),
		Pagination: pagination(opt(p.Count), api.LastEvaluated{TaskID: next}),
	}, nil
}

func (s *server) ListDeploymentTaskCores(ctx context.Context, r gen.ListDeploymentTaskCoresRequestObject) (gen.ListDeploymentTaskCoresResponseObject, error) {
	list, err := s.taskCores(ctx, r.TaskID, opt(r.Params.Count), opt(r.Params.ExclusiveStartThingName))
	if err != nil {
		return nil, err
	}
	return gen.ListDeploymentTaskCores200ApplicationVndAwsCdfV10PlusJSONResponse{DeploymentTaskCoresApplicationVndAwsCdfV10PlusJSONResponse: list}, nil
}

// ListDeploymentTaskDeployments is another spelling of ListDeploymentTaskCores.
func (s *server) ListDeploymentTaskDeployments(ctx context.Context, r gen.ListDeploymentTaskDeploymentsRequestObject) (gen.ListDeploymentTaskDeploymentsResponseObject, error) {
	list, err := s.taskCores(ctx, r.TaskID, opt(r.Params.Count), opt(r.Params.ExclusiveStartThingName))
	if err != nil {
		return nil, err
	}
	return gen.ListDeploymentTaskDeployments200ApplicationVndAwsCdfV10PlusJSONResponse{DeploymentTaskCoresApplicationVndAwsCdfV10PlusJSONResponse: list}, nil
}

func (s *server) taskCores(ctx context.Context, id string, count api.Count, after string) (gen.DeploymentTaskCoresApplicationVndAwsCdfV10PlusJSONResponse, error) {
	ds, next, err := s.Deployments.DeploymentTaskCores(ctx, id, page(count, after))
	if err != nil {
		return gen.DeploymentTaskCoresApplicationVndAwsCdfV10PlusJSONResponse{}, fmt.Errorf("listing cores of deployment task %s: %w", id, err)
	}
	return gen.DeploymentTaskCoresApplicationVndAwsCdfV10PlusJSONResponse{
		Cores:      each(ds, deployment),
		Pagination: pagination(count, api.LastEvaluated{ThingName: next}),
	}, nil
}

func (s *server) GetDeploymentTaskCore(ctx context.Context, r gen.GetDeploymentTaskCoreRequestObject) (gen.GetDeploymentTaskCoreResponseObject, error) {
	d, err := s.Deployments.DeploymentTaskCore(ctx, r.TaskID, r.Name)
	if err != nil {
		return nil, fmt.Errorf("reading core %s of deployment task %s: %w", r.Name, r.TaskID, err)
	}
	return gen.GetDeploymentTaskCore200ApplicationVndAwsCdfV10PlusJSONResponse(deployment(d)), nil
}

func (s *server) ListCoreDeployments(ctx context.Context, r gen.ListCoreDeploymentsRequestObject) (gen.ListCoreDeploymentsResponseObject, error) {
	p := r.Params
	ds, next, err := s.Deployments.CoreDeployments(ctx, r.Name, page(opt(p.Count), opt(p.ExclusiveStartTaskID)))
	if err != nil {
		return nil, fmt.Errorf("listing deployments of core %s: %w", r.Name, err)
	}
	return gen.ListCoreDeployments200ApplicationVndAwsCdfV10PlusJSONResponse{
		Deployments: each(ds, func(d fleet.Deployment) api.Deployment {
			out := deployment(d)
			out.Template = templateRef(d.Template)
			return out
		}),
		Pagination: pagination(opt(p.Count), api.LastEvaluated{TaskID: next}),
	}, nil
}

func (s *server) GetFleetSummary(ctx context.Context, _ gen.GetFleetSummaryRequestObject) (gen.GetFleetSummaryResponseObject, error) {
	sum, err := s.Deployments.Summary(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the fleet summary: %w", err)
	}
	out := api.FleetSummary{Templates: make(map[string]api.TemplateSummary, len(sum.Templates)), Agents: agentSummary(sum.Agents)}
	for name, t := range sum.Templates {
		if name == fleet.NoTemplate { // hidden: spec cdf-services D-07
			continue
		}
		rows := make(map[string]api.VersionSummary, len(t.Versions))
		for version, n := range t.Versions {
			rows[strconv.Itoa(version)] = api.VersionSummary{
				DesiredInUse:             n.DesiredInUse,
				ReportedInUse:            n.ReportedInUse,
				LastDeploymentSuccess:    n.LastDeploymentSuccess,
				LastDeploymentFailed:     n.LastDeploymentFailed,
				LastDeploymentInProgress: n.LastDeploymentInProgress,
			}
		}
		out.Templates[name] = api.TemplateSummary{LatestVersion: t.LatestVersion, Versions: rows}
	}
	return gen.GetFleetSummary200ApplicationVndAwsCdfV10PlusJSONResponse(out), nil
}

func deploymentTask(t fleet.DeploymentTask) api.DeploymentTask {
	return api.DeploymentTask{
		ID:              t.ID,
		Template:        templateRef(t.Template),
		Targets:         t.Targets,
		IotJobConfig:    t.IoTJobConfig,
		Force:           t.Force,
		PreStage:        t.PreStage,
		RetryOf:         t.RetryOf,
		Rollout:         rollout(t.Rollout),
		Deployments:     each(t.Deployments, deployment),
		TaskStatus:      api.TaskStatus(t.Status),
		StatusMessage:   t.StatusMessage,
		CreatedAt:       api.At(t.CreatedAt),
		UpdatedAt:       api.At(t.UpdatedAt),
		BatchesComplete: t.BatchesComplete,
		BatchesTotal:    t.BatchesTotal,
		ItemsTotal:      t.Items,
		ItemsSucceeded:  t.Succeeded,
		ItemsFailed:     t.Failed,
	}
}

func rollout(r *fleet.RolloutState) *api.Rollout {
	if r == nil {
		return nil
	}
	return &api.Rollout{
		RatePerMinute: r.RatePerMinute,
		Notified:      r.Notified,
		TakenUp:       r.TakenUp,
		Succeeded:     r.Succeeded,
		Failed:        r.Failed,
		Rejected:      r.Rejected,
		TimedOut:      r.TimedOut,
		NextAt:        api.At(r.NextAt),
		Stopped:       r.Stopped,
		StoppedAt:     api.At(r.StoppedAt),
	}
}

func deployment(d fleet.Deployment) api.Deployment {
	return api.Deployment{
		CoreName:         d.Name,
		TaskID:           d.TaskID,
		TaskStatus:       api.TaskStatus(d.Status),
		StatusMessage:    d.StatusMessage,
		DeploymentStatus: api.DeploymentStatus(d.DeploymentStatus),
		WaitingFor:       d.Waiting,

		DeploymentStatusMessage: d.DeploymentMessage,
		CreatedAt:               api.At(d.CreatedAt),
		UpdatedAt:               api.At(d.UpdatedAt),
	}
}
