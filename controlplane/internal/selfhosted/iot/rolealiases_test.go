package iot_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/iot"
	"github.com/ggfleet/ggfleet/shared/fault"
)

func TestRoleAliases(t *testing.T) {
	k := newKit(t)
	ctx := t.Context()
	for name, err := range map[string]error{
		"read":   func() error { _, err := k.RoleAlias(ctx, "r"); return err }(),
		"change": k.UpdateRoleAlias(ctx, "r", "arn", 0), "delete": k.DeleteRoleAlias(ctx, "r"),
	} {
		require.ErrorIs(t, err, fault.NotFound, name)
	}
	require.NoError(t, k.CreateRoleAlias(ctx, iot.RoleAlias{Name: "r", RoleARN: "arn:1"}))
	a, err := k.RoleAlias(ctx, "r")
	require.NoError(t, err)
	assert.Equal(t, iot.RoleAlias{Name: "r", RoleARN: "arn:1", DurationSeconds: 3600, CreatedAt: k.now.UTC(), ModifiedAt: k.now.UTC()}, a)
	require.ErrorIs(t, k.CreateRoleAlias(ctx, iot.RoleAlias{Name: "r", RoleARN: "arn:2"}), fault.Exists)

	k.now = k.now.Add(time.Minute)
	require.NoError(t, k.UpdateRoleAlias(ctx, "r", "", 900))
	require.NoError(t, k.UpdateRoleAlias(ctx, "r", "arn:2", 0))
	b, err := k.RoleAlias(ctx, "r")
	require.NoError(t, err)
	assert.Equal(t, iot.RoleAlias{Name: "r", RoleARN: "arn:2", DurationSeconds: 900, CreatedAt: a.CreatedAt, ModifiedAt: k.now.UTC()}, b)
	for _, seconds := range []int{-1, 1, 899, 43201} {
		require.ErrorIs(t, k.UpdateRoleAlias(ctx, "r", "", seconds), fault.Invalid, "%d s", seconds)
		require.ErrorIs(t, k.CreateRoleAlias(ctx, iot.RoleAlias{Name: "x", RoleARN: "arn", DurationSeconds: seconds}), fault.Invalid, "%d s", seconds)
	}
	require.ErrorIs(t, k.CreateRoleAlias(ctx, iot.RoleAlias{Name: "a/b"}), fault.Invalid)

	require.NoError(t, k.DeleteRoleAlias(ctx, "r"))
	_, err = k.RoleAlias(ctx, "r")
	require.ErrorIs(t, err, fault.NotFound, "deleting is immediate")
}

func TestRoleAliasesAreLimitedAndListedOldestFirst(t *testing.T) {
	k := newKit(t)
	k.now = k.now.Round(0)
	for i := range iot.MaxRoleAliases {
		k.now = k.now.Add(time.Second)
		require.NoError(t, k.CreateRoleAlias(t.Context(), iot.RoleAlias{Name: fmt.Sprint("r", iot.MaxRoleAliases-i), RoleARN: "arn"}))
	}
	require.ErrorIs(t, k.CreateRoleAlias(t.Context(), iot.RoleAlias{Name: "more", RoleARN: "arn"}), fault.Exhausted)
	require.ErrorIs(t, k.CreateRoleAlias(t.Context(), iot.RoleAlias{Name: "r1", RoleARN: "arn"}), fault.Exists, "what is there is not over the limit")
	all, err := k.RoleAliases(t.Context())
	require.NoError(t, err)
	require.Len(t, all, iot.MaxRoleAliases)
	assert.Equal(t, "r100", all[0].Name)
	assert.Equal(t, "r1", all[99].Name)
}
