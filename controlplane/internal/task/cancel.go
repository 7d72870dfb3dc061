package task

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
)

// Cancel ends a task early: every item that has not ended ends as Failure with
// the message reason, those that wait at once, and the task as Failure with that
// StatusMessage. Once Cancel has returned no item ends as Success any more; what
// is in the hands of [Kind.Do] comes to its own end, and ends as Failure if it had
// not finished. A repeated Cancel changes nothing. A task that ended is
// fault.Conflict, one that is not there fault.NotFound.
//
// It is the change of the task's open record: a commit that ends an item as
// Success needs that record as it was when the item's batch was claimed.
func (e *Engine) Cancel(ctx context.Context, id, reason string) error {
	if reason == "" {
		reason = "canceled"
	}
	reason = fault.Clip(reason, MaxMessage)
	t, err := e.Get(ctx, id)
	if err != nil {
		return err
	}
	unexpanded := false
	_, err = state.Update(ctx, e.store, state.StepTaskFinish, stateKey(t.Kind, id), func(st *stateRecord, exists bool, b *state.Batch) error {
		switch {
		case !exists:
			return fault.New(fault.NotFound, "there is no task %q", id)
		case st.Canceled != "":
			return state.ErrKeep
		case st.Ended:
			return fault.New(fault.Conflict, "task %s has ended: there is nothing to cancel", id)
		}
		at := now()
		st.Status, st.StatusMessage, st.Canceled, st.UpdatedAt = Failure, reason, reason, &at
		unexpanded = st.BatchesTotal == nil
		if unexpanded { // there is no item: it is over
			st.Ended = true
			b.Delete(openKey(id)).Delete(claimKey(id, expandUnit))
			return nil
		}
		b.Put(openKey(id), openRecord{Kind: t.Kind, BatchSize: st.BatchSize, Batches: st.BatchesTotal, Canceled: reason})
		return nil
	})
	if err != nil {
		return fmt.Errorf("cancel task %s: %w", id, err)
	}
	if unexpanded { // what an expansion under way had stored
		if err := e.removeBatches(ctx, t, state.StepTaskSweep, nil); err != nil {
			e.log.WarnContext(ctx, "records of a canceled task are left until it is deleted", logx.Task, id, logx.Err, err)
		}
	}
	return nil
}

// recall tells the items in hand of a task that it was canceled.
type recall struct {
	once   sync.Once
	done   chan struct{}
	reason string // set before done is closed
}

func newRecall() *recall { return &recall{done: make(chan struct{})} }

// set takes the reason; empty: the task is not canceled.
func (r *recall) set(reason string) {
	if reason != "" {
		r.once.Do(func() {
			r.reason = reason
			close(r.done)
		})
	}
}

// cause is why the task was canceled, nil if it was not.
func (r *recall) cause() error {
	select {
	case <-r.done:
		return fault.New(fault.Invalid, "%s", r.reason)
	default:
		return nil
	}
}

// sleep waits for d or until the task is canceled. The error is that of ctx.
func (r *recall) sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-r.done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// failTogether ends the items of a canceled task that have not ended, as many in
// one commit as fit. It only tries: what did not work is left to the items one by
// one. It returns the items as they are then.
func (s *session) failTogether(ctx context.Context, c *claim, cause error) []Item {
	items := slices.Clone(c.items)
	message := fault.Clip(fault.Message(cause), MaxMessage)
	var b *state.Batch
	var in []int // the items that b ends
	flush := func() {
		if b == nil {
			return
		}
		c.guard(b)
		if _, err := s.store.Commit(ctx, b); err == nil {
			for _, i := range in {
				items[i].Status = Failure
			}
		}
		b, in = nil, nil
	}
	for i, it := range items {
		if it.Status.Final() {
			continue
		}
		one, err := failed(ctx, c, it, message)
		if err == nil && b != nil && !fits(b, one) {
			flush()
			one, err = failed(ctx, c, it, message) // it may have read what was written just now
		}
		if err != nil {
			continue
		}
		if b == nil {
			b = state.NewBatch(state.StepTaskItem)
		}
		b.Add(one)
		in = append(in, i)
	}
	flush()
	return items
}

// failed is the change that ends an item as Failure, without the guard.
func failed(ctx context.Context, c *claim, it Item, message string) (*state.Batch, error) {
	b := state.NewBatch(state.StepTaskItem)
	if c.kind.Failed != nil {
		if err := c.kind.Failed(ctx, c.task, it, message, b); err != nil {
			return nil, err
		}
	}
	key := itemKey(c.task.ID, it.Seq)
	return b.If(key, 0).Put(key, itemRecord{Status: Failure, Message: message, EndedAt: now()}), nil
}

// fits reports whether one can become part of b: the commit stays small, and they
// do not write the same record, which each has read before the other wrote it.
func fits(b, one *state.Batch) bool {
	if len(b.Ops())+len(one.Ops()) > maxOps || len(b.Conds())+len(one.Conds()) > maxOps {
		return false
	}
	for _, op := range one.Ops() {
		if slices.ContainsFunc(b.Ops(), func(o state.Op) bool { return o.Key == op.Key }) {
			return false
		}
	}
	return true
}
