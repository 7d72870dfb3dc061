package iotapi

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/edge/awsapi/rest"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/jobs"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

func (a *api) executionOperations() []rest.Operation {
	const one = "/things/{thingName}/jobs/{jobId}"
	return []rest.Operation{
		{Name: "ListJobExecutionsForJob", Method: http.MethodGet, Path: "/jobs/{jobId}/things", Call: rest.Handle(a.executionsOfJob)},
		{Name: "ListJobExecutionsForThing", Method: http.MethodGet, Path: "/things/{thingName}/jobs", Call: rest.Handle(a.executionsOfThing)},
		{Name: "DescribeJobExecution", Method: http.MethodGet, Path: one, Call: rest.Handle(a.describeExecution)},
		{Name: "CancelJobExecution", Method: http.MethodPut, Path: one + "/cancel", Call: rest.Handle(a.cancelExecution)},
		{Name: "DeleteJobExecution", Method: http.MethodDelete, Path: one + "/executionNumber/{executionNumber}", Call: rest.Handle(a.deleteExecution)},
	}
}

// executionError words what package jobs refuses.
func executionError(err error) error {
	r, ok := errors.AsType[*jobs.RefusedError](err)
	if !ok {
		return err
	}
	switch r.Code {
	case protocol.CodeResourceNotFound:
		return rest.Fail(http.StatusNotFound, "ResourceNotFoundException", r.Text, nil)
	case protocol.CodeVersionMismatch:
		return rest.Fail(http.StatusConflict, "VersionConflictException", r.Text, nil)
	}
	return rest.Fail(http.StatusConflict, "InvalidStateTransitionException", r.Text, nil)
}

type executionSummary struct {
	Status    protocol.JobStatus `json:"status"`
	QueuedAt  rest.Time          `json:"queuedAt"`
	StartedAt rest.Time          `json:"startedAt,omitzero"`
	UpdatedAt rest.Time          `json:"lastUpdatedAt"`
	Number    int64              `json:"executionNumber"`
}

// queuedAt has milliseconds, as at AWS: executions of one thing are told apart and
// put in order by it.
func queuedAt(e jobs.Execution) rest.Time { return rest.At(time.UnixMilli(e.Stamp)) }

// since is a time of e in seconds, but none before it was queued.
func since(e jobs.Execution, s int64) rest.Time {
	if s == 0 {
		return rest.Time{}
	}
	return rest.At(time.UnixMilli(max(s*1000, e.Stamp)))
}

func summaryOf(e jobs.Execution) executionSummary {
	return executionSummary{e.Status, queuedAt(e), since(e, e.StartedAt), since(e, e.UpdatedAt), e.Number}
}

type executionsOfJobIn struct {
	Job        string `path:"jobId" check:"len=1..64,pattern=job"`
	Status     string `query:"status" check:"enum=QUEUED|IN_PROGRESS|SUCCEEDED|FAILED|TIMED_OUT|REJECTED|REMOVED|CANCELED"`
	MaxResults *int32 `query:"maxResults" check:"range=1..250"`
	Token      string `query:"nextToken"`
}

type executionOfJob struct {
	Thing   string           `json:"thingArn"`
	Summary executionSummary `json:"jobExecutionSummary"`
}

type executionsOfJobOut struct {
	List []executionOfJob `json:"executionSummaries"`
	Next string           `json:"nextToken,omitempty"`
}

func (a *api) executionsOfJob(ctx context.Context, in *executionsOfJobIn) (*executionsOfJobOut, error) {
	after, err := rest.After(in.Token, in.Job, in.Status)
	if err != nil {
		return nil, err
	}
	out, limit := &executionsOfJobOut{List: []executionOfJob{}}, rest.Limit(in.MaxResults, 25)
	for next := after; ; {
		var list []jobs.Execution
		if list, next, err = a.cfg.Jobs.ExecutionsOfJob(ctx, in.Job, next, 250); err != nil {
			return nil, err
		}
		for _, e := range list {
			if in.Status != "" && in.Status != string(e.Status) {
				continue
			}
			if len(out.List) == limit {
				out.Next = rest.Token(after, in.Job, in.Status)
				return out, nil
			}
			out.List = append(out.List, executionOfJob{a.cfg.Realm.Thing(e.Thing), summaryOf(e)})
			after = e.Cursor()
		}
		if next == "" {
			return out, nil
		}
	}
}

type executionsOfThingIn struct {
	Thing      string `path:"thingName" check:"len=1..128,pattern=thing"`
	Status     string `query:"status" check:"enum=QUEUED|IN_PROGRESS|SUCCEEDED|FAILED|TIMED_OUT|REJECTED|REMOVED|CANCELED"`
	Namespace  string `query:"namespaceId" check:"pattern=job"`
	MaxResults *int32 `query:"maxResults" check:"range=1..250"`
	Token      string `query:"nextToken"`
	Job        string `query:"jobId" check:"len=1..64,pattern=job"`
}

type executionOfThing struct {
	Job     string           `json:"jobId"`
	Summary executionSummary `json:"jobExecutionSummary"`
}

type executionsOfThingOut struct {
	List []executionOfThing `json:"executionSummaries"`
	Next string             `json:"nextToken,omitempty"`
}

