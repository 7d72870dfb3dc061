package event

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/run"
)

// head is the extent of the log: it holds the sequences First to Last. Every
// change of the log is conditional on it.
type head struct {
	First int64 `json:"first"`
	Last  int64 `json:"last"`
}

// tailSize is how many of the newest events each replica has in memory.
const tailSize = 10_000

// tail is the newest part of the log. Events in it are read-only.
type tail struct {
	mu      sync.RWMutex // guards all below
	loaded  bool
	events  []*Event      // consecutive, a ring once it is full
	newest  int64         // sequence of the newest, 0: the log is empty
	changed chan struct{} // closed and replaced when something was added
}

func newTail() *tail { return &tail{changed: make(chan struct{})} }

// load sets the tail to events that end with newest.
func (t *tail) load(events []*Event, newest int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.events, t.newest, t.loaded = nil, newest-int64(len(events)), true
	for _, e := range events {
		t.addLocked(e)
	}
	t.wakeLocked()
}

// add appends what comes after the newest. After a gap the tail begins anew: who
// has read to the old end goes on in the store.
func (t *tail) add(events []*Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range events {
		t.addLocked(e)
	}
	t.wakeLocked()
}

func (t *tail) addLocked(e *Event) {
	if e.Sequence <= t.newest {
		return
	}
	if e.Sequence != t.newest+1 {
		t.events = nil
	}
	t.newest = e.Sequence
	if len(t.events) < tailSize {
		t.events = append(t.events, e)
		if len(t.events) == tailSize { // from now on a ring: put each at its place
			ring := make([]*Event, tailSize)
			for _, e := range t.events {
				ring[e.Sequence%tailSize] = e
			}
			t.events = ring
		}
		return
	}
	t.events[e.Sequence%tailSize] = e
}

func (t *tail) wakeLocked() {
	close(t.changed)
	t.changed = make(chan struct{})
}

// after returns up to n events that follow sequence after. ok is false when the
// tail begins later; then the store has to be asked.
func (t *tail) after(after int64, n int) (events []*Event, ok bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	first := t.newest - int64(len(t.events)) + 1
	if !t.loaded || after+1 < first {
		return nil, false
	}
	for q := after + 1; q <= t.newest && len(events) < n; q++ {
		if len(t.events) == tailSize {
			events = append(events, t.events[q%tailSize])
		} else {
			events = append(events, t.events[q-first])
		}
	}
	return events, true
}

func (t *tail) last() int64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.newest
}

// more returns a channel that is closed when something is added after the call.
func (t *tail) more() <-chan struct{} {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.changed
}

// follow keeps the tail: it reads the end of the log and watches what comes.
func (s *Service) follow(ctx context.Context) error {
	wait := run.Backoff{Max: 2 * time.Second}
	for ctx.Err() == nil {
		at, err := s.loadTail(ctx)
		if err == nil {
			wait.Reset()
			err = s.cfg.Store.Watch(ctx, logPrefix, at, s.takeLog)
		}
		if err != nil && ctx.Err() == nil && !errors.Is(err, state.ErrCompacted) {
			s.log.WarnContext(ctx, "event log is not followed; trying again", logx.Err, err)
			_ = run.Sleep(ctx, wait.Next()) // the loop looks at ctx
		}
	}
	return nil
}

// loadTail reads the newest events. Keys are in the order of sequences, so the
// last page has everything up to its revision.
func (s *Service) loadTail(ctx context.Context) (at state.Rev, err error) {
	h, err := state.ReadOr[head](ctx, s.cfg.Store, headKey)
	if err != nil {
		return 0, err
	}
	var events []*Event
	newest := h.Value.Last
	for after := logKey(max(0, newest-tailSize)); ; {
		p, err := s.cfg.Store.List(ctx, logPrefix, after, listPage)
		if err != nil {
			return 0, err
		}
		for _, entry := range p.Entries {
			e, err := state.Decode[Event](entry)
			if err != nil {
				return 0, err
			}
			events, newest, after = append(events, &e.Value), e.Value.Sequence, entry.Key
		}
		if !p.More {
			s.tail.load(events, newest)
			return p.At, nil
		}
	}
}

// listPage is how many records one request of a listing reads.
const listPage = 1000

func (s *Service) takeLog(changes []state.Event) error {
	var events []*Event
	for _, c := range changes {
		if c.Deleted {
			continue
		}
		e, err := state.Decode[Event](c.Entry)
		if err != nil {
			return err
		}
		events = append(events, &e.Value)
	}
	if len(events) > 0 {
		s.tail.add(events)
	}
	return nil
}

// read returns up to n events of the log after sequence after, consecutive from
// after+1; none: there are no more. It returns fault.Stale if after+1 has left
// the log. The events are read-only.
func (s *Service) read(ctx context.Context, after int64, n int) ([]*Event, error) {
	if events, ok := s.tail.after(after, n); ok {
		return events, nil
	}
	p, err := s.cfg.Store.List(ctx, logPrefix, logKey(after), n)
	if err != nil {
		return nil, fmt.Errorf("read event log: %w", err)
	}
	events := make([]*Event, len(p.Entries))
	for i, entry := range p.Entries {
		e, err := state.Decode[Event](entry)
		if err != nil {
			return nil, err
		}
		events[i] = &e.Value
	}
	if len(events) > 0 && events[0].Sequence != after+1 {
		return nil, gone(events[0].Sequence)
	}
	return events, nil
}

func gone(first int64) error {
	return fault.New(fault.Stale, "events before sequence %d are gone: read from there, and read anew what you know of the cores", first)
}
