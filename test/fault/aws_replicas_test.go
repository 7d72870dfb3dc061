package fault_test

import (
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/greengrassv2"
	gg "github.com/aws/aws-sdk-go-v2/service/greengrassv2/types"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	iottypes "github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/test/internal/world"
	"github.com/ggfleet/ggfleet/test/simulator"
)

// awsReplicas are two replicas over one etcd and one artifact store, and a user of
// each with the same access key. The first leads whatever one replica does for all.
func awsReplicas(t *testing.T) (one, two *awsUser, store *world.World) {
	t.Helper()
	db := startEtcd(t)
	store = world.Start(t, world.Options{Flags: []string{"--s3-fsync=false"}})
	flags := append(externalS3(t, store), "--etcd-endpoints="+db.endpoint, "--seal-key-file="+filepath.Join(t.TempDir(), "seal.key"))
	first := world.Start(t, world.Options{Flags: flags})
	second := world.Start(t, world.Options{Flags: flags})
	token := strings.TrimSpace(string(tokenOf(t, first, second)))
	first.Token, second.Token = token, token
	key := first.NewAccessKey(t)
	return userWith(newStory(t, first), key), userWith(newStory(t, second), key), store
}

// plainComponent makes a component version that can be deployed at once.
func (u *awsUser) plainComponent(name, version string) *string {
	arn := call(u, u.gg.CreateComponentVersion, &greengrassv2.CreateComponentVersionInput{InlineRecipe: fmt.Appendf(nil,
		`{"RecipeFormatVersion":"2020-01-25","ComponentName":%q,"ComponentVersion":%q,"Manifests":[{"Platform":{"os":"linux","runtime":"*"},"Lifecycle":{"install":"true","run":"sleep 1"}}]}`,
		name, version)}).Arn
	u.until(func() string {
		got := call(u, u.gg.DescribeComponent, &greengrassv2.DescribeComponentInput{Arn: arn})
		if got.Status.ComponentState == gg.CloudComponentStateDeployable {
			return ""
		}
		return version + " is " + string(got.Status.ComponentState)
	})
	return arn
}

func (u *awsUser) progressOf(deployment string) iottypes.JobProcessDetails {
	job := call(u, u.gg.GetDeployment, &greengrassv2.GetDeploymentInput{DeploymentId: &deployment}).IotJobId
	return *call(u, u.iot.DescribeJob, &iot.DescribeJobInput{JobId: job}).Job.JobProcessDetails
}

// driver names the lease of the replica that drives rollouts.
func driver(t *testing.T, w *world.World) string {
	t.Helper()
	return fmt.Sprint(under[any](t, &ledger{records: w.Dump(t)}, "greengrass/rollout-leader"))
}

func TestThePaceOfAnAWSRolloutOutlivesTheReplicaThatDroveIt(t *testing.T) {
	t.Parallel()
	const things, interval = 60, 200 * time.Millisecond
	one, two, _ := awsReplicas(t)
	one.group("line")
	for i := range things {
		call(one, one.iot.CreateThing, &iot.CreateThingInput{ThingName: aws.String(absent(i))})
		one.join("line", absent(i))
	}
	one.plainComponent(awsTool, "1.0.0")
	id := one.deployTo("thinggroup/line", "paced", "1.0.0", int32(time.Minute/interval))
	notified := func(some int32) func() string {
		return func() string {
			if n := aws.ToInt32(one.progressOf(id).NumberOfQueuedThings); n < some {
				return fmt.Sprintf("%d were notified", n)
			}
			return ""
		}
	}
	one.until(notified(1))
	before := driver(t, one.w)
	one.until(notified(10))
	one.w.Kill9(t)
	assert.Less(t, aws.ToInt32(two.progressOf(id).NumberOfQueuedThings), int32(things), "the rollout had ended before the kill")
	assert.Equal(t, id, two.deployTo("thinggroup/line", "paced", "1.0.0", int32(time.Minute/interval)), "the other replica repeats the answer for the token")
	two.carriedOut(id, things, 0)
	assert.NotEqual(t, before, driver(t, two.w), "it was not the driver who died")
	two.plainComponent(awsTool, "2.0.0") // who checks components died as well
	two.finish()

	l := &ledger{records: two.w.Dump(t)}
	assert.Len(t, under[any](t, l, "greengrass/deployment/"), 1)
	pending := under[struct {
		Number int
		Stamp  int64
	}](t, l, "jobs/execution/pending/")
	assert.Len(t, pending, things)
	var at []int64
	for key, e := range pending {
		assert.Equal(t, 1, e.Number, key)
		at = append(at, e.Stamp)
	}
	slices.Sort(at)
	const slack = 3 * time.Second // that a late one makes up for, and that passes from its turn to its stamp on a busy machine
	for i := range at {
		for j := i + 1; j < len(at); j++ {
			took := time.Duration(at[j]-at[i]) * time.Millisecond
			require.GreaterOrEqual(t, took, time.Duration(j-i)*interval-slack, "notifications %d to %d are too fast", i, j)
		}
	}
}

