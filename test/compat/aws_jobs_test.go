package compat_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/greengrassv2"
	gg "github.com/aws/aws-sdk-go-v2/service/greengrassv2/types"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/test/internal/world"
)

// deploy makes an empty deployment and returns its id and, of a group's, its
// job's.
func (p provisioning) deploy(t *testing.T, target, name string) (id, job string) {
	t.Helper()
	out, err := p.gg.CreateDeployment(t.Context(), &greengrassv2.CreateDeploymentInput{
		TargetArn: aws.String(iotARN + target), DeploymentName: &name,
		IotJobConfiguration: &gg.DeploymentIoTJobConfiguration{TimeoutConfig: &gg.IoTJobTimeoutConfig{InProgressTimeoutInMinutes: aws.Int64(5)}},
	})
	require.NoError(t, err)
	return *out.DeploymentId, aws.ToString(out.IotJobId)
}

func (p provisioning) jobOfThing(t *testing.T) {
	ctx := t.Context()
	thing := aws.String("job-of-thing")
	p.register(t, *thing)
	id, job := p.deploy(t, "thing/"+*thing, "by thing")
	assert.Empty(t, job, "a thing's deployment does not tell its job; the thing's executions do")
	list, err := p.iot.ListJobExecutionsForThing(ctx, &iot.ListJobExecutionsForThingInput{ThingName: thing, Status: types.JobExecutionStatusQueued})
	require.NoError(t, err)
	require.Len(t, list.ExecutionSummaries, 1)
	job = *list.ExecutionSummaries[0].JobId

	d, err := p.iot.DescribeJob(ctx, &iot.DescribeJobInput{JobId: &job})
	require.NoError(t, err)
	assert.Equal(t, iotARN+"job/"+job, *d.Job.JobArn)
	assert.Equal(t, types.TargetSelectionSnapshot, d.Job.TargetSelection)
	assert.Equal(t, types.JobStatusInProgress, d.Job.Status)
	assert.Equal(t, []string{iotARN + "thing/" + *thing}, d.Job.Targets)
	assert.Equal(t, "by thing", *d.Job.Description)
	assert.EqualValues(t, 5, *d.Job.TimeoutConfig.InProgressTimeoutInMinutes)
	assert.EqualValues(t, 1, *d.Job.JobProcessDetails.NumberOfQueuedThings)

	text, err := p.iot.GetJobDocument(ctx, &iot.GetJobDocumentInput{JobId: &job})
	require.NoError(t, err)
	var document struct{ DeploymentID string }
	require.NoError(t, json.Unmarshal([]byte(*text.Document), &document))
	assert.Equal(t, id, document.DeploymentID)

	e, err := p.iot.DescribeJobExecution(ctx, &iot.DescribeJobExecutionInput{JobId: &job, ThingName: thing})
	require.NoError(t, err)
	assert.Equal(t, types.JobExecutionStatusQueued, e.Execution.Status)
	assert.Equal(t, iotARN+"thing/"+*thing, *e.Execution.ThingArn)
	assert.EqualValues(t, 1, *e.Execution.ExecutionNumber)
	assert.EqualValues(t, 1, e.Execution.VersionNumber)
	_, err = p.iot.DescribeJobExecution(ctx, &iot.DescribeJobExecutionInput{JobId: &job, ThingName: thing, ExecutionNumber: aws.Int64(2)})
	as[*types.ResourceNotFoundException](t, err)

	list, err = p.iot.ListJobExecutionsForThing(ctx, &iot.ListJobExecutionsForThingInput{ThingName: thing, Status: types.JobExecutionStatusFailed})
	require.NoError(t, err)
	assert.Empty(t, list.ExecutionSummaries)

	_, err = p.iot.DeleteJobExecution(ctx, &iot.DeleteJobExecutionInput{JobId: &job, ThingName: thing, ExecutionNumber: aws.Int64(1)})
	as[*types.InvalidStateTransitionException](t, err)
	_, err = p.iot.CancelJobExecution(ctx, &iot.CancelJobExecutionInput{JobId: &job, ThingName: thing, ExpectedVersion: aws.Int64(7)})
	as[*types.VersionConflictException](t, err)
	_, err = p.iot.CancelJobExecution(ctx, &iot.CancelJobExecutionInput{JobId: &job, ThingName: thing, ExpectedVersion: aws.Int64(1), StatusDetails: map[string]string{"why": "stopped"}})
	require.NoError(t, err)
	_, err = p.iot.CancelJobExecution(ctx, &iot.CancelJobExecutionInput{JobId: &job, ThingName: thing})
	as[*types.InvalidStateTransitionException](t, err)
	e, err = p.iot.DescribeJobExecution(ctx, &iot.DescribeJobExecutionInput{JobId: &job, ThingName: thing})
	require.NoError(t, err)
	assert.Equal(t, types.JobExecutionStatusCanceled, e.Execution.Status)
	assert.Equal(t, map[string]string{"why": "stopped"}, e.Execution.StatusDetails.DetailsMap)

	_, err = p.iot.DeleteJobExecution(ctx, &iot.DeleteJobExecutionInput{JobId: &job, ThingName: thing, ExecutionNumber: aws.Int64(1)})
	require.NoError(t, err)
	_, err = p.iot.DeleteJobExecution(ctx, &iot.DeleteJobExecutionInput{JobId: &job, ThingName: thing, ExecutionNumber: aws.Int64(1)})
	as[*types.ResourceNotFoundException](t, err)
}

