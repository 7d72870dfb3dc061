package task

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/run"
)

// Work is one item in the hands of [Kind.Do].
type Work struct {
	Task Task
	Item Item

	s         *session
	c         *claim
	status    Status // set once finished
	storeAway bool   // the last Finish did not reach the store
	conflict  bool   // a condition of the last Finish did not hold
}

// Finish ends the item with r and commits b (nil: nothing else) in the same
// transaction. b names its own step and may have up to state.MaxBatch less three
// writes and as many conditions. An error means that the handler does not know
// whether it happened; return it, the engine finds out: of kind Conflict when a
// condition of b did not hold, the item is no longer ours to end, or the task was
// canceled and r is Success.
func (w *Work) Finish(ctx context.Context, b *state.Batch, r Result) error {
	if !r.Status.Final() {
		return fmt.Errorf("finish item %s: status %q is not final", w.Item.Name, r.Status)
	}
	data, err := encode("data", r.Data, MaxItemSpec)
	if err != nil {
		return err
	}
	if b == nil {
		b = state.NewBatch(state.StepTaskItem)
	}
	key := itemKey(w.Task.ID, w.Item.Seq)
	w.c.guard(b)
	if r.Status == Success {
		b.If(openKey(w.Task.ID), w.c.open)
	}
	b.If(key, 0).Put(key, itemRecord{Status: r.Status, Message: fault.Clip(r.Message, MaxMessage), Data: data, EndedAt: now()})
	if _, err := w.s.store.Commit(ctx, b); err != nil {
		w.conflict = errors.Is(err, fault.Conflict)
		w.storeAway = !fault.Permanent(err) && !w.conflict
		return fmt.Errorf("finish item %s: %w", w.Item.Name, err)
	}
	w.status = r.Status
	return nil
}

// slot waits for the right to work and returns how to give it back, nil if the
// task was canceled meanwhile.
func (s *session) slot(ctx context.Context, r *recall) (func(), error) {
	select {
	case s.slots <- struct{}{}:
		return func() { <-s.slots }, nil
	case <-r.done:
		return nil, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// runItem brings one item to its end and returns how it ended. An error means
// that it did not, and that the batch must be left to someone else.
func (s *session) runItem(ctx context.Context, c *claim, it Item) (Status, error) {
	started := false
	begin := func() {
		if !started {
			started = true
			s.unstarted.Add(-1)
			s.kick.Ring()
		}
	}
	defer begin()
	if it.Status.Final() {
		return it.Status, nil
	}
	it.Status, it.UpdatedAt = InProgress, &c.unit.StartedAt
	var wait run.Backoff
	var spent time.Duration // on attempts that failed while the store was there
	for {
		w := &Work{Task: c.task, Item: it, s: s, c: c}
		if cause := c.recall.cause(); cause != nil {
			return s.failItem(ctx, w, cause, 0)
		}
		free, err := s.slot(ctx, c.recall)
		if err != nil {
			return "", err
		}
		begin()
		if free == nil {
			continue
		}
		at := time.Now()
		err = s.attempt(ctx, w)
		free()
		if w.status != "" {
			return w.status, nil
		}
		took := time.Since(at)
		status, away, cerr := s.lookAgain(ctx, w)
		if cerr != nil || status != "" {
			return status, cerr
		}
		if later, ok := errors.AsType[laterError](err); ok {
			wait.Reset()
			spent = 0
			if err := c.recall.sleep(ctx, time.Duration(later)); err != nil {
				return "", err
			}
			continue
		}
		away = away || w.storeAway
		if !away {
			spent += took
		}
		if fault.Permanent(err) || !away && spent >= c.kind.GiveUp {
			return s.failItem(ctx, w, err, spent)
		}
		d := wait.Next()
		if !away {
			spent += d
		}
		s.log.DebugContext(ctx, "item failed; trying again", logx.Task, w.Task.ID, "item", it.Name, "after", d, logx.Err, err)
		if err := c.recall.sleep(ctx, d); err != nil {
			return "", err
		}
	}
}

// attempt calls the handler once.
func (s *session) attempt(ctx context.Context, w *Work) (err error) {
	ctx, cancel := context.WithTimeout(ctx, w.c.kind.Timeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			s.log.ErrorContext(ctx, "handler of an item panicked", logx.Task, w.Task.ID, "item", w.Item.Name, "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	err = w.c.kind.Do(ctx, w)
	if err == nil && w.status == "" {
		err = w.Finish(ctx, nil, Result{Status: Success})
	}
	return err
}

// lookAgain asks, after a failed attempt, whether the item ended all the same (the
// answer of a commit can be lost) and whether it is still ours. away tells that
// the store did not answer at first.
func (s *session) lookAgain(ctx context.Context, w *Work) (status Status, away bool, err error) {
	tries := 0
	err = s.insist(ctx, "look at item", func() error {
		tries++
		r, err := state.ReadOr[itemRecord](ctx, s.store, itemKey(w.Task.ID, w.Item.Seq))
		if err != nil {
			return err
		}
		if status = r.Value.Status; status != "" {
			return nil
		}
		if err := s.stillOurs(ctx, w.c); err != nil || !w.conflict {
			return err
		}
		// Perhaps the task was canceled, and the watch did not tell yet.
		o, err := state.ReadOr[openRecord](ctx, s.store, openKey(w.Task.ID))
		w.c.recall.set(o.Value.Canceled)
		return err
	})
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return status, tries > 1, err
}

// failItem ends an item that cannot be done.
func (s *session) failItem(ctx context.Context, w *Work, cause error, spent time.Duration) (Status, error) {
	message := fault.Message(cause)
	if message == "" {
		message = "internal error; the log of the control plane has the details"
	}
	if !fault.Permanent(cause) {
		message = fmt.Sprintf("gave up after %s: %s", spent.Round(time.Second), message)
	}
	s.log.WarnContext(ctx, "item failed for good", logx.Task, w.Task.ID, "item", w.Item.Name, logx.Err, cause)

	var status Status
	err := s.insist(ctx, "end failed item", func() error {
		b := state.NewBatch(state.StepTaskItem)
		if hook := w.c.kind.Failed; hook != nil {
			if err := hook(ctx, w.Task, w.Item, message, b); fault.Permanent(err) {
				s.log.ErrorContext(ctx, "failure of an item recorded on the item alone", logx.Task, w.Task.ID, "item", w.Item.Name, logx.Err, err)
				b = state.NewBatch(state.StepTaskItem)
			} else if err != nil {
				return err
			}
		}
		err := w.Finish(ctx, b, Result{Status: Failure, Message: message})
		if err == nil {
			status = Failure
			return nil
		}
		ended, _, lerr := s.lookAgain(ctx, w)
		if lerr != nil {
			return lerr
		}
		if ended != "" {
			status = ended
			return nil
		}
		return err
	})
	return status, err
}
