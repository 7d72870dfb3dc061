package compat_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/greengrassv2"
	ggtypes "github.com/aws/aws-sdk-go-v2/service/greengrassv2/types"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func groupLife(t *testing.T, _ *kit, c *iot.Client) {
	ctx := t.Context()
	name := aws.String("group:life")
	in := &iot.CreateThingGroupInput{ThingGroupName: name, ThingGroupProperties: &types.ThingGroupProperties{
		ThingGroupDescription: aws.String("all of them"), AttributePayload: attributes(map[string]string{"a": "1"}),
	}, Tags: []types.Tag{{Key: aws.String("k"), Value: aws.String("v")}}}
	made := must(c.CreateThingGroup(ctx, in))(t)
	assert.Equal(t, groupARN(*name), *made.ThingGroupArn)
	assert.Equal(t, *made.ThingGroupId, *must(c.CreateThingGroup(ctx, in))(t).ThingGroupId)
	_, err := c.CreateThingGroup(ctx, &iot.CreateThingGroupInput{ThingGroupName: name})
	exists := failsAs[*types.ResourceAlreadyExistsException](t, err)
	assert.Equal(t, groupARN(*name), aws.ToString(exists.ResourceArn))

	got := must(c.DescribeThingGroup(ctx, &iot.DescribeThingGroupInput{ThingGroupName: name}))(t)
	assert.Equal(t, "all of them", *got.ThingGroupProperties.ThingGroupDescription)
	assert.Equal(t, map[string]string{"a": "1"}, got.ThingGroupProperties.AttributePayload.Attributes)
	assert.EqualValues(t, 1, got.Version)
	assert.NotNil(t, got.ThingGroupMetadata.CreationDate)
	assert.Nil(t, got.ThingGroupMetadata.ParentGroupName)

	up := must(c.UpdateThingGroup(ctx, &iot.UpdateThingGroupInput{ThingGroupName: name, ExpectedVersion: aws.Int64(1), ThingGroupProperties: &types.ThingGroupProperties{
		AttributePayload: &types.AttributePayload{Merge: true, Attributes: map[string]string{"a": "", "b": "2"}},
	}}))(t)
	assert.EqualValues(t, 2, up.Version)
	got = must(c.DescribeThingGroup(ctx, &iot.DescribeThingGroupInput{ThingGroupName: name}))(t)
	assert.Equal(t, map[string]string{"b": "2"}, got.ThingGroupProperties.AttributePayload.Attributes)
	assert.Equal(t, "all of them", *got.ThingGroupProperties.ThingGroupDescription)

	properties := &types.ThingGroupProperties{ThingGroupDescription: aws.String("x")}
	_, err = c.UpdateThingGroup(ctx, &iot.UpdateThingGroupInput{ThingGroupName: name, ExpectedVersion: aws.Int64(1), ThingGroupProperties: properties})
	failsAs[*types.VersionConflictException](t, err)
	_, err = c.UpdateThingGroup(ctx, &iot.UpdateThingGroupInput{ThingGroupName: aws.String("none"), ThingGroupProperties: properties})
	failsAs[*types.ResourceNotFoundException](t, err)
	_, err = c.DescribeThingGroup(ctx, &iot.DescribeThingGroupInput{ThingGroupName: aws.String("none")})
	failsAs[*types.ResourceNotFoundException](t, err)
	_, err = c.CreateThingGroup(ctx, &iot.CreateThingGroupInput{ThingGroupName: aws.String("a b")})
	failsAs[*types.InvalidRequestException](t, err, "thingGroupName")

	_, err = c.DeleteThingGroup(ctx, &iot.DeleteThingGroupInput{ThingGroupName: name, ExpectedVersion: aws.Int64(1)})
	failsAs[*types.VersionConflictException](t, err)
	must(c.DeleteThingGroup(ctx, &iot.DeleteThingGroupInput{ThingGroupName: name, ExpectedVersion: aws.Int64(2)}))(t)
	must(c.DeleteThingGroup(ctx, &iot.DeleteThingGroupInput{ThingGroupName: name}))(t)
}

