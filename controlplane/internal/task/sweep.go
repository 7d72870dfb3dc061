package task

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
)

// sweepAge is how old a create must be before it counts as dead.
const sweepAge = 10 * time.Minute

// Sweep removes what creates left behind whose process died before the task
// record was written. Run calls it now and then.
func (e *Engine) Sweep(ctx context.Context) error {
	return state.All(ctx, e.store, makingRoot, func(key string, r state.Record[makingRecord]) error {
		if time.Since(r.Value.Since) < sweepAge {
			return nil
		}
		return e.remove(ctx, lastPart(key), r)
	})
}

// remove takes back a create. Writing its marker first makes the create's last
// commit fail, should it still be alive.
func (e *Engine) remove(ctx context.Context, id string, r state.Record[makingRecord]) error {
	m := r.Value
	m.Removed = true
	rev, err := e.store.Commit(ctx, state.NewBatch(state.StepTaskSweep).If(makingKey(id), r.Rev).Put(makingKey(id), m))
	if err != nil {
		if errors.Is(err, fault.Conflict) {
			return nil // it came to an end by itself
		}
		return fmt.Errorf("sweep task %s: %w", id, err)
	}
	if err := e.removeBatches(ctx, id, m.Kind, state.StepTaskSweep, nil); err != nil {
		return fmt.Errorf("sweep task %s: %w", id, err)
	}
	_, err = e.store.Commit(ctx, state.NewBatch(state.StepTaskSweep).If(makingKey(id), rev).Delete(makingKey(id)))
	return err
}

// discard takes back a create that failed. What it cannot remove now, the sweep
// removes later.
func (e *Engine) discard(ctx context.Context, id string, m makingRecord) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	r, err := state.ReadOr[makingRecord](ctx, e.store, makingKey(id))
	if err == nil && r.Rev != 0 {
		err = e.remove(ctx, id, r)
	}
	if err != nil {
		e.log.WarnContext(ctx, "failed create left records for the sweep", logx.Task, id, logx.Err, err, "since", m.Since)
	}
}

// removeBatches removes the inputs of every batch of a task together with their
// names in the index.
func (e *Engine) removeBatches(ctx context.Context, id, kind string, step state.Step, guard func(*state.Batch)) error {
	return state.All(ctx, e.store, batchRoot(id), func(key string, r state.Record[batchRecord]) error {
		b := state.NewBatch(step).Delete(key)
		for _, it := range r.Value.Items {
			b.Delete(nameKey(kind, it.Name, id))
		}
		if guard != nil {
			guard(b)
		}
		_, err := e.store.Commit(ctx, b)
		return err
	})
}
