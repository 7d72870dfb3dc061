package awscloud

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/greengrassv2"
	"github.com/aws/aws-sdk-go-v2/service/greengrassv2/types"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	iottypes "github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/protocol"
	"github.com/ggfleet/ggfleet/shared/run"
)

const (
	// overlap is how much of what was seen is looked at again: lists of AWS lag, and
	// not all by the same.
	overlap = 2 * time.Minute
	// chunk bounds the results of one call of handle.
	chunk = 500
)

// Results implements cloud.Deployments by looking at the executions of every
// group's latest deployment. A state that came and went between two looks is not
// told. A cursor is the time, in milliseconds, of the last change told.
func (c *Cloud) Results(ctx context.Context, from string, handle func(results []cloud.Execution, cursor string) error) error {
	f := follower{cloud: c, told: map[change]time.Time{}, deployments: map[string]deployment{}}
	if from != "" {
		ms, err := strconv.ParseInt(from, 10, 64)
		if err != nil {
			return fmt.Errorf("cursor %q of results: %w", from, err)
		}
		f.last = time.UnixMilli(ms)
	}
	for {
		if err := f.look(ctx, handle); err != nil {
			return err
		}
		if err := run.Sleep(ctx, c.poll); err != nil {
			return err
		}
	}
}

// follower remembers what one call of Results told.
type follower struct {
	cloud       *Cloud
	last        time.Time            // of all that was told
	told        map[change]time.Time // since last, less overlap
	deployments map[string]deployment
}

// change is a status of an execution.
type change struct {
	core, job, status string
	number            int64
}

// found is an execution that changed.
type found struct {
	change
	group   string
	ref     cloud.DeploymentRef
	summary iottypes.JobExecutionSummary
	at      time.Time
}

// look tells what changed since the last look, in the order in which it did.
func (f *follower) look(ctx context.Context, handle func([]cloud.Execution, string) error) error {
	var list []found
	live := map[string]deployment{}
	err := f.cloud.latestOfGroups(ctx, func(group, id string) error {
		d, known := f.deployments[id]
		if !known {
			var err error
			if d, err = f.cloud.deployment(ctx, id); err != nil || d.JobID == "" {
				return err
			}
		}
		live[id] = d
		return f.cloud.executionsOfJob(ctx, d.JobID, func(thing string, s iottypes.JobExecutionSummary) {
			x := found{
				change: change{thing, d.JobID, string(s.Status), aws.ToInt64(s.ExecutionNumber)},
				group:  group, ref: d.DeploymentRef, summary: s, at: aws.ToTime(s.LastUpdatedAt),
			}
			if _, told := f.told[x.change]; !told && s.Status != iottypes.JobExecutionStatusQueued && !x.at.Before(f.last.Add(-overlap)) {
				list = append(list, x)
			}
		})
	})
	if err != nil {
		return err
	}
	f.deployments = live
	slices.SortFunc(list, func(a, b found) int {
		return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.core, b.core), cmp.Compare(a.number, b.number))
	})
	for part := range slices.Chunk(list, chunk) {
		if err := f.tell(ctx, part, handle); err != nil {
			return err
		}
	}
	for k, at := range f.told {
		if at.Before(f.last.Add(-overlap)) {
			delete(f.told, k)
		}
	}
	return nil
}

func (f *follower) tell(ctx context.Context, part []found, handle func([]cloud.Execution, string) error) error {
	out := make([]cloud.Execution, 0, len(part))
	for _, x := range part {
		e, err := f.cloud.result(ctx, x)
		if err != nil {
			return err
		}
		out = append(out, e)
		f.told[x.change] = x.at
		if x.at.After(f.last) {
			f.last = x.at
		}
	}
	return handle(out, strconv.FormatInt(f.last.UnixMilli(), 10))
}

// latestOfGroups calls each for the latest deployment of every thing group.
func (c *Cloud) latestOfGroups(ctx context.Context, each func(group, id string) error) error {
	pages := greengrassv2.NewListDeploymentsPaginator(c.greengrass, &greengrassv2.ListDeploymentsInput{
		HistoryFilter: types.DeploymentHistoryFilterLatestOnly, MaxResults: aws.Int32(pageGreengrass),
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return failed(err, "listing deployments")
		}
		for _, d := range page.Deployments {
			group := groupOf(aws.ToString(d.TargetArn))
			if group == "" {
				continue // one core's own deployment is no job
			}
			if err := each(group, aws.ToString(d.DeploymentId)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *Cloud) executionsOfJob(ctx context.Context, job string, each func(thing string, s iottypes.JobExecutionSummary)) error {
	pages := iot.NewListJobExecutionsForJobPaginator(c.iot, &iot.ListJobExecutionsForJobInput{JobId: &job, MaxResults: aws.Int32(pageOfIoT)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if absent(err) {
			return nil
		}
		if err != nil {
			return failed(err, "listing the executions of job %s", job)
		}
		for _, x := range page.ExecutionSummaries {
			if _, thing, err := names.ParseTarget(aws.ToString(x.ThingArn)); err == nil && x.JobExecutionSummary != nil {
				each(thing, *x.JobExecutionSummary)
			}
		}
	}
	return nil
}

// result adds to what the list says what the device said.
func (c *Cloud) result(ctx context.Context, x found) (cloud.Execution, error) {
	listed := iottypes.JobExecution{Status: x.summary.Status, QueuedAt: x.summary.QueuedAt, ExecutionNumber: x.summary.ExecutionNumber}
	e := execution(x.core, x.group, x.ref, listed)
	if !e.Ended {
		return e, nil
	}
	whole, ok, err := c.describe(ctx, x.core, x.job, x.number)
	if err != nil {
		return e, err
	}
	if ok && whole.Status == listed.Status {
		e = execution(x.core, x.group, x.ref, whole)
	}
	if e.Status != string(protocol.JobFailed) || e.Detailed != "" {
		return e, nil
	}
	e.Cause, err = c.reason(ctx, x.core, x.ref.ID)
	return e, err
}

// reason is why the deployment failed on the core, as its fleet status says: lite
// says nothing in the job (nucleus-contract §2.4).
func (c *Cloud) reason(ctx context.Context, core, deployment string) (string, error) {
	list, err := c.effective(ctx, core)
	if errors.Is(err, fault.NotFound) {
		return "", nil
	}
	for _, e := range list {
		if e.DeploymentID == deployment {
			return e.Reason, err
		}
	}
	return "", err
}