func TestAnAbortCriterionIsExactOverTheDeathOfTheReplicaThatCounted(t *testing.T) {
	t.Parallel()
	const all, atLeast = 40, 12
	one, two, store := awsReplicas(t)
	names := coreNames(all)
	one.succeeded(one.postCores(names), names)
	one.group("line")
	for _, name := range names {
		one.join("line", name)
	}
	one.plainComponent(awsTool, "1.0.0")
	two.fleet = failingCores(t, store, two.w, names)
	two.healthy(names)
	in := &greengrassv2.CreateDeploymentInput{
		TargetArn: aws.String(awsARN + "thinggroup/line"), Components: map[string]gg.ComponentDeploymentSpecification{awsTool: {ComponentVersion: aws.String("1.0.0")}},
		IotJobConfiguration: &gg.DeploymentIoTJobConfiguration{
			JobExecutionsRolloutConfig: &gg.IoTJobExecutionsRolloutConfig{MaximumPerMinute: aws.Int32(60)},
			AbortConfig: &gg.IoTJobAbortConfig{CriteriaList: []gg.IoTJobAbortCriteria{{
				FailureType: gg.IoTJobExecutionFailureTypeFailed, Action: gg.IoTJobAbortActionCancel, ThresholdPercentage: 100, MinNumberOfExecutedThings: aws.Int32(atLeast),
			}}},
		},
	}
	id := *call(one, one.gg.CreateDeployment, in).DeploymentId
	one.until(func() string {
		if n := aws.ToInt32(one.progressOf(id).NumberOfFailedThings); n < 8 {
			return fmt.Sprintf("%d failed", n)
		}
		return ""
	})
	one.w.Kill9(t)
	two.until(func() string {
		st := call(two, two.gg.GetDeployment, &greengrassv2.GetDeploymentInput{DeploymentId: &id}).DeploymentStatus
		if st == gg.DeploymentStatusCanceled {
			return ""
		}
		return "the deployment is " + string(st)
	})
	two.until(func() string {
		d := two.progressOf(id)
		if n := aws.ToInt32(d.NumberOfQueuedThings) + aws.ToInt32(d.NumberOfInProgressThings); n > 0 {
			return fmt.Sprintf("%d are not withdrawn", n)
		}
		return ""
	})
	two.fleet.stop()
	d := two.progressOf(id)
	failed := int(aws.ToInt32(d.NumberOfFailedThings))
	t.Logf("%d failed, %d were canceled", failed, aws.ToInt32(d.NumberOfCanceledThings))
	assert.GreaterOrEqual(t, failed, atLeast, "stopped before the criterion was met")
	assert.Less(t, failed, 8+atLeast, "what failed before the kill was forgotten")
	for _, name := range names {
		n := two.fleet.times(name)
		assert.LessOrEqual(t, n, 1, "%s was notified %d times", name, n)
	}
}

// failingCores runs cores on which the AWS user's component never works, connected
// to w whoever made them.
func failingCores(t *testing.T, store, w *world.World, names []string) *cores {
	t.Helper()
	c := &cores{finished: map[string]map[string][]string{}, events: map[string][]string{}}
	c.change = func(cfg *simulator.Config) {
		cfg.MQTT, cfg.DataPlane, cfg.Credentials = w.MQTT, w.Device, w.Device
		cfg.RootCAs = w.Roots
		cfg.Fail = map[string]simulator.Failure{awsTool: simulator.FailInstall}
	}
	c.add(t, store, names...)
	return c
}

