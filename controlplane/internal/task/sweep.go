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

// Sweep removes what deleted tasks left, and creates whose process died before the
// task record was written. Run calls it now and then.
func (e *Engine) Sweep(ctx context.Context) error {
	return state.All(ctx, e.store, makingRoot, func(key string, r state.Record[makingRecord]) error {
		if !r.Value.Removed && time.Since(r.Value.Since) < sweepAge {
			return nil
		}
		return e.remove(ctx, lastPart(key), r)
	})
}

// remove takes back a create, or finishes a Delete. Writing its marker first makes
// the create's last commit fail, should it still be alive.
func (e *Engine) remove(ctx context.Context, id string, r state.Record[makingRecord]) error {
	m, rev := r.Value, r.Rev
	if !m.Removed {
		m.Removed = true
		var err error
		rev, err = e.store.Commit(ctx, state.NewBatch(state.StepTaskSweep).If(makingKey(id), r.Rev).Put(makingKey(id), m))
		if errors.Is(err, fault.Conflict) {
			return nil // it came to an end by itself
		}
		if err != nil {
			return fmt.Errorf("sweep task %s: %w", id, err)
		}
	}
	err := e.removeRest(ctx, Task{ID: id, Kind: m.Kind, CreatedAt: m.Since})
	if err == nil {
		_, err = e.store.Commit(ctx, state.NewBatch(state.StepTaskSweep).If(makingKey(id), rev).Delete(makingKey(id)))
	}
	if err != nil && !errors.Is(err, fault.Conflict) { // another replica was faster
		return fmt.Errorf("sweep task %s: %w", id, err)
	}
	return nil
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
