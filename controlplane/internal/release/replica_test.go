package release_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/release"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/state/memory"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// late is a store in a bubble whose watches bring nothing before somebody waits for
// it.
type late struct {
	*memory.Store

	mu   sync.Mutex // guards gate
	gate chan struct{}
}

func (l *late) Watch(ctx context.Context, prefix string, from state.Rev, handle func([]state.Event) error) error {
	return l.Store.Watch(ctx, prefix, from, func(events []state.Event) error {
		l.mu.Lock()
		gate := l.gate
		l.mu.Unlock()
		select {
		case <-gate:
			return handle(events)
		case <-ctx.Done():
			return nil
		}
	})
}

func (l *late) CatchUp(context.Context, string) error {
	l.mu.Lock()
	close(l.gate)
	l.mu.Unlock()
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gate = make(chan struct{})
	return nil
}

func TestWhatAnotherReplicaOffersIsOfferedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, true)
		svc, err := release.New(release.Config{Store: state.NewHub(&late{Store: k.store, gate: make(chan struct{})}), Objects: k.objects})
		require.NoError(t, err)
		_, _, err = svc.Open(t.Context(), "x")
		require.ErrorIs(t, err, fault.Unavailable, "not read yet: the device comes again")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- svc.Run(ctx) }()
		t.Cleanup(func() { cancel(); assert.NoError(t, <-done) })
		other := &kit{Service: svc, t: t}
		synctest.Wait()

		k.add("1.4.0", "")
		k.activate("1.4.0", release.Activation{Percentage: 100})
		assert.Equal(t, "1.4.0", other.offer("gw", "1.3.0", protocol.AgentUpdate{}))
		k.add("1.5.0", "")
		k.activate("1.5.0", release.Activation{Percentage: 100})
		r, err := k.Get(t.Context(), "1.5.0")
		require.NoError(t, err)
		f, _, err := svc.Open(t.Context(), r.Platforms[0].Digest)
		require.NoError(t, err, "what one replica offers the other one sends")
		require.NoError(t, f.Close())
		for _, version := range []string{"1.4.0", "1.5.0"} {
			_, err = k.Pause(t.Context(), version)
			require.NoError(t, err)
		}
		assert.Empty(t, other.offer("gw", "1.3.0", protocol.AgentUpdate{}))
	})
}
