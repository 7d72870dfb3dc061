package jobs

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/ggfleet/ggfleet/shared/run"
)

// backlog holds the things that wait to be told, each once, in the order in
// which they came.
type backlog struct {
	more run.Bell
	left atomic.Int64 // things that wait, or are being told now

	mu      sync.Mutex // guards all below
	waiting map[string]struct{}
	order   []string
}

func (q *backlog) init() { q.more, q.waiting = run.NewBell(), map[string]struct{}{} }

func (q *backlog) add(thing string) {
	q.mu.Lock()
	if _, there := q.waiting[thing]; !there {
		q.waiting[thing] = struct{}{}
		q.order = append(q.order, thing)
		q.left.Add(1)
	}
	q.mu.Unlock()
	q.more.Ring()
}

// take empties the backlog. A thing that changes from now on is put in again.
func (q *backlog) take() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := q.order
	q.order = nil
	clear(q.waiting)
	return out
}

// each returns a loop that hands over one thing after the other, as they come,
// until its context is done.
func (q *backlog) each(do func(context.Context, string)) func(context.Context) error {
	return func(ctx context.Context) error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-q.more:
			}
			for _, thing := range q.take() {
				if ctx.Err() != nil {
					return nil
				}
				do(ctx, thing)
				q.left.Add(-1)
			}
		}
	}
}
