package awscloud

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/greengrassv2"
	"github.com/aws/aws-sdk-go-v2/service/greengrassv2/types"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	iottypes "github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/run"
)

// tagToken holds the token of a deployment: AWS forgets client tokens after eight
// hours, the port does not.
const tagToken = "ggfleet:token"

// Ensure implements cloud.Deployments.
func (c *Cloud) Ensure(ctx context.Context, d cloud.GroupDeployment, token string) (cloud.DeploymentRef, error) {
	in, err := c.request(d)
	if err != nil {
		return cloud.DeploymentRef{}, err
	}
	for _, x := range d.Components {
		if err := c.Deployable(ctx, x.Name, x.Version); err != nil {
			return cloud.DeploymentRef{}, err
		}
	}
	if err := c.ensureGroup(ctx, d); err != nil {
		return cloud.DeploymentRef{}, err
	}
	in.Tags[tagToken] = digest(token)
	var ref cloud.DeploymentRef
	err = run.Retry(ctx, run.Backoff{}, attempts, func(ctx context.Context) error {
		ref, err = c.ensureDeployment(ctx, d.Group, in)
		return err
	})
	return ref, err
}

// ensureDeployment returns the group's active deployment if it was made with the
// token of in, and makes the next one otherwise. Its client token names what is
// replaced: whoever else makes it at this moment makes the same one, and a group
// that was removed and made again does not get the answer of its namesake.
func (c *Cloud) ensureDeployment(ctx context.Context, group string, in *greengrassv2.CreateDeploymentInput) (cloud.DeploymentRef, error) {
	now, err := c.latest(ctx, group)
	if err != nil {
		return cloud.DeploymentRef{}, err
	}
	if now.active && now.token == in.Tags[tagToken] {
		return now.DeploymentRef, nil
	}
	in.ClientToken = aws.String(digest(in.Tags[tagToken] + now.ID))
	out, err := c.greengrass.CreateDeployment(ctx, in)
	if err != nil {
		return cloud.DeploymentRef{}, failed(err, "creating the deployment of thing group %s", group)
	}
	ref := cloud.DeploymentRef{ID: aws.ToString(out.DeploymentId), JobID: aws.ToString(out.IotJobId)}
	return ref, c.awaitListed(ctx, group, ref.ID)
}

// awaitListed returns when the group's latest deployment is the one named id:
// lists lag, and Move asks them.
func (c *Cloud) awaitListed(ctx context.Context, group, id string) error {
	return c.await(ctx, func(ctx context.Context) error {
		now, err := c.latest(ctx, group)
		if err == nil && now.ID != id {
			return fault.New(fault.Unavailable, "deployment %s of thing group %s is not listed yet", id, group)
		}
		return err
	})
}

