package compat_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/greengrassv2"
	"github.com/aws/aws-sdk-go-v2/service/greengrassv2/types"
	"github.com/minio/minio-go/v7"
	miniocreds "github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/test/internal/world"
)

const componentARN = "arn:aws:greengrass:" + awsRegion + ":" + awsAccount + ":components:"

// components is the Greengrass V2 API's part for components, through the real SDK.
type components struct {
	*kit
	gg *greengrassv2.Client
}

func TestAWSComponents(t *testing.T) {
	k := awsKit(t)
	c := components{k, k.Greengrass()}
	for name, test := range map[string]func(*testing.T){
		"a recipe in JSON and YAML comes back in both":         c.recipes,
		"an artifact of 96 MiB, uploaded in parts, downloaded": c.largeArtifact,
		"artifacts that are refused after the answer":          c.failed,
		"what cannot be created":                               c.refusedCreations,
		"lambdaFunction is checked whole and refused":          c.lambda,
		"a client token":                          c.clientToken,
		"what is there already":                   c.conflicts,
		"pages of components":                     c.pages,
		"pages of versions":                       c.versionPages,
		"what is provided instead of AWS":         c.public,
		"what is not there":                       c.missing,
		"candidates are resolved":                 c.resolve,
		"a version that a deployment names stays": c.inUse,
		"a key that may only read":                c.readOnly,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t)
		})
	}
}

func recipeOf(name, version, manifest string) []byte {
	return fmt.Appendf(nil, `{"RecipeFormatVersion":"2020-01-25","ComponentName":%q,"ComponentVersion":%q,"ComponentPublisher":"Plant","ComponentDescription":"Says hello.","Manifests":[%s]}`,
		name, version, manifest)
}

const anyLinux = `{"Platform":{"os":"linux","architecture":"amd64","runtime":"*"},"Lifecycle":{"run":"true"}}`

func (c components) create(t *testing.T, recipe []byte) *greengrassv2.CreateComponentVersionOutput {
	t.Helper()
	out, err := c.gg.CreateComponentVersion(t.Context(), &greengrassv2.CreateComponentVersionInput{InlineRecipe: recipe})
	require.NoError(t, err)
	return out
}

// settled waits until a version is DEPLOYABLE or FAILED.
func (c components) settled(t *testing.T, arn *string) *greengrassv2.DescribeComponentOutput {
	t.Helper()
	var out *greengrassv2.DescribeComponentOutput
	world.Eventually(t, func() string {
		var err error
		out, err = c.gg.DescribeComponent(t.Context(), &greengrassv2.DescribeComponentInput{Arn: arn})
		require.NoError(t, err)
		if s := out.Status.ComponentState; s != types.CloudComponentStateDeployable && s != types.CloudComponentStateFailed {
			return "the version is " + string(s)
		}
		return ""
	})
	return out
}