func groupTree(t *testing.T, _ *kit, c *iot.Client) {
	ctx := t.Context()
	parent := ""
	for i := range 8 {
		in := &iot.CreateThingGroupInput{ThingGroupName: aws.String(fmt.Sprint("tree-", i))}
		if parent != "" {
			in.ParentGroupName = aws.String(parent)
		}
		_, err := c.CreateThingGroup(ctx, in)
		if i == 7 {
			failsAs[*types.InvalidRequestException](t, err, "parentGroupName", "level 7")
			break
		}
		require.NoError(t, err)
		parent = *in.ThingGroupName
	}
	_, err := c.CreateThingGroup(ctx, &iot.CreateThingGroupInput{ThingGroupName: aws.String("tree-x"), ParentGroupName: aws.String("none")})
	failsAs[*types.InvalidRequestException](t, err, "parentGroupName")
	got := must(c.DescribeThingGroup(ctx, &iot.DescribeThingGroupInput{ThingGroupName: aws.String("tree-2")}))(t)
	assert.Equal(t, "tree-1", *got.ThingGroupMetadata.ParentGroupName)
	require.Len(t, got.ThingGroupMetadata.RootToParentThingGroups, 2)
	assert.Equal(t, "tree-0", *got.ThingGroupMetadata.RootToParentThingGroups[0].GroupName)
	assert.Equal(t, groupARN("tree-1"), *got.ThingGroupMetadata.RootToParentThingGroups[1].GroupArn)

	list := func(in iot.ListThingGroupsInput) (names []string) {
		in.MaxResults = aws.Int32(2)
		for p := iot.NewListThingGroupsPaginator(c, &in); p.HasMorePages(); {
			for _, g := range must(p.NextPage(ctx))(t).ThingGroups {
				assert.Equal(t, groupARN(*g.GroupName), *g.GroupArn)
				names = append(names, *g.GroupName)
			}
		}
		return names
	}
	assert.Equal(t, []string{"tree-1"}, list(iot.ListThingGroupsInput{ParentGroup: aws.String("tree-0")}))
	assert.Len(t, list(iot.ListThingGroupsInput{ParentGroup: aws.String("tree-0"), Recursive: aws.Bool(true)}), 6)
	assert.Len(t, list(iot.ListThingGroupsInput{NamePrefixFilter: aws.String("tree-")}), 7)
	assert.Equal(t, []string{"tree-0"}, list(iot.ListThingGroupsInput{NamePrefixFilter: aws.String("tree-"), Recursive: aws.Bool(false)}))
	_, err = c.ListThingGroups(ctx, &iot.ListThingGroupsInput{ParentGroup: aws.String("none")})
	failsAs[*types.ResourceNotFoundException](t, err)

	_, err = c.DeleteThingGroup(ctx, &iot.DeleteThingGroupInput{ThingGroupName: aws.String("tree-0")})
	failsAs[*types.InvalidRequestException](t, err, "child groups")
	for i := range 7 {
		must(c.DeleteThingGroup(ctx, &iot.DeleteThingGroupInput{ThingGroupName: aws.String(fmt.Sprint("tree-", 6-i))}))(t)
	}
	assert.Empty(t, list(iot.ListThingGroupsInput{NamePrefixFilter: aws.String("tree-")}))
}

func group(t *testing.T, c *iot.Client, name, parent string) {
	t.Helper()
	in := &iot.CreateThingGroupInput{ThingGroupName: &name}
	if parent != "" {
		in.ParentGroupName = &parent
	}
	must(c.CreateThingGroup(t.Context(), in))(t)
}

func membersOf(t *testing.T, c *iot.Client, in iot.ListThingsInThingGroupInput) (names []string) {
	t.Helper()
	for p := iot.NewListThingsInThingGroupPaginator(c, &in); p.HasMorePages(); {
		names = append(names, must(p.NextPage(t.Context()))(t).Things...)
	}
	return names
}

