package selfhosted_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/etcdstore/etcdtest"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/selfhostedtest"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/state/memory"
	"github.com/ggfleet/ggfleet/shared/fault"
)

func TestAReportInTheMomentOfTheDeletionLeavesNothing(t *testing.T) {
	s := memory.New()
	w := selfhostedtest.New(t, s)
	commit := func(b *state.Batch) error { return w.Commit(t.Context(), b) }
	require.NoError(t, w.Register(t.Context(), cloud.Registration{Thing: "core"}, commit))
	d, err := w.Ensure(t.Context(), cloud.GroupDeployment{Group: "g"}, "token")
	require.NoError(t, err)
	require.NoError(t, w.Move(t.Context(), cloud.Move{Core: "core", Join: "g"}, func(b *state.Batch, _ cloud.Execution) error { return commit(b) }))
	err = w.Deprovision(t.Context(), "core", cloud.Deprovision{}, func(b *state.Batch) error {
		require.NoError(t, w.Finish(t.Context(), "core", d.JobID, "SUCCEEDED"))
		return commit(b)
	})
	require.ErrorIs(t, err, fault.Conflict)
	require.NoError(t, w.Deprovision(t.Context(), "core", cloud.Deprovision{}, commit))
	left, err := s.List(t.Context(), state.Root+"jobs/execution/", "", 0)
	require.NoError(t, err)
	assert.Empty(t, left.Entries)
}

func TestAThingWithMoreThanABatchHoldsIsDeletedWhole(t *testing.T) {
	s := memory.New()
	w := selfhostedtest.New(t, s)
	commit := func(b *state.Batch) error { return w.Commit(t.Context(), b) }
	own := []cloud.Policy{{Name: "own", Document: nothing}}
	for i := range 90 { // certificates; one more each time the core is posted
		c := cloud.Issued{ID: fmt.Sprintf("%064d", i)}
		require.NoError(t, w.Register(t.Context(), cloud.Registration{Thing: "core", Certificate: &c, Policies: own}, commit))
	}
	for i := range 300 {
		n := fmt.Sprint("device-", i)
		require.NoError(t, w.Register(t.Context(), cloud.Registration{Thing: n}, commit))
		require.NoError(t, w.Associate(t.Context(), "core", n, commit))
	}
	for i := range 100 {
		g := fmt.Sprint("g", i)
		d, err := w.Ensure(t.Context(), cloud.GroupDeployment{Group: g}, g)
		require.NoError(t, err)
		m := cloud.Move{Core: "core", Join: g, Leave: func(string) bool { return true }}
		require.NoError(t, w.Move(t.Context(), m, func(b *state.Batch, _ cloud.Execution) error { return commit(b) }))
		if i%2 > 0 {
			require.NoError(t, w.Finish(t.Context(), "core", d.JobID, "IN_PROGRESS"))
		}
	}
	for died := 0; ; died++ {
		n := 0
		s.FailCommit = func(*state.Batch) error {
			if n++; n > 2 { // some progress at each attempt
				return errKilled
			}
			return nil
		}
		err := w.Deprovision(t.Context(), "core", cloud.Deprovision{Certificates: true, Policies: true}, func(b *state.Batch) error {
			assert.LessOrEqual(t, b.Len(), 64, "there is room for what the caller adds")
			return commit(b)
		})
		if err == nil {
			break
		}
		require.ErrorIs(t, err, errKilled)
		require.Less(t, died, 100, "each attempt goes on where the last one died")
	}
	s.FailCommit = nil
	require.NoError(t, w.Pass(t.Context(), time.Hour))
	all, err := s.List(t.Context(), state.Root, "", 0)
	require.NoError(t, err)
	for _, e := range all.Entries {
		assert.NotContains(t, e.Key, "/core", "nothing of the core is left")
		for _, p := range []string{"iot/cert/", "iot/changed/certificate/", "iot/policy/own", "iot/policy-of/"} {
			assert.False(t, strings.HasPrefix(e.Key, state.Root+p), "%s is left", e.Key)
		}
	}
}

// BenchmarkDeprovision deletes cores with a certificate, a group and a deployment
// that ended, over embedded etcd, as many at once as the task engine does.
func BenchmarkDeprovision(b *testing.B) {
	store := etcdtest.Open(b)
	w := selfhostedtest.New(b, store)
	commit := func(x *state.Batch) error { return w.Commit(b.Context(), x) }
	d, err := w.Ensure(b.Context(), cloud.GroupDeployment{Group: "g"}, "token")
	require.NoError(b, err)
	for i := range b.N {
		n := fmt.Sprint("core-", i)
		c := cloud.Issued{ID: fmt.Sprintf("%064d", i), PEM: strings.Repeat("x", 800)}
		require.NoError(b, w.Register(b.Context(), cloud.Registration{Thing: n, Certificate: &c, Policies: []cloud.Policy{{Name: selfhostedtest.Policy}}}, commit))
		require.NoError(b, w.Move(b.Context(), cloud.Move{Core: n, Join: "g"}, func(x *state.Batch, _ cloud.Execution) error { return commit(x) }))
		require.NoError(b, w.Finish(b.Context(), n, d.JobID, "SUCCEEDED"))
	}
	var next atomic.Int64
	b.SetParallelism(16)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			n := fmt.Sprint("core-", next.Add(1)-1)
			if err := w.Deprovision(b.Context(), n, cloud.Deprovision{Certificates: true, Policies: true}, commit); err != nil {
				b.Error(err)
			}
		}
	})
}
