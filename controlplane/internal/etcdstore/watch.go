package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/run"
)

// Watch implements state.Store. When etcd is away it tries again until it can
// continue where it stopped.
func (s *Store) Watch(ctx context.Context, prefix string, from state.Rev, handle func([]state.Event) error) error {
	wait := run.Backoff{Max: 5 * time.Second}
	self := s.followers.begin(prefix, from)
	defer s.followers.end(self)
	for {
		var failed error // of handle
		next, err := s.follow(ctx, self, from, func(events []state.Event) error {
			failed = handle(events)
			return failed
		})
		switch {
		case failed != nil:
			return failed
		case ctx.Err() != nil:
			return nil
		case !errors.Is(err, fault.Unavailable) || s.client.Ctx().Err() != nil:
			return fmt.Errorf("watch records %s: %w", prefix, err)
		}
		if next > from {
			wait.Reset()
		}
		from = next
		if run.Sleep(ctx, wait.Next()) != nil {
			return nil
		}
	}
}

// follow runs one watch of etcd for f and returns the revision up to which its
// events were handled.
func (s *Store) follow(ctx context.Context, f *follower, from state.Rev, handle func([]state.Event) error) (state.Rev, error) {
	own, cancel := context.WithCancel(f.stream(ctx))
	var answers clientv3.WatchChan
	defer func() {
		cancel()
		for range answers { // until the library has ended it
		}
	}()
	key, end := s.keyRange(f.prefix)
	answers = s.client.Watch(own, key, clientv3.WithRange(end), clientv3.WithRev(int64(from)+1), clientv3.WithProgressNotify())
	for a := range answers {
		if err := a.Err(); err != nil {
			return from, classify(ctx, err)
		}
		for events := a.Events; len(events) > 0; {
			n := 1
			for n < len(events) && events[n].Kv.ModRevision == events[0].Kv.ModRevision {
				n++
			}
			if ctx.Err() != nil {
				return from, ctx.Err()
			}
			if err := handle(s.events(events[:n])); err != nil {
				return from, err
			}
			from, events = state.Rev(events[0].Kv.ModRevision), events[n:]
		}
		if a.IsProgressNotify() {
			from = max(from, state.Rev(a.Header.Revision))
		}
		s.followers.passed(f, from)
	}
	return from, fmt.Errorf("watch ended: %w", fault.Unavailable)
}

func (s *Store) events(raw []*clientv3.Event) []state.Event {
	out := make([]state.Event, len(raw))
	for i, e := range raw {
		out[i] = state.Event{
			Entry:   state.Entry{Key: s.key(e.Kv.Key), Value: e.Kv.Value, Rev: state.Rev(e.Kv.ModRevision)},
			Deleted: e.Type == clientv3.EventTypeDelete,
		}
	}
	return out
}
