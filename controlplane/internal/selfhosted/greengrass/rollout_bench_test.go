package greengrass_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/etcdstore/etcdtest"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/greengrass"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/iot"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/jobs"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/names"
)

// BenchmarkRollout hands a deployment without a rate to the 10,000 members of a
// group, each time in place of the revision before, which waits everywhere.
func BenchmarkRollout(b *testing.B) {
	const members = 10_000
	store := etcdtest.Open(b)
	registry, err := iot.New(iot.Config{Store: store, Realm: names.Realm{Region: "us-east-1", Account: "000000000000"}, CA: &iot.CA{ID: "ca"}})
	require.NoError(b, err)
	j, err := jobs.New(jobs.Config{Store: store})
	require.NoError(b, err)
	s, err := greengrass.New(greengrass.Config{Store: store, Registry: registry, Jobs: j, Components: components{}})
	require.NoError(b, err)
	_, err = registry.EnsureGroup(b.Context(), "g", "", nil)
	require.NoError(b, err)
	batch := state.NewBatch(state.StepMove)
	for i := range members {
		batch.Put(fmt.Sprintf("%siot/member/g/core-%05d", state.Root, i), struct{}{})
		if batch.Len() == state.MaxBatch || i == members-1 {
			_, err := store.Commit(b.Context(), batch)
			require.NoError(b, err)
			batch = state.NewBatch(state.StepMove)
		}
	}
	for b.Loop() {
		_, err := s.Create(b.Context(), group("g", "1.0.0"))
		require.NoError(b, err)
		_, err = s.Drive(b.Context())
		require.NoError(b, err)
	}
	list, err := j.Pending(b.Context(), "core-09999")
	require.NoError(b, err)
	require.Len(b, list, 1)
}
