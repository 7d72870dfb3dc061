package event

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/run"
)

const (
	// window is how many waiting events are in memory at once.
	window = 8192
	// maxMoved and maxMovedBytes bound one commit: at most 128 writes and 1.5 MB.
	maxMoved      = 40
	maxMovedBytes = 512 << 10
	maxWrites     = state.MaxBatch - 6
	// gather is how long events are collected after the first one: at a thousand a
	// second a commit moves dozens, and those who make events are not disturbed.
	gather = 20 * time.Millisecond
	// readers is how many histories are read at once.
	readers = 8
	// pruneBatch is how many events leave the log in one commit.
	pruneBatch = 100
)

// waiting is an event of the outbox.
type waiting struct {
	key   string
	rev   state.Rev
	event *Event // nil: the record cannot be read
	size  int
}

func (w waiting) compare(o waiting) int {
	return cmp.Or(cmp.Compare(w.rev, o.rev), cmp.Compare(w.key, o.key))
}

// sequence moves events from the outbox into the log, until ctx is done. Others
// may do the same for a moment: each commit names the head that it continues.
func (s *Service) sequence(ctx context.Context) error {
	kick := run.NewBell()
	return run.All(ctx,
		run.Loop{Name: "outbox", Run: func(ctx context.Context) error { return s.watchOutbox(ctx, kick) }},
		run.Loop{Name: "move", Run: func(ctx context.Context) error { return s.moves(ctx, kick) }},
	)
}

// watchOutbox wakes the mover for what is in the outbox and for what comes.
func (s *Service) watchOutbox(ctx context.Context, kick run.Bell) error {
	for {
		p, err := s.cfg.Store.List(ctx, outboxPrefix, "", 1)
		if err != nil {
			return err
		}
		kick.Ring()
		err = s.cfg.Store.Watch(ctx, outboxPrefix, p.At, func(changes []state.Event) error {
			if slices.ContainsFunc(changes, func(c state.Event) bool { return !c.Deleted }) {
				kick.Ring()
			}
			return nil
		})
		if !errors.Is(err, state.ErrCompacted) {
			return err
		}
	}
}

func (s *Service) moves(ctx context.Context, kick run.Bell) error {
	wait := run.Backoff{Max: 2 * time.Second}
	for ctx.Err() == nil {
		select {
		case <-kick:
		case <-ctx.Done():
			return nil
		}
		if run.Sleep(ctx, gather) != nil {
			return nil
		}
		for {
			more, err := s.round(ctx)
			if err != nil && ctx.Err() == nil {
				s.log.WarnContext(ctx, "events wait for their place in the log; trying again", logx.Err, err)
				_ = run.Sleep(ctx, wait.Next()) // the loop looks at ctx
				kick.Ring()
				break
			}
			wait.Reset()
			if !more {
				break
			}
		}
	}
	return nil
}

// round moves what waits, as far as the window goes, and prunes the log. more
// tells that others wait.
func (s *Service) round(ctx context.Context) (more bool, err error) {
	h, err := state.ReadOr[head](ctx, s.cfg.Store, headKey)
	if err != nil {
		return false, err
	}
	todo, more, err := s.scan(ctx)
	if err != nil {
		return false, err
	}
	for len(todo) > 0 {
		n, err := s.move(ctx, &h, todo)
		if err != nil {
			return false, err
		}
		todo = todo[n:]
		s.count.outbox.Add(int64(-n))
	}
	return more, s.prune(ctx, &h)
}

// newest is a heap of waiting events with the newest on top.
type newest []waiting

func (n newest) Len() int           { return len(n) }
func (n newest) Less(i, j int) bool { return n[i].compare(n[j]) > 0 }
func (n newest) Swap(i, j int)      { n[i], n[j] = n[j], n[i] }
func (n *newest) Push(x any)        { *n = append(*n, x.(waiting)) } //nolint:errcheck // a heap of these alone
func (n *newest) Pop() any {
	last := len(*n) - 1
	x := (*n)[last]
	*n = (*n)[:last]
	return x
}