func (c components) recipes(t *testing.T) {
	yaml := `
RecipeFormatVersion: "2020-01-25"
ComponentName: com.recipes.Yaml
ComponentVersion: 1.0.0
ComponentPublisher: Plant
Manifests:
  - Name: pi
    Platform: {os: linux, architecture: /arm|aarch64/, runtime: "*", gpu: "yes"}
    Artifacts:
      - URI: s3://ggfleet/recipes/tool.sh
  - Lifecycle: {run: "true"}
`
	c.upload(t, "recipes/tool.sh", []byte("echo"))
	out, err := c.gg.CreateComponentVersion(t.Context(), &greengrassv2.CreateComponentVersionInput{InlineRecipe: []byte(yaml), Tags: map[string]string{"line": "7", "empty": ""}})
	require.NoError(t, err)
	assert.Equal(t, componentARN+"com.recipes.Yaml:versions:1.0.0", *out.Arn)
	assert.Equal(t, "com.recipes.Yaml", *out.ComponentName)
	assert.Equal(t, "1.0.0", *out.ComponentVersion)
	assert.WithinDuration(t, time.Now(), *out.CreationTimestamp, time.Minute)
	assert.Equal(t, types.CloudComponentStateRequested, out.Status.ComponentState)
	assert.Equal(t, "NONE", *out.Status.Message)
	assert.Equal(t, map[string]string{}, out.Status.Errors)

	d := c.settled(t, out.Arn)
	assert.Equal(t, types.CloudComponentStateDeployable, d.Status.ComponentState)
	assert.Equal(t, types.VendorGuidanceActive, d.Status.VendorGuidance)
	assert.Equal(t, map[string]string{}, d.Status.Errors)
	assert.Equal(t, "Plant", *d.Publisher)
	assert.Nil(t, d.Description)
	assert.Equal(t, map[string]string{"line": "7", "empty": ""}, d.Tags)
	assert.Equal(t, out.CreationTimestamp, d.CreationTimestamp)
	assert.Equal(t, []types.ComponentPlatform{
		{Name: aws.String("pi"), Attributes: map[string]string{"os": "linux", "architecture": "/arm|aarch64/", "runtime": "*", "gpu": "yes"}},
		{Name: aws.String("all")},
	}, d.Platforms)

	sum := sha256.Sum256([]byte("echo"))
	digest := base64.StdEncoding.EncodeToString(sum[:])
	for _, format := range []types.RecipeOutputFormat{"", types.RecipeOutputFormatJson, types.RecipeOutputFormatYaml} {
		got, err := c.gg.GetComponent(t.Context(), &greengrassv2.GetComponentInput{Arn: out.Arn, RecipeOutputFormat: format})
		require.NoError(t, err)
		assert.Equal(t, map[string]string{"line": "7", "empty": ""}, got.Tags)
		assert.Contains(t, string(got.Recipe), digest)
		assert.Contains(t, string(got.Recipe), "s3://ggfleet/recipes/tool.sh", "the author's URI")
		if format == types.RecipeOutputFormatYaml {
			assert.Equal(t, format, got.RecipeOutputFormat)
			assert.Contains(t, string(got.Recipe), "Algorithm: SHA-256")
		} else {
			assert.Equal(t, types.RecipeOutputFormatJson, got.RecipeOutputFormat)
			assert.True(t, json.Valid(got.Recipe))
		}
	}
	plain := c.create(t, recipeOf("com.recipes.Json", "1.0.0-beta.1+build", anyLinux))
	d = c.settled(t, plain.Arn)
	assert.Equal(t, "linux amd64", *d.Platforms[0].Name)
	assert.Equal(t, "Says hello.", *d.Description)
	assert.Equal(t, map[string]string{}, d.Tags)
}

// s3 is a client of the S3 API of the AWS endpoint.
func (c components) s3(t *testing.T) minio.Core {
	t.Helper()
	core, err := minio.NewCore(strings.TrimPrefix(c.AWS, "http://"), &minio.Options{
		Creds: miniocreds.NewStaticV4(c.AccessKey, c.Secret, ""), Region: awsRegion, BucketLookup: minio.BucketLookupPath,
	})
	require.NoError(t, err)
	return *core
}

func (c components) upload(t *testing.T, key string, content []byte) {
	t.Helper()
	_, err := c.s3(t).Client.PutObject(t.Context(), "ggfleet", key, bytes.NewReader(content), int64(len(content)), minio.PutObjectOptions{})
	require.NoError(t, err)
}

