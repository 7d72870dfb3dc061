package compat_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/greengrassv2"
	"github.com/aws/aws-sdk-go-v2/service/greengrassv2/types"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	targetARN = "arn:aws:iot:" + awsRegion + ":" + awsAccount + ":"
	helloApp  = "com.deployments.Hello"
	brokenApp = "com.deployments.Broken"
)

// deployments is the Greengrass V2 API's part for deployments, through the real SDK.
type deployments struct {
	*kit
	gg  *greengrassv2.Client
	iot *iot.Client
}

func TestAWSDeployments(t *testing.T) {
	k := awsKit(t)
	d := deployments{k, k.Greengrass(), k.IoT()}
	for _, version := range []string{"1.0.0", "2.0.0"} {
		k.PutComponent(t, recipeOf(helloApp, version, anyLinux), nil)
	}
	k.PutComponent(t, recipeOf(brokenApp, "1.0.0", anyLinux), nil)
	for name, test := range map[string]func(*testing.T){
		"every member comes back as it was given":         d.everyMember,
		"what was not given comes back as the API has it": d.defaults,
		"a thing's deployment names no job":               d.thing,
		"a client token":                                  d.clientToken,
		"revisions, cancel and delete":                    d.life,
		"sub-deployments":                                 d.subDeployments,
		"pages and filters":                               d.pages,
		"what is refused, by the member's path":           d.refused,
		"what is not there":                               d.missing,
		"two at once for one target":                      d.atOnce,
		"a key that may only read":                        d.readOnly,
		"cores carry deployments out":                     d.cores,
		"what the fleet service deploys is seen":          d.fleet,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t)
		})
	}
}

// group makes a thing group and returns its ARN.
func (d deployments) group(t *testing.T, name string) string {
	t.Helper()
	out, err := d.iot.CreateThingGroup(t.Context(), &iot.CreateThingGroupInput{ThingGroupName: &name})
	require.NoError(t, err)
	return *out.ThingGroupArn
}

func (d deployments) create(t *testing.T, in greengrassv2.CreateDeploymentInput) *greengrassv2.CreateDeploymentOutput {
	t.Helper()
	out, err := d.gg.CreateDeployment(t.Context(), &in)
	require.NoError(t, err)
	return out
}

func (d deployments) get(t *testing.T, id *string) *greengrassv2.GetDeploymentOutput {
	t.Helper()
	out, err := d.gg.GetDeployment(t.Context(), &greengrassv2.GetDeploymentInput{DeploymentId: id})
	require.NoError(t, err)
	return out
}

func hello(version string) map[string]types.ComponentDeploymentSpecification {
	return map[string]types.ComponentDeploymentSpecification{helloApp: {ComponentVersion: &version}}
}

