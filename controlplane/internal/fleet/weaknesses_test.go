package fleet_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/fleet"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
)

// Weaknesses of the original (spec cdf-services §10) that no other test shows.

func TestW54GroupAndDeploymentNameTheirTask(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		k.provisioned("gw")
		k.template("t", "1.0.0")
		task := k.deploy("t", 1, to("gw"))
		v, err := k.TemplateVersion(k.ctx, "t", 1)
		require.NoError(t, err)
		tags := map[string]string{"cdf-greengrass2-provisioning-deployment-task-id": task.ID}
		d, err := k.cloud.Greengrass.Deployment(k.ctx, v.Deployed.ID)
		require.NoError(t, err)
		assert.Equal(t, tags, d.Tags)
		group, err := k.cloud.Registry.Group(k.ctx, v.Deployed.ThingGroup)
		require.NoError(t, err)
		assert.Equal(t, tags, group.Value.Tags)
	})
}

func TestW55AFailureIsForgottenWithTheNextDeployment(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		failed := func() (out []string) {
			list, _, err := k.Cores(k.ctx, fleet.CoreFilter{FailedOnly: true}, fleet.Page{})
			require.NoError(t, err)
			for _, c := range list {
				out = append(out, c.Name)
			}
			return out
		}
		k.provisioned("gw")
		k.template("t", "1.0.0")
		k.template("t", "2.0.0")
		k.deploy("t", 1, to("gw"))
		k.finish("gw", "FAILED")
		require.Equal(t, fleet.DeploymentFailure, k.core("gw").DeploymentStatus)
		assert.Equal(t, []string{"gw"}, failed())

		k.deploy("t", 2, to("gw"))
		assert.Equal(t, fleet.DeploymentInProgress, k.core("gw").DeploymentStatus)
		assert.Empty(t, k.core("gw").DeploymentMessage)
		assert.Empty(t, failed(), "reset by the start")
		k.finish("gw", "SUCCEEDED")
		assert.Equal(t, fleet.DeploymentSuccess, k.core("gw").DeploymentStatus)
		assert.Empty(t, k.core("gw").DeploymentMessage)
		assert.Empty(t, failed())
	})
}

// reads counts what is read of a store.
type reads struct {
	state.Store
	n atomic.Int64
}

func (r *reads) Get(ctx context.Context, key string) (state.Entry, error) {
	r.n.Add(1)
	return r.Store.Get(ctx, key)
}

func (r *reads) List(ctx context.Context, prefix, after string, limit int) (state.Page, error) {
	r.n.Add(1)
	return r.Store.List(ctx, prefix, after, limit)
}

func TestW69ReadsDoNotGrowWithTheFleet(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		k.stop()
		counted := &reads{Store: k.store}
		k.store = counted
		k.start()
		during := func(do func()) int64 {
			before := counted.n.Load()
			do()
			return counted.n.Load() - before
		}
		lists := func() int64 {
			return during(func() {
				_, err := k.Summary(k.ctx)
				require.NoError(t, err)
				_, _, err = k.Cores(k.ctx, fleet.CoreFilter{}, fleet.Page{})
				require.NoError(t, err)
			})
		}
		fleetOf := func(prefix string, n int) (names []string) {
			for i := range n {
				names = append(names, fmt.Sprintf("%s-%d", prefix, i))
			}
			k.provisioned(names...)
			k.template("t-"+prefix, "1.0.0")
			return names
		}
		few := fleetOf("few", 4)
		forFew := during(func() { k.deploy("t-few", 1, to(few...)) })
		small := lists()
		many := fleetOf("many", 64)
		forMany := during(func() { k.deploy("t-many", 1, to(many...)) })
		assert.Equal(t, small, lists(), "a summary and a list are answered from memory")
		const each = 12 // what a core needs is its own: group membership, job, core, item
		assert.LessOrEqual(t, forMany-forFew, int64(60*each), "no core reads the others of its task")
	})
}

func TestW61WhateverEndsWithoutSuccessIsAFailure(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		ends := []string{"FAILED", "REJECTED"}
		k.provisioned(ends...)
		k.template("t", "1.0.0")
		k.deploy("t", 1, to(ends...))
		for _, status := range ends {
			k.finish(status, status)
			assert.Equal(t, fleet.DeploymentFailure, k.core(status).DeploymentStatus, status)
		}
		sum, err := k.Summary(k.ctx)
		require.NoError(t, err)
		assert.Equal(t, len(ends), sum.Templates["t"].Versions[1].LastDeploymentFailed)
		assert.Zero(t, sum.Templates["t"].Versions[1].LastDeploymentInProgress)
	})
}
