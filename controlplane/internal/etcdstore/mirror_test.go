package etcdstore_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/etcdstore"
	"github.com/ggfleet/ggfleet/controlplane/internal/etcdstore/etcdtest"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// Two replicas write the same records at once over a real etcd: each is never
// behind its own writes, and both end equal, while history is dropped under them.
func TestMirrorsOfTwoReplicasEndEqual(t *testing.T) {
	t.Parallel()
	const writers, writes, keys = 4, 50, 9
	client, prefix := ownEtcd(t), etcdtest.Prefix()
	ctx, cancel := context.WithCancel(t.Context())
	var replicas [2]*state.Hub
	var mirrors [2]*state.Mirror[int]
	var reached [2]chan struct{}
	var loops, wg sync.WaitGroup
	for i := range replicas {
		replicas[i] = state.NewHub(etcdstore.New(client, prefix))
		reached[i] = make(chan struct{})
		mirrors[i] = state.NewMirror(replicas[i], "/m/", func(key string, _, _ *int) {
			if key == "/m/last" {
				close(reached[i])
			}
		})
		loops.Go(func() { assert.NoError(t, mirrors[i].Run(ctx)) })
		for w := range writers {
			wg.Go(func() {
				for n := range writes {
					own := fmt.Sprintf("/m/%d/%d", i, w)
					rev, err := replicas[i].Commit(ctx, batch().Put(own, n).Put(fmt.Sprintf("/m/%d", n%keys), n).Delete(fmt.Sprintf("/m/%d", (n+4)%keys)))
					if !assert.NoError(t, err) {
						return
					}
					v, got, ok := mirrors[i].Get(own)
					assert.True(t, ok && *v == n && got == rev, "own write is there at once")
					if n%20 == 19 { // fails when the other has dropped more already
						_, _ = client.Compact(ctx, int64(rev)-10)
					}
				}
			})
		}
	}
	wg.Wait()
	_, err := etcdstore.New(client, prefix).Commit(ctx, batch().Put("/m/last", 0))
	require.NoError(t, err)
	p, err := replicas[0].List(ctx, "/m/", "", 0)
	require.NoError(t, err)
	for i, m := range mirrors {
		<-reached[i] // the last event of the watch: all before it are in
		items, _ := m.Range("", 0, nil)
		require.Len(t, items, len(p.Entries))
		for j, e := range p.Entries {
			assert.Equal(t, fmt.Sprintf("%s@%d %s", e.Key, e.Rev, e.Value), fmt.Sprintf("%s@%d %d", items[j].Key, items[j].Rev, *items[j].Value))
		}
	}
	cancel()
	loops.Wait()
}

// What one replica committed is in the other's mirror once that is fresh, also while
// nothing but other records changes.
func TestAFreshMirrorHasWhatAnotherReplicaCommitted(t *testing.T) {
	t.Parallel()
	client, prefix := ownEtcd(t), etcdtest.Prefix()
	writer, reader := state.NewHub(etcdstore.New(client, prefix)), state.NewHub(etcdstore.New(client, prefix))
	mirror := state.NewMirror[int](reader, "/m/", nil)
	ctx, cancel := context.WithCancel(t.Context())
	var loop sync.WaitGroup
	loop.Go(func() { assert.NoError(t, mirror.Run(ctx)) })
	for n := range 200 {
		key := fmt.Sprintf("/m/%d", n%7)
		_, err := writer.Commit(t.Context(), batch().Put(key, n))
		require.NoError(t, err)
		_, err = writer.Commit(t.Context(), batch().Put("/other", n))
		require.NoError(t, err)
		require.NoError(t, mirror.Fresh(t.Context()))
		v, _, ok := mirror.Get(key)
		require.True(t, ok && *v == n, "write %d is not there", n)
	}
	cancel()
	loop.Wait()
	require.NoError(t, reader.CatchUp(t.Context(), "/m/"), "nobody watches: nobody is behind")
	require.ErrorIs(t, state.NewMirror[int](reader, "/m/", nil).Fresh(ctx), fault.Unavailable)
}