// scan returns the oldest events of the outbox in the order of their commits.
// Pages are read one after the other: what was committed after the first one may
// be missing and is left for the next scan, else it could overtake.
func (s *Service) scan(ctx context.Context) (oldest []waiting, more bool, err error) {
	var h newest
	at, total := state.Rev(0), int64(0)
	for after, last := "", false; !last; {
		p, err := s.cfg.Store.List(ctx, outboxPrefix, after, listPage)
		if err != nil {
			return nil, false, fmt.Errorf("read outbox: %w", err)
		}
		if at == 0 {
			at = p.At
		}
		for _, e := range p.Entries {
			after = e.Key
			total++
			if e.Rev > at {
				more = true
				continue
			}
			w := waiting{key: e.Key, rev: e.Rev, size: len(e.Value)}
			if len(h) == window {
				more = true
				if w.compare(h[0]) > 0 {
					continue
				}
			}
			if r, err := state.Decode[Event](e); err == nil {
				w.event = &r.Value
			} else {
				s.log.ErrorContext(ctx, "event cannot be read and is dropped", "key", e.Key, logx.Err, err)
			}
			heap.Push(&h, w)
			if len(h) > window {
				heap.Pop(&h)
			}
		}
		last = !p.More
	}
	s.count.outbox.Store(total)
	oldest = h
	slices.SortFunc(oldest, waiting.compare)
	return oldest, more, nil
}

// move gives as many of todo their places as fit into one commit, with the
// histories of their cores, and returns how many.
func (s *Service) move(ctx context.Context, h *state.Record[head], todo []waiting) (int, error) {
	todo = todo[:min(len(todo), maxMoved)]
	histories, err := s.readHistories(ctx, todo)
	if err != nil {
		return 0, err
	}
	next := h.Value
	b := state.NewBatch(state.StepEvent)
	gone, written, bytes, n := map[string]*time.Time{}, map[string]bool{}, 0, 0
	was := map[string]bool{} // whether a history was that of something deleted
	for _, w := range todo {
		if n > 0 && (b.Len()+len(written)+len(gone)+4 > maxWrites || bytes+2*w.size+maxHistoryBytes > maxMovedBytes) {
			break
		}
		n++
		b.Delete(w.key)
		e := w.event
		if e == nil {
			continue
		}
		if e.Type.Published() {
			next.Last++
			next.First = max(1, next.First)
			e.Sequence = next.Last
			b.Put(logKey(e.Sequence), e)
			bytes += w.size
		}
		if e.Core == "" {
			continue
		}
		r := histories[e.Core]
		if !written[e.Core] {
			written[e.Core], was[e.Core] = true, r.Value.Deleted
			bytes += maxHistoryBytes
		}
		r.Value.append(e)
		switch {
		case r.Value.Deleted:
			gone[e.Core] = &e.At
		case was[e.Core]:
			gone[e.Core] = nil
		default:
			delete(gone, e.Core)
		}
	}
	for core := range written {
		b.Put(historyKey(core), histories[core].Value)
	}
	for core, at := range gone {
		if at == nil {
			b.Delete(goneKey(core))
		} else {
			b.Put(goneKey(core), at)
		}
	}
	return n, s.commitHead(ctx, b, h, next)
}

// commitHead commits b if the log is as h says, and makes h what it is then.
func (s *Service) commitHead(ctx context.Context, b *state.Batch, h *state.Record[head], next head) error {
	rev, err := s.cfg.Store.Commit(ctx, b.If(headKey, h.Rev).Put(headKey, next))
	if err != nil {
		return err
	}
	h.Value, h.Rev = next, rev
	return nil
}

// readHistories reads the histories of the cores of todo.
func (s *Service) readHistories(ctx context.Context, todo []waiting) (map[string]*state.Record[history], error) {
	cores := map[string]bool{}
	for _, w := range todo {
		if w.event != nil && w.event.Core != "" {
			cores[w.event.Core] = true
		}
	}
	var (
		out    = map[string]*state.Record[history]{}
		mu     sync.Mutex // guards out and failed
		failed error
		wg     sync.WaitGroup
		slots  = make(chan struct{}, readers)
	)
	for core := range cores {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			r, err := state.ReadOr[history](ctx, s.cfg.Store, historyKey(core))
			mu.Lock()
			defer mu.Unlock()
			out[core] = &r
			failed = errors.Join(failed, err)
		})
	}
	wg.Wait()
	return out, failed
}

// prune takes the oldest events out of a log that is too long.
func (s *Service) prune(ctx context.Context, h *state.Record[head]) error {
	for {
		over := h.Value.Last - h.Value.First + 1 - int64(s.cfg.Retain)
		if h.Value.First == 0 || over <= 0 || over < int64(min(pruneBatch, s.cfg.Retain/10)) {
			return nil
		}
		b, next := state.NewBatch(state.StepEvent), h.Value
		for range min(over, pruneBatch) {
			b.Delete(logKey(next.First))
			next.First++
		}
		if err := s.commitHead(ctx, b, h, next); errors.Is(err, fault.Conflict) {
			return nil // another one leads
		} else if err != nil {
			return err
		}
	}
}
