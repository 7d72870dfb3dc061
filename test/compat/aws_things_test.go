package compat_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func thingARN(name string) string {
	return "arn:aws:iot:" + awsRegion + ":" + awsAccount + ":thing/" + name
}

func groupARN(name string) string {
	return "arn:aws:iot:" + awsRegion + ":" + awsAccount + ":thinggroup/" + name
}

func typeARN(name string) string {
	return "arn:aws:iot:" + awsRegion + ":" + awsAccount + ":thingtype/" + name
}

// failsAs asserts that err is the SDK's typed error E, and that its message holds
// each of words.
func failsAs[E error](t *testing.T, err error, words ...string) E {
	t.Helper()
	e, ok := errors.AsType[E](err)
	require.True(t, ok, "want %T, got %v", e, err)
	for _, w := range words {
		assert.Contains(t, err.Error(), w)
	}
	return e
}

// must returns v, or ends the test.
func must[V any](v V, err error) func(t *testing.T) V {
	return func(t *testing.T) V {
		t.Helper()
		require.NoError(t, err)
		return v
	}
}

func attributes(m map[string]string) *types.AttributePayload {
	return &types.AttributePayload{Attributes: m}
}

func TestIoTRegistry(t *testing.T) {
	k := awsKit(t)
	for name, run := range map[string]func(*testing.T, *kit, *iot.Client){
		"a thing is made, described, changed, deleted":                thingLife,
		"a thing with 128 characters and colons":                      thingWithColons,
		"things are listed in pages and by filter":                    thingLists,
		"a thing type is made, described, changed, deprecated":        typeLife,
		"a group is made, described, changed, deleted":                groupLife,
		"groups form a tree, listed in pages and by filter":           groupTree,
		"things join and leave groups by name and by ARN":             groupMembers,
		"a thing changes groups at once":                              groupsOfThing,
		"groups and thing types have tags":                            registryTags,
		"what no SDK sends is refused by the name of the member":      rawRegistry,
		"a group with members is removed with its memberships":        groupWithMembers,
		"deployments follow who joins and leaves a group":             deploymentsOfGroups,
		"a thing with a certificate is deleted once that is detached": thingWithCertificate,
	} {
		t.Run(name, func(t *testing.T) { run(t, k, k.IoT()) })
	}
}

