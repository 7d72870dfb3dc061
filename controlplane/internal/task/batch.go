package task

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
)

// runBatch does the items of a batch that have not ended, then ends the batch.
func (s *session) runBatch(ctx context.Context, c *claim) error {
	ctx, stop := context.WithCancelCause(ctx) // one lost claim stops all its items
	defer stop(nil)
	var succeeded, failed atomic.Int64
	var wg sync.WaitGroup
	items := c.items
	if cause := c.recall.cause(); cause != nil {
		items = s.failTogether(ctx, c, cause)
	}
	for _, it := range items {
		wg.Go(func() {
			status, err := s.runItem(ctx, c, it)
			switch {
			case err != nil:
				stop(err)
			case status == Success:
				succeeded.Add(1)
			default:
				failed.Add(1)
			}
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	c.unit.Succeeded, c.unit.Failed = int(succeeded.Load()), int(failed.Load())
	at := now()
	c.unit.EndedAt = &at
	return s.insist(ctx, "end batch", func() error { return s.endBatch(ctx, c) })
}

// endBatch enters the batch into the task's counts, and ends the task with the
// last one: one commit, so that neither can be lost or happen twice.
func (s *session) endBatch(ctx context.Context, c *claim) error {
	unlock, err := s.lock(ctx, c.task.ID)
	if err != nil {
		return err
	}
	defer unlock()
	stateAt := stateKey(c.task.Kind, c.task.ID)
	st, err := state.Read[stateRecord](ctx, s.store, stateAt)
	if err != nil {
		return fmt.Errorf("read state of task %s: %w", c.task.ID, err)
	}
	v := &st.Value
	v.UpdatedAt = c.unit.EndedAt
	v.Succeeded += c.unit.Succeeded
	v.Failed += c.unit.Failed
	v.BatchesComplete++
	if c.unit.Failed > 0 {
		v.Status = Failure
	}
	step := state.StepTaskBatch
	if v.BatchesTotal != nil && v.BatchesComplete == *v.BatchesTotal {
		step = state.StepTaskFinish
		v.Ended = true
		if v.Status != Failure {
			v.Status = Success
		}
	}
	return s.endUnit(ctx, c, state.NewBatch(step).If(stateAt, st.Rev), stateAt, *v)
}

// endUnit commits the end of a unit and the state it leads to.
func (s *session) endUnit(ctx context.Context, c *claim, b *state.Batch, stateAt string, v stateRecord) error {
	unit := unitKey(c.task.ID, c.n)
	c.guard(b)
	b.Delete(c.key).If(unit, c.rev).Put(unit, c.unit).Put(stateAt, v)
	if v.Ended {
		b.Delete(openKey(c.task.ID))
	}
	_, err := s.store.Commit(ctx, b)
	switch {
	case err == nil && v.Ended:
		s.log.InfoContext(ctx, "task ended", logx.Task, c.task.ID, "kind", c.task.Kind, "status", v.Status,
			"succeeded", v.Succeeded, "failed", v.Failed)
	case errors.Is(err, fault.Conflict):
		return s.whyNotEnded(ctx, c, err)
	}
	return err
}

// whyNotEnded tells a commit that got through although its answer was lost (nil)
// from a lost claim and from a state that another batch changed first (err).
func (s *session) whyNotEnded(ctx context.Context, c *claim, conflict error) error {
	u, err := state.ReadOr[unitRecord](ctx, s.store, unitKey(c.task.ID, c.n))
	if err != nil {
		return err
	}
	if u.Value.EndedAt != nil {
		return nil
	}
	if err := s.stillOurs(ctx, c); err != nil {
		return err
	}
	return conflict
}
