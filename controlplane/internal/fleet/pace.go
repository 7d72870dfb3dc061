package fleet

import (
	"context"
	"sync"
	"time"
)

// pace hands out the turns of paced tasks in this process: items of one task
// come one after the other, each at its own time, so that they do not all wake
// up for the one join that is allowed. What is allowed is decided by the
// rollout record alone; pace only keeps the order.
type pace struct {
	mu    sync.Mutex // guards all below
	waits map[string]map[int]time.Time
	doors map[string]*door
}

// door lets one at a time at the rollout record of a task.
type door struct {
	free  chan struct{}
	users int
}

func newPace() *pace {
	return &pace{waits: map[string]map[int]time.Time{}, doors: map[string]*door{}}
}

// overdue is when an item that did not come back is no longer waited for: its
// batch was lost to another replica.
const overdue = 5 * time.Second

// gather is how long an item waits when it comes first: those before it in its
// batch come in the same moment, and cores join in the order of the task.
const gather = 20 * time.Millisecond

// enter waits until nobody else of this process is at the task's record, and
// returns how to leave it.
func (p *pace) enter(ctx context.Context, task string) (func(), error) {
	p.mu.Lock()
	d := p.doors[task]
	if d == nil {
		d = &door{free: make(chan struct{}, 1)}
		p.doors[task] = d
	}
	d.users++
	p.mu.Unlock()
	gone := func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if d.users--; d.users == 0 {
			delete(p.doors, task)
		}
	}
	select {
	case d.free <- struct{}{}:
		return func() { <-d.free; gone() }, nil
	case <-ctx.Done():
		gone()
		return nil, ctx.Err()
	}
}

// step is about what one join takes: without a rate, items come back that far apart.
const step = 5 * time.Millisecond

// turn returns how long item seq of the task has to wait before it asks again, 0
// when it is its turn. due is when the join is allowed that comes after so many
// others.
func (p *pace) turn(task string, seq int, now time.Time, due func(others int) time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.waits[task]
	if w == nil {
		w = map[int]time.Time{}
		p.waits[task] = w
	}
	if _, lined := w[seq]; !lined {
		w[seq] = now
		return gather
	}
	ahead := 0
	for other, back := range w {
		if now.Sub(back) > overdue {
			delete(w, other)
		} else if other < seq {
			ahead++
		}
	}
	at := due(ahead)
	if at.Before(now) {
		at = now
		if ahead > 0 {
			at = now.Add(max(gather, time.Duration(ahead)*step))
		}
	}
	w[seq] = at
	return at.Sub(now)
}

// done forgets an item that joined or will not.
func (p *pace) done(task string, seq int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.waits[task], seq)
	if len(p.waits[task]) == 0 {
		delete(p.waits, task)
	}
}
