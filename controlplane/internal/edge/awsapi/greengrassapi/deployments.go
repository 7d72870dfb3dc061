package greengrassapi

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/ggfleet/ggfleet/controlplane/internal/edge/awsapi/rest"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/clienttoken"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/greengrass"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/jobs"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
)

// deploymentPage is how many entries a list has if the caller does not say.
const deploymentPage = 50

func (a *api) deploymentOperations() []rest.Operation {
	const all, one = "/greengrass/v2/deployments", "/greengrass/v2/deployments/{deploymentId}"
	return []rest.Operation{
		{Name: "CreateDeployment", Method: http.MethodPost, Path: all, Status: http.StatusCreated, Call: rest.Handle(a.createDeployment)},
		{Name: "GetDeployment", Method: http.MethodGet, Path: one, Call: rest.Handle(a.getDeployment)},
		{Name: "ListDeployments", Method: http.MethodGet, Path: all, Call: rest.Handle(a.listDeployments)},
		{Name: "CancelDeployment", Method: http.MethodPost, Path: one + "/cancel", Call: rest.Handle(a.cancelDeployment)},
		{Name: "DeleteDeployment", Method: http.MethodDelete, Path: one, Status: http.StatusNoContent, Call: rest.Handle(a.deleteDeployment)},
	}
}

// What components and iotJobConfiguration hold is checked by the service, which
// names each member as the API does.
type createDeploymentIn struct {
	TargetARN  string                          `json:"targetArn" check:"required,pattern=target"`
	Name       string                          `json:"deploymentName" check:"len=1..256"`
	Components map[string]greengrass.Component `json:"components"`
	JobConfig  greengrass.JobConfig            `json:"iotJobConfiguration"`
	Policies   deploymentPolicies              `json:"deploymentPolicies"`
	ParentARN  string                          `json:"parentTargetArn" check:"pattern=thingGroup"`
	Tags       map[string]string               `json:"tags" check:"items=0..200,key.len=1..128,value.len=0..256"`
	Token      string                          `json:"clientToken" check:"len=1..64,pattern=clientToken"`
}

type deploymentPolicies struct {
	FailureHandling *string           `json:"failureHandlingPolicy"`
	Update          *updatePolicy     `json:"componentUpdatePolicy"`
	Validation      *validationPolicy `json:"configurationValidationPolicy"`
}

type updatePolicy struct {
	Timeout *int    `json:"timeoutInSeconds"`
	Action  *string `json:"action"`
}

type validationPolicy struct {
	Timeout *int `json:"timeoutInSeconds"`
}

// over returns the policies with the defaults filled in, member by member.
func (p deploymentPolicies) over(out greengrass.Policies) greengrass.Policies {
	set(&out.FailureHandling, p.FailureHandling)
	if p.Update != nil {
		set(&out.UpdateTimeout, p.Update.Timeout)
		set(&out.UpdateAction, p.Update.Action)
	}
	if p.Validation != nil {
		set(&out.ValidationTimeout, p.Validation.Timeout)
	}
	return out
}

func set[T any](to, v *T) {
	if v != nil {
		*to = *v
	}
}

func policiesOf(p greengrass.Policies) deploymentPolicies {
	return deploymentPolicies{
		FailureHandling: &p.FailureHandling,
		Update:          &updatePolicy{Timeout: &p.UpdateTimeout, Action: &p.UpdateAction},
		Validation:      &validationPolicy{Timeout: &p.ValidationTimeout},
	}
}

type createDeploymentOut struct {
	DeploymentID string `json:"deploymentId"`
	JobID        string `json:"iotJobId,omitempty"`
	JobARN       string `json:"iotJobArn,omitempty"`
}

