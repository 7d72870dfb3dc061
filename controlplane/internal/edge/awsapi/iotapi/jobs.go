package iotapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/edge/awsapi/rest"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/greengrass"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/jobs"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// jobOperations are those for looking at deployments' jobs and for stepping in.
// Jobs come from deployments alone: there is no CreateJob.
func (a *api) jobOperations() []rest.Operation {
	return []rest.Operation{
		{Name: "DescribeJob", Method: http.MethodGet, Path: "/jobs/{jobId}", Call: rest.Handle(a.describeJob)},
		{Name: "GetJobDocument", Method: http.MethodGet, Path: "/jobs/{jobId}/job-document", Call: rest.Handle(a.jobDocument)},
		{Name: "ListJobs", Method: http.MethodGet, Path: "/jobs", Call: rest.Handle(a.listJobs)},
		{Name: "CancelJob", Method: http.MethodPut, Path: "/jobs/{jobId}/cancel", Call: rest.Handle(a.cancelJob)},
		{Name: "DeleteJob", Method: http.MethodDelete, Path: "/jobs/{jobId}", Call: rest.Handle(a.deleteJob)},
	}
}

// jobView is a job and how it went.
type jobView struct {
	jobs.Job
	ended jobs.Execution // a thing's: its one execution, if it ended
}

func (a *api) jobView(ctx context.Context, j jobs.Job) (jobView, error) {
	v := jobView{Job: j}
	if j.Kind != names.TargetThing {
		return v, nil
	}
	e, err := a.cfg.Jobs.Execution(ctx, j.Target, j.ID, 0)
	if err != nil && !errors.Is(err, fault.NotFound) {
		return v, err
	}
	if e.Status.Terminal() {
		v.ended = e
	}
	return v, nil
}

// job returns the job with the deployment that it carries out, which is zero if
// its record was deleted.
func (a *api) job(ctx context.Context, id string) (jobView, greengrass.Deployment, error) {
	j, err := a.cfg.Jobs.Job(ctx, id)
	if err != nil {
		return jobView{}, greengrass.Deployment{}, err
	}
	d, err := a.cfg.Greengrass.Deployment(ctx, j.Value.DeploymentID)
	if err != nil && !errors.Is(err, fault.NotFound) {
		return jobView{}, d, err
	}
	v, err := a.jobView(ctx, j.Value)
	return v, d, err
}

// status of a job: that of a thing's is COMPLETED when its execution ended, that
// of a group's never is (iot-api §18).
func (v jobView) status() string {
	switch {
	case v.ended.Status == protocol.JobCanceled || v.ended.Status == "" && v.Canceled:
		return "CANCELED"
	case v.ended.Status != "":
		return "COMPLETED"
	}
	return inProgress
}

// inProgress is the status of a job that is neither over nor canceled.
const inProgress = "IN_PROGRESS"

func (v jobView) selection() string {
	if v.Kind == names.TargetThing {
		return "SNAPSHOT"
	}
	return "CONTINUOUS"
}

// updated is when the job is known to have changed last.
func (v jobView) updated() time.Time {
	switch {
	case v.ended.Status != "":
		return time.Unix(v.ended.UpdatedAt, 0)
	case !v.CanceledAt.IsZero():
		return v.CanceledAt
	}
	return v.CreatedAt
}

// completed is when the job was over, also by being canceled.
func (v jobView) completed() rest.Time {
	if v.ended.Status == "" && v.CanceledAt.IsZero() {
		return rest.Time{}
	}
	return rest.At(v.updated())
}

func (a *api) targetARN(j jobs.Job) string {
	if j.Kind == names.TargetThing {
		return a.cfg.Realm.Thing(j.Target)
	}
	return a.cfg.Realm.ThingGroup(j.Target)
}

type jobIn struct {
	ID     string `path:"jobId" check:"len=1..64,pattern=job"`
	Before bool   `query:"beforeSubstitution"` // nothing is substituted here
}

type describeJobOut struct {
	Job jobOut `json:"job"`
}

type jobOut struct {
	ARN         string                    `json:"jobArn"`
	ID          string                    `json:"jobId"`
	Selection   string                    `json:"targetSelection"`
	Status      string                    `json:"status"`
	Forced      *bool                     `json:"forceCanceled,omitempty"`
	Reason      string                    `json:"reasonCode,omitempty"`
	Comment     string                    `json:"comment,omitempty"`
	Targets     []string                  `json:"targets"`
	Description string                    `json:"description,omitempty"`
	Rollout     *greengrass.RolloutConfig `json:"jobExecutionsRolloutConfig,omitempty"`
	Abort       *greengrass.AbortConfig   `json:"abortConfig,omitempty"`
	Timeout     *greengrass.TimeoutConfig `json:"timeoutConfig,omitempty"`
	CreatedAt   rest.Time                 `json:"createdAt"`
	UpdatedAt   rest.Time                 `json:"lastUpdatedAt"`
	CompletedAt rest.Time                 `json:"completedAt,omitzero"`
	Process     jobProcess                `json:"jobProcessDetails"`
}

