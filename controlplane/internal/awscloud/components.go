package awscloud

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/greengrassv2"
	"github.com/aws/aws-sdk-go-v2/service/greengrassv2/types"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// Deployable implements cloud.Components: a version of the account or one that
// AWS provides.
func (c *Cloud) Deployable(ctx context.Context, name, version string) error {
	provided := c.realm
	provided.Account = "aws"
	for _, arn := range []string{c.realm.ComponentVersion(name, version), provided.ComponentVersion(name, version)} {
		out, err := c.greengrass.DescribeComponent(ctx, &greengrassv2.DescribeComponentInput{Arn: &arn})
		if absent(err) {
			continue
		}
		if err != nil {
			return failed(err, "reading component %s version %s", name, version)
		}
		var s types.CloudComponentStatus
		if out.Status != nil {
			s = *out.Status
		}
		if s.ComponentState != types.CloudComponentStateDeployable && s.ComponentState != types.CloudComponentStateDeprecated {
			return fault.New(fault.Invalid, "component %s version %s cannot be deployed: it is %s: %s", name, version, s.ComponentState, aws.ToString(s.Message))
		}
		return nil
	}
	return fault.New(fault.NotFound, "component %s version %s does not exist", name, version)
}
