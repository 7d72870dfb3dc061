package compat_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/greengrassv2"
	"github.com/aws/aws-sdk-go-v2/service/greengrassv2/types"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/test/internal/world"
	"github.com/ggfleet/ggfleet/test/simulator"
)

// powerOn runs a simulated core, on which component com.deployments.Broken breaks,
// until the test ends.
func (d deployments) powerOn(t *testing.T, name string) {
	t.Helper()
	made := d.CreateCores(t, name)[0]
	cfg, _, err := simulator.ParseInstallerConfig(made.Config)
	require.NoError(t, err)
	cfg.Certificate, cfg.RootCAs, cfg.Fail = made.Certificate, d.Roots, map[string]simulator.Failure{brokenApp: simulator.FailDies}
	cfg.RetryBase, cfg.ReconnectMin, cfg.ReconnectMax = 20*time.Millisecond, 20*time.Millisecond, 200*time.Millisecond
	sim, err := simulator.New(cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context())) // it leaves before the world ends
	done := make(chan error, 1)
	go func() { done <- sim.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			assert.NoError(t, err)
		}
	})
	world.Eventually(t, func() string {
		if _, err := d.gg.GetCoreDevice(t.Context(), &greengrassv2.GetCoreDeviceInput{CoreDeviceThingName: &name}); err != nil {
			return err.Error()
		}
		return ""
	})
}

// becomes waits until the deployment has the status.
func (d deployments) becomes(t *testing.T, id *string, want types.DeploymentStatus) {
	t.Helper()
	world.Eventually(t, func() string {
		if got := d.get(t, id).DeploymentStatus; got != want {
			return fmt.Sprintf("deployment %s is %s, want %s", *id, got, want)
		}
		return ""
	})
}

// effective waits until the deployment has the status on the core.
func (d deployments) effective(t *testing.T, core string, id *string, want types.EffectiveDeploymentExecutionStatus) {
	t.Helper()
	world.Eventually(t, func() string {
		list, err := d.gg.ListEffectiveDeployments(t.Context(), &greengrassv2.ListEffectiveDeploymentsInput{CoreDeviceThingName: &core})
		require.NoError(t, err)
		for _, x := range list.EffectiveDeployments {
			if *x.DeploymentId == *id && x.CoreDeviceExecutionStatus == want {
				return ""
			}
		}
		return fmt.Sprintf("%s has %+v", core, list.EffectiveDeployments)
	})
}

func (d deployments) cores(t *testing.T) {
	d.powerOn(t, "deployed")
	target := targetARN + "thing/deployed"
	good := d.create(t, greengrassv2.CreateDeploymentInput{TargetArn: &target, Components: hello("1.0.0")})
	d.becomes(t, good.DeploymentId, types.DeploymentStatusCompleted)
	d.effective(t, "deployed", good.DeploymentId, types.EffectiveDeploymentExecutionStatusCompleted)

	line := d.group(t, "line")
	first := d.create(t, greengrassv2.CreateDeploymentInput{TargetArn: &line, Components: hello("1.0.0")})
	join := &iot.AddThingToThingGroupInput{ThingName: aws.String("deployed"), ThingGroupName: aws.String("line")}
	_, err := d.iot.AddThingToThingGroup(t.Context(), join)
	require.NoError(t, err)
	d.effective(t, "deployed", first.DeploymentId, types.EffectiveDeploymentExecutionStatusSucceeded)
	second := d.create(t, greengrassv2.CreateDeploymentInput{TargetArn: &line, DeploymentName: aws.String("again"), Components: hello("1.0.0")})
	d.effective(t, "deployed", second.DeploymentId, types.EffectiveDeploymentExecutionStatusSucceeded)
	assert.Equal(t, types.DeploymentStatusActive, d.get(t, second.DeploymentId).DeploymentStatus, "a group's deployment is continuous")

	// Last, because lite does not go back: what broke stays.
	bad := d.create(t, greengrassv2.CreateDeploymentInput{TargetArn: &target, Components: map[string]types.ComponentDeploymentSpecification{brokenApp: {ComponentVersion: aws.String("1.0.0")}}})
	d.becomes(t, bad.DeploymentId, types.DeploymentStatusFailed)
	assert.Equal(t, types.DeploymentStatusCompleted, d.get(t, good.DeploymentId).DeploymentStatus, "what has ended keeps its status")
	_, err = d.gg.CancelDeployment(t.Context(), &greengrassv2.CancelDeploymentInput{DeploymentId: bad.DeploymentId})
	as[*types.ConflictException](t, err)
}

func (d deployments) fleet(t *testing.T) {
	d.powerOn(t, "deployed-by-fleet")
	version := d.PutTemplate(t, "deployments", world.TemplateComponent{Name: helloApp, Version: "1.0.0", ConfigurationUpdate: &world.ConfigurationUpdate{Merge: `{"a":1}`}})
	task := d.WaitTask(t, d.Deploy(t, "deployments", version, "deployed-by-fleet"))
	require.Equal(t, "Success", task.Status)
	groups, err := d.iot.ListThingGroupsForThing(t.Context(), &iot.ListThingGroupsForThingInput{ThingName: aws.String("deployed-by-fleet")})
	require.NoError(t, err)
	require.Len(t, groups.ThingGroups, 1)
	list, err := d.gg.ListDeployments(t.Context(), &greengrassv2.ListDeploymentsInput{TargetArn: groups.ThingGroups[0].GroupArn})
	require.NoError(t, err)
	require.Len(t, list.Deployments, 1)
	got := d.get(t, list.Deployments[0].DeploymentId)
	assert.Equal(t, "1.0.0", *got.Components[helloApp].ComponentVersion)
	assert.Equal(t, `{"a":1}`, *got.Components[helloApp].ConfigurationUpdate.Merge)
	assert.Equal(t, types.DeploymentStatusActive, got.DeploymentStatus)
	assert.NotNil(t, got.IotJobId)

	target := targetARN + "thing/deployed-by-fleet"
	made := d.create(t, greengrassv2.CreateDeploymentInput{TargetArn: &target, Components: map[string]types.ComponentDeploymentSpecification{}})
	world.Eventually(t, func() string {
		for _, e := range d.Core(t, "deployed-by-fleet").Device.Deployments {
			if e.ID == *made.DeploymentId {
				return ""
			}
		}
		return "the fleet API does not show the deployment"
	})
}