// executionsOfThing lists a thing's few executions by job and number.
func (a *api) executionsOfThing(ctx context.Context, in *executionsOfThingIn) (*executionsOfThingOut, error) {
	filters := []string{in.Thing, in.Status, in.Namespace, in.Job}
	after, err := rest.After(in.Token, filters...)
	if err != nil {
		return nil, err
	}
	if _, err := a.cfg.Registry.Thing(ctx, in.Thing); err != nil {
		return nil, err
	}
	list, err := a.cfg.Jobs.ExecutionsOf(ctx, in.Thing)
	if err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(list, func(e jobs.Execution) bool {
		return in.Status != "" && in.Status != string(e.Status) || in.Job != "" && in.Job != e.JobID ||
			in.Namespace != "" && in.Namespace != namespace || executionPlace(e) <= after
	})
	if list, err = a.withJob(ctx, list); err != nil {
		return nil, err
	}
	slices.SortFunc(list, func(a, b jobs.Execution) int { return strings.Compare(executionPlace(a), executionPlace(b)) })
	out := &executionsOfThingOut{List: []executionOfThing{}}
	for i, e := range list {
		if i == rest.Limit(in.MaxResults, 25) {
			out.Next = rest.Token(executionPlace(list[i-1]), filters...)
			break
		}
		out.List = append(out.List, executionOfThing{e.JobID, summaryOf(e)})
	}
	return out, nil
}

// withJob leaves out the executions whose job was deleted.
func (a *api) withJob(ctx context.Context, list []jobs.Execution) (out []jobs.Execution, err error) {
	for _, e := range list {
		switch _, err := a.cfg.Jobs.Job(ctx, e.JobID); {
		case err == nil:
			out = append(out, e)
		case !errors.Is(err, fault.NotFound):
			return nil, err
		}
	}
	return out, nil
}

func executionPlace(e jobs.Execution) string {
	n := strconv.FormatInt(e.Number, 10)
	return e.JobID + "/" + strings.Repeat("0", 20-len(n)) + n
}

type describeExecutionIn struct {
	Job    string `path:"jobId" check:"len=1..64,pattern=job"`
	Thing  string `path:"thingName" check:"len=1..128,pattern=thing"`
	Number int64  `query:"executionNumber"`
}

type describeExecutionOut struct {
	Execution executionOut `json:"execution"`
}

type executionOut struct {
	Job       string             `json:"jobId"`
	Status    protocol.JobStatus `json:"status"`
	Details   executionDetails   `json:"statusDetails"`
	Thing     string             `json:"thingArn"`
	QueuedAt  rest.Time          `json:"queuedAt"`
	StartedAt rest.Time          `json:"startedAt,omitzero"`
	UpdatedAt rest.Time          `json:"lastUpdatedAt"`
	Number    int64              `json:"executionNumber"`
	Version   int64              `json:"versionNumber"`
	Left      *int64             `json:"approximateSecondsBeforeTimedOut,omitempty"`
}

type executionDetails struct {
	Map map[string]string `json:"detailsMap,omitempty"`
}

func (a *api) describeExecution(ctx context.Context, in *describeExecutionIn) (*describeExecutionOut, error) {
	if _, err := a.cfg.Jobs.Job(ctx, in.Job); err != nil {
		return nil, err
	}
	e, err := a.cfg.Jobs.Execution(ctx, in.Thing, in.Job, in.Number)
	if err != nil {
		return nil, err
	}
	out := executionOut{
		Job: e.JobID, Status: e.Status, Details: executionDetails{e.Details}, Thing: a.cfg.Realm.Thing(e.Thing), QueuedAt: queuedAt(e),
		StartedAt: since(e, e.StartedAt), UpdatedAt: since(e, e.UpdatedAt), Number: e.Number, Version: e.Version,
	}
	if e.TimeoutAt != 0 {
		left := max(0, e.TimeoutAt-time.Now().Unix())
		out.Left = &left
	}
	return &describeExecutionOut{out}, nil
}

type cancelExecutionIn struct {
	Job     string            `path:"jobId" check:"len=1..64,pattern=job"`
	Thing   string            `path:"thingName" check:"len=1..128,pattern=thing"`
	Force   bool              `query:"force"`
	Version int64             `json:"expectedVersion"`
	Details map[string]string `json:"statusDetails" check:"items=0..10,key.len=1..128,key.pattern=thing,value.len=1..1024,value.pattern=printable"`
}

func (a *api) cancelExecution(ctx context.Context, in *cancelExecutionIn) (*rest.Empty, error) {
	return nil, executionError(a.cfg.Jobs.Cancel(ctx, in.Thing, in.Job, in.Force, in.Version, in.Details))
}

type deleteExecutionIn struct {
	Job       string `path:"jobId" check:"len=1..64,pattern=job"`
	Thing     string `path:"thingName" check:"len=1..128,pattern=thing"`
	Number    int64  `path:"executionNumber"`
	Force     bool   `query:"force"`
	Namespace string `query:"namespaceId" check:"pattern=job"`
}

func (a *api) deleteExecution(ctx context.Context, in *deleteExecutionIn) (*rest.Empty, error) {
	return nil, executionError(a.cfg.Jobs.Delete(ctx, in.Thing, in.Job, in.Number, in.Force))
}
