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

// subscriber is a receiver of events as the delivery sees it.
type subscriber struct {
	id    string
	wants func(Type) bool
	send  func(context.Context, *Event) Outcome
	guard func(*state.Batch) // makes a commit conditional on the subscriber
	pause func(ctx context.Context, reason string) error
}

const (
	// ahead is how many events may be under way beyond the first one that is not
	// delivered: as many as that come again after a restart.
	ahead = 1000
	// parallel is how many requests one subscriber gets at once.
	parallel = 16
	// saveEvery is how often the cursor is stored.
	saveEvery = time.Second
)

// delivery is the work for one subscriber. Each core has a lane of its own:
// within it one event follows the other, and while one waits for its next
// attempt, only its lane stands still.
type delivery struct {
	s *Service
	subscriber
	room  chan struct{} // one for each event under way
	slots chan struct{} // one for each request
	ended chan error    // the first error, nil: paused
	lanes sync.WaitGroup

	mu      sync.Mutex // guards all below
	waiting map[string][]job
	open    map[int64]bool // sequences under way
	read    int64          // all up to here was given to the lanes, or is of no interest
	lost    int64

	saving sync.Mutex // one save at a time; guards stored
	stored state.Record[cursor]

	burying sync.Mutex // one change of the dead letters at a time; guards letters
	letters letters
}

// job is one event for the subscriber.
type job struct {
	event  *Event
	letter bool // it is a dead letter: the cursor has passed it
}

// lane is where the event stands in line.
func (j job) lane() string {
	if j.event.Core == "" {
		return "/" + j.event.ID // no core has such a name: alone
	}
	return j.event.Core
}

// deliverTo delivers from the cursor of sub on. It returns nil when ctx is done
// or sub was paused.
func (s *Service) deliverTo(ctx context.Context, sub subscriber) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d := &delivery{
		s: s, subscriber: sub, room: make(chan struct{}, ahead), slots: make(chan struct{}, parallel), ended: make(chan error, 1),
		waiting: map[string][]job{}, open: map[int64]bool{},
	}
	if err := d.load(ctx); err != nil {
		return err
	}
	var loops sync.WaitGroup
	loops.Go(func() { d.end(ctx, d.readLog(ctx)) })
	loops.Go(func() {
		_ = run.Every(ctx, saveEvery, d.save, func(err error) {
			if errors.Is(err, fault.Conflict) {
				d.end(ctx, err)
			}
			d.s.log.DebugContext(ctx, "cursor not stored", "subscriber", d.id, logx.Err, err)
		})
	})
	var err error
	select {
	case <-ctx.Done():
	case err = <-d.ended:
	}
	cancel()
	loops.Wait()
	d.lanes.Wait()
	last, stop := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer stop()
	return errors.Join(err, d.save(last))
}

// end makes deliverTo return err; of several the first one counts.
func (d *delivery) end(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	select {
	case d.ended <- err:
	default:
	}
}

// load reads the cursor and the dead letters. A subscriber without a cursor
// begins with what comes.
func (d *delivery) load(ctx context.Context) error {
	c, err := state.ReadOr[cursor](ctx, d.s.cfg.Store, cursorKey(d.id))
	if err != nil {
		return err
	}
	d.stored = c
	d.read, d.lost = c.Value.Sequence, c.Value.Lost
	if c.Rev == 0 {
		if _, d.read, err = d.s.Bounds(ctx); err != nil {
			return err
		}
	}
	return d.loadLetters(ctx)
}

// readLog hands dead letters that are replayed and then the log to the lanes.
func (d *delivery) readLog(ctx context.Context) error {
	for _, e := range d.letters.again {
		if !d.enter(ctx, job{event: e, letter: true}) {
			return nil
		}
	}
	for {
		err := d.s.each(ctx, d.read, func(chunk []*Event) error {
			for _, e := range chunk {
				if !d.wants(e.Type) {
					d.pass(e.Sequence)
				} else if !d.enter(ctx, job{event: e}) {
					return ctx.Err()
				}
			}
			return nil
		})
		if ctx.Err() != nil {
			return nil
		}
		if !errors.Is(err, fault.Stale) {
			return err
		}
		if err := d.skip(ctx); err != nil {
			return err
		}
	}
}

// skip goes to the oldest event that is there: others left the log before the
// subscriber could be reached.
func (d *delivery) skip(ctx context.Context) error {
	first, _, err := d.s.Bounds(ctx)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	n := max(0, first-1-d.read)
	d.read += n
	d.lost += n
	d.s.count.lost.Add(n)
	d.s.log.ErrorContext(ctx, "events left the log before they were delivered", "subscriber", d.id, "count", n)
	return nil
}

