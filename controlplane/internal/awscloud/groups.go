package awscloud

import (
	"context"
	"errors"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/greengrassv2"
	"github.com/aws/aws-sdk-go-v2/service/greengrassv2/types"
	"github.com/aws/aws-sdk-go-v2/service/iot"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// maxTimeoutMinutes is the API's own bound.
const maxTimeoutMinutes = 10080

// Move implements cloud.Deployments with one UpdateThingGroupsForThing. Delivering
// anew to a core that is there already takes two: AWS delivers to those who join.
// One execution cannot have another time limit than the deployment:
// fault.Unsupported.
func (c *Cloud) Move(ctx context.Context, m cloud.Move, commit func(*state.Batch, cloud.Execution) error) error {
	if m.TimeoutMinutes < 0 || m.TimeoutMinutes > maxTimeoutMinutes {
		return fault.Field("inProgressTimeoutInMinutes", "is %d, want 1 to %d, or 0 for what the deployment says", m.TimeoutMinutes, maxTimeoutMinutes)
	}
	groups, err := c.groups(ctx, m.Core)
	if err != nil {
		return err
	}
	d, err := c.latest(ctx, m.Join)
	if err != nil {
		return err
	}
	if m.TimeoutMinutes > 0 && d.active && m.TimeoutMinutes != d.timeout {
		return fault.New(fault.Unsupported, "AWS bounds the time of a deployment for all its cores: that of thing group %s has %d minutes (0: no limit), not %d", m.Join, d.timeout, m.TimeoutMinutes)
	}
	leave := slices.DeleteFunc(slices.Clone(groups), func(g string) bool { return g == m.Join || !m.Leave(g) })
	there := slices.Contains(groups, m.Join)
	join, after := []string{m.Join}, int64(0)
	switch {
	case there && !m.Again:
		join = nil
	case d.active: // an execution of before tells the new one by its number
		if after, err = c.lastNumber(ctx, m.Core, d.JobID); err != nil {
			return err
		}
	}
	if there && m.Again {
		if err := c.regroup(ctx, m.Core, nil, []string{m.Join}); err != nil {
			return err
		}
	}
	if err := c.regroup(ctx, m.Core, join, leave); err != nil {
		return err
	}
	var e cloud.Execution
	if d.active {
		if e, err = c.awaitExecution(ctx, m.Core, m.Join, d, after); err != nil {
			return err
		}
	}
	return commit(state.NewBatch(state.StepMove), e)
}

// Leave implements cloud.Deployments.
func (c *Cloud) Leave(ctx context.Context, core string, leave func(group string) bool) error {
	groups, err := c.groups(ctx, core)
	if errors.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return c.regroup(ctx, core, nil, slices.DeleteFunc(groups, func(g string) bool { return !leave(g) }))
}

// groups are those that the thing is in directly.
func (c *Cloud) groups(ctx context.Context, thing string) ([]string, error) {
	var all []string
	pages := iot.NewListThingGroupsForThingPaginator(c.iot, &iot.ListThingGroupsForThingInput{ThingName: &thing, MaxResults: aws.Int32(pageOfIoT)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if absent(err) {
			return nil, fault.New(fault.NotFound, "thing %s does not exist", thing)
		}
		if err != nil {
			return nil, failed(err, "listing the thing groups of %s", thing)
		}
		for _, g := range page.ThingGroups {
			all = append(all, aws.ToString(g.GroupName))
		}
	}
	return all, nil
}

func (c *Cloud) regroup(ctx context.Context, thing string, join, leave []string) error {
	if len(join) == 0 && len(leave) == 0 {
		return nil
	}
	_, err := c.iot.UpdateThingGroupsForThing(ctx, &iot.UpdateThingGroupsForThingInput{ThingName: &thing, ThingGroupsToAdd: join, ThingGroupsToRemove: leave})
	if err != nil {
		return failed(err, "changing the thing groups of %s", thing)
	}
	return nil
}

// Retire implements cloud.Deployments.
func (c *Cloud) Retire(ctx context.Context, group string) error {
	first, err := c.iot.ListThingsInThingGroup(ctx, &iot.ListThingsInThingGroupInput{ThingGroupName: &group, MaxResults: aws.Int32(1)})
	if absent(err) {
		return nil
	}
	if err != nil {
		return failed(err, "looking who is in thing group %s", group)
	}
	if len(first.Things) > 0 {
		return fault.New(fault.Conflict, "thing group %s is not empty: %s is in it", group, first.Things[0])
	}
	d, err := c.latest(ctx, group)
	if err != nil {
		return err
	}
	if d.active {
		_, err := c.greengrass.CancelDeployment(ctx, &greengrassv2.CancelDeploymentInput{DeploymentId: &d.ID})
		if _, ended := asType[*types.ConflictException](err); err != nil && !ended && !absent(err) {
			return failed(err, "canceling deployment %s", d.ID)
		}
	}
	if _, err := c.iot.DeleteThingGroup(ctx, &iot.DeleteThingGroupInput{ThingGroupName: &group}); err != nil && !absent(err) {
		return failed(err, "deleting thing group %s", group)
	}
	return nil
}

// Members implements cloud.Deployments. AWS promises no order, so all names are
// read before the first is told.
func (c *Cloud) Members(ctx context.Context, group string, each func(thing string) error) error {
	var all []string
	pages := iot.NewListThingsInThingGroupPaginator(c.iot, &iot.ListThingsInThingGroupInput{ThingGroupName: &group, MaxResults: aws.Int32(pageOfIoT)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return failed(err, "listing the members of thing group %s", group)
		}
		all = append(all, page.Things...)
	}
	slices.Sort(all)
	for _, thing := range all {
		if err := each(thing); err != nil {
			return err
		}
	}
	return nil
}