func thingLife(t *testing.T, _ *kit, c *iot.Client) {
	ctx := t.Context()
	must(c.CreateThingType(ctx, &iot.CreateThingTypeInput{ThingTypeName: aws.String("life")}))(t)
	in := &iot.CreateThingInput{ThingName: aws.String("life-1"), AttributePayload: attributes(map[string]string{"site": "north", "rack": "7"})}
	made := must(c.CreateThing(ctx, in))(t)
	assert.Equal(t, "life-1", *made.ThingName)
	assert.Equal(t, thingARN("life-1"), *made.ThingArn)
	assert.NotEmpty(t, *made.ThingId)
	again := must(c.CreateThing(ctx, in))(t)
	assert.Equal(t, made.ThingId, again.ThingId, "the same again")
	_, err := c.CreateThing(ctx, &iot.CreateThingInput{ThingName: aws.String("life-1")})
	exists := failsAs[*types.ResourceAlreadyExistsException](t, err)
	assert.Equal(t, "life-1", aws.ToString(exists.ResourceId))
	assert.Equal(t, thingARN("life-1"), aws.ToString(exists.ResourceArn))

	got := must(c.DescribeThing(ctx, &iot.DescribeThingInput{ThingName: aws.String("life-1")}))(t)
	assert.Equal(t, map[string]string{"site": "north", "rack": "7"}, got.Attributes)
	assert.Equal(t, "life-1", *got.DefaultClientId)
	assert.Equal(t, *made.ThingId, *got.ThingId)
	assert.EqualValues(t, 1, got.Version)
	assert.Nil(t, got.ThingTypeName)

	must(c.UpdateThing(ctx, &iot.UpdateThingInput{
		ThingName: aws.String("life-1"), ThingTypeName: aws.String("life"), ExpectedVersion: aws.Int64(1),
		AttributePayload: &types.AttributePayload{Merge: true, Attributes: map[string]string{"rack": "", "a": "1", "b": "2", "c": "3", "d": "4"}},
	}))(t)
	got = must(c.DescribeThing(ctx, &iot.DescribeThingInput{ThingName: aws.String("life-1")}))(t)
	assert.Equal(t, map[string]string{"site": "north", "a": "1", "b": "2", "c": "3", "d": "4"}, got.Attributes)
	assert.Equal(t, "life", *got.ThingTypeName)
	assert.EqualValues(t, 2, got.Version)

	_, err = c.UpdateThing(ctx, &iot.UpdateThingInput{ThingName: aws.String("life-1"), ExpectedVersion: aws.Int64(1)})
	failsAs[*types.VersionConflictException](t, err, "version 2")
	_, err = c.UpdateThing(ctx, &iot.UpdateThingInput{ThingName: aws.String("life-1"), RemoveThingType: true})
	failsAs[*types.InvalidRequestException](t, err, "attributePayload.attributes", "limit of 3")
	_, err = c.UpdateThing(ctx, &iot.UpdateThingInput{ThingName: aws.String("life-none")})
	failsAs[*types.ResourceNotFoundException](t, err, "life-none")
	_, err = c.CreateThing(ctx, &iot.CreateThingInput{ThingName: aws.String("life-2"), ThingTypeName: aws.String("none")})
	failsAs[*types.ResourceNotFoundException](t, err, "thing type none")
	_, err = c.CreateThing(ctx, &iot.CreateThingInput{ThingName: aws.String("life-2"), BillingGroupName: aws.String("b")})
	failsAs[*types.ResourceNotFoundException](t, err, "no billing groups")
	_, err = c.CreateThing(ctx, &iot.CreateThingInput{ThingName: aws.String("life 2")})
	failsAs[*types.InvalidRequestException](t, err, "thingName")
	_, err = c.CreateThing(ctx, &iot.CreateThingInput{ThingName: aws.String("life-2"), AttributePayload: attributes(map[string]string{"a b": "1", "c": "d e"})})
	failsAs[*types.InvalidRequestException](t, err, "attributePayload.attributes")
	_, err = c.DescribeThing(ctx, &iot.DescribeThingInput{ThingName: aws.String("life-2")})
	failsAs[*types.ResourceNotFoundException](t, err, "life-2")

	_, err = c.DeleteThing(ctx, &iot.DeleteThingInput{ThingName: aws.String("life-1"), ExpectedVersion: aws.Int64(1)})
	failsAs[*types.VersionConflictException](t, err)
	must(c.DeleteThing(ctx, &iot.DeleteThingInput{ThingName: aws.String("life-1"), ExpectedVersion: aws.Int64(2)}))(t)
	must(c.DeleteThing(ctx, &iot.DeleteThingInput{ThingName: aws.String("life-1")}))(t)
	_, err = c.DescribeThing(ctx, &iot.DescribeThingInput{ThingName: aws.String("life-1")})
	failsAs[*types.ResourceNotFoundException](t, err)
	reborn := must(c.CreateThing(ctx, in))(t)
	assert.NotEqual(t, *made.ThingId, *reborn.ThingId, "another incarnation")
}

func thingWithColons(t *testing.T, _ *kit, c *iot.Client) {
	name := "a:b::" + strings.Repeat("x", 123)
	must(c.CreateThing(t.Context(), &iot.CreateThingInput{ThingName: &name}))(t)
	got := must(c.DescribeThing(t.Context(), &iot.DescribeThingInput{ThingName: &name}))(t)
	assert.Equal(t, name, *got.ThingName)
	assert.Equal(t, thingARN(name), *got.ThingArn)
	must(c.DeleteThing(t.Context(), &iot.DeleteThingInput{ThingName: &name}))(t)
	name += "x"
	_, err := c.CreateThing(t.Context(), &iot.CreateThingInput{ThingName: &name})
	failsAs[*types.InvalidRequestException](t, err, "thingName", "128")
}

