package fleetapi

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/ggfleet/ggfleet/controlplane/api"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/fleetapi/gen"
	"github.com/ggfleet/ggfleet/controlplane/internal/fleet"
	"github.com/ggfleet/ggfleet/shared/fault"
)

func (s *server) CreateCoreTask(ctx context.Context, r gen.CreateCoreTaskRequestObject) (gen.CreateCoreTaskResponseObject, error) {
	in, err := newCoreTask(r.Body)
	if err != nil {
		return nil, err
	}
	id, err := s.Cores.CreateCoreTask(ctx, in, idempotency(ctx))
	if err != nil {
		return nil, fmt.Errorf("creating a core task: %w", err)
	}
	return gen.CreateCoreTask202Response{Headers: taskAccepted("/coreTasks/", id)}, nil
}

// taskAccepted names a task that was made.
func taskAccepted(collection, id string) gen.TaskAcceptedResponseHeaders {
	return gen.TaskAcceptedResponseHeaders{Location: collection + url.PathEscape(id), XTaskid: id}
}

// newCoreTask translates a body and checks what the document can not say.
func newCoreTask(b *api.NewCoreTask) (fleet.NewCoreTask, error) {
	t := fleet.NewCoreTask{Type: string(b.Type), CoreVersion: b.CoreVersion, Options: b.Options, Cores: make([]fleet.NewCore, len(b.Cores))}
	create := t.Type == fleet.CoreTaskCreate
	if create && t.CoreVersion == "" {
		return t, fault.Field("coreVersion", "is missing")
	}
	if !create {
		if err := checkDeleteOptions(b.Options, "deprovisionClientDevices", "deprovisionCores"); err != nil {
			return t, err
		}
	}
	seen := make(map[string]int, len(b.Cores))
	for i, c := range b.Cores {
		if first, twice := seen[c.Name]; twice {
			return t, fault.Field(fmt.Sprintf("cores[%d].name", i), "%q is already the name of cores[%d]", c.Name, first)
		}
		seen[c.Name] = i
		if create && c.ProvisioningTemplate == "" {
			return t, fault.Field(fmt.Sprintf("cores[%d].provisioningTemplate", i), "is missing")
		}
		t.Cores[i] = fleet.NewCore{
			Name:                      c.Name,
			ProvisioningTemplate:      c.ProvisioningTemplate,
			ProvisioningParameters:    c.ProvisioningParameters,
			CDFProvisioningParameters: c.CdfProvisioningParameters,
			ConfigFileGenerator:       c.ConfigFileGenerator,
			ConfigOverlay:             c.ConfigOverlay,
			Claim:                     c.Claim,
		}
	}
	return t, nil
}

func (s *server) GetCoreTask(ctx context.Context, r gen.GetCoreTaskRequestObject) (gen.GetCoreTaskResponseObject, error) {
	p := r.Params
	t, err := s.Cores.CoreTask(ctx, r.TaskID, page(opt(p.Count), opt(p.ExclusiveStartThingName)))
	if err != nil {
		return nil, fmt.Errorf("reading core task %s: %w", r.TaskID, err)
	}
	out := coreTask(t)
	out.Pagination = pagination(opt(p.Count), api.LastEvaluated{ThingName: t.Next})
	return gen.GetCoreTask200ApplicationVndAwsCdfV10PlusJSONResponse{CoreTaskFoundApplicationVndAwsCdfV10PlusJSONResponse: gen.CoreTaskFoundApplicationVndAwsCdfV10PlusJSONResponse(out)}, nil
}

// GetCoreTaskOfCore is the seed's spelling of GetCoreTask (spec cdf-services
// D-02).
func (s *server) GetCoreTaskOfCore(ctx context.Context, r gen.GetCoreTaskOfCoreRequestObject) (gen.GetCoreTaskOfCoreResponseObject, error) {
	t, err := s.Cores.CoreTask(ctx, r.TaskID, fleet.Page{})
	if err != nil {
		return nil, fmt.Errorf("reading core task %s: %w", r.TaskID, err)
	}
	if !slices.ContainsFunc(t.Cores, func(i fleet.TaskItem) bool { return i.Name == r.Name }) {
		return nil, fault.New(fault.NotFound, "core %q is not part of core task %s", clip(r.Name), t.ID)
	}
	return gen.GetCoreTaskOfCore200ApplicationVndAwsCdfV10PlusJSONResponse{CoreTaskFoundApplicationVndAwsCdfV10PlusJSONResponse: gen.CoreTaskFoundApplicationVndAwsCdfV10PlusJSONResponse(coreTask(t))}, nil
}

func (s *server) ListCoreTasks(ctx context.Context, r gen.ListCoreTasksRequestObject) (gen.ListCoreTasksResponseObject, error) {
	p := r.Params
	ts, next, err := s.Cores.CoreTasks(ctx, page(opt(p.Count), opt(p.ExclusiveStartTaskID)))
	if err != nil {
		return nil, fmt.Errorf("listing core tasks: %w", err)
	}
	return gen.ListCoreTasks200ApplicationVndAwsCdfV10PlusJSONResponse{
		Tasks: each(ts, func(t fleet.CoreTask) api.CoreTask {
			t.Cores = nil
			return coreTask(t)
		}),
		Pagination: pagination(opt(p.Count), api.LastEvaluated{TaskID: next}),
	}, nil
}