type jobProcess struct {
	Canceled   int `json:"numberOfCanceledThings"`
	Succeeded  int `json:"numberOfSucceededThings"`
	Failed     int `json:"numberOfFailedThings"`
	Rejected   int `json:"numberOfRejectedThings"`
	Queued     int `json:"numberOfQueuedThings"`
	InProgress int `json:"numberOfInProgressThings"`
	Removed    int `json:"numberOfRemovedThings"`
	TimedOut   int `json:"numberOfTimedOutThings"`
}

func (p *jobProcess) count(s protocol.JobStatus) {
	for status, n := range map[protocol.JobStatus]*int{
		protocol.JobCanceled: &p.Canceled, protocol.JobSucceeded: &p.Succeeded, protocol.JobFailed: &p.Failed, protocol.JobRejected: &p.Rejected,
		protocol.JobQueued: &p.Queued, protocol.JobInProgress: &p.InProgress, protocol.JobRemoved: &p.Removed, protocol.JobTimedOut: &p.TimedOut,
	} {
		if status == s {
			*n++
		}
	}
}

func (a *api) describeJob(ctx context.Context, in *jobIn) (*describeJobOut, error) {
	v, d, err := a.job(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	out := jobOut{
		ARN: a.cfg.Realm.Job(v.ID), ID: v.ID, Selection: v.selection(), Status: v.status(), Targets: []string{a.targetARN(v.Job)},
		Description: d.Name, Rollout: d.JobConfig.Rollout, Abort: d.JobConfig.Abort, Timeout: d.JobConfig.Timeout,
		CreatedAt: rest.At(v.CreatedAt), UpdatedAt: rest.At(v.updated()), CompletedAt: v.completed(), Reason: v.Why.Code, Comment: v.Why.Comment,
	}
	if v.Canceled {
		out.Forced = &v.Why.Force
	}
	for after := ""; ; {
		list, next, err := a.cfg.Jobs.ExecutionsOfJob(ctx, v.ID, after, 1000)
		if err != nil {
			return nil, err
		}
		for _, e := range list {
			out.Process.count(e.Status)
		}
		if after = next; next == "" {
			return &describeJobOut{out}, nil
		}
	}
}

type jobDocumentOut struct {
	Document string `json:"document"`
}

func (a *api) jobDocument(ctx context.Context, in *jobIn) (*jobDocumentOut, error) {
	j, err := a.cfg.Jobs.Job(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	// Each execution's copy has its own creationTimestamp; the job's is its creation.
	var doc protocol.DeploymentDocument
	if err := json.Unmarshal(j.Value.Document, &doc); err != nil {
		return nil, err
	}
	doc.CreationTimestamp = j.Value.CreatedAt.UnixMilli()
	b, err := json.Marshal(doc)
	if err != nil {
		return nil, err
	}
	return &jobDocumentOut{string(b)}, nil
}

type listJobsIn struct {
	Status     string `query:"status" check:"enum=IN_PROGRESS|CANCELED|COMPLETED|DELETION_IN_PROGRESS|SCHEDULED"`
	Selection  string `query:"targetSelection" check:"enum=CONTINUOUS|SNAPSHOT"`
	MaxResults *int32 `query:"maxResults" check:"range=1..250"`
	Token      string `query:"nextToken"`
	Group      string `query:"thingGroupName" check:"len=1..128,pattern=thing"`
	GroupID    string `query:"thingGroupId" check:"len=1..128,pattern=thingGroupId"`
	Namespace  string `query:"namespaceId" check:"pattern=job"`
}

type jobSummary struct {
	ARN         string    `json:"jobArn"`
	ID          string    `json:"jobId"`
	GroupID     string    `json:"thingGroupId,omitempty"`
	Selection   string    `json:"targetSelection"`
	Status      string    `json:"status"`
	CreatedAt   rest.Time `json:"createdAt"`
	UpdatedAt   rest.Time `json:"lastUpdatedAt"`
	CompletedAt rest.Time `json:"completedAt,omitzero"`
}

type listJobsOut struct {
	Jobs []jobSummary `json:"jobs"`
	Next string       `json:"nextToken,omitempty"`
}

// namespace is that of all jobs: deployments of Greengrass.
const namespace = "aws-gg-deployment"

func (a *api) listJobs(ctx context.Context, in *listJobsIn) (*listJobsOut, error) {
	filters := []string{in.Status, in.Selection, in.Group, in.GroupID, in.Namespace}
	after, err := rest.After(in.Token, filters...)
	if err != nil {
		return nil, err
	}
	out, limit := &listJobsOut{Jobs: []jobSummary{}}, rest.Limit(in.MaxResults, 25)
	if in.Namespace != "" && in.Namespace != namespace {
		return out, nil
	}
	for more := true; more; {
		var list []jobs.Job
		if list, more, err = a.cfg.Jobs.Jobs(ctx, after, 250); err != nil {
			return nil, err
		}
		for _, j := range list {
			s, ok, err := a.listed(ctx, in, j)
			if err != nil {
				return nil, err
			}
			if ok && len(out.Jobs) == limit {
				out.Next = rest.Token(out.Jobs[limit-1].ID, filters...)
				return out, nil
			}
			if ok {
				out.Jobs = append(out.Jobs, s)
			}
			after = j.ID
		}
	}
	return out, nil
}

// listed is the job's line, and whether it is one that was asked for.
func (a *api) listed(ctx context.Context, in *listJobsIn, j jobs.Job) (jobSummary, bool, error) {
	ofGroup := j.Kind == names.TargetThingGroup
	if in.Group != "" && (!ofGroup || j.Target != in.Group) || in.GroupID != "" && !ofGroup {
		return jobSummary{}, false, nil
	}
	v, err := a.jobView(ctx, j)
	if err != nil {
		return jobSummary{}, false, err
	}
	s := jobSummary{
		ARN: a.cfg.Realm.Job(j.ID), ID: j.ID, Selection: v.selection(), Status: v.status(),
		CreatedAt: rest.At(j.CreatedAt), UpdatedAt: rest.At(v.updated()), CompletedAt: v.completed(),
	}
	if ofGroup {
		g, err := a.cfg.Registry.Group(ctx, j.Target)
		if err != nil && !errors.Is(err, fault.NotFound) {
			return s, false, err
		}
		s.GroupID = g.Value.ID
	}
	return s, (in.Status == "" || in.Status == s.Status) && (in.Selection == "" || in.Selection == s.Selection) && (in.GroupID == "" || in.GroupID == s.GroupID), nil
}

type cancelJobIn struct {
	ID      string `path:"jobId" check:"len=1..64,pattern=job"`
	Reason  string `json:"reasonCode" check:"len=0..128,pattern=reasonCode"`
	Comment string `json:"comment" check:"len=0..2028,pattern=printable"`
	Force   bool   `query:"force"`
}

type cancelJobOut struct {
	ARN         string `json:"jobArn"`
	ID          string `json:"jobId"`
	Description string `json:"description,omitempty"`
}

// cancelJob cancels the deployment that the job carries out, so that both APIs say
// the same of it; with force also what runs.
func (a *api) cancelJob(ctx context.Context, in *cancelJobIn) (*cancelJobOut, error) {
	v, d, err := a.job(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if s := v.status(); s != inProgress {
		return nil, fault.New(fault.Invalid, "job %s is %s: only one that is %s can be canceled", in.ID, s, inProgress)
	}
	if err := a.cfg.Greengrass.Cancel(ctx, v.DeploymentID, jobs.Reason{Code: in.Reason, Comment: in.Comment, Force: in.Force}); err != nil {
		return nil, err
	}
	if in.Force {
		err = a.cfg.Jobs.Withdraw(ctx, in.ID, true)
	}
	return &cancelJobOut{a.cfg.Realm.Job(in.ID), in.ID, d.Name}, err
}

type deleteJobIn struct {
	ID        string `path:"jobId" check:"len=1..64,pattern=job"`
	Force     bool   `query:"force"`
	Namespace string `query:"namespaceId" check:"pattern=job"`
}

// deleteJob takes the job, and the executions of it, out of what IoT shows. Its
// deployment stays; one that is ACTIVE is canceled first.
func (a *api) deleteJob(ctx context.Context, in *deleteJobIn) (*rest.Empty, error) {
	v, _, err := a.job(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if v.status() == inProgress {
		if !in.Force {
			return nil, rest.Fail(http.StatusConflict, "InvalidStateTransitionException",
				"job "+in.ID+" is "+inProgress+": cancel it first, or delete it with force, which cancels its deployment", nil)
		}
		err := a.cfg.Greengrass.Cancel(ctx, v.DeploymentID, jobs.Reason{Force: true})
		if err != nil && !errors.Is(err, fault.Conflict) { // it ended in this moment
			return nil, err
		}
	}
	return nil, a.cfg.Jobs.DeleteJob(ctx, in.ID)
}
