package greengrassapi_test

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/greengrassv2"
	"github.com/aws/aws-sdk-go-v2/service/greengrassv2/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/iot"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/pki"
)

func TestAComponentVersionThatIsMissingIsNamedByItsARN(t *testing.T) {
	k := newKit(t)
	root, err := pki.NewRoot("test", time.Now(), time.Hour)
	require.NoError(t, err)
	registry, err := iot.New(iot.Config{Store: k.store, Realm: names.Realm{Region: "us-east-1", Account: "123456789012"}, CA: &iot.CA{ID: "ca", Root: root.Cert, Issuer: root}})
	require.NoError(t, err)
	_, err = registry.EnsureGroup(t.Context(), "line", "", nil)
	require.NoError(t, err)
	_, err = k.CreateDeployment(t.Context(), &greengrassv2.CreateDeploymentInput{
		TargetArn:  aws.String("arn:aws:iot:us-east-1:123456789012:thinggroup/line"),
		Components: map[string]types.ComponentDeploymentSpecification{"com.none": {ComponentVersion: aws.String("1.0.0")}},
	})
	var missing *types.ResourceNotFoundException
	require.ErrorAs(t, err, &missing)
	assert.Equal(t, "arn:aws:greengrass:us-east-1:123456789012:components:com.none:versions:1.0.0", *missing.ResourceId)
	assert.Equal(t, "component", *missing.ResourceType)
}

func TestTheMessageNamesWhatIsWrong(t *testing.T) {
	k := newKit(t)
	message := func(c *types.DeploymentIoTJobConfiguration, name string) string {
		_, err := k.CreateDeployment(t.Context(), &greengrassv2.CreateDeploymentInput{
			TargetArn: aws.String("arn:aws:iot:us-east-1:123456789012:thinggroup/none"), DeploymentName: &name, IotJobConfiguration: c,
		})
		var invalid *types.ValidationException
		require.ErrorAs(t, err, &invalid)
		return invalid.ErrorMessage()
	}
	rate := &types.IoTJobExecutionsRolloutConfig{MaximumPerMinute: aws.Int32(5000)}
	one := message(&types.DeploymentIoTJobConfiguration{JobExecutionsRolloutConfig: rate}, "x")
	assert.Contains(t, one, "1 validation error detected: iotJobConfiguration.jobExecutionsRolloutConfig.maximumPerMinute ")
	two := message(&types.DeploymentIoTJobConfiguration{JobExecutionsRolloutConfig: rate, TimeoutConfig: &types.IoTJobTimeoutConfig{InProgressTimeoutInMinutes: aws.Int64(0)}}, "x")
	assert.Contains(t, two, "2 validation errors detected: ")
	for _, name := range []string{"maximumPerMinute", "inProgressTimeoutInMinutes"} {
		assert.Contains(t, two, name, "the AWS CLI shows nothing but the message")
	}
	wrong := types.IoTJobAbortCriteria{FailureType: "X", Action: "Y", ThresholdPercentage: 101, MinNumberOfExecutedThings: aws.Int32(0)}
	many := message(&types.DeploymentIoTJobConfiguration{AbortConfig: &types.IoTJobAbortConfig{CriteriaList: []types.IoTJobAbortCriteria{wrong, wrong}}}, "x")
	assert.Regexp(t, `^\d+ validation errors detected: .*; and \d+ more$`, many)
}

func TestARefusedRecipeIsAFieldOfTheRequest(t *testing.T) {
	k := newKit(t)
	for what, tt := range map[string]struct{ recipe, field, says string }{
		"no object":    {"hello", "inlineRecipe", "recipe: it is a text, not an object (line 1, column 1)"},
		"a bad member": {`{"RecipeFormatVersion":"1"}`, "inlineRecipe.ComponentName", "is missing (line 1, column 1)"},
	} {
		t.Run(what, func(t *testing.T) {
			_, err := k.CreateComponentVersion(t.Context(), &greengrassv2.CreateComponentVersionInput{InlineRecipe: []byte(tt.recipe)})
			var invalid *types.ValidationException
			require.ErrorAs(t, err, &invalid)
			require.Len(t, invalid.Fields, 1)
			assert.Equal(t, tt.field, *invalid.Fields[0].Name)
			assert.Equal(t, tt.says, *invalid.Fields[0].Message, "without the name once more")
			assert.Equal(t, types.ValidationExceptionReasonFieldValidationFailed, invalid.Reason)
		})
	}
}
