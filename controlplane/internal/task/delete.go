package task

import (
	"context"
	"fmt"
	"slices"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// Delete removes a task that has ended, together with what with adds to the commit
// (nil: nothing); with may run several times. From that commit on the task is not
// there for anybody; its items are removed afterwards, in the background of Run.
// A task under way is fault.Conflict, one that is not there fault.NotFound.
func (e *Engine) Delete(ctx context.Context, id string, with func(*state.Batch) error) error {
	rec, err := e.record(ctx, id)
	if err != nil {
		return err
	}
	// The marker of a create that must not go on: whatever it had written is
	// removed by the sweep.
	marker := makingRecord{Kind: rec.Value.Kind, Since: rec.Value.CreatedAt, Removed: true}
	stateAt := stateKey(rec.Value.Kind, id)
	_, err = state.Update(ctx, e.store, state.StepTaskSweep, stateAt, func(st *stateRecord, exists bool, b *state.Batch) error {
		switch {
		case !exists:
			return fault.New(fault.NotFound, "there is no task %q", id)
		case !st.Ended:
			return fault.New(fault.Conflict, "task %s is under way; cancel it, or wait for its end", id)
		}
		b.Delete(stateAt).Delete(recKey(id)).Put(makingKey(id), marker)
		if rec.Value.Idem != "" {
			b.Delete(rec.Value.Idem)
		}
		if with == nil {
			return nil
		}
		return with(b)
	})
	if err != nil {
		return fmt.Errorf("delete task %s: %w", id, err)
	}
	e.deleted.Ring()
	return nil
}

// removeRest removes all that belongs to a task but its records, of which there
// are none any more.
func (e *Engine) removeRest(ctx context.Context, t Task) error {
	for _, prefix := range []string{itemRoot(t.ID), unitRoot(t.ID), blobRoot(t.ID)} {
		if err := e.removeAll(ctx, prefix); err != nil {
			return err
		}
	}
	return e.removeBatches(ctx, t, state.StepTaskSweep, nil)
}

func (e *Engine) removeAll(ctx context.Context, prefix string) error {
	after := "" // what was removed costs the store time to skip
	for {
		p, err := e.store.List(ctx, prefix, after, writers*maxOps)
		if err != nil {
			return err
		}
		var commits []*state.Batch
		for part := range slices.Chunk(p.Entries, maxOps) {
			b := state.NewBatch(state.StepTaskSweep)
			for _, entry := range part {
				b.Delete(entry.Key)
				after = entry.Key
			}
			commits = append(commits, b)
		}
		if err := e.commitAll(ctx, commits); err != nil || !p.More {
			return err
		}
	}
}

// removeBatches removes the inputs of every batch of a task together with their
// names in the index.
func (e *Engine) removeBatches(ctx context.Context, t Task, step state.Step, guard func(*state.Batch)) error {
	var commits []*state.Batch
	var cur *state.Batch
	err := state.All(ctx, e.store, batchRoot(t.ID), func(key string, r state.Record[batchRecord]) error {
		if cur == nil || cur.Len()+len(r.Value.Items)+1 > maxOps {
			cur = state.NewBatch(step)
			commits = append(commits, cur)
		}
		cur.Delete(key)
		for _, it := range r.Value.Items {
			cur.Delete(nameKey(t, it.Name))
		}
		return nil
	})
	if err != nil {
		return err
	}
	if guard != nil {
		for _, b := range commits {
			guard(b)
		}
	}
	return e.commitAll(ctx, commits)
}
