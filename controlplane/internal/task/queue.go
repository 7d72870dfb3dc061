package task

import (
	"encoding/json"
	"sync"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
)

// queue is what one worker knows of the work to be had: a picture of the live/
// records. It may lag behind; a claim is decided by its commit.
type queue struct {
	kinds       map[string]*Kind
	concurrency int
	lease       int64 // ours
	wake        func()

	mu    sync.Mutex // guards all below
	lanes map[string]*lane
	turn  []string // task ids; the first is served next
}

// lane is the work of one task.
type lane struct {
	open    openRecord
	todo    []int // units nobody is known to have claimed, in order
	queued  map[int]bool
	claimed map[int]int64 // lease of the claim
	hand    map[int]bool  // units in hand here; true: offered again meanwhile
	recall  *recall       // of those in hand
}

func newQueue(kinds map[string]*Kind, concurrency int, lease int64, wake func()) *queue {
	return &queue{kinds: kinds, concurrency: concurrency, lease: lease, wake: wake, lanes: map[string]*lane{}}
}

// reset replaces the picture by a listing of live/.
func (q *queue) reset(entries []state.Entry) {
	q.mu.Lock()
	old := q.lanes
	q.lanes, q.turn = map[string]*lane{}, nil
	// In key order claims come before the tasks they belong to.
	for _, e := range entries {
		q.openLocked(e)
	}
	for _, e := range entries {
		q.claimLocked(e, false)
	}
	for id, l := range q.lanes {
		if o := old[id]; o != nil {
			l.hand, l.recall = o.hand, o.recall
			l.recall.set(l.open.Canceled)
		}
	}
	q.mu.Unlock()
	q.wake()
}

// apply follows the watch.
func (q *queue) apply(events []state.Event) {
	q.mu.Lock()
	for _, ev := range events {
		if id, ok := cutOpen(ev.Key); ok && ev.Deleted {
			delete(q.lanes, id) // next takes it out of turn
			continue
		}
		q.openLocked(ev.Entry)
		q.claimLocked(ev.Entry, ev.Deleted)
	}
	q.mu.Unlock()
	q.wake()
}

func cutOpen(key string) (id string, ok bool) {
	if len(key) > len(openRoot) && key[:len(openRoot)] == openRoot {
		return key[len(openRoot):], true
	}
	return "", false
}

func (q *queue) openLocked(e state.Entry) {
	id, ok := cutOpen(e.Key)
	if !ok {
		return
	}
	var o openRecord
	if json.Unmarshal(e.Value, &o) != nil || q.kinds[o.Kind] == nil {
		return // of a newer release: leave it to its workers
	}
	l := q.lanes[id]
	if l == nil {
		l = &lane{queued: map[int]bool{}, claimed: map[int]int64{}, hand: map[int]bool{}, recall: newRecall()}
		q.lanes[id] = l
		q.turn = append(q.turn, id)
	}
	had := l.open
	l.open = o
	l.recall.set(o.Canceled)
	switch {
	case o.Batches == nil:
		l.offer(expandUnit)
	case had.Batches == nil:
		for n := range *o.Batches {
			l.offer(n)
		}
	}
}

func (q *queue) claimLocked(e state.Entry, ended bool) {
	id, n, ok := parseClaim(e.Key)
	l := q.lanes[id]
	if !ok || l == nil {
		return
	}
	if !ended {
		var c claimRecord
		_ = json.Unmarshal(e.Value, &c) // lease 0 if it is of another release: not ours
		l.claimed[n] = c.Lease
		return
	}
	// Done, or its worker died: whoever claims it next finds out.
	delete(l.claimed, n)
	l.offer(n)
}

func (l *lane) offer(n int) {
	if !l.queued[n] {
		l.queued[n] = true
		l.todo = append(l.todo, n)
	}
}

// pick is one unit to try to claim.
type pick struct {
	task   string
	n      int
	recall *recall
}

// next returns a unit that seems free, tasks taking turns. Whoever gets it calls
// done with it.
func (q *queue) next() (pick, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for range len(q.turn) {
		id := q.turn[0]
		q.turn = q.turn[1:]
		l := q.lanes[id]
		if l == nil {
			continue
		}
		q.turn = append(q.turn, id)
		// Items that wait for their retry hold no slot, so a task whose items all
		// wait would claim batch after batch without this bound.
		if len(l.hand) >= q.concurrency/max(l.open.BatchSize, 1)+3 {
			continue
		}
		if n, ok := l.pop(q.lease); ok {
			l.hand[n] = false
			return pick{task: id, n: n, recall: l.recall}, true
		}
	}
	return pick{}, false
}

// pop returns the next unit to try. One that our own lease has claimed but that is
// not in hand is tried too: the answer of its claim was lost.
func (l *lane) pop(lease int64) (int, bool) {
	for len(l.todo) > 0 {
		n := l.todo[0]
		l.todo = l.todo[1:]
		delete(l.queued, n)
		holder, claimed := l.claimed[n]
		_, inHand := l.hand[n]
		switch {
		case n == expandUnit && l.open.Batches != nil: // over
		case inHand:
			l.hand[n] = true
		case claimed && holder != lease:
		default:
			return n, true
		}
	}
	return 0, false
}

// done gives p back; again offers it anew.
func (q *queue) done(p pick, again bool) {
	q.mu.Lock()
	if l := q.lanes[p.task]; l != nil {
		if l.hand[p.n] || again {
			l.offer(p.n)
		}
		delete(l.hand, p.n)
	}
	q.mu.Unlock()
	q.wake()
}
