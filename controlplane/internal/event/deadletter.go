package event

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// DeadLetter is an event that a subscriber did not take.
type DeadLetter struct {
	Event    Event     `json:"event"`
	Reason   string    `json:"reason"` // of the last attempt
	Attempts int       `json:"attempts"`
	At       time.Time `json:"at"` // when it was given up
	Again    bool      `json:"again,omitempty"`
}

// MaxDeadLetters is how many dead letters a webhook keeps; beyond it the oldest
// go.
const MaxDeadLetters = 1000

// letters is what the delivery knows of the dead letters in the store.
type letters struct {
	kept  []int64  // their sequences, in order
	again []*Event // those that are to be delivered again, in order
}

func (d *delivery) loadLetters(ctx context.Context) error {
	return state.All[DeadLetter](ctx, d.s.cfg.Store, deadRoot(d.id), func(_ string, r state.Record[DeadLetter]) error {
		d.letters.kept = append(d.letters.kept, r.Value.Event.Sequence)
		if r.Value.Again {
			d.letters.again = append(d.letters.again, &r.Value.Event)
		}
		return nil
	})
}

// bury makes j a dead letter. It returns false when ctx is done.
func (d *delivery) bury(ctx context.Context, j job, reason string, attempts int) bool {
	d.burying.Lock()
	defer d.burying.Unlock()
	l := DeadLetter{Event: *j.event, Reason: reason, Attempts: attempts, At: d.s.stamp()}
	q := j.event.Sequence
	kept := d.letters.kept
	if i, found := slices.BinarySearch(kept, q); !found {
		kept = slices.Insert(slices.Clone(kept), i, q)
	}
	over := max(0, len(kept)-MaxDeadLetters)
	ok := d.settle(ctx, func(ctx context.Context) error {
		b := state.NewBatch(state.StepDelivery).Put(deadKey(d.id, q), l)
		for _, old := range kept[:over] {
			b.Delete(deadKey(d.id, old))
		}
		d.guard(b)
		_, err := d.s.cfg.Store.Commit(ctx, b)
		return err
	})
	if !ok {
		return false
	}
	d.letters.kept = kept[over:]
	d.s.count.deadLetters.Add(1)
	d.s.log.WarnContext(ctx, "event became a dead letter", "subscriber", d.id, "sequence", q, "reason", reason, "attempts", attempts)
	return true
}

// dropLetter removes a dead letter that was delivered.
func (d *delivery) dropLetter(ctx context.Context, sequence int64) error {
	d.burying.Lock()
	defer d.burying.Unlock()
	b := state.NewBatch(state.StepDelivery).Delete(deadKey(d.id, sequence))
	d.guard(b)
	if _, err := d.s.cfg.Store.Commit(ctx, b); err != nil {
		return err
	}
	if i, found := slices.BinarySearch(d.letters.kept, sequence); found {
		d.letters.kept = slices.Delete(d.letters.kept, i, i+1)
	}
	return nil
}

// DeadLetters returns up to count (0: 100; at most 1,000) dead letters of a
// webhook with sequences after after, oldest first. next is the after of the next
// page, 0 when there is none.
func (s *Service) DeadLetters(ctx context.Context, id string, after int64, count int) (list []DeadLetter, next int64, err error) {
	if count < 0 || count > maxCount {
		return nil, 0, fault.Field("count", "%d is not between 1 and %d", count, maxCount)
	}
	if after < 0 {
		return nil, 0, fault.Field("after", "%d is not the sequence of an event", after)
	}
	if count == 0 {
		count = defaultCount
	}
	if id != busName {
		if _, err := s.webhook(ctx, id); err != nil {
			return nil, 0, err
		}
	}
	p, err := s.cfg.Store.List(ctx, deadRoot(id), deadKey(id, after), count)
	if err != nil {
		return nil, 0, fmt.Errorf("list dead letters: %w", err)
	}
	for _, e := range p.Entries {
		r, err := state.Decode[DeadLetter](e)
		if err != nil {
			return nil, 0, err
		}
		list = append(list, r.Value)
	}
	if p.More {
		next = list[len(list)-1].Event.Sequence
	}
	return list, next, nil
}

