package greengrassapi

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/edge/awsapi/rest"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/greengrass"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
)

func (a *api) coreOperations() []rest.Operation {
	const cores, core = "/greengrass/v2/coreDevices", "/greengrass/v2/coreDevices/{coreDeviceThingName}"
	return []rest.Operation{
		{Name: "ListCoreDevices", Method: "GET", Path: cores, Call: rest.Handle(a.listCoreDevices)},
		{Name: "GetCoreDevice", Method: "GET", Path: core, Call: rest.Handle(a.getCoreDevice)},
		{Name: "DeleteCoreDevice", Method: "DELETE", Path: core, Status: 204, Call: rest.Handle(a.deleteCoreDevice)},
		{Name: "ListInstalledComponents", Method: "GET", Path: core + "/installedComponents", Call: rest.Handle(a.listInstalledComponents)},
		{Name: "ListEffectiveDeployments", Method: "GET", Path: core + "/effectiveDeployments", Call: rest.Handle(a.listEffectiveDeployments)},
	}
}

// pageSize is how long a list is whose caller names no size (greengrassv2-api §5).
const pageSize = 50

type listCoreDevicesIn struct {
	Group      string `query:"thingGroupArn" check:"pattern=thingGroup"`
	Status     string `query:"status" check:"enum=HEALTHY|UNHEALTHY"`
	Runtime    string `query:"runtime" check:"len=1..255"`
	MaxResults *int32 `query:"maxResults" check:"range=1..100"`
	NextToken  string `query:"nextToken"`
}

type coreDevice struct {
	Name         string    `json:"coreDeviceThingName"`
	Status       string    `json:"status"`
	UpdatedAt    rest.Time `json:"lastStatusUpdateTimestamp"`
	Platform     string    `json:"platform,omitempty"`
	Architecture string    `json:"architecture,omitempty"`
	Runtime      string    `json:"runtime,omitempty"`
}

type listCoreDevicesOut struct {
	Cores     []coreDevice `json:"coreDevices"`
	NextToken string       `json:"nextToken,omitempty"`
}

func (a *api) listCoreDevices(ctx context.Context, in *listCoreDevicesIn) (*listCoreDevicesOut, error) {
	f := greengrass.CoreFilter{Status: in.Status, Runtime: in.Runtime}
	if in.Group != "" {
		_, name, err := names.ParseTarget(in.Group)
		if err != nil || a.cfg.Realm.ThingGroup(name) != in.Group {
			return nil, fault.Field("thingGroupArn", "%.200q is not the ARN of a thing group of this account and region", in.Group)
		}
		f.Group = name
	}
	filters := []string{"cores", in.Group, in.Status, in.Runtime}
	after, err := rest.After(in.NextToken, filters...)
	if err != nil {
		return nil, err
	}
	list, more, err := a.cfg.Greengrass.Cores(ctx, f, after, rest.Limit(in.MaxResults, pageSize))
	if err != nil {
		return nil, err
	}
	out := &listCoreDevicesOut{Cores: make([]coreDevice, len(list))}
	for i, c := range list {
		out.Cores[i] = coreDevice{
			Name: c.Thing, Status: c.Status, UpdatedAt: rest.At(c.LastStatusAt), Platform: c.Platform, Architecture: c.Architecture, Runtime: c.RuntimeName(),
		}
	}
	if more {
		out.NextToken = rest.Token(list[len(list)-1].Thing, filters...)
	}
	return out, nil
}

type coreIn struct {
	Core string `path:"coreDeviceThingName" check:"len=1..128"`
}

type getCoreDeviceOut struct {
	coreDevice
	Version string            `json:"coreVersion,omitempty"`
	Tags    map[string]string `json:"tags"`
}

func (a *api) getCoreDevice(ctx context.Context, in *coreIn) (*getCoreDeviceOut, error) {
	c, err := a.cfg.Greengrass.Core(ctx, in.Core)
	if err != nil {
		return nil, about(kindCore, in.Core, err)
	}
	tags, err := a.cfg.Greengrass.CoreTags(ctx, in.Core)
	if err != nil {
		return nil, err
	}
	return &getCoreDeviceOut{
		coreDevice: coreDevice{
			Name: c.Thing, Status: c.Status, UpdatedAt: rest.At(c.LastStatusAt), Platform: c.Platform, Architecture: c.Architecture, Runtime: c.RuntimeName(),
		},
		Version: c.Version, Tags: some(tags),
	}, nil
}

func (a *api) deleteCoreDevice(ctx context.Context, in *coreIn) (*rest.Empty, error) {
	if err := a.known(ctx, in.Core); err != nil {
		return nil, err
	}
	return nil, about(kindCore, in.Core, a.cfg.Greengrass.ForgetCore(ctx, in.Core))
}

// known is an error if the core device never reported.
func (a *api) known(ctx context.Context, core string) error {
	_, err := a.cfg.Greengrass.Core(ctx, core)
	return about(kindCore, core, err)
}

type listInstalledComponentsIn struct {
	Core       string `path:"coreDeviceThingName" check:"len=1..128"`
	Topology   string `query:"topologyFilter" check:"enum=ALL|ROOT"`
	MaxResults *int32 `query:"maxResults" check:"range=1..100"`
	NextToken  string `query:"nextToken"`
}