func (p provisioning) jobOfGroup(t *testing.T) {
	ctx := t.Context()
	group := aws.String("job-of-group")
	_, err := p.iot.CreateThingGroup(ctx, &iot.CreateThingGroupInput{ThingGroupName: group})
	require.NoError(t, err)
	things := []string{"job-member-1", "job-member-2", "job-member-3"}
	for _, name := range things {
		p.register(t, name)
		_, err := p.iot.AddThingToThingGroup(ctx, &iot.AddThingToThingGroupInput{ThingGroupName: group, ThingName: &name})
		require.NoError(t, err)
	}
	id, job := p.deploy(t, "thinggroup/"+*group, "by group")
	world.Eventually(t, func() string {
		d, err := p.iot.DescribeJob(ctx, &iot.DescribeJobInput{JobId: &job})
		require.NoError(t, err)
		assert.Equal(t, types.TargetSelectionContinuous, d.Job.TargetSelection)
		return missing(*d.Job.JobProcessDetails.NumberOfQueuedThings, 3)
	})
	var got []string
	for pages := iot.NewListJobExecutionsForJobPaginator(p.iot, &iot.ListJobExecutionsForJobInput{JobId: &job, MaxResults: aws.Int32(2), Status: types.JobExecutionStatusQueued}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		require.NoError(t, err)
		require.LessOrEqual(t, len(page.ExecutionSummaries), 2)
		for _, s := range page.ExecutionSummaries {
			got = append(got, *s.ThingArn)
		}
	}
	assert.Equal(t, []string{iotARN + "thing/" + things[0], iotARN + "thing/" + things[1], iotARN + "thing/" + things[2]}, got)

	listed := func(in *iot.ListJobsInput) bool {
		found := false
		in.MaxResults = aws.Int32(1)
		for pages := iot.NewListJobsPaginator(p.iot, in); pages.HasMorePages(); {
			page, err := pages.NextPage(ctx)
			require.NoError(t, err)
			found = found || slices.ContainsFunc(page.Jobs, func(s types.JobSummary) bool { return *s.JobId == job })
		}
		return found
	}
	assert.True(t, listed(&iot.ListJobsInput{}))
	assert.True(t, listed(&iot.ListJobsInput{ThingGroupName: group, Status: types.JobStatusInProgress, TargetSelection: types.TargetSelectionContinuous}))
	assert.False(t, listed(&iot.ListJobsInput{TargetSelection: types.TargetSelectionSnapshot}))
	assert.False(t, listed(&iot.ListJobsInput{NamespaceId: aws.String("other")}))

	_, err = p.iot.DeleteJob(ctx, &iot.DeleteJobInput{JobId: &job})
	as[*types.InvalidStateTransitionException](t, err)
	out, err := p.iot.CancelJob(ctx, &iot.CancelJobInput{JobId: &job, ReasonCode: aws.String("ENOUGH"), Comment: aws.String("enough"), Force: true})
	require.NoError(t, err)
	assert.Equal(t, iotARN+"job/"+job, *out.JobArn)
	d, err := p.gg.GetDeployment(ctx, &greengrassv2.GetDeploymentInput{DeploymentId: &id})
	require.NoError(t, err)
	assert.Equal(t, gg.DeploymentStatusCanceled, d.DeploymentStatus, "both APIs say the same")
	world.Eventually(t, func() string {
		j, err := p.iot.DescribeJob(ctx, &iot.DescribeJobInput{JobId: &job})
		require.NoError(t, err)
		assert.Equal(t, types.JobStatusCanceled, j.Job.Status)
		assert.Equal(t, "ENOUGH", *j.Job.ReasonCode)
		assert.Equal(t, "enough", *j.Job.Comment)
		assert.True(t, *j.Job.ForceCanceled)
		assert.False(t, j.Job.CompletedAt.Before(*j.Job.CreatedAt))
		assert.Equal(t, *j.Job.CompletedAt, *j.Job.LastUpdatedAt)
		return missing(*j.Job.JobProcessDetails.NumberOfCanceledThings, 3)
	})
	_, err = p.iot.CancelJob(ctx, &iot.CancelJobInput{JobId: &job})
	as[*types.InvalidRequestException](t, err)
	assert.True(t, listed(&iot.ListJobsInput{Status: types.JobStatusCanceled}))

	_, err = p.iot.DeleteJob(ctx, &iot.DeleteJobInput{JobId: &job})
	require.NoError(t, err)
	p.isDeleted(t, job, things...)
	_, err = p.gg.GetDeployment(ctx, &greengrassv2.GetDeploymentInput{DeploymentId: &id})
	require.NoError(t, err, "the deployment stays")
}