func (s *server) GetCore(ctx context.Context, r gen.GetCoreRequestObject) (gen.GetCoreResponseObject, error) {
	c, err := s.Cores.Core(ctx, r.Name)
	if err != nil {
		return nil, fmt.Errorf("reading core %s: %w", r.Name, err)
	}
	return gen.GetCore200ApplicationVndAwsCdfV10PlusJSONResponse(coreView(c)), nil
}

func (s *server) ListCores(ctx context.Context, r gen.ListCoresRequestObject) (gen.ListCoresResponseObject, error) {
	p := r.Params
	if opt(p.TemplateVersion) > 0 && opt(p.TemplateName) == "" {
		return nil, fault.Field("templateVersion", "needs templateName beside it")
	}
	f := fleet.CoreFilter{TemplateName: opt(p.TemplateName), TemplateVersion: opt(p.TemplateVersion), FailedOnly: strings.EqualFold(opt(p.FailedOnly), "true"), Agent: string(opt(p.Agent))}
	cs, next, err := s.Cores.Cores(ctx, f, page(opt(p.Count), opt(p.ExclusiveStartThingName)))
	if err != nil {
		return nil, fmt.Errorf("listing cores: %w", err)
	}
	return gen.ListCores200ApplicationVndAwsCdfV10PlusJSONResponse{
		Cores: each(cs, func(c fleet.Core) api.CoreListItem {
			return api.CoreListItem{
				Name: c.Name, Agent: listAgent(s.Cores.Agent(c.Name)), Template: coreTemplates(c), CreatedAt: api.At(c.CreatedAt), UpdatedAt: api.At(c.UpdatedAt),
			}
		}),
		Pagination: pagination(opt(p.Count), api.LastEvaluated{ThingName: next}),
	}, nil
}

func coreTask(t fleet.CoreTask) api.CoreTask {
	return api.CoreTask{
		ID:              t.ID,
		Type:            api.CoreTaskType(t.Type),
		CoreVersion:     t.CoreVersion,
		Options:         t.Options,
		Cores:           each(t.Cores, taskItem),
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

func taskItem(i fleet.TaskItem) api.TaskItem {
	return api.TaskItem{
		Name:          i.Name,
		TaskStatus:    api.TaskStatus(i.Status),
		StatusMessage: i.StatusMessage,
		CreatedAt:     api.At(i.CreatedAt),
		UpdatedAt:     api.At(i.UpdatedAt),
	}
}

func coreView(v fleet.CoreView) api.Core {
	c := api.Core{
		Name:                 v.Name,
		Artifacts:            artifacts(v.Artifacts),
		Device:               coreDevice(v.Device),
		Template:             coreTemplates(v.Core),
		DeploymentTaskID:     v.DeploymentTask,
		ProvisioningTemplate: v.ProvisioningTemplate,
		ConfigFileGenerator:  v.ConfigGenerator,
		CoreVersion:          v.Core.CoreVersion,
		Claim:                v.Claim,
		CertificatePending:   v.CertificatePending,
		CreatedAt:            api.At(v.CreatedAt),
		UpdatedAt:            api.At(v.UpdatedAt),
	}
	if v.Agent != nil {
		c.Agent = coreAgent(*v.Agent)
	}
	return c
}

// coreTemplates shows None and 0 for a core that was never deployed to (spec
// cdf-services §2.3).
func coreTemplates(c fleet.Core) api.CoreTemplates {
	desired, reported := templateRef(c.Desired), templateRef(c.Reported)
	status := c.DeploymentStatus
	if status == "" {
		status = fleet.DeploymentNone
	}
	return api.CoreTemplates{
		Desired: desired,
		Reported: api.ReportedTemplate{
			Name:                    reported.Name,
			Version:                 reported.Version,
			DeploymentStatus:        api.DeploymentStatus(status),
			DeploymentStatusMessage: c.DeploymentMessage,
		},
	}
}

func templateRef(r fleet.TemplateRef) api.TemplateRef {
	if r.Name == "" {
		return api.TemplateRef{Name: fleet.NoTemplate}
	}
	return api.TemplateRef{Name: r.Name, Version: r.Version}
}

func coreDevice(d fleet.CoreDevice) api.CoreDevice {
	status := d.Status
	if status == "" {
		status = string(api.UNKNOWN)
	}
	return api.CoreDevice{
		Status:                    api.CoreDeviceStatus(status),
		CoreVersion:               d.CoreVersion,
		Platform:                  d.Platform,
		Architecture:              d.Architecture,
		Runtime:                   d.Runtime,
		LastStatusUpdateTimestamp: api.At(d.LastStatusUpdate),
		Connected:                 d.Connected,
		LastSeen:                  api.At(d.LastSeen),
		Tags:                      d.Tags,
		InstalledComponents: each(d.Installed, func(c fleet.InstalledComponent) api.InstalledComponent {
			return api.InstalledComponent{Name: c.Name, Version: c.Version, LifecycleState: c.State, LifecycleStateReason: c.Reason, IsRoot: c.IsRoot}
		}),
		EffectiveDeployments: each(d.EffectiveDeployments, func(e fleet.EffectiveDeployment) api.EffectiveDeployment {
			return api.EffectiveDeployment{
				DeploymentID:              e.DeploymentID,
				DeploymentName:            e.DeploymentName,
				IotJobID:                  e.JobID,
				IotJobArn:                 e.JobARN,
				Description:               e.Description,
				TargetArn:                 e.TargetARN,
				CoreDeviceExecutionStatus: e.Status,
				Reason:                    e.Reason,
				CreatedAt:                 api.At(e.CreatedAt),
				UpdatedAt:                 api.At(e.UpdatedAt),
			}
		}),
	}
}