// await calls step until it succeeds or the time is up in which AWS does what its
// answers promised.
func (c *Cloud) await(ctx context.Context, step func(context.Context) error) error {
	within, cancel := context.WithTimeout(ctx, c.settle)
	defer cancel()
	return run.Retry(within, run.Backoff{Min: 20 * time.Millisecond, Max: time.Second}, 0, step)
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

func (c *Cloud) ensureGroup(ctx context.Context, d cloud.GroupDeployment) error {
	in := &iot.CreateThingGroupInput{ThingGroupName: &d.Group}
	if d.Description != "" {
		in.ThingGroupProperties = &iottypes.ThingGroupProperties{ThingGroupDescription: &d.Description}
	}
	for k, v := range d.Tags {
		in.Tags = append(in.Tags, iottypes.Tag{Key: &k, Value: &v})
	}
	_, err := c.iot.CreateThingGroup(ctx, in)
	if _, ok := asType[*iottypes.ResourceAlreadyExistsException](err); err == nil || ok {
		return nil
	}
	return failed(err, "creating thing group %s", d.Group)
}

// request puts d into the words of the API.
func (c *Cloud) request(d cloud.GroupDeployment) (*greengrassv2.CreateDeploymentInput, error) {
	in := &greengrassv2.CreateDeploymentInput{
		TargetArn: aws.String(c.realm.ThingGroup(d.Group)), DeploymentName: &d.Name,
		Components: map[string]types.ComponentDeploymentSpecification{}, Tags: map[string]string{},
	}
	maps.Copy(in.Tags, d.Tags)
	for _, x := range d.Components {
		s := types.ComponentDeploymentSpecification{ComponentVersion: &x.Version}
		if x.Merge != "" || len(x.Reset) > 0 {
			s.ConfigurationUpdate = &types.ComponentConfigurationUpdate{Reset: x.Reset}
		}
		if x.Merge != "" {
			s.ConfigurationUpdate.Merge = &x.Merge
		}
		if x.PosixUser != "" {
			s.RunWith = &types.ComponentRunWith{PosixUser: &x.PosixUser}
		}
		in.Components[x.Name] = s
	}
	// The SDK's types have the members' names: JSON finds them whatever the case.
	if len(d.Policies) > 0 {
		in.DeploymentPolicies = &types.DeploymentPolicies{}
		if err := json.Unmarshal(d.Policies, in.DeploymentPolicies); err != nil {
			return nil, fault.Field("deploymentPolicies", "does not have the form of the Greengrass API: %s", err)
		}
	}
	if len(d.JobConfig) > 0 {
		var job types.DeploymentIoTJobConfiguration
		if err := json.Unmarshal(d.JobConfig, &job); err != nil {
			return nil, fault.Field("jobConfig", "does not have the form of the Greengrass API: %s", err)
		}
		// Pace and abort criteria are the fleet service's own.
		if job.TimeoutConfig != nil {
			in.IotJobConfiguration = &types.DeploymentIoTJobConfiguration{TimeoutConfig: job.TimeoutConfig}
		}
	}
	return in, nil
}

// deployment is the latest one of a group; the zero value if it has none.
type deployment struct {
	cloud.DeploymentRef
	active  bool
	token   string
	timeout int // minutes; 0: none
}

func (c *Cloud) latest(ctx context.Context, group string) (deployment, error) {
	list, err := c.greengrass.ListDeployments(ctx, &greengrassv2.ListDeploymentsInput{
		TargetArn: aws.String(c.realm.ThingGroup(group)), HistoryFilter: types.DeploymentHistoryFilterLatestOnly, MaxResults: aws.Int32(1),
	})
	if err != nil {
		return deployment{}, failed(err, "finding the deployment of thing group %s", group)
	}
	if len(list.Deployments) == 0 {
		return deployment{}, nil
	}
	return c.deployment(ctx, aws.ToString(list.Deployments[0].DeploymentId))
}

func (c *Cloud) deployment(ctx context.Context, id string) (deployment, error) {
	d, err := c.greengrass.GetDeployment(ctx, &greengrassv2.GetDeploymentInput{DeploymentId: &id})
	if absent(err) {
		return deployment{}, nil // it went meanwhile
	}
	if err != nil {
		return deployment{}, failed(err, "reading deployment %s", id)
	}
	out := deployment{
		DeploymentRef: cloud.DeploymentRef{ID: id, JobID: aws.ToString(d.IotJobId)},
		active:        d.DeploymentStatus == types.DeploymentStatusActive,
		token:         d.Tags[tagToken],
	}
	if j := d.IotJobConfiguration; j != nil && j.TimeoutConfig != nil {
		out.timeout = int(aws.ToInt64(j.TimeoutConfig.InProgressTimeoutInMinutes))
	}
	return out, nil
}

// groupOf returns the thing group that an ARN names, or "".
func groupOf(arn string) string {
	kind, name, err := names.ParseTarget(arn)
	if err != nil || kind != names.TargetThingGroup {
		return ""
	}
	return name
}
