package greengrass_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/greengrass"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// countedReads counts what is read from the store.
type countedReads struct {
	state.Store
	n atomic.Int64
}

func (c *countedReads) Get(ctx context.Context, key string) (state.Entry, error) {
	c.n.Add(1)
	return c.Store.Get(ctx, key)
}

// replica is a service of its own over k's store, with its mirror running.
func (k *kit) replica(t testing.TB) (*greengrass.Service, *countedReads) {
	t.Helper()
	reads := &countedReads{Store: k.store}
	s, err := greengrass.New(greengrass.Config{Store: state.NewHub(reads), Registry: k.registry, Jobs: k.jobs, Components: components{}, Now: k.clock})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		assert.NoError(t, <-done)
	})
	require.NoError(t, s.Loaded(ctx))
	return s, reads
}

func TestOnlyTheFirstReportOfASessionReadsTheStore(t *testing.T) {
	k := newKit(t, t.Context(), "core")
	here, reads := k.replica(t)
	healthy := health(func(*protocol.FleetStatus) {})
	unhealthy := health(func(m *protocol.FleetStatus) { m.OverallDeviceStatus = protocol.Unhealthy })

	here.Moved("core")
	require.NoError(t, here.Report(t.Context(), "core", healthy))
	first := reads.n.Load()
	assert.Positive(t, first)
	for range 3 {
		require.NoError(t, here.Report(t.Context(), "core", healthy))
		require.NoError(t, here.Report(t.Context(), "core", unhealthy))
	}
	assert.Equal(t, first, reads.n.Load(), "the rest came from memory")
	has, err := here.HasCore(t.Context(), "core")
	require.NoError(t, err)
	assert.True(t, has)
	c, err := here.Core(t.Context(), "core")
	require.NoError(t, err)
	assert.Equal(t, protocol.Unhealthy, c.Status)
}

func TestWhatACoreToldAnotherReplicaIsNotMissed(t *testing.T) {
	k := newKit(t, t.Context(), "core")
	here, _ := k.replica(t)
	there, _ := k.replica(t)
	healthy := health(func(*protocol.FleetStatus) {})
	unhealthy := health(func(m *protocol.FleetStatus) { m.OverallDeviceStatus = protocol.Unhealthy })
	for range 20 { // the watch may lag behind or not
		for _, s := range []*greengrass.Service{here, there} {
			s.Moved("core")
			require.NoError(t, s.Report(t.Context(), "core", healthy))
			s.Moved("core")
			require.NoError(t, s.Report(t.Context(), "core", unhealthy))
			c, err := here.Core(t.Context(), "core")
			require.NoError(t, err)
			require.Equal(t, protocol.Unhealthy, c.Status)
		}
		here.Moved("core")
		require.NoError(t, here.Report(t.Context(), "core", healthy), "as here, when it was told last")
		c, err := there.Core(t.Context(), "core")
		require.NoError(t, err)
		require.Equal(t, protocol.Healthy, c.Status)
	}
	has, err := here.HasCore(t.Context(), "stranger")
	require.NoError(t, err)
	assert.False(t, has)
}