func thingLists(t *testing.T, _ *kit, c *iot.Client) {
	ctx := t.Context()
	must(c.CreateThingType(ctx, &iot.CreateThingTypeInput{ThingTypeName: aws.String("listed")}))(t)
	for i := range 7 {
		in := &iot.CreateThingInput{ThingName: aws.String(fmt.Sprint("listed-", i)), AttributePayload: attributes(map[string]string{"listed": fmt.Sprint("v-", i%2, "-", i)})}
		if i < 3 {
			in.ThingTypeName = aws.String("listed")
		}
		must(c.CreateThing(ctx, in))(t)
	}
	list := func(in iot.ListThingsInput) (names []string) {
		in.MaxResults = aws.Int32(2)
		for p := iot.NewListThingsPaginator(c, &in); p.HasMorePages(); {
			page, err := p.NextPage(ctx)
			require.NoError(t, err)
			assert.LessOrEqual(t, len(page.Things), 2)
			for _, x := range page.Things {
				assert.Equal(t, thingARN(*x.ThingName), *x.ThingArn)
				assert.EqualValues(t, 1, x.Version)
				names = append(names, strings.TrimPrefix(*x.ThingName, "listed-"))
			}
		}
		return names
	}
	assert.Equal(t, []string{"0", "1", "2"}, list(iot.ListThingsInput{ThingTypeName: aws.String("listed")}))
	assert.Equal(t, []string{"3"}, list(iot.ListThingsInput{AttributeName: aws.String("listed"), AttributeValue: aws.String("v-1-3")}))
	byPrefix := iot.ListThingsInput{AttributeName: aws.String("listed"), AttributeValue: aws.String("v-0"), UsePrefixAttributeValue: true}
	assert.Equal(t, []string{"0", "2", "4", "6"}, list(byPrefix))
	assert.Empty(t, list(iot.ListThingsInput{AttributeName: aws.String("listed"), AttributeValue: aws.String("v-0")}))
	assert.Subset(t, list(iot.ListThingsInput{}), []string{"0", "1", "2", "3", "4", "5", "6"})

	byPrefix.MaxResults = aws.Int32(1)
	first := must(c.ListThings(ctx, &byPrefix))(t)
	_, err := c.ListThings(ctx, &iot.ListThingsInput{NextToken: first.NextToken})
	failsAs[*types.InvalidRequestException](t, err, "nextToken", "other filters")
	_, err = c.ListThings(ctx, &iot.ListThingsInput{NextToken: aws.String("?")})
	failsAs[*types.InvalidRequestException](t, err, "nextToken")
	_, err = c.ListThings(ctx, &iot.ListThingsInput{MaxResults: aws.Int32(251)})
	failsAs[*types.InvalidRequestException](t, err, "maxResults", "250")
	_, err = c.ListThings(ctx, &iot.ListThingsInput{AttributeValue: aws.String("v")})
	failsAs[*types.InvalidRequestException](t, err, "attributeValue")
}

func typeLife(t *testing.T, _ *kit, c *iot.Client) {
	ctx := t.Context()
	name := aws.String("type:1")
	in := &iot.CreateThingTypeInput{ThingTypeName: name, ThingTypeProperties: &types.ThingTypeProperties{
		ThingTypeDescription: aws.String("pumps"), SearchableAttributes: []string{"site", "rack"},
	}}
	made := must(c.CreateThingType(ctx, in))(t)
	assert.Equal(t, typeARN("type:1"), *made.ThingTypeArn)
	assert.Equal(t, *made.ThingTypeId, *must(c.CreateThingType(ctx, in))(t).ThingTypeId)
	_, err := c.CreateThingType(ctx, &iot.CreateThingTypeInput{ThingTypeName: name})
	failsAs[*types.ResourceAlreadyExistsException](t, err)
	_, err = c.CreateThingType(ctx, &iot.CreateThingTypeInput{ThingTypeName: aws.String("type-2"), ThingTypeProperties: &types.ThingTypeProperties{SearchableAttributes: []string{"a", "b", "c", "d"}}})
	failsAs[*types.InvalidRequestException](t, err, "searchableAttributes")

	must(c.UpdateThingType(ctx, &iot.UpdateThingTypeInput{ThingTypeName: name, ThingTypeProperties: &types.ThingTypeProperties{SearchableAttributes: []string{"serial"}}}))(t)
	got := must(c.DescribeThingType(ctx, &iot.DescribeThingTypeInput{ThingTypeName: name}))(t)
	assert.Equal(t, "pumps", *got.ThingTypeProperties.ThingTypeDescription)
	assert.Equal(t, []string{"serial"}, got.ThingTypeProperties.SearchableAttributes)
	assert.False(t, got.ThingTypeMetadata.Deprecated)
	assert.NotNil(t, got.ThingTypeMetadata.CreationDate)
	assert.Nil(t, got.ThingTypeMetadata.DeprecationDate)

	_, err = c.DeleteThingType(ctx, &iot.DeleteThingTypeInput{ThingTypeName: name})
	failsAs[*types.InvalidRequestException](t, err, "not deprecated")
	must(c.DeprecateThingType(ctx, &iot.DeprecateThingTypeInput{ThingTypeName: name}))(t)
	got = must(c.DescribeThingType(ctx, &iot.DescribeThingTypeInput{ThingTypeName: name}))(t)
	assert.True(t, got.ThingTypeMetadata.Deprecated)
	assert.NotNil(t, got.ThingTypeMetadata.DeprecationDate)
	_, err = c.CreateThing(ctx, &iot.CreateThingInput{ThingName: aws.String("typed"), ThingTypeName: name})
	failsAs[*types.InvalidRequestException](t, err, "deprecated")
	_, err = c.DeleteThingType(ctx, &iot.DeleteThingTypeInput{ThingTypeName: name})
	failsAs[*types.InvalidRequestException](t, err, "5m")
	must(c.DeprecateThingType(ctx, &iot.DeprecateThingTypeInput{ThingTypeName: name, UndoDeprecate: true}))(t)
	must(c.CreateThing(ctx, &iot.CreateThingInput{ThingName: aws.String("typed"), ThingTypeName: name}))(t)

	for _, call := range []func() error{
		func() error {
			_, err := c.DescribeThingType(ctx, &iot.DescribeThingTypeInput{ThingTypeName: aws.String("none")})
			return err
		},
		func() error {
			_, err := c.DeprecateThingType(ctx, &iot.DeprecateThingTypeInput{ThingTypeName: aws.String("none")})
			return err
		},
		func() error {
			_, err := c.DeleteThingType(ctx, &iot.DeleteThingTypeInput{ThingTypeName: aws.String("none")})
			return err
		},
		func() error {
			_, err := c.UpdateThingType(ctx, &iot.UpdateThingTypeInput{ThingTypeName: aws.String("none")})
			return err
		},
	} {
		failsAs[*types.ResourceNotFoundException](t, call(), "thing type none")
	}

	for i := range 3 {
		must(c.CreateThingType(ctx, &iot.CreateThingTypeInput{ThingTypeName: aws.String(fmt.Sprint("page-", i))}))(t)
	}
	var names []string
	for p := iot.NewListThingTypesPaginator(c, &iot.ListThingTypesInput{ThingTypeName: aws.String("page-"), MaxResults: aws.Int32(2)}); p.HasMorePages(); {
		for _, x := range must(p.NextPage(ctx))(t).ThingTypes {
			names = append(names, *x.ThingTypeName)
			assert.Equal(t, typeARN(*x.ThingTypeName), *x.ThingTypeArn)
		}
	}
	assert.Equal(t, []string{"page-0", "page-1", "page-2"}, names)
}