// pass notes that sequence is of no interest.
func (d *delivery) pass(sequence int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.read = sequence
}

// enter puts j into its lane when there is room. It returns false when ctx is done.
func (d *delivery) enter(ctx context.Context, j job) bool {
	select {
	case d.room <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	lane := j.lane()
	d.mu.Lock()
	if !j.letter {
		d.open[j.event.Sequence] = true
		d.read = j.event.Sequence
	}
	d.waiting[lane] = append(d.waiting[lane], j)
	idle := len(d.waiting[lane]) == 1
	d.mu.Unlock()
	if idle {
		d.lanes.Go(func() { d.walk(ctx, lane) })
	}
	return true
}

// walk works off a lane.
func (d *delivery) walk(ctx context.Context, lane string) {
	for {
		d.mu.Lock()
		j := d.waiting[lane][0]
		d.mu.Unlock()
		if !d.attempt(ctx, j) {
			return // what is left comes again after the restart
		}
		<-d.room
		d.mu.Lock()
		if !j.letter {
			delete(d.open, j.event.Sequence)
		}
		d.waiting[lane] = d.waiting[lane][1:]
		empty := len(d.waiting[lane]) == 0
		if empty {
			delete(d.waiting, lane)
		}
		d.mu.Unlock()
		if empty {
			return
		}
	}
}

// attempt delivers one event or makes it a dead letter. It returns false if
// neither came about: ctx is done, or the subscriber is paused.
func (d *delivery) attempt(ctx context.Context, j job) bool {
	deadline := d.s.now().Add(d.s.cfg.GiveUp)
	wait := run.Backoff{Min: 2 * time.Second, Max: time.Minute}
	for n := 1; ; n++ {
		select {
		case d.slots <- struct{}{}:
		case <-ctx.Done():
			return false
		}
		o := d.send(ctx, j.event)
		<-d.slots
		if ctx.Err() != nil && o.Verdict != Taken {
			return false
		}
		switch o.Verdict {
		case Taken:
			d.s.count.delivered.Add(1)
			return !j.letter || d.settle(ctx, func(ctx context.Context) error { return d.dropLetter(ctx, j.event.Sequence) })
		case Closed:
			reason := fmt.Sprintf("the receiver %s", o.Reason)
			d.s.log.WarnContext(ctx, "webhook paused", "subscriber", d.id, "reason", reason)
			if d.settle(ctx, func(ctx context.Context) error { return d.pause(ctx, reason) }) {
				d.end(ctx, nil)
			}
			return false
		case Refused:
			return d.bury(ctx, j, o.Reason, n)
		case Again:
			next := max(wait.Next(), o.Wait)
			if d.s.now().Add(next).After(deadline) {
				return d.bury(ctx, j, o.Reason, n)
			}
			d.s.count.retried.Add(1)
			if run.Sleep(ctx, next) != nil {
				return false
			}
		}
	}
}

// settle tries step until it succeeds. It returns false when ctx is done, or when
// the subscriber is not there any more.
func (d *delivery) settle(ctx context.Context, step func(context.Context) error) bool {
	err := run.Retry(ctx, run.Backoff{}, 0, func(ctx context.Context) error {
		err := step(ctx)
		if errors.Is(err, fault.Conflict) {
			return fault.New(fault.Stale, "subscriber %s was removed or changed", d.id)
		}
		return err
	})
	if err != nil {
		d.end(ctx, err)
	}
	return err == nil
}

// save stores the cursor if it moved. fault.Conflict: another one moved it, the
// delivery has to begin again.
func (d *delivery) save(ctx context.Context) error {
	d.saving.Lock()
	defer d.saving.Unlock()
	d.mu.Lock()
	c := cursor{Sequence: d.read, Lost: d.lost}
	for q := range d.open {
		c.Sequence = min(c.Sequence, q-1)
	}
	d.mu.Unlock()
	if d.stored.Rev != 0 && c == d.stored.Value {
		return nil
	}
	key := cursorKey(d.id)
	b := state.NewBatch(state.StepDelivery).If(key, d.stored.Rev).Put(key, c)
	d.guard(b)
	rev, err := d.s.cfg.Store.Commit(ctx, b)
	if err != nil {
		return fmt.Errorf("store cursor: %w", err)
	}
	d.stored = state.Record[cursor]{Value: c, Rev: rev}
	return nil
}
