package awscloud

import (
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// asType is errors.AsType for errors that may be nil.
func asType[E error](err error) (E, bool) {
	var e E
	return e, errors.As(err, &e)
}

// describe returns the job's execution with the number, or its last one if number
// is 0; false if there is none.
func (c *Cloud) describe(ctx context.Context, thing, job string, number int64) (types.JobExecution, bool, error) {
	in := &iot.DescribeJobExecutionInput{ThingName: &thing, JobId: &job}
	if number > 0 {
		in.ExecutionNumber = &number
	}
	out, err := c.iot.DescribeJobExecution(ctx, in)
	if absent(err) || err == nil && out.Execution == nil {
		return types.JobExecution{}, false, nil
	}
	if err != nil {
		return types.JobExecution{}, false, failed(err, "reading the execution of job %s on %s", job, thing)
	}
	return *out.Execution, true, nil
}

// lastNumber is that of the job's last execution on the thing, 0 if there is none.
func (c *Cloud) lastNumber(ctx context.Context, thing, job string) (int64, error) {
	e, _, err := c.describe(ctx, thing, job, 0)
	return aws.ToInt64(e.ExecutionNumber), err
}

// awaitExecution returns the execution of d on the core whose number is greater
// than after. AWS makes it a moment after the core joined the group.
func (c *Cloud) awaitExecution(ctx context.Context, core, group string, d deployment, after int64) (out cloud.Execution, err error) {
	err = c.await(ctx, func(ctx context.Context) error {
		e, ok, err := c.describe(ctx, core, d.JobID, 0)
		if err != nil {
			return err
		}
		if !ok || aws.ToInt64(e.ExecutionNumber) <= after {
			return fault.New(fault.Unavailable, "deployment %s has not reached core %s yet", d.ID, core)
		}
		out = execution(core, group, d.DeploymentRef, e)
		return nil
	})
	return out, err
}

// execution puts e into the words of the port. Its order is the time at which it
// was queued.
func execution(core, group string, d cloud.DeploymentRef, e types.JobExecution) cloud.Execution {
	x := cloud.Execution{
		Core: core, Group: group, JobID: d.JobID, DeploymentID: d.ID, Number: aws.ToInt64(e.ExecutionNumber),
		Order: aws.ToTime(e.QueuedAt).UnixMilli(), Status: string(e.Status), Ended: protocol.JobStatus(e.Status).Terminal(),
	}
	if e.StatusDetails != nil {
		x.Detailed, x.Cause = e.StatusDetails.DetailsMap[protocol.DetailStatus], e.StatusDetails.DetailsMap[protocol.DetailFailureCause]
	}
	return x
}

// Withdraw implements cloud.Deployments. The cancellation comes before the
// commit: if that fails, a second call finds nothing to withdraw.
func (c *Cloud) Withdraw(ctx context.Context, e cloud.Execution, commit func(*state.Batch, bool) error) error {
	now, ok, err := c.describe(ctx, e.Core, e.JobID, 0)
	if err != nil {
		return err
	}
	withdrawn := false
	if ok && aws.ToInt64(now.ExecutionNumber) == e.Number && now.Status == types.JobExecutionStatusQueued {
		if withdrawn, err = c.cancel(ctx, e, now.VersionNumber); err != nil {
			return err
		}
	}
	return commit(state.NewBatch(state.StepRollout), withdrawn)
}

// cancel ends the execution if it is still at version: false if it went on.
func (c *Cloud) cancel(ctx context.Context, e cloud.Execution, version int64) (bool, error) {
	_, err := c.iot.CancelJobExecution(ctx, &iot.CancelJobExecutionInput{ThingName: &e.Core, JobId: &e.JobID, ExpectedVersion: &version})
	if err == nil {
		return true, nil
	}
	_, changed := asType[*types.VersionConflictException](err)
	_, further := asType[*types.InvalidStateTransitionException](err)
	if changed || further || absent(err) {
		return false, nil
	}
	return false, failed(err, "withdrawing job %s from %s", e.JobID, e.Core)
}