func groupMembers(t *testing.T, _ *kit, c *iot.Client) {
	ctx := t.Context()
	group(t, c, "members", "")
	group(t, c, "members:sub", "members")
	for i := range 3 {
		name := fmt.Sprint("member:", i)
		must(c.CreateThing(ctx, &iot.CreateThingInput{ThingName: &name}))(t)
		in := &iot.AddThingToThingGroupInput{ThingName: &name, ThingGroupName: aws.String("members")}
		if i == 1 {
			in = &iot.AddThingToThingGroupInput{ThingArn: aws.String(thingARN(name)), ThingGroupArn: aws.String(groupARN("members"))}
		}
		if i == 2 {
			in.ThingGroupName = aws.String("members:sub")
		}
		must(c.AddThingToThingGroup(ctx, in))(t)
		must(c.AddThingToThingGroup(ctx, in))(t)
	}
	in := iot.ListThingsInThingGroupInput{ThingGroupName: aws.String("members"), MaxResults: aws.Int32(1)}
	assert.Equal(t, []string{"member:0", "member:1"}, membersOf(t, c, in))
	in.Recursive = true
	assert.Equal(t, []string{"member:0", "member:1", "member:2"}, membersOf(t, c, in))
	_, err := c.AddThingToThingGroup(ctx, &iot.AddThingToThingGroupInput{ThingName: aws.String("member:2"), ThingGroupName: aws.String("members")})
	failsAs[*types.InvalidRequestException](t, err, "hierarchy")

	must(c.RemoveThingFromThingGroup(ctx, &iot.RemoveThingFromThingGroupInput{ThingArn: aws.String(thingARN("member:0")), ThingGroupName: aws.String("members")}))(t)
	must(c.RemoveThingFromThingGroup(ctx, &iot.RemoveThingFromThingGroupInput{ThingName: aws.String("member:0"), ThingGroupName: aws.String("members")}))(t)
	in.Recursive = false
	assert.Equal(t, []string{"member:1"}, membersOf(t, c, in))

	for name, call := range map[string]func() error{
		"a thing": func() error {
			_, err := c.AddThingToThingGroup(ctx, &iot.AddThingToThingGroupInput{ThingName: aws.String("none"), ThingGroupName: aws.String("members")})
			return err
		},
		"a group": func() error {
			_, err := c.AddThingToThingGroup(ctx, &iot.AddThingToThingGroupInput{ThingName: aws.String("member:0"), ThingGroupName: aws.String("none")})
			return err
		},
		"a group to leave": func() error {
			_, err := c.RemoveThingFromThingGroup(ctx, &iot.RemoveThingFromThingGroupInput{ThingName: aws.String("member:0"), ThingGroupName: aws.String("none")})
			return err
		},
		"a thing to leave": func() error {
			_, err := c.RemoveThingFromThingGroup(ctx, &iot.RemoveThingFromThingGroupInput{ThingName: aws.String("none"), ThingGroupName: aws.String("members")})
			return err
		},
		"a group to list": func() error {
			_, err := c.ListThingsInThingGroup(ctx, &iot.ListThingsInThingGroupInput{ThingGroupName: aws.String("none")})
			return err
		},
		"a thing to list": func() error {
			_, err := c.ListThingGroupsForThing(ctx, &iot.ListThingGroupsForThingInput{ThingName: aws.String("none")})
			return err
		},
	} {
		t.Run(name+" that is not there", func(t *testing.T) { failsAs[*types.ResourceNotFoundException](t, call(), "none") })
	}
	for name, bad := range map[string]struct {
		in   iot.AddThingToThingGroupInput
		word string
	}{
		"no thing":              {iot.AddThingToThingGroupInput{ThingGroupName: aws.String("members")}, "thingName"},
		"no group":              {iot.AddThingToThingGroupInput{ThingName: aws.String("member:0")}, "thingGroupName"},
		"an ARN of a group":     {iot.AddThingToThingGroupInput{ThingArn: aws.String(groupARN("x")), ThingGroupName: aws.String("members")}, "thingArn"},
		"another account":       {iot.AddThingToThingGroupInput{ThingName: aws.String("member:0"), ThingGroupArn: aws.String("arn:aws:iot:us-east-1:111111111111:thinggroup/members")}, "thingGroupArn"},
		"name and ARN disagree": {iot.AddThingToThingGroupInput{ThingName: aws.String("member:0"), ThingArn: aws.String(thingARN("member:1")), ThingGroupName: aws.String("members")}, "thingArn"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.AddThingToThingGroup(ctx, &bad.in)
			failsAs[*types.InvalidRequestException](t, err, bad.word)
		})
	}
}