// largeArtifact uploads in parts and, as if the connection had been lost after the
// first two, asks which are there and sends the rest.
func (c components) largeArtifact(t *testing.T) {
	const part, parts = 16 << 20, 6
	content := func(i int) []byte { return bytes.Repeat([]byte{byte('a' + i)}, part) }
	key, s3 := "large/model.bin", c.s3(t)
	id, err := s3.NewMultipartUpload(t.Context(), "ggfleet", key, minio.PutObjectOptions{})
	require.NoError(t, err)
	put := func(s3 minio.Core, i int) {
		_, err := s3.PutObjectPart(t.Context(), "ggfleet", key, id, i+1, bytes.NewReader(content(i)), part, minio.PutObjectPartOptions{})
		require.NoError(t, err)
	}
	put(s3, 0)
	put(s3, 1)
	s3 = c.s3(t)
	there, err := s3.ListObjectParts(t.Context(), "ggfleet", key, id, 0, 100)
	require.NoError(t, err)
	require.Len(t, there.ObjectParts, 2)
	for i := len(there.ObjectParts); i < parts; i++ {
		put(s3, i)
	}
	all, err := s3.ListObjectParts(t.Context(), "ggfleet", key, id, 0, 100)
	require.NoError(t, err)
	var done []minio.CompletePart
	for _, p := range all.ObjectParts {
		done = append(done, minio.CompletePart{PartNumber: p.PartNumber, ETag: p.ETag})
	}
	_, err = s3.CompleteMultipartUpload(t.Context(), "ggfleet", key, id, done, minio.PutObjectOptions{})
	require.NoError(t, err)

	sum := sha256.New()
	for i := range parts {
		sum.Write(content(i))
	}
	v := c.create(t, recipeOf("com.large", "1.0.0", `{"Platform":{"os":"linux","runtime":"*"},"Artifacts":[{"Uri":"s3://ggfleet/large/model.bin"}]}`))
	require.Equal(t, types.CloudComponentStateDeployable, c.settled(t, v.Arn).Status.ComponentState)

	resolved, err := c.gg.ResolveComponentCandidates(t.Context(), &greengrassv2.ResolveComponentCandidatesInput{
		Platform:            &types.ComponentPlatform{Attributes: map[string]string{"os": "linux"}},
		ComponentCandidates: []types.ComponentCandidate{{ComponentName: aws.String("com.large")}},
	})
	require.NoError(t, err)
	var recipe struct {
		Manifests []struct {
			Artifacts []struct{ URI, Digest string }
		}
	}
	require.NoError(t, json.Unmarshal(resolved.ResolvedComponentVersions[0].Recipe, &recipe))
	artifact := recipe.Manifests[0].Artifacts[0]
	assert.Equal(t, base64.StdEncoding.EncodeToString(sum.Sum(nil)), artifact.Digest)
	name, ok := strings.CutPrefix(artifact.URI, "greengrass:")
	require.True(t, ok, artifact.URI)

	link, err := c.gg.GetComponentVersionArtifact(t.Context(), &greengrassv2.GetComponentVersionArtifactInput{
		Arn: v.Arn, ArtifactName: aws.String(name), S3EndpointType: types.S3EndpointTypeRegional, IotEndpointType: types.IotEndpointTypeStandard,
	})
	require.NoError(t, err)
	got := sha256.New()
	for from := 0; from < part*parts; from += 40 << 20 { // as a core goes on after a lost connection
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, *link.PreSignedUrl, nil)
		require.NoError(t, err)
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", from, from+40<<20-1))
		res, err := c.client.Do(req)
		require.NoError(t, err)
		require.Equal(t, http.StatusPartialContent, res.StatusCode)
		_, err = io.Copy(got, res.Body)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
	}
	assert.Equal(t, sum.Sum(nil), got.Sum(nil))
}

func (c components) failed(t *testing.T) {
	c.upload(t, "failed/tool.sh", []byte("echo"))
	other := base64.StdEncoding.EncodeToString(make([]byte, 32))
	src := func(digest string) []byte {
		return recipeOf("com.failed", "1.0.0", `{"Platform":{"os":"linux"},"Artifacts":[{"Uri":"s3://ggfleet/failed/tool.sh"`+digest+`}]}`)
	}
	v := c.create(t, src(`,"Digest":"`+other+`"`))
	d := c.settled(t, v.Arn)
	assert.Equal(t, types.CloudComponentStateFailed, d.Status.ComponentState)
	assert.Equal(t, map[string]string{"s3://ggfleet/failed/tool.sh": "The digest in the recipe differs from that of the object"}, d.Status.Errors)
	assert.Contains(t, *d.Status.Message, "Invalid Input: Encountered following errors in Artifacts")

	_, err := c.gg.CreateComponentVersion(t.Context(), &greengrassv2.CreateComponentVersionInput{InlineRecipe: src("")})
	conflict := as[*types.ConflictException](t, err)
	assert.Equal(t, "Component [com.failed : 1.0.0] for account ["+awsAccount+"] already exists with state: [FAILED]", conflict.ErrorMessage())
	_, err = c.gg.DeleteComponent(t.Context(), &greengrassv2.DeleteComponentInput{Arn: v.Arn})
	require.NoError(t, err)
	c.create(t, src(""))
	assert.Equal(t, types.CloudComponentStateDeployable, c.settled(t, v.Arn).Status.ComponentState)
}

// as is err as the SDK's own type.
func as[E error](t *testing.T, err error) E {
	t.Helper()
	var e E
	require.ErrorAs(t, err, &e)
	return e
}