func (d deployments) everyMember(t *testing.T) {
	in := greengrassv2.CreateDeploymentInput{
		TargetArn: aws.String(d.group(t, "every-member")), DeploymentName: aws.String("line 1 – übung"),
		Components: map[string]types.ComponentDeploymentSpecification{helloApp: {
			ComponentVersion: aws.String("1.0.0"),
			ConfigurationUpdate: &types.ComponentConfigurationUpdate{
				Merge: aws.String("{ \"port\" : 8080.0,\"tags\":[\"a\"] }"), Reset: []string{"", "/network/useHttps", "/tags"},
			},
			RunWith: &types.ComponentRunWith{
				PosixUser: aws.String("ggc_user:ggc_group"), WindowsUser: aws.String("ggc"),
				SystemResourceLimits: &types.SystemResourceLimits{Memory: 9223372036854771712, Cpus: 0.25},
			},
		}},
		IotJobConfiguration: &types.DeploymentIoTJobConfiguration{
			JobExecutionsRolloutConfig: &types.IoTJobExecutionsRolloutConfig{
				ExponentialRate: &types.IoTJobExponentialRolloutRate{
					BaseRatePerMinute: aws.Int32(5), IncrementFactor: aws.Float64(1.5),
					RateIncreaseCriteria: &types.IoTJobRateIncreaseCriteria{NumberOfNotifiedThings: aws.Int32(10), NumberOfSucceededThings: aws.Int32(7)},
				},
				MaximumPerMinute: aws.Int32(1000),
			},
			AbortConfig: &types.IoTJobAbortConfig{CriteriaList: []types.IoTJobAbortCriteria{
				{FailureType: types.IoTJobExecutionFailureTypeAll, Action: types.IoTJobAbortActionCancel, ThresholdPercentage: 10.99, MinNumberOfExecutedThings: aws.Int32(100)},
				{FailureType: types.IoTJobExecutionFailureTypeTimedOut, Action: types.IoTJobAbortActionCancel, ThresholdPercentage: 0, MinNumberOfExecutedThings: aws.Int32(1)},
			}},
			TimeoutConfig: &types.IoTJobTimeoutConfig{InProgressTimeoutInMinutes: aws.Int64(10080)},
		},
		DeploymentPolicies: &types.DeploymentPolicies{
			FailureHandlingPolicy:         types.DeploymentFailureHandlingPolicyDoNothing,
			ComponentUpdatePolicy:         &types.DeploymentComponentUpdatePolicy{TimeoutInSeconds: aws.Int32(90), Action: types.DeploymentComponentUpdatePolicyActionSkipNotifyComponents},
			ConfigurationValidationPolicy: &types.DeploymentConfigurationValidationPolicy{TimeoutInSeconds: aws.Int32(0)},
		},
		Tags: map[string]string{"env": "test", "empty": ""},
	}
	made := d.create(t, in)
	assert.Equal(t, targetARN+"job/"+*made.IotJobId, *made.IotJobArn)
	assert.NotEqual(t, *made.DeploymentId, *made.IotJobId)
	got := d.get(t, made.DeploymentId)
	assert.WithinDuration(t, time.Now(), *got.CreationTimestamp, time.Minute)
	assert.Equal(t, &greengrassv2.GetDeploymentOutput{
		TargetArn: in.TargetArn, DeploymentName: in.DeploymentName, Components: in.Components, IotJobConfiguration: in.IotJobConfiguration,
		DeploymentPolicies: in.DeploymentPolicies, Tags: in.Tags, DeploymentId: made.DeploymentId, IotJobId: made.IotJobId, IotJobArn: made.IotJobArn,
		RevisionId: aws.String("1"), DeploymentStatus: types.DeploymentStatusActive, IsLatestForTarget: true,
		CreationTimestamp: got.CreationTimestamp, ResultMetadata: got.ResultMetadata,
	}, got)
}

func (d deployments) defaults(t *testing.T) {
	target := d.group(t, "defaults")
	made := d.create(t, greengrassv2.CreateDeploymentInput{
		TargetArn: &target, DeploymentPolicies: &types.DeploymentPolicies{
			ComponentUpdatePolicy: &types.DeploymentComponentUpdatePolicy{Action: types.DeploymentComponentUpdatePolicyActionSkipNotifyComponents},
		},
	})
	got := d.get(t, made.DeploymentId)
	assert.Nil(t, got.DeploymentName)
	assert.Nil(t, got.ParentTargetArn)
	assert.Equal(t, types.DeploymentFailureHandlingPolicyRollback, got.DeploymentPolicies.FailureHandlingPolicy)
	assert.Equal(t, int32(60), *got.DeploymentPolicies.ComponentUpdatePolicy.TimeoutInSeconds, "a member given does not reset its neighbour")
	assert.Equal(t, types.DeploymentComponentUpdatePolicyActionSkipNotifyComponents, got.DeploymentPolicies.ComponentUpdatePolicy.Action)
	assert.Equal(t, int32(30), *got.DeploymentPolicies.ConfigurationValidationPolicy.TimeoutInSeconds)

	raw := d.Raw(t, http.MethodPost, "/greengrass/v2/deployments", "greengrass", fmt.Appendf(nil,
		`{"targetArn":%q,"deploymentName":null,"components":{%q:{"componentVersion":"1.0.0","configurationUpdate":{},"runWith":{"systemResourceLimits":{"memory":0,"cpus":1}}}},"unknown":1,"tags":{}}`, target, helloApp))
	require.Equal(t, http.StatusCreated, raw.Status, string(raw.Body))
	var made2 struct{ DeploymentID string }
	require.NoError(t, json.Unmarshal(raw.Body, &made2))
	raw = d.Raw(t, http.MethodGet, "/greengrass/v2/deployments/"+made2.DeploymentID, "greengrass", nil)
	var whole map[string]any
	require.NoError(t, json.Unmarshal(raw.Body, &whole))
	assert.Equal(t, map[string]any{}, whole["tags"])
	assert.Equal(t, map[string]any{}, whole["iotJobConfiguration"])
	assert.Equal(t, map[string]any{helloApp: map[string]any{
		"componentVersion": "1.0.0", "configurationUpdate": map[string]any{}, "runWith": map[string]any{"systemResourceLimits": map[string]any{"cpus": 1.0}},
	}}, whole["components"])
	assert.Equal(t, "2", whole["revisionId"], "a revision is text")
	assert.IsType(t, 1.0, whole["creationTimestamp"])
	assert.NotContains(t, whole, "deploymentName")
	assert.NotContains(t, whole, "parentTargetArn")
}