func groupsOfThing(t *testing.T, _ *kit, c *iot.Client) {
	ctx := t.Context()
	thing := aws.String("grouped")
	must(c.CreateThing(ctx, &iot.CreateThingInput{ThingName: thing}))(t)
	var all []string
	for i := range 11 {
		all = append(all, fmt.Sprintf("grouped-%02d", i))
		group(t, c, all[i], "")
	}
	groups := func() (names []string) {
		for p := iot.NewListThingGroupsForThingPaginator(c, &iot.ListThingGroupsForThingInput{ThingName: thing, MaxResults: aws.Int32(3)}); p.HasMorePages(); {
			page := must(p.NextPage(ctx))(t)
			assert.LessOrEqual(t, len(page.ThingGroups), 3)
			for _, g := range page.ThingGroups {
				names = append(names, *g.GroupName)
			}
		}
		return names
	}
	must(c.UpdateThingGroupsForThing(ctx, &iot.UpdateThingGroupsForThingInput{ThingName: thing, ThingGroupsToAdd: all[:10]}))(t)
	assert.Equal(t, all[:10], groups())
	_, err := c.UpdateThingGroupsForThing(ctx, &iot.UpdateThingGroupsForThingInput{ThingName: thing, ThingGroupsToAdd: all[10:]})
	failsAs[*types.InvalidRequestException](t, err, "limit of 10")
	must(c.UpdateThingGroupsForThing(ctx, &iot.UpdateThingGroupsForThingInput{ThingName: thing, ThingGroupsToAdd: all[10:], ThingGroupsToRemove: all[:9]}))(t)
	assert.Equal(t, all[9:], groups())
	_, err = c.UpdateThingGroupsForThing(ctx, &iot.UpdateThingGroupsForThingInput{ThingName: thing, ThingGroupsToAdd: []string{all[0], "none"}})
	failsAs[*types.ResourceNotFoundException](t, err, "none")
	assert.Equal(t, all[9:], groups(), "all or nothing")
	_, err = c.UpdateThingGroupsForThing(ctx, &iot.UpdateThingGroupsForThingInput{ThingName: thing, ThingGroupsToAdd: all[:1], ThingGroupsToRemove: all[:1]})
	failsAs[*types.InvalidRequestException](t, err, all[0])
	_, err = c.UpdateThingGroupsForThing(ctx, &iot.UpdateThingGroupsForThingInput{})
	failsAs[*types.InvalidRequestException](t, err, "thingName")
}

func registryTags(t *testing.T, _ *kit, c *iot.Client) {
	ctx := t.Context()
	group(t, c, "tagged", "")
	must(c.CreateThingType(ctx, &iot.CreateThingTypeInput{ThingTypeName: aws.String("tagged"), Tags: []types.Tag{{Key: aws.String("a"), Value: aws.String("0")}}}))(t)
	for _, arn := range []string{groupARN("tagged"), typeARN("tagged")} {
		must(c.TagResource(ctx, &iot.TagResourceInput{ResourceArn: &arn, Tags: []types.Tag{{Key: aws.String("a"), Value: aws.String("1")}, {Key: aws.String("b c"), Value: aws.String("2")}}}))(t)
		must(c.UntagResource(ctx, &iot.UntagResourceInput{ResourceArn: &arn, TagKeys: []string{"b c", "none"}}))(t)
		got := must(c.ListTagsForResource(ctx, &iot.ListTagsForResourceInput{ResourceArn: &arn}))(t)
		require.Len(t, got.Tags, 1)
		assert.Equal(t, "a", *got.Tags[0].Key)
		assert.Equal(t, "1", *got.Tags[0].Value)
		assert.Nil(t, got.NextToken)
		var many []types.Tag
		for i := range 51 {
			many = append(many, types.Tag{Key: aws.String(fmt.Sprint("k", i)), Value: aws.String("")})
		}
		_, err := c.TagResource(ctx, &iot.TagResourceInput{ResourceArn: &arn, Tags: many})
		failsAs[*types.LimitExceededException](t, err, "50")
	}
	_, err := c.ListTagsForResource(ctx, &iot.ListTagsForResourceInput{ResourceArn: aws.String(groupARN("none"))})
	failsAs[*types.ResourceNotFoundException](t, err)
	_, err = c.TagResource(ctx, &iot.TagResourceInput{ResourceArn: aws.String(typeARN("none")), Tags: []types.Tag{}})
	failsAs[*types.ResourceNotFoundException](t, err)
	_, err = c.TagResource(ctx, &iot.TagResourceInput{ResourceArn: aws.String(thingARN("x")), Tags: []types.Tag{}})
	failsAs[*types.InvalidRequestException](t, err, "resourceArn")
	_, err = c.TagResource(ctx, &iot.TagResourceInput{ResourceArn: aws.String(groupARN("tagged")), Tags: []types.Tag{{Key: aws.String("aws:x")}}})
	failsAs[*types.InvalidRequestException](t, err, "aws:x")
}

