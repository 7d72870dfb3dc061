package compat_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/greengrassv2"
	"github.com/aws/aws-sdk-go-v2/service/greengrassv2/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func (c components) pages(t *testing.T) {
	for _, v := range []string{"1.9.0", "1.10.0"} {
		for _, n := range []string{"a", "b", "c"} {
			c.create(t, recipeOf("com.pages."+n, v, anyLinux))
		}
	}
	var names []string
	pages := greengrassv2.NewListComponentsPaginator(c.gg, &greengrassv2.ListComponentsInput{MaxResults: aws.Int32(2)})
	for pages.HasMorePages() {
		p, err := pages.NextPage(t.Context())
		require.NoError(t, err)
		require.LessOrEqual(t, len(p.Components), 2)
		for _, x := range p.Components {
			if !strings.HasPrefix(*x.ComponentName, "com.pages.") {
				continue
			}
			names = append(names, *x.ComponentName)
			assert.Equal(t, componentARN+*x.ComponentName, *x.Arn)
			assert.Equal(t, *x.Arn+":versions:1.10.0", *x.LatestVersion.Arn, "latest by semantic version")
			assert.Equal(t, "1.10.0", *x.LatestVersion.ComponentVersion)
			assert.Equal(t, "Plant", *x.LatestVersion.Publisher)
			assert.Equal(t, "linux amd64", *x.LatestVersion.Platforms[0].Name)
			assert.NotNil(t, x.LatestVersion.CreationTimestamp)
		}
	}
	assert.Equal(t, []string{"com.pages.a", "com.pages.b", "com.pages.c"}, names)

	first, err := c.gg.ListComponents(t.Context(), &greengrassv2.ListComponentsInput{MaxResults: aws.Int32(1)})
	require.NoError(t, err)
	for field, in := range map[string]*greengrassv2.ListComponentsInput{
		"maxResults": {MaxResults: aws.Int32(101)},
		"scope":      {Scope: "ALL"},
		"nextToken":  {NextToken: first.NextToken, Scope: types.ComponentVisibilityScopePublic},
	} {
		_, err := c.gg.ListComponents(t.Context(), in)
		assert.Equal(t, field, fieldOf(t, err))
	}
	_, err = c.gg.ListComponents(t.Context(), &greengrassv2.ListComponentsInput{NextToken: aws.String("garbage")})
	assert.Equal(t, "nextToken", fieldOf(t, err))
	a := c.Raw(t, http.MethodGet, "/greengrass/v2/components?maxResults=0", "greengrass", nil)
	assert.Equal(t, http.StatusBadRequest, a.Status)
}

func (c components) versionPages(t *testing.T) {
	descending := []string{"2.0.0", "2.0.0-rc.1", "1.10.0", "1.9.0", "0.1.0"}
	for _, v := range []string{"1.9.0", "2.0.0", "0.1.0", "1.10.0", "2.0.0-rc.1"} {
		c.create(t, recipeOf("com.versions", v, anyLinux))
	}
	arn := aws.String(componentARN + "com.versions")
	var got []string
	pages := greengrassv2.NewListComponentVersionsPaginator(c.gg, &greengrassv2.ListComponentVersionsInput{Arn: arn, MaxResults: aws.Int32(2)})
	for pages.HasMorePages() {
		p, err := pages.NextPage(t.Context())
		require.NoError(t, err)
		for _, v := range p.ComponentVersions {
			assert.Equal(t, *arn+":versions:"+*v.ComponentVersion, *v.Arn)
			assert.Equal(t, "com.versions", *v.ComponentName)
			got = append(got, *v.ComponentVersion)
		}
		if len(got) == 2 { // what the token names may go
			_, err := c.gg.DeleteComponent(t.Context(), &greengrassv2.DeleteComponentInput{Arn: aws.String(*arn + ":versions:2.0.0-rc.1")})
			require.NoError(t, err)
		}
	}
	assert.Equal(t, descending, got)
	_, err := c.gg.ListComponentVersions(t.Context(), &greengrassv2.ListComponentVersionsInput{Arn: aws.String(*arn + ":versions:2.0.0")})
	assert.Equal(t, "arn", fieldOf(t, err))
	none, err := c.gg.ListComponentVersions(t.Context(), &greengrassv2.ListComponentVersionsInput{Arn: aws.String(componentARN + "com.none")})
	require.NoError(t, err, "who publishes the first version asks which is the newest")
	assert.Empty(t, none.ComponentVersions)
}