// ReplayRequest says what a webhook gets again: one of the two.
type ReplayRequest struct {
	FromSequence int64 // all from this one on; 0: not asked for
	DeadLetters  bool  // the dead letters; those that are delivered now are none any more
}

// Replay delivers events again, with the ids that they have. It is carried out
// when it returns, also by another replica and after a restart; the deliveries
// follow. fault.Stale: the sequence has left the log.
func (s *Service) Replay(ctx context.Context, id string, r ReplayRequest) error {
	switch {
	case r.FromSequence < 0:
		return fault.Field("fromSequence", "%d is not the sequence of an event", r.FromSequence)
	case (r.FromSequence > 0) == r.DeadLetters:
		return fault.New(fault.Invalid, "name either fromSequence or deadLetters")
	}
	if _, err := s.webhook(ctx, id); err != nil {
		return err
	}
	if r.DeadLetters {
		if err := s.markLetters(ctx, id); err != nil {
			return err
		}
	} else if err := s.checkReplay(ctx, r.FromSequence); err != nil {
		return err
	}
	_, err := s.change(ctx, id, 0, func(w *webhookRecord, b *state.Batch) error {
		w.Replays++ // begins the delivery anew
		if !r.DeadLetters {
			c, err := state.ReadOr[cursor](ctx, s.cfg.Store, cursorKey(id))
			if err != nil {
				return err
			}
			c.Value.Sequence = r.FromSequence - 1
			b.Put(cursorKey(id), c.Value)
		}
		return nil
	})
	return err
}

func (s *Service) checkReplay(ctx context.Context, from int64) error {
	first, last, err := s.Bounds(ctx)
	switch {
	case err != nil:
		return err
	case from > last:
		return fault.Field("fromSequence", "the log ends with sequence %d", last)
	case from < first:
		return gone(first)
	}
	return nil
}

// markLetters marks all dead letters for the delivery.
func (s *Service) markLetters(ctx context.Context, id string) error {
	return state.All[DeadLetter](ctx, s.cfg.Store, deadRoot(id), func(key string, r state.Record[DeadLetter]) error {
		if r.Value.Again {
			return nil
		}
		r.Value.Again = true
		_, err := s.cfg.Store.Commit(ctx, state.NewBatch(state.StepDelivery).If(key, r.Rev).Put(key, r.Value))
		if errors.Is(err, fault.Conflict) {
			return nil // delivered or replaced just now
		}
		return err
	})
}

// dropDeadLetters removes all dead letters of a subscriber.
func (s *Service) dropDeadLetters(ctx context.Context, id string) error {
	for {
		p, err := s.cfg.Store.List(ctx, deadRoot(id), "", pruneBatch)
		if err != nil || len(p.Entries) == 0 {
			return err
		}
		b := state.NewBatch(state.StepDelivery)
		for _, e := range p.Entries {
			b.Delete(e.Key)
		}
		if _, err := s.cfg.Store.Commit(ctx, b); err != nil {
			return err
		}
	}
}

// sweepDeadLetters removes dead letters of webhooks that are not there any more.
func (s *Service) sweepDeadLetters(ctx context.Context) error {
	for after := deadPrefix; ; {
		p, err := s.cfg.Store.List(ctx, deadPrefix, after, 1)
		if err != nil || len(p.Entries) == 0 {
			return err
		}
		id, _, _ := strings.Cut(strings.TrimPrefix(p.Entries[0].Key, deadPrefix), "/")
		if id != busName {
			_, err = s.webhook(ctx, id)
		}
		if errors.Is(err, fault.NotFound) {
			err = s.dropDeadLetters(ctx, id)
		}
		if err != nil {
			return err
		}
		after = deadRoot(id) + strconv.Itoa(9) + strings.Repeat("9", 18) // behind all of its letters
	}
}
