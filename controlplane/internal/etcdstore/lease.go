package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
)

// lease is a state.Lease that etcd's client keeps alive.
type lease struct {
	client *clientv3.Client
	id     clientv3.LeaseID
	stop   context.CancelFunc // of the keep-alive
	closed atomic.Bool
	lost   chan struct{}
}

// NewLease implements state.Store. etcd counts in seconds: ttl is rounded up,
// and a cluster raises it to about twice its election timeout.
func (s *Store) NewLease(ctx context.Context, ttl time.Duration) (state.Lease, error) {
	seconds := max(1, int64((ttl+time.Second-1)/time.Second))
	call, done := context.WithTimeout(ctx, callTimeout)
	defer done()
	g, err := s.client.Grant(call, seconds)
	if err != nil {
		return nil, fmt.Errorf("make lease: %w", classify(call, err))
	}
	alive, stop := context.WithCancel(ctx)
	beats, err := s.client.KeepAlive(alive, g.ID)
	if err != nil {
		stop()
		return nil, fmt.Errorf("keep lease alive: %w", classify(call, err))
	}
	l := &lease{client: s.client, id: g.ID, stop: stop, lost: make(chan struct{})}
	go l.watch(beats) // ends with alive, the lease or the client
	return l, nil
}

func (l *lease) watch(beats <-chan *clientv3.LeaseKeepAliveResponse) {
	for range beats {
	}
	l.stop()
	if !l.closed.Load() {
		close(l.lost)
	}
}

// ID implements state.Lease.
func (l *lease) ID() int64 { return int64(l.id) }

// Lost implements state.Lease. It is also closed at once when the context of
// NewLease is done: from then on nobody keeps the lease alive.
func (l *lease) Lost() <-chan struct{} { return l.lost }

// Close implements state.Lease.
func (l *lease) Close(ctx context.Context) error {
	l.closed.Store(true)
	l.stop()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if _, err := l.client.Revoke(ctx, l.id); err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return fmt.Errorf("end lease: %w", classify(ctx, err))
	}
	return nil
}
