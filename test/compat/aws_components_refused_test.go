package compat_test

import (
	"bytes"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/greengrassv2"
	"github.com/aws/aws-sdk-go-v2/service/greengrassv2/types"
	"github.com/stretchr/testify/assert"
)

func (c components) refusedCreations(t *testing.T) {
	try := func(in greengrassv2.CreateComponentVersionInput) error {
		_, err := c.gg.CreateComponentVersion(t.Context(), &in)
		return err
	}
	good := recipeOf("com.refused", "1.0.0", anyLinux)
	assert.Equal(t, `inlineRecipe.Manifests[0].Artifacts[0].Unarchive`,
		fieldOf(t, try(greengrassv2.CreateComponentVersionInput{InlineRecipe: recipeOf("com.refused", "1.0.0", "\n"+`{"Artifacts":[{"Uri":"greengrass:a","Unarchive":"TAR"}]}`)})))
	err := try(greengrassv2.CreateComponentVersionInput{InlineRecipe: []byte("RecipeFormatVersion: '2020-01-25'\nComponentName: com.refused\nComponentVersion: 1.0.x\n")})
	assert.Equal(t, "inlineRecipe.ComponentVersion", fieldOf(t, err))
	assert.Contains(t, err.Error(), "(line 3, column 19)")
	assert.Equal(t, "clientToken", fieldOf(t, try(greengrassv2.CreateComponentVersionInput{InlineRecipe: good, ClientToken: aws.String("a_b")})))
	assert.Equal(t, "tags", fieldOf(t, try(greengrassv2.CreateComponentVersionInput{InlineRecipe: good, Tags: map[string]string{"aws:x": "y"}})))

	for name, in := range map[string]greengrassv2.CreateComponentVersionInput{
		"exactly one of":          {},
		"over the limit of 16384": {InlineRecipe: bytes.Repeat([]byte(" "), 16385)},
		"neither JSON nor YAML":   {InlineRecipe: []byte("a: [b\nc")},
		"is empty":                {InlineRecipe: []byte(" ")},
		"Specified artifact resource cannot be accessed}": {InlineRecipe: recipeOf("com.refused", "1.0.0", `{"Artifacts":[{"Uri":"s3://ggfleet/refused/none"}]}`)},
	} {
		assert.Contains(t, as[*types.ValidationException](t, try(in)).ErrorMessage(), name)
	}
	both := c.Raw(t, http.MethodPost, "/greengrass/v2/createComponentVersion", "greengrass", []byte(`{"inlineRecipe":"e30=","lambdaFunction":{"lambdaArn":"x"}}`))
	assert.Equal(t, http.StatusBadRequest, both.Status)
	assert.Contains(t, string(both.Body), "exactly one of inlineRecipe and lambdaFunction")
	for body, field := range map[string]string{
		`{"inlineRecipe":5}`:                        `"inlineRecipe"`,
		`{"inlineRecipe":"*"}`:                      `"inlineRecipe"`,
		`{"inlineRecipe":"e30=","tags":{"":"v"}}`:   `"tags`,
		`{"inlineRecipe":"e30=","tags":{"k":null}}`: `"tags.k"`,
		`{"inlineRecipe":"e30=","clientToken":""}`:  `"clientToken"`,
	} {
		a := c.Raw(t, http.MethodPost, "/greengrass/v2/createComponentVersion", "greengrass", []byte(body))
		assert.Equal(t, http.StatusBadRequest, a.Status, body)
		assert.Equal(t, "ValidationException", a.Header.Get("X-Amzn-Errortype"), body)
		assert.Contains(t, string(a.Body), `"name":`+field, body)
	}
	_, err = c.gg.DescribeComponent(t.Context(), &greengrassv2.DescribeComponentInput{Arn: aws.String(componentARN + "com.refused:versions:1.0.0")})
	as[*types.ResourceNotFoundException](t, err)
}

