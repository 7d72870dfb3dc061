package fleet_test

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/fleet"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
)

// lagging is a store whose watches of some prefixes never come: a replica that is
// behind.
type lagging struct {
	state.Store
	deafTo []string
	reads  atomic.Int64
}

func (l *lagging) Watch(ctx context.Context, prefix string, from state.Rev, handle func([]state.Event) error) error {
	if slices.ContainsFunc(l.deafTo, func(p string) bool { return strings.HasPrefix(prefix, p) }) {
		<-ctx.Done()
		return nil
	}
	return l.Store.Watch(ctx, prefix, from, handle)
}

func (l *lagging) Get(ctx context.Context, key string) (state.Entry, error) {
	l.reads.Add(1)
	return l.Store.Get(ctx, key)
}

// replica starts a second one over the same records, which does not hear of what
// others write under the prefixes.
func (k *kit) replica(deafTo ...string) (*kit, *lagging) {
	k.t.Helper()
	l := &lagging{Store: k.store, deafTo: deafTo}
	other := &kit{t: k.t, store: state.NewHub(l), objects: k.objects, cloud: k.cloud, tpl: k.tpl}
	other.start()
	return other, l
}

// away ends the first replica; what is asked of it still is answered.
func (k *kit) away() {
	k.stop()
	k.stop, k.ctx = func() {}, context.Background()
}

func TestAReplicaWhoseViewIsOldWithdrawsAll(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		cores := k.fleetOf(3)
		other, _ := k.replica(state.Root)
		defer other.stop()
		id := k.request(1, to(cores...), `{"jobExecutionsRolloutConfig":{"maximumPerMinute":1}}`)
		time.Sleep(90 * time.Second)
		require.Len(t, k.notified(cores), 2)
		k.away()
		require.NoError(t, other.CancelDeploymentTask(other.ctx, id))
		time.Sleep(time.Minute)
		assert.Empty(t, k.notified(cores), "what no core took up is taken back")
		k.start()
		for _, c := range cores[:2] {
			assert.Equal(t, fleet.DeploymentFailure, k.core(c).DeploymentStatus)
		}
	})
}

func TestAReplicaWhoseViewIsOldCountsReports(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		cores := k.fleetOf(4)
		other, _ := k.replica(state.Root+"fleet/rollout/", state.Root+"task/")
		defer other.stop()
		id := k.request(1, to(cores...), `{"abortConfig":{"criteriaList":[{"action":"CANCEL","failureType":"FAILED","minNumberOfExecutedThings":2,"thresholdPercentage":50}]}}`)
		k.await(id)
		k.away()
		for _, c := range cores[:2] {
			other.report(c, "FAILED")
			synctest.Wait()
		}
		k.start()
		r := k.rollout(id)
		assert.Equal(t, 2, r.Failed)
		assert.NotEmpty(t, r.Stopped)
	})
}

func TestATemplateThatAnotherReplicaMadeAnew(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		k.provisioned("a", "b")
		k.template("t", "1.0.0")
		k.template("next", "1.0.0")
		for _, name := range []string{"t", "next"} { // what is remembered of t is old then
			require.Equal(t, fleet.TaskSuccess, k.deploy(name, 1, to("a")).Status)
			k.finish("a", "SUCCEEDED")
		}
		other, _ := k.replica()
		require.NoError(t, other.DeleteTemplate(other.ctx, "t", 0))
		other.template("t", "2.0.0")
		other.stop()
		d := k.deploy("t", 1, to("b"))
		assert.Equal(t, fleet.TaskSuccess, d.Status, "%v", d.Deployments)
	})
}

func TestATemplateIsInUseThoughTheViewIsOld(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		k.provisioned("a")
		k.template("t", "1.0.0")
		other, _ := k.replica(state.Root)
		defer other.stop()
		require.Equal(t, fleet.TaskSuccess, k.deploy("t", 1, to("a")).Status)
		require.Error(t, other.DeleteTemplate(other.ctx, "t", 0))
		assert.NotEmpty(t, k.next("a"))
		_, err := k.Template(k.ctx, "t")
		require.NoError(t, err)
	})
}

func TestCoresThatWaitForTheirTurnDoNotKeepAsking(t *testing.T) {
	bubble(t, func(t *testing.T, k *kit) {
		cores := k.fleetOf(300)
		k.away()
		other, l := k.replica()
		defer other.stop()
		before := l.reads.Load()
		id := other.request(1, to(cores...), `{"abortConfig":{"criteriaList":[{"action":"CANCEL","failureType":"FAILED","minNumberOfExecutedThings":2,"thresholdPercentage":50}]}}`)
		require.Equal(t, fleet.TaskSuccess, other.await(id).Status)
		assert.Less(t, (l.reads.Load()-before)/300, int64(40), "reads for each core")
	})
}