func (a *api) createDeployment(ctx context.Context, in *createDeploymentIn) (*createDeploymentOut, error) {
	n := greengrass.NewDeployment{
		Name: in.Name, Components: in.Components, JobConfig: in.JobConfig, Tags: in.Tags, Policies: in.Policies.over(greengrass.DefaultPolicies()),
	}
	var err error
	if n.Kind, n.Target, err = a.target("targetArn", in.TargetARN); err != nil {
		return nil, err
	}
	if in.ParentARN != "" {
		if _, n.Parent, err = a.target("parentTargetArn", in.ParentARN); err != nil {
			return nil, err
		}
	}
	for _, c := range in.Components {
		dropZeros(c.RunWith)
	}
	d, err := a.cfg.Greengrass.CreateOnce(ctx, n, in.Token)
	if err != nil {
		return nil, a.deploymentError(err)
	}
	out := &createDeploymentOut{DeploymentID: d.ID}
	out.JobID, out.JobARN = a.jobOf(d.Kind, d.JobID)
	return out, nil
}

// dropZeros makes a limit of 0 an absent one: not all clients can tell the one
// from the other (greengrassv2-api §1.1).
func dropZeros(r *greengrass.RunWith) {
	if r == nil || r.Limits == nil {
		return
	}
	if m := r.Limits.Memory; m != nil && *m == 0 {
		r.Limits.Memory = nil
	}
	if c := r.Limits.CPUs; c != nil && *c == 0 {
		r.Limits.CPUs = nil
	}
}

// target reads the ARN of a target of this server.
func (a *api) target(member, arn string) (names.TargetKind, string, error) {
	kind, name, err := a.cfg.Realm.ParseTarget(arn)
	if err != nil {
		return "", "", fault.Field(member, "%s", fault.Message(err))
	}
	return kind, name, nil
}

func (a *api) targetARN(kind names.TargetKind, name string) string {
	if kind == names.TargetThing {
		return a.cfg.Realm.Thing(name)
	}
	return a.cfg.Realm.ThingGroup(name)
}

func (a *api) parentARN(group string) string {
	if group == "" {
		return ""
	}
	return a.cfg.Realm.ThingGroup(group)
}

// jobOf returns the job of a deployment as the API shows it: a thing's has none
// there (greengrassv2-api §7).
func (a *api) jobOf(kind names.TargetKind, id string) (job, arn string) {
	if kind == names.TargetThing {
		return "", ""
	}
	return id, a.cfg.Realm.Job(id)
}

type deploymentIn struct {
	ID string `path:"deploymentId" check:"len=1.."`
}

type deploymentOut struct {
	TargetARN  string                          `json:"targetArn"`
	Revision   string                          `json:"revisionId"`
	ID         string                          `json:"deploymentId"`
	Name       string                          `json:"deploymentName,omitempty"`
	Status     greengrass.Status               `json:"deploymentStatus"`
	JobID      string                          `json:"iotJobId,omitempty"`
	JobARN     string                          `json:"iotJobArn,omitempty"`
	Components map[string]greengrass.Component `json:"components,omitzero"`
	Policies   deploymentPolicies              `json:"deploymentPolicies"`
	JobConfig  greengrass.JobConfig            `json:"iotJobConfiguration"`
	CreatedAt  rest.Time                       `json:"creationTimestamp"`
	Latest     bool                            `json:"isLatestForTarget"`
	ParentARN  string                          `json:"parentTargetArn,omitempty"`
	Tags       map[string]string               `json:"tags"`
}

func (a *api) getDeployment(ctx context.Context, in *deploymentIn) (*deploymentOut, error) {
	d, err := a.cfg.Greengrass.Deployment(ctx, in.ID)
	if err != nil {
		return nil, a.deploymentError(err)
	}
	latest, err := a.cfg.Greengrass.Latest(ctx, d)
	if err != nil {
		return nil, err
	}
	out := &deploymentOut{
		TargetARN: a.targetARN(d.Kind, d.Target), Revision: strconv.Itoa(d.Revision), ID: d.ID, Name: d.Name, Status: d.Status,
		Components: d.Components, Policies: policiesOf(d.Policies), JobConfig: d.JobConfig, CreatedAt: rest.At(d.CreatedAt),
		Latest: latest, ParentARN: a.parentARN(d.Parent), Tags: some(d.Tags),
	}
	out.JobID, out.JobARN = a.jobOf(d.Kind, d.JobID)
	return out, nil
}