func (d deployments) thing(t *testing.T) {
	out, err := d.iot.CreateThing(t.Context(), &iot.CreateThingInput{ThingName: aws.String("deploy:own")})
	require.NoError(t, err)
	made := d.create(t, greengrassv2.CreateDeploymentInput{
		TargetArn: out.ThingArn, Components: hello("1.0.0"), IotJobConfiguration: &types.DeploymentIoTJobConfiguration{},
	})
	assert.Nil(t, made.IotJobId)
	assert.Nil(t, made.IotJobArn)
	got := d.get(t, made.DeploymentId)
	assert.Nil(t, got.IotJobId)
	assert.Nil(t, got.IotJobArn)
	assert.Equal(t, *out.ThingArn, *got.TargetArn)
	assert.Equal(t, types.DeploymentStatusActive, got.DeploymentStatus)
}

func (d deployments) clientToken(t *testing.T) {
	in := greengrassv2.CreateDeploymentInput{TargetArn: aws.String(d.group(t, "token")), Components: hello("1.0.0"), ClientToken: aws.String("1cbcda76-Ffdd")}
	first := d.create(t, in)
	again := d.create(t, in)
	assert.Equal(t, first.DeploymentId, again.DeploymentId)
	assert.Equal(t, first.IotJobArn, again.IotJobArn)
	in.Components = hello("2.0.0")
	assert.Equal(t, first.DeploymentId, d.create(t, in).DeploymentId, "the token wins")
	in.ClientToken = aws.String("1cbcda76-ffdd")
	assert.NotEqual(t, first.DeploymentId, d.create(t, in).DeploymentId, "tokens are case sensitive")

	var wg sync.WaitGroup
	var made sync.Map
	for range 8 {
		wg.Go(func() {
			own := in
			own.ClientToken = aws.String("all-at-once")
			out, err := d.gg.CreateDeployment(t.Context(), &own)
			if err != nil {
				assert.ErrorAs(t, err, new(*types.RequestAlreadyInProgressException))
				return
			}
			made.Store(*out.DeploymentId, nil)
		})
	}
	wg.Wait()
	n := 0
	made.Range(func(any, any) bool { n++; return true })
	assert.Equal(t, 1, n)

	in.ClientToken, in.Components = aws.String("failed-first"), hello("9.9.9")
	_, err := d.gg.CreateDeployment(t.Context(), &in)
	as[*types.ResourceNotFoundException](t, err)
	in.Components = hello("1.0.0")
	d.create(t, in)
}