func TestWhatOneReplicaAnsweredTheOtherKnowsAtOnce(t *testing.T) {
	t.Parallel()
	one, two, _ := awsReplicas(t)
	one.group("line")
	one.plainComponent(awsTool, "1.0.0")
	for i := range 25 {
		thing := fmt.Sprintf("thing-%02d", i)
		call(one, one.iot.CreateThing, &iot.CreateThingInput{ThingName: &thing})
		has := func() bool {
			things := call(two, two.iot.ListThings, &iot.ListThingsInput{MaxResults: aws.Int32(250)}).Things
			return slices.ContainsFunc(things, func(a iottypes.ThingAttribute) bool { return *a.ThingName == thing })
		}
		assert.True(t, has(), "%s is not listed", thing)
		if i%2 == 0 {
			call(one, one.iot.DeleteThing, &iot.DeleteThingInput{ThingName: &thing})
			assert.False(t, has(), "%s is still listed", thing)
		}

		id := one.deployTo("thinggroup/line", fmt.Sprintf("line-%d", i), "1.0.0", 0)
		assert.Equal(t, gg.DeploymentStatusActive, call(two, two.gg.GetDeployment, &greengrassv2.GetDeploymentInput{DeploymentId: &id}).DeploymentStatus)
		listed := func() gg.Deployment {
			all := call(two, two.gg.ListDeployments, &greengrassv2.ListDeploymentsInput{HistoryFilter: gg.DeploymentHistoryFilterLatestOnly}).Deployments
			if len(all) == 0 {
				return gg.Deployment{}
			}
			return all[0]
		}
		assert.Equal(t, id, aws.ToString(listed().DeploymentId), "the latest of a list")
		one.cancel(id)
		assert.Equal(t, gg.DeploymentStatusCanceled, listed().DeploymentStatus)
		assert.Equal(t, id, two.deployTo("thinggroup/line", fmt.Sprintf("line-%d", i), "1.0.0", 0), "the token's answer")

		both := sync.Map{}
		var wg sync.WaitGroup
		for _, u := range []*awsUser{one, two, one, two} {
			wg.Go(func() {
				in := &greengrassv2.CreateDeploymentInput{TargetArn: aws.String(awsARN + "thinggroup/line"), ClientToken: aws.String(fmt.Sprintf("both-%d", i))}
				out, err := u.gg.CreateDeployment(t.Context(), in)
				var busy *gg.RequestAlreadyInProgressException
				if !errors.As(err, &busy) && assert.NoError(t, err) {
					both.Store(*out.DeploymentId, true)
				}
			})
		}
		wg.Wait()
		n := 0
		both.Range(func(any, any) bool { n++; return true })
		assert.Equal(t, 1, n, "deployments for one token, asked for on both replicas at once")

		version := fmt.Sprintf("1.%d.0", i+1)
		arn := one.plainComponent(awsTool, version)
		resolved := call(two, two.gg.ResolveComponentCandidates, &greengrassv2.ResolveComponentCandidatesInput{
			Platform:            &gg.ComponentPlatform{Attributes: map[string]string{"os": "linux"}},
			ComponentCandidates: []gg.ComponentCandidate{{ComponentName: aws.String(awsTool), VersionRequirements: map[string]string{"x": ">=1.0.0"}}},
		}).ResolvedComponentVersions
		require.Len(t, resolved, 1)
		assert.Equal(t, *arn, *resolved[0].Arn)

		key := one.w.NewAccessKey(t)
		user := userWith(two.story, key)
		call(user, user.iot.DescribeEndpoint, &iot.DescribeEndpointInput{})
		one.w.Call(t, http.MethodDelete, "/accessKeys/"+key.ID, nil, nil)
		_, err := user.iot.DescribeEndpoint(t.Context(), &iot.DescribeEndpointInput{})
		var refused smithy.APIError
		require.ErrorAs(t, err, &refused)
		assert.Equal(t, "UnrecognizedClientException", refused.ErrorCode())
	}
}