// jobDeleted deletes jobs that are in progress, and one whose deployment was canceled
// by its own API.
func (p provisioning) jobDeleted(t *testing.T) {
	ctx := t.Context()
	thing, group := aws.String("job-deleted"), aws.String("job-deleted")
	p.register(t, *thing)
	_, err := p.iot.CreateThingGroup(ctx, &iot.CreateThingGroupInput{ThingGroupName: group})
	require.NoError(t, err)
	_, err = p.iot.AddThingToThingGroup(ctx, &iot.AddThingToThingGroupInput{ThingGroupName: group, ThingName: thing})
	require.NoError(t, err)
	status := func(id string) gg.DeploymentStatus {
		d, err := p.gg.GetDeployment(ctx, &greengrassv2.GetDeploymentInput{DeploymentId: &id})
		require.NoError(t, err)
		return d.DeploymentStatus
	}
	jobOf := func(id string) string {
		d, err := p.gg.GetDeployment(ctx, &greengrassv2.GetDeploymentInput{DeploymentId: &id})
		require.NoError(t, err)
		if d.IotJobId != nil {
			return *d.IotJobId
		}
		list, err := p.iot.ListJobExecutionsForThing(ctx, &iot.ListJobExecutionsForThingInput{ThingName: thing})
		require.NoError(t, err)
		for _, e := range list.ExecutionSummaries {
			j, err := p.iot.DescribeJob(ctx, &iot.DescribeJobInput{JobId: e.JobId})
			require.NoError(t, err)
			if j.Job.TargetSelection == types.TargetSelectionSnapshot {
				return *e.JobId
			}
		}
		return ""
	}
	for name, target := range map[string]string{"of a thing": "thing/" + *thing, "of a group": "thinggroup/" + *group} {
		id, _ := p.deploy(t, target, name)
		job := jobOf(id)
		_, err = p.iot.DeleteJob(ctx, &iot.DeleteJobInput{JobId: &job})
		as[*types.InvalidStateTransitionException](t, err)
		assert.Equal(t, gg.DeploymentStatusActive, status(id), name)
		_, err = p.iot.DeleteJob(ctx, &iot.DeleteJobInput{JobId: &job, Force: true})
		require.NoError(t, err, name)
		assert.Equal(t, gg.DeploymentStatusCanceled, status(id), name)
		p.isDeleted(t, job, *thing)
		_, err = p.gg.DeleteDeployment(ctx, &greengrassv2.DeleteDeploymentInput{DeploymentId: &id})
		require.NoError(t, err, name)

		id, _ = p.deploy(t, target, name)
		job = jobOf(id)
		_, err = p.gg.CancelDeployment(ctx, &greengrassv2.CancelDeploymentInput{DeploymentId: &id})
		require.NoError(t, err)
		j, err := p.iot.DescribeJob(ctx, &iot.DescribeJobInput{JobId: &job})
		require.NoError(t, err)
		assert.Equal(t, types.JobStatusCanceled, j.Job.Status)
		assert.NotNil(t, j.Job.CompletedAt, "%s: canceled by the deployment", name)
		assert.Nil(t, j.Job.ReasonCode)
		_, err = p.iot.DeleteJob(ctx, &iot.DeleteJobInput{JobId: &job})
		require.NoError(t, err, name)
		p.isDeleted(t, job, *thing)
	}
}