func (d deployments) life(t *testing.T) {
	in := greengrassv2.CreateDeploymentInput{TargetArn: aws.String(d.group(t, "life")), Components: hello("1.0.0")}
	first, second := d.create(t, in), d.create(t, in)
	old := d.get(t, first.DeploymentId)
	assert.Equal(t, types.DeploymentStatusInactive, old.DeploymentStatus)
	assert.False(t, old.IsLatestForTarget)
	remove := func(id *string) error {
		_, err := d.gg.DeleteDeployment(t.Context(), &greengrassv2.DeleteDeploymentInput{DeploymentId: id})
		return err
	}
	cancel := func(id *string) error {
		out, err := d.gg.CancelDeployment(t.Context(), &greengrassv2.CancelDeploymentInput{DeploymentId: id})
		if err == nil {
			assert.Equal(t, "SUCCESS", *out.Message)
		}
		return err
	}
	refused := as[*types.ConflictException](t, remove(second.DeploymentId))
	assert.Equal(t, *second.DeploymentId, *refused.ResourceId)
	assert.Equal(t, "deployment", *refused.ResourceType)
	refused = as[*types.ConflictException](t, cancel(first.DeploymentId))
	assert.Equal(t, *first.DeploymentId, *refused.ResourceId)
	assert.Contains(t, *refused.Message, "INACTIVE")

	require.NoError(t, cancel(second.DeploymentId))
	got := d.get(t, second.DeploymentId)
	assert.Equal(t, types.DeploymentStatusCanceled, got.DeploymentStatus)
	assert.True(t, got.IsLatestForTarget)
	as[*types.ConflictException](t, cancel(second.DeploymentId))
	require.NoError(t, remove(second.DeploymentId))
	as[*types.ResourceNotFoundException](t, remove(second.DeploymentId))
	assert.True(t, d.get(t, first.DeploymentId).IsLatestForTarget)
	assert.Equal(t, "3", *d.get(t, d.create(t, in).DeploymentId).RevisionId)
}

func (d deployments) subDeployments(t *testing.T) {
	parent, retry, other := d.group(t, "sub-parent"), d.group(t, "sub-retry"), d.group(t, "sub-other")
	sub := greengrassv2.CreateDeploymentInput{TargetArn: &retry, ParentTargetArn: &parent, Components: hello("2.0.0")}
	_, err := d.gg.CreateDeployment(t.Context(), &sub)
	none := as[*types.ResourceNotFoundException](t, err)
	assert.Equal(t, "sub-parent", *none.ResourceId)
	assert.Equal(t, "thinggroup", *none.ResourceType)
	d.create(t, greengrassv2.CreateDeploymentInput{TargetArn: &parent, Components: hello("1.0.0")})
	made := d.create(t, sub)
	assert.Equal(t, parent, *d.get(t, made.DeploymentId).ParentTargetArn)
	list, err := d.gg.ListDeployments(t.Context(), &greengrassv2.ListDeploymentsInput{ParentTargetArn: &parent})
	require.NoError(t, err)
	require.Len(t, list.Deployments, 1)
	assert.Equal(t, *made.DeploymentId, *list.Deployments[0].DeploymentId)
	assert.Equal(t, parent, *list.Deployments[0].ParentTargetArn)

	d.create(t, greengrassv2.CreateDeploymentInput{TargetArn: &other, Components: hello("1.0.0")})
	for _, in := range []greengrassv2.CreateDeploymentInput{
		{TargetArn: &retry, ParentTargetArn: &other},  // another parent
		{TargetArn: &other, ParentTargetArn: &parent}, // a deployment of its own
		{TargetArn: &retry},                           // sub-deployments
	} {
		_, err := d.gg.CreateDeployment(t.Context(), &in)
		as[*types.ConflictException](t, err)
	}
	_, err = d.gg.CreateDeployment(t.Context(), &greengrassv2.CreateDeploymentInput{TargetArn: &parent, ParentTargetArn: &parent})
	assert.Equal(t, "parentTargetArn", fieldOf(t, err))
	thing := targetARN + "thing/x"
	_, err = d.gg.CreateDeployment(t.Context(), &greengrassv2.CreateDeploymentInput{TargetArn: &thing, ParentTargetArn: &parent})
	assert.Equal(t, "targetArn", fieldOf(t, err))
	_, err = d.gg.CreateDeployment(t.Context(), &greengrassv2.CreateDeploymentInput{TargetArn: &parent, ParentTargetArn: &thing})
	assert.Equal(t, "parentTargetArn", fieldOf(t, err))

	d.create(t, greengrassv2.CreateDeploymentInput{TargetArn: &parent, Components: hello("2.0.0")})
	assert.Equal(t, types.DeploymentStatusInactive, d.get(t, made.DeploymentId).DeploymentStatus)
}