// fieldOf is the one member that a ValidationException names.
func fieldOf(t *testing.T, err error) string {
	t.Helper()
	e := as[*types.ValidationException](t, err)
	require.Len(t, e.Fields, 1, e.ErrorMessage())
	assert.Equal(t, types.ValidationExceptionReasonFieldValidationFailed, e.Reason)
	return *e.Fields[0].Name
}

func (c components) clientToken(t *testing.T) {
	in := &greengrassv2.CreateComponentVersionInput{InlineRecipe: recipeOf("com.token", "1.0.0", anyLinux), ClientToken: aws.String("Token-1")}
	first, err := c.gg.CreateComponentVersion(t.Context(), in)
	require.NoError(t, err)
	again, err := c.gg.CreateComponentVersion(t.Context(), in)
	require.NoError(t, err)
	assert.Equal(t, first.CreationTimestamp, again.CreationTimestamp)
	assert.Equal(t, first.Status, again.Status)
	in.ClientToken = aws.String("token-1")
	_, err = c.gg.CreateComponentVersion(t.Context(), in)
	as[*types.ConflictException](t, err)
}

func (c components) conflicts(t *testing.T) {
	src := recipeOf("com.conflict", "1.0.0", anyLinux)
	v := c.create(t, src)
	_, err := c.gg.CreateComponentVersion(t.Context(), &greengrassv2.CreateComponentVersionInput{InlineRecipe: src})
	e := as[*types.ConflictException](t, err)
	assert.Equal(t, "Component [com.conflict : 1.0.0] for account ["+awsAccount+"] already exists with state: [DEPLOYABLE]", e.ErrorMessage())
	assert.Equal(t, *v.Arn, *e.ResourceId)
	assert.Equal(t, "component", *e.ResourceType)
	_, err = c.gg.CreateComponentVersion(t.Context(), &greengrassv2.CreateComponentVersionInput{InlineRecipe: src, Tags: map[string]string{"a": "b"}})
	assert.Contains(t, as[*types.ConflictException](t, err).ErrorMessage(), "already exists and can't be created again with tags")
}

func (c components) public(t *testing.T) {
	out, err := c.gg.ListComponents(t.Context(), &greengrassv2.ListComponentsInput{Scope: types.ComponentVisibilityScopePublic, MaxResults: aws.Int32(100)})
	require.NoError(t, err)
	require.NotEmpty(t, out.Components)
	for _, x := range out.Components {
		assert.True(t, strings.HasPrefix(*x.Arn, "arn:aws:greengrass:"+awsRegion+":aws:components:aws.greengrass."), *x.Arn)
		d, err := c.gg.DescribeComponent(t.Context(), &greengrassv2.DescribeComponentInput{Arn: x.LatestVersion.Arn})
		require.NoError(t, err)
		assert.Equal(t, "AWS", *d.Publisher)
	}
	private, err := c.gg.ListComponentVersions(t.Context(), &greengrassv2.ListComponentVersionsInput{Arn: aws.String(componentARN + "aws.greengrass.Cli")})
	require.NoError(t, err)
	assert.Empty(t, private.ComponentVersions, "it is another's")
}