func (p provisioning) isDeleted(t *testing.T, job string, things ...string) {
	t.Helper()
	_, err := p.iot.DescribeJob(t.Context(), &iot.DescribeJobInput{JobId: &job})
	as[*types.ResourceNotFoundException](t, err)
	for _, thing := range things {
		_, err := p.iot.DescribeJobExecution(t.Context(), &iot.DescribeJobExecutionInput{JobId: &job, ThingName: &thing})
		as[*types.ResourceNotFoundException](t, err)
		list, err := p.iot.ListJobExecutionsForThing(t.Context(), &iot.ListJobExecutionsForThingInput{ThingName: &thing})
		require.NoError(t, err)
		for _, e := range list.ExecutionSummaries {
			assert.NotEqual(t, job, *e.JobId)
		}
	}
}

// missing says how many are not there yet, "" for none.
func missing(n, want int32) string {
	if n == want {
		return ""
	}
	return fmt.Sprintf("%d of %d", n, want)
}

func (p provisioning) jobsMissing(t *testing.T) {
	ctx := t.Context()
	none := aws.String("none")
	for name, call := range map[string]func() error{
		"DescribeJob":    func() error { _, err := p.iot.DescribeJob(ctx, &iot.DescribeJobInput{JobId: none}); return err },
		"GetJobDocument": func() error { _, err := p.iot.GetJobDocument(ctx, &iot.GetJobDocumentInput{JobId: none}); return err },
		"DeleteJob":      func() error { _, err := p.iot.DeleteJob(ctx, &iot.DeleteJobInput{JobId: none}); return err },
		"CancelJob":      func() error { _, err := p.iot.CancelJob(ctx, &iot.CancelJobInput{JobId: none}); return err },
		"ListJobExecutionsForJob": func() error {
			_, err := p.iot.ListJobExecutionsForJob(ctx, &iot.ListJobExecutionsForJobInput{JobId: none})
			return err
		},
		"ListJobExecutionsForThing": func() error {
			_, err := p.iot.ListJobExecutionsForThing(ctx, &iot.ListJobExecutionsForThingInput{ThingName: none})
			return err
		},
		"DescribeJobExecution": func() error {
			_, err := p.iot.DescribeJobExecution(ctx, &iot.DescribeJobExecutionInput{JobId: none, ThingName: none})
			return err
		},
		"CancelJobExecution": func() error {
			_, err := p.iot.CancelJobExecution(ctx, &iot.CancelJobExecutionInput{JobId: none, ThingName: none})
			return err
		},
		"DeleteJobExecution": func() error {
			_, err := p.iot.DeleteJobExecution(ctx, &iot.DeleteJobExecutionInput{JobId: none, ThingName: none, ExecutionNumber: aws.Int64(1)})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) { as[*types.ResourceNotFoundException](t, call()) })
	}
	_, err := p.iot.ListJobs(ctx, &iot.ListJobsInput{NextToken: aws.String("garbage")})
	as[*types.InvalidRequestException](t, err)
}
