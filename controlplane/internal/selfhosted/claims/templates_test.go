package claims_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/claims"
	"github.com/ggfleet/ggfleet/shared/fault"
)

func TestATemplateIsKeptAsItWasGiven(t *testing.T) {
	k := newKit(t)
	ctx := t.Context()
	_, _, err := k.Template(ctx, "fleet")
	require.ErrorIs(t, err, fault.NotFound)
	made, err := k.CreateTemplate(ctx, claims.NewTemplate{
		Name: "fleet", Description: "of the factory", Body: simple, RoleARN: "arn:r", Tags: map[string]string{"a": "b"},
	})
	require.NoError(t, err)
	assert.Equal(t, claims.Template{
		Name: "fleet", Description: "of the factory", Kind: claims.Fleet, RoleARN: "arn:r", Tags: map[string]string{"a": "b"},
		Default: 1, Last: 1, Versions: map[int]time.Time{1: k.now.UTC()}, CreatedAt: k.now.UTC(), ModifiedAt: k.now.UTC(),
	}, made)
	got, body, err := k.Template(ctx, "fleet")
	require.NoError(t, err)
	assert.Equal(t, made, got)
	assert.JSONEq(t, simple, body)
	_, err = k.CreateTemplate(ctx, claims.NewTemplate{Name: "fleet", Body: simple})
	require.ErrorIs(t, err, fault.Exists)

	k.now = k.now.Add(time.Minute)
	enabled, text := true, "other"
	require.NoError(t, k.UpdateTemplate(ctx, "fleet", claims.TemplateChange{Enabled: &enabled}))
	require.NoError(t, k.UpdateTemplate(ctx, "fleet", claims.TemplateChange{Description: &text, RoleARN: &text}))
	got, _, err = k.Template(ctx, "fleet")
	require.NoError(t, err)
	assert.True(t, got.Enabled)
	assert.Equal(t, "other", got.Description)
	assert.Equal(t, "other", got.RoleARN)
	assert.Equal(t, k.now.UTC(), got.ModifiedAt)
	require.ErrorIs(t, k.UpdateTemplate(ctx, "none", claims.TemplateChange{Enabled: &enabled}), fault.NotFound)
}

func TestVersionsOfATemplate(t *testing.T) {
	k := newKit(t)
	ctx := t.Context()
	k.template("fleet")
	second := strings.Replace(simple, "thing", "device", 1)
	for want := 2; want <= claims.MaxVersions; want++ {
		n, err := k.CreateVersion(ctx, "fleet", second, false)
		require.NoError(t, err)
		assert.Equal(t, want, n)
	}
	_, err := k.CreateVersion(ctx, "fleet", second, false)
	require.ErrorIs(t, err, fault.Exhausted)
	_, body, err := k.Template(ctx, "fleet")
	require.NoError(t, err)
	assert.JSONEq(t, simple, body, "the first is the default still")

	two, nine := 2, 9
	require.ErrorIs(t, k.UpdateTemplate(ctx, "fleet", claims.TemplateChange{Default: &nine}), fault.Invalid)
	require.NoError(t, k.UpdateTemplate(ctx, "fleet", claims.TemplateChange{Default: &two}))
	_, body, err = k.Template(ctx, "fleet")
	require.NoError(t, err)
	assert.Equal(t, second, body)

	require.ErrorIs(t, k.DeleteVersion(ctx, "fleet", 2), fault.Conflict, "the default one")
	require.ErrorIs(t, k.DeleteVersion(ctx, "fleet", 9), fault.NotFound)
	require.ErrorIs(t, k.DeleteVersion(ctx, "none", 1), fault.NotFound)
	require.ErrorIs(t, k.DeleteTemplate(ctx, "fleet"), fault.Conflict, "further versions")
	for _, v := range []int{1, 3, 4, 5} {
		require.NoError(t, k.DeleteVersion(ctx, "fleet", v))
	}
	n, err := k.CreateVersion(ctx, "fleet", simple, true)
	require.NoError(t, err)
	assert.Equal(t, 6, n, "a number does not come back")
	require.NoError(t, k.DeleteVersion(ctx, "fleet", 2))
	require.NoError(t, k.DeleteTemplate(ctx, "fleet"))
	require.ErrorIs(t, k.DeleteTemplate(ctx, "fleet"), fault.NotFound)
	left, err := k.world.Store.List(ctx, "/ggfleet/v1/claims/", "", 0)
	require.NoError(t, err)
	assert.Empty(t, left.Entries, "no body stays")
}

func TestTemplatesAreLimited(t *testing.T) {
	k := newKit(t)
	for i := range claims.MaxTemplates {
		k.template(fmt.Sprintf("t%03d", i))
	}
	_, err := k.CreateTemplate(t.Context(), claims.NewTemplate{Name: "more", Body: simple})
	require.ErrorIs(t, err, fault.Exhausted)
	all, err := k.Templates(t.Context())
	require.NoError(t, err)
	require.Len(t, all, claims.MaxTemplates)
	assert.Equal(t, "t000", all[0].Name)
}

func TestAClaimIsOfNoThingAndNotInTheRegistry(t *testing.T) {
	k := newKit(t)
	_, err := k.CreateClaim(t.Context(), "fleet")
	require.ErrorIs(t, err, fault.NotFound)
	k.template("fleet")
	c, err := k.CreateClaim(t.Context(), "fleet")
	require.NoError(t, err)
	assert.WithinDuration(t, time.Now().Add(claims.ClaimLife), c.Until, time.Minute)
	assert.Equal(t, c.NotAfter, c.Until)
	assert.Contains(t, c.Keys.Private, "PRIVATE KEY")
	assert.Contains(t, c.Keys.Public, "PUBLIC KEY")
	_, err = k.world.Registry.Certificate(t.Context(), c.ID)
	require.ErrorIs(t, err, fault.NotFound)

	require.NoError(t, k.Sweep(t.Context()))
	leaf := k.leaf(c.PEM)
	id, err := k.Identify(t.Context(), leaf)
	require.NoError(t, err)
	assert.Equal(t, c.ID, id.CertificateID)
	assert.Empty(t, id.Thing)
	k.now = k.now.Add(claims.ClaimLife + time.Minute)
	_, err = k.Identify(t.Context(), leaf)
	require.ErrorIs(t, err, fault.Denied)
	require.NoError(t, k.Sweep(t.Context()))
	left, err := k.world.Store.List(t.Context(), "/ggfleet/v1/claims/claim/", "", 0)
	require.NoError(t, err)
	assert.Empty(t, left.Entries)
}