func (c components) lambda(t *testing.T) {
	const fn = "arn:aws:lambda:us-east-1:123456789012:function:hello:"
	try := func(change func(*types.LambdaFunctionRecipeSource)) error {
		src := &types.LambdaFunctionRecipeSource{
			LambdaArn: aws.String(fn + "3"), ComponentName: aws.String("com.lambda"), ComponentVersion: aws.String("3.0.0"),
			ComponentPlatforms:    []types.ComponentPlatform{{Attributes: map[string]string{"os": "linux"}}},
			ComponentDependencies: map[string]types.ComponentDependencyRequirement{"aws.greengrass.LambdaLauncher": {VersionRequirement: aws.String("^2.0.0"), DependencyType: "HARD"}},
			ComponentLambdaParameters: &types.LambdaExecutionParameters{
				EventSources: []types.LambdaEventSource{{Topic: aws.String("a/+"), Type: types.LambdaEventSourceTypeIotCore}},
				MaxQueueSize: aws.Int32(10), Pinned: aws.Bool(true), InputPayloadEncodingType: types.LambdaInputPayloadEncodingTypeBinary,
				EnvironmentVariables: map[string]string{"A": ""}, LinuxProcessParams: &types.LambdaLinuxProcessParams{
					IsolationMode:   types.LambdaIsolationModeGreengrassContainer,
					ContainerParams: &types.LambdaContainerParams{MemorySizeInKB: aws.Int32(2048), Volumes: []types.LambdaVolumeMount{{SourcePath: aws.String("/a"), DestinationPath: aws.String("/b"), Permission: "rw"}}},
				},
			},
		}
		change(src)
		_, err := c.gg.CreateComponentVersion(t.Context(), &greengrassv2.CreateComponentVersionInput{LambdaFunction: src})
		return err
	}
	whole := as[*types.ValidationException](t, try(func(*types.LambdaFunctionRecipeSource) {}))
	assert.Contains(t, whole.ErrorMessage(), "no Lambda service")
	for field, change := range map[string]func(*types.LambdaFunctionRecipeSource){
		"lambdaFunction.lambdaArn":        func(s *types.LambdaFunctionRecipeSource) { s.LambdaArn = aws.String(fn + "$LATEST") },
		"lambdaFunction.componentName":    func(s *types.LambdaFunctionRecipeSource) { s.ComponentName = aws.String("a b") },
		"lambdaFunction.componentVersion": func(s *types.LambdaFunctionRecipeSource) { s.ComponentVersion = aws.String("3") },
		"lambdaFunction.componentDependencies[com.x].versionRequirement": func(s *types.LambdaFunctionRecipeSource) {
			s.ComponentDependencies = map[string]types.ComponentDependencyRequirement{"com.x": {VersionRequirement: aws.String("latest")}}
		},
		"lambdaFunction.componentLambdaParameters.eventSources[0].type": func(s *types.LambdaFunctionRecipeSource) { s.ComponentLambdaParameters.EventSources[0].Type = "MQTT" },
		"lambdaFunction.componentLambdaParameters.inputPayloadEncodingType": func(s *types.LambdaFunctionRecipeSource) {
			s.ComponentLambdaParameters.InputPayloadEncodingType = "xml"
		},
		"lambdaFunction.componentLambdaParameters.linuxProcessParams.isolationMode": func(s *types.LambdaFunctionRecipeSource) {
			s.ComponentLambdaParameters.LinuxProcessParams.IsolationMode = "none"
		},
		"lambdaFunction.componentLambdaParameters.linuxProcessParams.containerParams.volumes[0].permission": func(s *types.LambdaFunctionRecipeSource) {
			s.ComponentLambdaParameters.LinuxProcessParams.ContainerParams.Volumes[0].Permission = "x"
		},
	} {
		assert.Equal(t, field, fieldOf(t, try(change)))
	}
}

func (c components) missing(t *testing.T) {
	for _, arn := range []string{componentARN + "com.none:versions:1.0.0", strings.Replace(componentARN, awsRegion, "eu-west-1", 1) + "aws.greengrass.Cli:versions:2.5.0"} {
		for name, call := range map[string]func() error{
			"DescribeComponent": func() error {
				_, err := c.gg.DescribeComponent(t.Context(), &greengrassv2.DescribeComponentInput{Arn: &arn})
				return err
			},
			"GetComponent": func() error {
				_, err := c.gg.GetComponent(t.Context(), &greengrassv2.GetComponentInput{Arn: &arn})
				return err
			},
			"GetComponentVersionArtifact": func() error {
				_, err := c.gg.GetComponentVersionArtifact(t.Context(), &greengrassv2.GetComponentVersionArtifactInput{Arn: &arn, ArtifactName: aws.String("dir/some file+x.zip")})
				return err
			},
			"DeleteComponent": func() error {
				_, err := c.gg.DeleteComponent(t.Context(), &greengrassv2.DeleteComponentInput{Arn: &arn})
				return err
			},
		} {
			e := as[*types.ResourceNotFoundException](t, call())
			assert.Equal(t, arn, *e.ResourceId, name)
			assert.Equal(t, "component", *e.ResourceType, name)
		}
	}
	for _, path := range []string{"/metadata", "", "/artifacts/x"} {
		a := c.Raw(t, http.MethodGet, "/greengrass/v2/components/"+url.PathEscape("arn:aws:greengrass:x:y:components:z")+path, "greengrass", nil)
		assert.Equal(t, http.StatusBadRequest, a.Status, path)
		assert.Contains(t, string(a.Body), `"name":"arn"`, path)
	}
	v := c.create(t, recipeOf("com.missing", "1.0.0", anyLinux))
	_, err := c.gg.GetComponentVersionArtifact(t.Context(), &greengrassv2.GetComponentVersionArtifactInput{Arn: v.Arn, ArtifactName: aws.String("none")})
	as[*types.ResourceNotFoundException](t, err)
	_, err = c.gg.GetComponent(t.Context(), &greengrassv2.GetComponentInput{Arn: v.Arn, RecipeOutputFormat: "XML"})
	assert.Equal(t, "recipeOutputFormat", fieldOf(t, err))
	_, err = c.gg.GetComponentVersionArtifact(t.Context(), &greengrassv2.GetComponentVersionArtifactInput{Arn: v.Arn, ArtifactName: aws.String("none"), S3EndpointType: "LOCAL"})
	assert.Equal(t, "s3EndpointType", fieldOf(t, err))
}
