package greengrass

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
)

// StatusChange is a core device whose status became another.
type StatusChange struct {
	Thing  string    `json:"thing"`
	Status string    `json:"status"`
	At     time.Time `json:"at"`
}

func statusKey(thing string) string { return statusPrefix + thing }

// statusBatch records in b that the status changes, if it does. The record of the
// core itself is large and changes with each component; nobody who waits for
// statuses shall have to read it.
func statusBatch(b *state.Batch, before, after CoreDevice) {
	if before.Status != after.Status {
		b.Put(statusKey(after.Thing), StatusChange{Thing: after.Thing, Status: after.Status, At: after.LastStatusAt})
	}
}

// Now returns the revision from which Statuses tells what changes from now on.
func (s *Service) Now(ctx context.Context) (state.Rev, error) {
	p, err := s.store.List(ctx, statusPrefix, "", 1)
	return p.At, err
}

// LastStatuses returns the last change of every core device whose status changed after
// revision from, in order, and the revision to go on from with Statuses.
func (s *Service) LastStatuses(ctx context.Context, from state.Rev) ([]StatusChange, state.Rev, error) {
	at, err := s.Now(ctx)
	if err != nil {
		return nil, 0, err
	}
	var list []state.Record[StatusChange]
	err = state.All(ctx, s.store, statusPrefix, func(_ string, r state.Record[StatusChange]) error {
		if r.Rev > from && r.Rev <= at {
			list = append(list, r)
		}
		return nil
	})
	slices.SortFunc(list, func(a, b state.Record[StatusChange]) int { return cmp.Compare(a.Rev, b.Rev) })
	out := make([]StatusChange, len(list))
	for i, r := range list {
		out[i] = r.Value
	}
	return out, at, err
}

// Statuses calls handle with changes after revision from, in order, until ctx is
// done. It returns state.ErrCompacted when that history is gone.
func (s *Service) Statuses(ctx context.Context, from state.Rev, handle func([]StatusChange, state.Rev) error) error {
	err := s.store.Watch(ctx, statusPrefix, from, func(events []state.Event) error {
		var out []StatusChange
		var rev state.Rev
		for _, e := range events {
			rev = e.Rev
			if e.Deleted {
				continue
			}
			c, err := state.Decode[StatusChange](e.Entry)
			if err != nil {
				return err
			}
			out = append(out, c.Value)
		}
		return handle(out, rev)
	})
	if err != nil && !errors.Is(err, state.ErrCompacted) {
		return fmt.Errorf("follow statuses of core devices: %w", err)
	}
	return err
}