type installedComponent struct {
	Name       string    `json:"componentName,omitempty"`
	Version    string    `json:"componentVersion,omitempty"`
	State      string    `json:"lifecycleState,omitempty"`
	Details    string    `json:"lifecycleStateDetails,omitempty"`
	IsRoot     bool      `json:"isRoot"`
	ChangedAt  rest.Time `json:"lastStatusChangeTimestamp"`
	ReportedAt rest.Time `json:"lastReportedTimestamp"`
	Source     string    `json:"lastInstallationSource,omitempty"`
	Codes      []string  `json:"lifecycleStatusCodes"`
}

type listInstalledComponentsOut struct {
	Components []installedComponent `json:"installedComponents"`
	NextToken  string               `json:"nextToken,omitempty"`
}

func (a *api) listInstalledComponents(ctx context.Context, in *listInstalledComponentsIn) (*listInstalledComponentsOut, error) {
	all := in.Topology == "ALL"
	filters := []string{"installed", in.Core, fmt.Sprint(all)}
	after, err := rest.After(in.NextToken, filters...)
	if err != nil {
		return nil, err
	}
	list, err := a.cfg.Greengrass.Installed(ctx, in.Core, all)
	if err != nil {
		return nil, about(kindCore, in.Core, err)
	}
	list, more := page(list, after, rest.Limit(in.MaxResults, pageSize), func(x greengrass.InstalledComponent) string { return x.Name })
	out := &listInstalledComponentsOut{Components: make([]installedComponent, len(list))}
	for i, x := range list {
		out.Components[i] = installedComponent{
			Name: x.Name, Version: x.Version, State: x.State, Details: x.Reason, IsRoot: x.IsRoot, ChangedAt: rest.At(x.ChangedAt),
			ReportedAt: rest.At(x.LastReportedAt), Source: x.Source, Codes: append([]string{}, x.Codes...),
		}
	}
	if more {
		out.NextToken = rest.Token(list[len(list)-1].Name, filters...)
	}
	return out, nil
}

type listEffectiveDeploymentsIn struct {
	Core       string `path:"coreDeviceThingName" check:"len=1..128"`
	MaxResults *int32 `query:"maxResults" check:"range=1..100"`
	NextToken  string `query:"nextToken"`
}

type effectiveDeployment struct {
	DeploymentID string             `json:"deploymentId"`
	Name         string             `json:"deploymentName"` // required by the model, also when there is none
	JobID        string             `json:"iotJobId,omitempty"`
	JobARN       string             `json:"iotJobArn,omitempty"`
	TargetARN    string             `json:"targetArn"`
	Status       string             `json:"coreDeviceExecutionStatus"`
	Reason       string             `json:"reason,omitempty"`
	CreatedAt    rest.Time          `json:"creationTimestamp"`
	ModifiedAt   rest.Time          `json:"modifiedTimestamp"`
	Details      *deploymentDetails `json:"statusDetails,omitempty"`
}

type deploymentDetails struct {
	ErrorStack []string `json:"errorStack"`
	ErrorTypes []string `json:"errorTypes"`
}

type listEffectiveDeploymentsOut struct {
	Deployments []effectiveDeployment `json:"effectiveDeployments"`
	NextToken   string                `json:"nextToken,omitempty"`
}

func (a *api) listEffectiveDeployments(ctx context.Context, in *listEffectiveDeploymentsIn) (*listEffectiveDeploymentsOut, error) {
	after, err := rest.After(in.NextToken, "effective", in.Core)
	if err != nil {
		return nil, err
	}
	if err := a.known(ctx, in.Core); err != nil {
		return nil, err
	}
	list, err := a.cfg.Greengrass.EffectiveDeployments(ctx, in.Core)
	if err != nil && !errors.Is(err, fault.NotFound) { // the thing is gone, its core device is not yet: nothing applies to it
		return nil, err
	}
	list, more := page(list, after, rest.Limit(in.MaxResults, pageSize), place)
	out := &listEffectiveDeploymentsOut{Deployments: make([]effectiveDeployment, len(list))}
	for i, e := range list {
		d := effectiveDeployment{
			DeploymentID: e.Deployment.ID, Name: e.Deployment.Name, JobID: e.JobID, JobARN: e.JobARN, TargetARN: e.TargetARN, Status: e.Status,
			Reason: e.Reason, CreatedAt: rest.At(e.CreatedAt), ModifiedAt: rest.At(e.UpdatedAt),
		}
		if e.ErrorStack != nil {
			d.Details = &deploymentDetails{ErrorStack: e.ErrorStack, ErrorTypes: e.ErrorTypes}
		}
		out.Deployments[i] = d
	}
	if more {
		out.NextToken = rest.Token(place(list[len(list)-1]), "effective", in.Core)
	}
	return out, nil
}

// place orders effective deployments as the service does, the newest change first.
func place(e greengrass.Effective) string {
	down := func(t time.Time) int64 { return math.MaxInt64 - t.UnixMilli() }
	return fmt.Sprintf("%d/%d/%s", down(e.UpdatedAt), down(e.CreatedAt), e.Deployment.ID)
}

// page returns what follows after of a list in the order of key, and whether there
// is more than limit.
func page[T any](list []T, after string, limit int, key func(T) string) (some []T, more bool) {
	if after != "" {
		list = slices.DeleteFunc(list, func(x T) bool { return strings.Compare(key(x), after) <= 0 })
	}
	if len(list) > limit {
		return list[:limit], true
	}
	return list, false
}

// some is tags as answers have them: an object also when there are none.
func some(tags map[string]string) map[string]string {
	if tags == nil {
		return map[string]string{}
	}
	return tags
}