func (c components) resolve(t *testing.T) {
	for _, v := range []string{"1.0.0", "1.2.0", "2.0.0", "2.1.0-beta.1"} {
		c.create(t, recipeOf("com.resolve", v, anyLinux))
	}
	try := func(name string, attributes map[string]string, requirements map[string]string) (*types.ResolvedComponentVersion, error) {
		out, err := c.gg.ResolveComponentCandidates(t.Context(), &greengrassv2.ResolveComponentCandidatesInput{
			Platform:            &types.ComponentPlatform{Attributes: attributes},
			ComponentCandidates: []types.ComponentCandidate{{ComponentName: &name, ComponentVersion: aws.String("1.0.0"), VersionRequirements: requirements}},
		})
		if err != nil {
			return nil, err
		}
		require.Len(t, out.ResolvedComponentVersions, 1)
		return &out.ResolvedComponentVersions[0], nil
	}
	linux := map[string]string{"os": "linux", "architecture": "amd64"}
	for want, requirements := range map[string]map[string]string{
		"1.2.0":        {"thinggroup/g": ">=1.0.0 <2.0.0", "com.other": "^1.0"},
		"2.0.0":        {},
		"2.1.0-beta.1": {"thing/t": "=2.1.0-beta.1"},
	} {
		got, err := try("com.resolve", linux, requirements)
		require.NoError(t, err)
		assert.Equal(t, want, *got.ComponentVersion)
		assert.Equal(t, componentARN+"com.resolve:versions:"+want, *got.Arn)
		assert.Equal(t, types.VendorGuidanceActive, got.VendorGuidance)
		assert.True(t, json.Valid(got.Recipe))
	}
	for says, call := range map[string]func() error{
		"no usable version": func() error { _, err := try("com.resolve", linux, map[string]string{"a": ">=9"}); return err },
		"claim platform":    func() error { _, err := try("com.resolve", map[string]string{"os": "windows"}, nil); return err },
		"not in the store":  func() error { _, err := try("com.none", linux, nil); return err },
	} {
		e := as[*types.ResourceNotFoundException](t, call())
		assert.Contains(t, e.ErrorMessage(), says)
		assert.Equal(t, "component", *e.ResourceType)
		assert.NotEmpty(t, *e.ResourceId)
	}
	_, err := c.gg.ResolveComponentCandidates(t.Context(), &greengrassv2.ResolveComponentCandidatesInput{})
	assert.Equal(t, "componentCandidates", fieldOf(t, err))
}

func (c components) inUse(t *testing.T) {
	v := c.create(t, recipeOf("com.used", "1.0.0", anyLinux))
	c.create(t, recipeOf("com.used", "2.0.0", anyLinux))
	var group struct {
		ARN string `json:"thingGroupArn"`
	}
	a := c.Raw(t, http.MethodPost, "/thing-groups/used", "iot", []byte(`{}`))
	require.Equal(t, http.StatusOK, a.Status, string(a.Body))
	require.NoError(t, json.Unmarshal(a.Body, &group))
	deploy := func(version string) string {
		out, err := c.gg.CreateDeployment(t.Context(), &greengrassv2.CreateDeploymentInput{
			TargetArn: &group.ARN, Components: map[string]types.ComponentDeploymentSpecification{"com.used": {ComponentVersion: &version}},
		})
		require.NoError(t, err)
		return *out.DeploymentId
	}
	remove := func() error {
		_, err := c.gg.DeleteComponent(context.Background(), &greengrassv2.DeleteComponentInput{Arn: v.Arn})
		return err
	}
	id := deploy("1.0.0")
	e := as[*types.ConflictException](t, remove())
	assert.Contains(t, e.ErrorMessage(), id)
	assert.Equal(t, *v.Arn, *e.ResourceId)
	deploy("2.0.0")
	require.NoError(t, remove(), "the deployment that named it was superseded")
	as[*types.ResourceNotFoundException](t, remove())
}

func (c components) readOnly(t *testing.T) {
	reader := *c.kit
	reader.AccessKey, reader.Secret = c.newAccessKey(t, map[string]any{"role": "viewer"})
	gg := reader.Greengrass()
	_, err := gg.ListComponents(t.Context(), &greengrassv2.ListComponentsInput{})
	require.NoError(t, err)
	_, err = gg.CreateComponentVersion(t.Context(), &greengrassv2.CreateComponentVersionInput{InlineRecipe: recipeOf("com.denied", "1.0.0", anyLinux)})
	as[*types.AccessDeniedException](t, err)
	_, err = gg.DeleteComponent(t.Context(), &greengrassv2.DeleteComponentInput{Arn: aws.String(componentARN + "com.denied:versions:1.0.0")})
	as[*types.AccessDeniedException](t, err)
	_, err = gg.ResolveComponentCandidates(t.Context(), &greengrassv2.ResolveComponentCandidatesInput{ComponentCandidates: []types.ComponentCandidate{{ComponentName: aws.String("aws.greengrass.Cli")}}})
	if err != nil { // it changes nothing, so it is not denied
		assert.NotErrorAs(t, err, new(*types.AccessDeniedException))
	}
	_, err = components{kit: &reader}.s3(t).ListBuckets(t.Context())
	assert.Equal(t, "AccessDenied", minio.ToErrorResponse(err).Code, "%v", err)
}
