package etcdstore

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/metadata"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
)

const (
	catchUpTimeout = time.Second
	// askAgain is when etcd is asked once more how far a watch is: as long as the
	// watch itself is behind it does not answer.
	askAgain = 20 * time.Millisecond
)

// CatchUp implements state.Store. A watch hears nothing as long as nothing below
// its prefix changes; so etcd is asked to tell each how far it is.
func (s *Store) CatchUp(ctx context.Context, prefix string) error {
	if s.alone {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, catchUpTimeout)
	defer cancel()
	head, err := s.client.Get(ctx, s.prefix+prefix) // read for the revision alone
	if err != nil {
		return fmt.Errorf("read revision: %w", classify(ctx, err))
	}
	again := time.NewTicker(askAgain)
	defer again.Stop()
	for {
		behind, moved := s.followers.behind(prefix, state.Rev(head.Header.Revision))
		if len(behind) == 0 {
			return nil
		}
		for _, f := range behind {
			if err := s.client.RequestProgress(f.stream(ctx)); err != nil {
				return fmt.Errorf("request progress of the watch of %s: %w", prefix, classify(ctx, err))
			}
		}
		select {
		case <-moved:
		case <-again.C:
		case <-ctx.Done():
			return fault.New(fault.Unavailable, "the watch of %s is behind the store", prefix)
		}
	}
}

// followers are the watches that run and how far they are. The zero value is
// ready.
type followers struct {
	mu    sync.Mutex // guards all below
	all   map[*follower]struct{}
	moved chan struct{} // closed when one has come further; nil: nobody waits
}

type follower struct {
	prefix string
	at     state.Rev // all up to here is handled; guarded by followers.mu
	name   string    // no other's, not in another store of the client either
}

// stream returns ctx as f's requests take it. The
// library sends requests with the same metadata over one stream, and with an
// etcd in this process neither side of a stream reads while it writes: watches
// that shared one and ended together would block each other for ever. So each
// has its own, which ends with it.
func (f *follower) stream(ctx context.Context) context.Context {
	// Without a leader the watch is told to end instead of staying silent.
	return metadata.AppendToOutgoingContext(clientv3.WithRequireLeader(ctx), "follower", f.name)
}

func (f *followers) begin(prefix string, from state.Rev) *follower {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.all == nil {
		f.all = map[*follower]struct{}{}
	}
	self := &follower{prefix, from, rand.Text()}
	f.all[self] = struct{}{}
	return self
}

func (f *followers) end(self *follower) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.all, self)
	f.wakeLocked()
}

func (f *followers) passed(self *follower, at state.Rev) {
	f.mu.Lock()
	defer f.mu.Unlock()
	self.at = at
	f.wakeLocked()
}

func (f *followers) wakeLocked() {
	if f.moved != nil {
		close(f.moved)
		f.moved = nil
	}
}

// behind returns those that follow prefix and have not come to at; moved is
// closed when they may be others.
func (f *followers) behind(prefix string, at state.Rev) (late []*follower, moved <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for one := range f.all {
		if one.prefix == prefix && one.at < at {
			late = append(late, one)
		}
	}
	if len(late) > 0 && f.moved == nil {
		f.moved = make(chan struct{})
	}
	return late, f.moved
}