func rawRegistry(t *testing.T, k *kit, _ *iot.Client) {
	for name, c := range map[string]struct{ method, path, body, word string }{
		"no path segment of a name":    {http.MethodPost, "/things/a%2Fb", `{}`, "thingName"},
		"attributes of another type":   {http.MethodPost, "/things/raw", `{"attributePayload":{"attributes":{"a":1}}}`, "attributePayload.attributes"},
		"a version that is no number":  {http.MethodPatch, "/things/raw", `{"expectedVersion":"1"}`, "expectedVersion"},
		"a version in the query":       {http.MethodDelete, "/things/raw?expectedVersion=x", ``, "expectedVersion"},
		"properties left out":          {http.MethodPatch, "/thing-groups/raw", `{}`, "thingGroupProperties"},
		"a description with a newline": {http.MethodPost, "/thing-groups/raw", `{"thingGroupProperties":{"thingGroupDescription":"a\nb"}}`, "thingGroupDescription"},
		"a page of none":               {http.MethodGet, "/things?maxResults=0", ``, "maxResults"},
		"a flag that is none":          {http.MethodGet, "/thing-groups?recursive=perhaps", ``, "recursive"},
		"a tag twice":                  {http.MethodPost, "/thing-groups/raw", `{"tags":[{"Key":"a","Value":"1"},{"Key":"a","Value":"2"}]}`, "tags"},
	} {
		t.Run(name, func(t *testing.T) {
			var body []byte
			if c.body != "" {
				body = []byte(c.body)
			}
			a := k.Raw(t, c.method, c.path, "iot", body)
			assert.Equal(t, http.StatusBadRequest, a.Status, "%s", a.Body)
			assert.Equal(t, "InvalidRequestException", a.Header.Get("X-Amzn-Errortype"))
			assert.Contains(t, string(a.Body), c.word)
		})
	}
	a := k.Raw(t, http.MethodPost, "/things/raw:1", "execute-api", []byte(`{}`))
	assert.Equal(t, http.StatusOK, a.Status, "older clients sign IoT as execute-api: %s", a.Body)
}

func thingWithCertificate(t *testing.T, _ *kit, c *iot.Client) {
	ctx := t.Context()
	thing := aws.String("certified")
	must(c.CreateThing(ctx, &iot.CreateThingInput{ThingName: thing}))(t)
	cert := must(c.CreateKeysAndCertificate(ctx, &iot.CreateKeysAndCertificateInput{SetAsActive: true}))(t)
	must(c.AttachThingPrincipal(ctx, &iot.AttachThingPrincipalInput{ThingName: thing, Principal: cert.CertificateArn}))(t)
	_, err := c.DeleteThing(ctx, &iot.DeleteThingInput{ThingName: thing})
	failsAs[*types.InvalidRequestException](t, err, "detach")
	must(c.DetachThingPrincipal(ctx, &iot.DetachThingPrincipalInput{ThingName: thing, Principal: cert.CertificateArn}))(t)
	must(c.DeleteThing(ctx, &iot.DeleteThingInput{ThingName: thing}))(t)
	var api smithy.APIError
	_, err = c.DescribeThing(ctx, &iot.DescribeThingInput{ThingName: thing})
	require.ErrorAs(t, err, &api)
	assert.Equal(t, "ResourceNotFoundException", api.ErrorCode())
}