type listDeploymentsIn struct {
	TargetARN string `query:"targetArn" check:"pattern=target"`
	History   string `query:"historyFilter" check:"enum=ALL|LATEST_ONLY"`
	ParentARN string `query:"parentTargetArn" check:"pattern=thingGroup"`
	Max       *int32 `query:"maxResults" check:"range=1..100"`
	Token     string `query:"nextToken"`
}

type deploymentHeader struct {
	TargetARN string            `json:"targetArn"`
	Revision  string            `json:"revisionId"`
	ID        string            `json:"deploymentId"`
	Name      string            `json:"deploymentName,omitempty"`
	CreatedAt rest.Time         `json:"creationTimestamp"`
	Status    greengrass.Status `json:"deploymentStatus"`
	Latest    bool              `json:"isLatestForTarget"`
	ParentARN string            `json:"parentTargetArn,omitempty"`
}

type listDeploymentsOut struct {
	Deployments []deploymentHeader `json:"deployments"`
	NextToken   string             `json:"nextToken,omitempty"`
}

func (a *api) listDeployments(ctx context.Context, in *listDeploymentsIn) (*listDeploymentsOut, error) {
	f := greengrass.Filter{LatestOnly: in.History != "ALL"}
	var err error
	if in.TargetARN != "" {
		if f.Kind, f.Target, err = a.target("targetArn", in.TargetARN); err != nil {
			return nil, err
		}
	}
	if in.ParentARN != "" {
		if _, f.Parent, err = a.target("parentTargetArn", in.ParentARN); err != nil {
			return nil, err
		}
	}
	filters := []string{"deployments", in.TargetARN, strconv.FormatBool(f.LatestOnly), in.ParentARN}
	after, err := rest.After(in.Token, filters...)
	if err != nil {
		return nil, err
	}
	list, next, err := a.cfg.Greengrass.List(ctx, f, after, rest.Limit(in.Max, deploymentPage))
	if err != nil {
		return nil, err
	}
	out := &listDeploymentsOut{Deployments: make([]deploymentHeader, len(list))}
	for i, h := range list {
		out.Deployments[i] = deploymentHeader{
			TargetARN: a.targetARN(h.Kind, h.Target), Revision: strconv.Itoa(h.Revision), ID: h.ID, Name: h.Name,
			CreatedAt: rest.At(h.CreatedAt), Status: h.Status, Latest: h.Latest, ParentARN: a.parentARN(h.Parent),
		}
	}
	if next != "" {
		out.NextToken = rest.Token(next, filters...)
	}
	return out, nil
}

type cancelDeploymentOut struct {
	Message string `json:"message"`
}

func (a *api) cancelDeployment(ctx context.Context, in *deploymentIn) (*cancelDeploymentOut, error) {
	if err := a.cfg.Greengrass.Cancel(ctx, in.ID, jobs.Reason{}); err != nil {
		return nil, a.deploymentError(err)
	}
	return &cancelDeploymentOut{Message: "SUCCESS"}, nil
}

func (a *api) deleteDeployment(ctx context.Context, in *deploymentIn) (*rest.Empty, error) {
	return nil, a.deploymentError(a.cfg.Greengrass.Delete(ctx, in.ID))
}

// deploymentError says what the model wants known of an error: all members that
// are invalid, the resource that is missing or in the wrong state.
func (a *api) deploymentError(err error) error {
	if errors.Is(err, clienttoken.ErrInProgress) {
		return rest.Fail(http.StatusBadRequest, inProgress, fault.Message(err), nil)
	}
	if r, ok := errors.AsType[*greengrass.ResourceError](err); ok {
		id := r.ID
		if name, version, ok := strings.Cut(id, ":"); ok && r.Type == kindComponent {
			id = a.cfg.Realm.ComponentVersion(name, version) // as all operations name it
		}
		return about(r.Type, id, err)
	}
	if all, ok := err.(interface{ Unwrap() []error }); ok {
		bad := &rest.InvalidError{}
		for _, e := range all.Unwrap() {
			if f := fault.FieldOf(e); f != "" {
				bad.Problems = append(bad.Problems, rest.Problem{Name: f, Message: strings.TrimPrefix(fault.Message(e), f+": ")})
			}
		}
		if len(bad.Problems) > 0 {
			return bad
		}
	}
	return err
}
