package event

import (
	"context"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// Filter selects events. The zero value selects all that are published.
type Filter struct {
	Core string // or client device
	Type Type
}

func (f Filter) check() error {
	if f.Type != "" && !f.Type.Published() {
		return fault.Field("type", "%q is not a type of event; there are %q", f.Type, Types())
	}
	return nil
}

func (f Filter) keeps(e *Event) bool {
	return (f.Core == "" || f.Core == e.Core) && (f.Type == "" || f.Type == e.Type)
}

// Where to begin, instead of the sequence of an event.
const (
	Oldest int64 = 0  // with the oldest event of the log
	Newest int64 = -1 // with what comes from now on
)

const (
	defaultCount = 100
	maxCount     = 1000
	maxScan      = 10_000 // events looked at for one answer of List
	streamChunk  = 500
)

// Bounds returns the sequences of the oldest and of the newest event in the log;
// both are 0 while there was none yet.
func (s *Service) Bounds(ctx context.Context) (first, last int64, err error) {
	h, err := state.ReadOr[head](ctx, s.cfg.Store, headKey)
	return h.Value.First, h.Value.Last, err
}

// start turns what a reader asks for into the sequence to read after.
func (s *Service) start(ctx context.Context, after int64) (int64, error) {
	first, last, err := s.Bounds(ctx)
	switch {
	case err != nil:
		return 0, err
	case after == Newest:
		return last, nil
	case after < 0:
		return 0, fault.Field("after", "%d is not the sequence of an event", after)
	case after > last:
		return 0, fault.Field("after", "the log ends with sequence %d: %d was never given", last, after)
	case after == Oldest:
		return max(0, first-1), nil
	case after+1 < first:
		return 0, gone(first)
	}
	return after, nil
}

// List returns up to count (0: 100; at most 1,000) events that filter selects and
// that come after sequence after (Oldest: all that there are), oldest first. next
// is what to ask after for the next page, 0 when the log ends here; a page of a
// rare selection may be empty and have a next one. Events that have left the log
// are fault.Stale.
func (s *Service) List(ctx context.Context, filter Filter, after int64, count int) (events []Event, next int64, err error) {
	if err := filter.check(); err != nil {
		return nil, 0, err
	}
	if count < 0 || count > maxCount {
		return nil, 0, fault.Field("count", "%d is not between 1 and %d", count, maxCount)
	}
	if count == 0 {
		count = defaultCount
	}
	at, err := s.start(ctx, after)
	if err != nil {
		return nil, 0, err
	}
	for scanned := 0; scanned < maxScan; {
		chunk, err := s.read(ctx, at, streamChunk)
		if err != nil {
			return nil, 0, err
		}
		for _, e := range chunk {
			if len(events) == count {
				return events, at, nil
			}
			at = e.Sequence
			if filter.keeps(e) {
				events = append(events, *e)
			}
		}
		scanned += len(chunk)
		if len(chunk) < streamChunk {
			return events, 0, nil
		}
	}
	return events, at, nil
}

// Stream calls handle with the events that filter selects and that come after
// sequence after (or Oldest, or Newest), oldest first, each once: first what is
// in the log, then what comes, until ctx is done (it returns nil) or handle
// fails. One reader that is slow stops no other. It returns fault.Stale when
// events were pruned that the reader had not had yet: nothing is left out
// silently.
func (s *Service) Stream(ctx context.Context, filter Filter, after int64, handle func([]Event) error) error {
	if err := filter.check(); err != nil {
		return err
	}
	at, err := s.start(ctx, after)
	if err != nil {
		return err
	}
	return s.each(ctx, at, func(chunk []*Event) error {
		var events []Event
		for _, e := range chunk {
			if filter.keeps(e) {
				events = append(events, *e)
			}
		}
		if len(events) == 0 {
			return nil
		}
		return handle(events)
	})
}

// each calls handle with what follows sequence at, as it comes.
func (s *Service) each(ctx context.Context, at int64, handle func([]*Event) error) error {
	for {
		more := s.tail.more()
		chunk, err := s.read(ctx, at, streamChunk)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if len(chunk) > 0 {
			if err := handle(chunk); err != nil {
				return err
			}
			at = chunk[len(chunk)-1].Sequence
			continue
		}
		select {
		case <-more:
		case <-ctx.Done():
			return nil
		}
	}
}
