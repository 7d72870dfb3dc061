package etcdstore

import (
	"context"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
)

const (
	catchUpTimeout = time.Second
	// askAgain is when etcd is asked once more how far its watches are: as long as
	// one of them is behind it does not answer.
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
		reached, moved := s.followers.reached(prefix, state.Rev(head.Header.Revision))
		if reached {
			return nil
		}
		// As follow does, else it would be asked of other watches.
		if err := s.client.RequestProgress(clientv3.WithRequireLeader(ctx)); err != nil {
			return fmt.Errorf("request progress of watches: %w", classify(ctx, err))
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
	at     state.Rev // all up to here is handled
}

func (f *followers) begin(prefix string, from state.Rev) *follower {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.all == nil {
		f.all = map[*follower]struct{}{}
	}
	self := &follower{prefix, from}
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

// reached reports whether all that follow prefix have come to at; if not, moved
// is closed when it may be otherwise.
func (f *followers) reached(prefix string, at state.Rev) (ok bool, moved <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for one := range f.all {
		if one.prefix == prefix && one.at < at {
			if f.moved == nil {
				f.moved = make(chan struct{})
			}
			return false, f.moved
		}
	}
	return true, nil
}