func groupWithMembers(t *testing.T, _ *kit, c *iot.Client) {
	ctx := t.Context()
	group(t, c, "full", "")
	for i := range 20 {
		name := fmt.Sprint("full-", i)
		must(c.CreateThing(ctx, &iot.CreateThingInput{ThingName: &name}))(t)
		must(c.AddThingToThingGroup(ctx, &iot.AddThingToThingGroupInput{ThingName: &name, ThingGroupName: aws.String("full")}))(t)
	}
	must(c.DeleteThingGroup(ctx, &iot.DeleteThingGroupInput{ThingGroupName: aws.String("full")}))(t)
	_, err := c.DescribeThingGroup(ctx, &iot.DescribeThingGroupInput{ThingGroupName: aws.String("full")})
	failsAs[*types.ResourceNotFoundException](t, err)
	assert.Empty(t, must(c.ListThingGroupsForThing(ctx, &iot.ListThingGroupsForThingInput{ThingName: aws.String("full-7")}))(t).ThingGroups)
}

const appRecipe = `{"RecipeFormatVersion":"2020-01-25","ComponentName":"com.example.Groups","ComponentVersion":"1.0.0",
"ComponentDescription":"x","ComponentPublisher":"x","Manifests":[{"Platform":{"os":"linux"},"Lifecycle":{"run":"true"}}]}`

func deploymentsOfGroups(t *testing.T, k *kit, c *iot.Client) {
	ctx := t.Context()
	k.PutComponent(t, []byte(appRecipe), nil)
	thing := aws.String("deployed-core")
	must(c.CreateThing(ctx, &iot.CreateThingInput{ThingName: thing}))(t)
	ids, jobs := map[string]string{}, map[string]string{}
	for _, name := range []string{"deployed-a", "deployed-b"} {
		group(t, c, name, "")
		made := must(k.Greengrass().CreateDeployment(ctx, &greengrassv2.CreateDeploymentInput{
			TargetArn: aws.String(groupARN(name)), Components: map[string]ggtypes.ComponentDeploymentSpecification{"com.example.Groups": {ComponentVersion: aws.String("1.0.0")}},
		}))(t)
		ids[name], jobs[*made.IotJobId] = *made.DeploymentId, name
	}
	statuses := func() map[string]types.JobExecutionStatus {
		out := map[string]types.JobExecutionStatus{}
		for _, e := range must(c.ListJobExecutionsForThing(ctx, &iot.ListJobExecutionsForThingInput{ThingName: thing}))(t).ExecutionSummaries {
			out[jobs[*e.JobId]] = e.JobExecutionSummary.Status
		}
		return out
	}
	update := func(add, remove []string) {
		must(c.UpdateThingGroupsForThing(ctx, &iot.UpdateThingGroupsForThingInput{ThingName: thing, ThingGroupsToAdd: add, ThingGroupsToRemove: remove}))(t)
	}
	queued, removed := types.JobExecutionStatusQueued, types.JobExecutionStatusRemoved
	update([]string{"deployed-a", "deployed-b"}, nil)
	assert.Equal(t, map[string]types.JobExecutionStatus{"deployed-a": queued, "deployed-b": queued}, statuses(), "joining delivers")
	update(nil, []string{"deployed-a"})
	assert.Equal(t, map[string]types.JobExecutionStatus{"deployed-a": removed, "deployed-b": queued}, statuses(), "leaving takes back")

	must(c.DeleteThingGroup(ctx, &iot.DeleteThingGroupInput{ThingGroupName: aws.String("deployed-b")}))(t)
	assert.NotContains(t, slices.Collect(maps.Values(statuses())), queued)
	gone := must(k.Greengrass().GetDeployment(ctx, &greengrassv2.GetDeploymentInput{DeploymentId: aws.String(ids["deployed-b"])}))(t)
	assert.Equal(t, ggtypes.DeploymentStatusCanceled, gone.DeploymentStatus)
	must(c.DeleteThing(ctx, &iot.DeleteThingInput{ThingName: thing}))(t)
	kept := must(k.Greengrass().GetDeployment(ctx, &greengrassv2.GetDeploymentInput{DeploymentId: aws.String(ids["deployed-a"])}))(t)
	assert.Equal(t, ggtypes.DeploymentStatusActive, kept.DeploymentStatus)
}