func (d deployments) pages(t *testing.T) {
	a, b := d.group(t, "pages-a"), d.group(t, "pages-b")
	var ids []string
	for i := range 5 {
		made := d.create(t, greengrassv2.CreateDeploymentInput{TargetArn: &a, DeploymentName: aws.String(fmt.Sprint(i))})
		ids = append([]string{*made.DeploymentId}, ids...)
	}
	d.create(t, greengrassv2.CreateDeploymentInput{TargetArn: &b})
	in := greengrassv2.ListDeploymentsInput{TargetArn: &a, HistoryFilter: types.DeploymentHistoryFilterAll, MaxResults: aws.Int32(2)}
	var got []string
	for p := greengrassv2.NewListDeploymentsPaginator(d.gg, &in); p.HasMorePages(); {
		page, err := p.NextPage(t.Context())
		require.NoError(t, err)
		assert.LessOrEqual(t, len(page.Deployments), 2)
		for _, x := range page.Deployments {
			assert.Equal(t, a, *x.TargetArn)
			assert.Equal(t, len(got) == 0, x.IsLatestForTarget)
			assert.Equal(t, fmt.Sprint(5-len(got)), *x.RevisionId)
			assert.Equal(t, fmt.Sprint(4-len(got)), *x.DeploymentName)
			got = append(got, *x.DeploymentId)
		}
	}
	assert.Equal(t, ids, got)
	list, err := d.gg.ListDeployments(t.Context(), &greengrassv2.ListDeploymentsInput{TargetArn: &a})
	require.NoError(t, err)
	require.Len(t, list.Deployments, 1, "LATEST_ONLY is the default")
	assert.Equal(t, ids[0], *list.Deployments[0].DeploymentId)
	assert.Nil(t, list.NextToken)

	page, err := d.gg.ListDeployments(t.Context(), &in)
	require.NoError(t, err)
	_, err = d.gg.ListDeployments(t.Context(), &greengrassv2.ListDeploymentsInput{TargetArn: &b, HistoryFilter: types.DeploymentHistoryFilterAll, NextToken: page.NextToken})
	assert.Equal(t, "nextToken", fieldOf(t, err), "a token of other filters")
	for query, field := range map[string]string{
		"maxResults=0": "maxResults", "maxResults=101": "maxResults", "maxResults=x": "maxResults", "nextToken=x": "nextToken", "historyFilter=NONE": "historyFilter",
		"targetArn=x": "targetArn", "targetArn=" + url.QueryEscape("arn:aws:iot:eu-west-1:"+awsAccount+":thinggroup/g"): "targetArn",
		"parentTargetArn=" + url.QueryEscape(targetARN+"thing/x"): "parentTargetArn",
	} {
		assert.Contains(t, string(d.Raw(t, http.MethodGet, "/greengrass/v2/deployments?"+query, "greengrass", nil).Body), `"name":"`+field+`"`, query)
	}
}

func (d deployments) atOnce(t *testing.T) {
	in := greengrassv2.CreateDeploymentInput{TargetArn: aws.String(d.group(t, "at-once")), Components: hello("1.0.0")}
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			own := in
			_, err := d.gg.CreateDeployment(t.Context(), &own)
			assert.NoError(t, err)
		})
	}
	wg.Wait()
	list, err := d.gg.ListDeployments(t.Context(), &greengrassv2.ListDeploymentsInput{TargetArn: in.TargetArn, HistoryFilter: types.DeploymentHistoryFilterAll})
	require.NoError(t, err)
	seen := map[string]bool{}
	for _, x := range list.Deployments {
		seen[*x.RevisionId] = true
		assert.Equal(t, *x.RevisionId == "6", x.IsLatestForTarget)
		assert.Equal(t, *x.RevisionId == "6", x.DeploymentStatus == types.DeploymentStatusActive)
	}
	assert.Len(t, seen, 6)
}
