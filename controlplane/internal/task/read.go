package task

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// MaxPage is the largest number of entries that one read answers.
const MaxPage = 1000

// Get returns task id, or fault.NotFound.
func (e *Engine) Get(ctx context.Context, id string) (Task, error) {
	t, _, err := e.read(ctx, id)
	return t, err
}

func (e *Engine) read(ctx context.Context, id string) (Task, state.Record[stateRecord], error) {
	var st state.Record[stateRecord]
	rec, err := e.record(ctx, id)
	if err != nil {
		return Task{}, st, err
	}
	st, err = state.Read[stateRecord](ctx, e.store, stateKey(rec.Value.Kind, id))
	if err != nil {
		return Task{}, st, fmt.Errorf("read state of task %s: %w", id, err)
	}
	return taskOf(rec.Value, st.Value), st, nil
}

func (e *Engine) record(ctx context.Context, id string) (state.Record[taskRecord], error) {
	rec, err := state.Read[taskRecord](ctx, e.store, recKey(id))
	if errors.Is(err, fault.NotFound) {
		return rec, fault.New(fault.NotFound, "there is no task %q", id)
	}
	if err != nil {
		return rec, fmt.Errorf("read task %s: %w", id, err)
	}
	return rec, nil
}

// List returns the tasks of a kind in the order of their ids, those after the id
// after, at most limit (0 or more than MaxPage: MaxPage), and whether more follow.
func (e *Engine) List(ctx context.Context, kind, after string, limit int) (tasks []Task, more bool, err error) {
	if after != "" {
		after = stateKey(kind, after)
	}
	p, err := e.store.List(ctx, stateRoot(kind), after, page(limit))
	if err != nil {
		return nil, false, fmt.Errorf("list tasks: %w", err)
	}
	for _, entry := range p.Entries {
		st, err := state.Decode[stateRecord](entry)
		if err != nil {
			return nil, false, err
		}
		rec, err := e.record(ctx, lastPart(entry.Key))
		if errors.Is(err, fault.NotFound) {
			continue // deleted since
		}
		if err != nil {
			return nil, false, fmt.Errorf("list tasks: %w", err)
		}
		tasks = append(tasks, taskOf(rec.Value, st.Value))
	}
	return tasks, p.More, nil
}

// Items returns the items of a task in their order, those after the item named
// after, at most limit (0 or more than MaxPage: MaxPage), and whether more follow.
// A task whose items are not known yet has none.
func (e *Engine) Items(ctx context.Context, id, after string, limit int) (items []Item, more bool, err error) {
	t, err := e.Get(ctx, id)
	if err != nil {
		return nil, false, err
	}
	from := 0
	if after != "" {
		seq, err := e.seqOf(ctx, t, after)
		if errors.Is(err, fault.NotFound) {
			return nil, false, fault.New(fault.Invalid, "task %s has no item %q to go on after", id, after)
		}
		if err != nil {
			return nil, false, err
		}
		from = seq + 1
	}
	to := min(from+page(limit), t.Items)
	if from >= to {
		return nil, false, nil
	}
	items, err = e.items(ctx, t, from, to)
	return items, to < t.Items, err
}

// Item returns the item of a task by its name, or fault.NotFound.
func (e *Engine) Item(ctx context.Context, id, name string) (Item, error) {
	t, err := e.Get(ctx, id)
	if err != nil {
		return Item{}, err
	}
	seq, err := e.seqOf(ctx, t, name)
	if err != nil {
		return Item{}, err
	}
	items, err := e.items(ctx, t, seq, seq+1)
	if err != nil {
		return Item{}, err
	}
	return items[0], nil
}

// Named is an item together with its task.
type Named struct {
	Task Task
	Item Item
}

// ListByName returns the items called name of all tasks of a kind, those of the
// newest task first, those after the task after, at most limit (0 or more than
// MaxPage: MaxPage), and whether more follow. A task to go on after that is not
// there is fault.Invalid.
func (e *Engine) ListByName(ctx context.Context, kind, name, after string, limit int) (found []Named, more bool, err error) {
	limit = page(limit)
	prefix := nameRoot(kind, name)
	if after != "" {
		rec, err := e.record(ctx, after)
		if errors.Is(err, fault.NotFound) {
			return nil, false, fault.New(fault.Invalid, "there is no task %q to go on after", after)
		}
		if err != nil {
			return nil, false, err
		}
		after = nameKey(taskOf(rec.Value, stateRecord{}), name)
	}
	for {
		p, err := e.store.List(ctx, prefix, after, limit)
		if err != nil {
			return nil, false, fmt.Errorf("list tasks by item: %w", err)
		}
		for _, entry := range p.Entries {
			if len(found) == limit {
				return found, true, nil
			}
			after = entry.Key
			n, ok, err := e.named(ctx, lastPart(entry.Key), name)
			if err != nil {
				return nil, false, err
			}
			if ok {
				found = append(found, n)
			}
		}
		if !p.More || len(found) == limit {
			return found, p.More, nil
		}
	}
}

// named skips tasks that are only being made or whose items are being found.
func (e *Engine) named(ctx context.Context, id, name string) (Named, bool, error) {
	t, err := e.Get(ctx, id)
	if err == nil {
		var seq int
		if seq, err = e.seqOf(ctx, t, name); err == nil {
			var items []Item
			if items, err = e.items(ctx, t, seq, seq+1); err == nil {
				return Named{Task: t, Item: items[0]}, true, nil
			}
		}
	}
	if errors.Is(err, fault.NotFound) {
		err = nil
	}
	return Named{}, false, err
}

func (e *Engine) seqOf(ctx context.Context, t Task, name string) (int, error) {
	missing := fault.New(fault.NotFound, "task %s has no item %q", t.ID, name)
	if t.BatchesTotal == nil {
		return 0, missing
	}
	entry, err := e.store.Get(ctx, nameKey(t, name))
	if errors.Is(err, fault.NotFound) {
		return 0, missing
	}
	if err != nil {
		return 0, fmt.Errorf("find item: %w", err)
	}
	var seq int
	if err := json.Unmarshal(entry.Value, &seq); err != nil {
		return 0, fmt.Errorf("decode record %s: %w", entry.Key, err)
	}
	if seq < 0 || seq >= t.Items {
		return 0, missing
	}
	return seq, nil
}

// items reads the items from (included) to to (excluded), all of which exist.
func (e *Engine) items(ctx context.Context, t Task, from, to int) ([]Item, error) {
	firstBatch, lastBatch := from/t.batchSize, (to-1)/t.batchSize
	begun, err := e.begun(ctx, t.ID, firstBatch, lastBatch)
	if err != nil {
		return nil, err
	}
	after := ""
	if firstBatch > 0 {
		after = batchKey(t.ID, firstBatch-1)
	}
	p, err := e.store.List(ctx, batchRoot(t.ID), after, lastBatch-firstBatch+1)
	if err != nil {
		return nil, fmt.Errorf("list items: %w", err)
	}
	items := make([]Item, 0, to-from)
	for i, entry := range p.Entries {
		in, err := state.Decode[batchRecord](entry)
		if err != nil {
			return nil, err
		}
		for j, it := range in.Value.Items {
			seq := in.Value.First + j
			if seq < from || seq >= to {
				continue
			}
			item := Item{Seq: seq, Name: it.Name, Spec: it.Spec, Status: Waiting, CreatedAt: in.Value.CreatedAt}
			if u, ok := begun[firstBatch+i]; ok {
				item.Status, item.UpdatedAt = InProgress, &u.StartedAt
			}
			items = append(items, item)
		}
	}
	if len(items) != to-from {
		return nil, fault.New(fault.NotFound, "task %s has lost items", t.ID)
	}
	return items, addResults(ctx, e.store, t.ID, items)
}

// begun returns when the batches first to last were begun.
func (e *Engine) begun(ctx context.Context, id string, first, last int) (map[int]unitRecord, error) {
	units := map[int]unitRecord{}
	after := ""
	if first > 0 {
		after = unitKey(id, first-1)
	}
	p, err := e.store.List(ctx, unitRoot(id), after, last-first+1)
	if err != nil {
		return nil, fmt.Errorf("list units: %w", err)
	}
	for _, entry := range p.Entries {
		var n int
		if _, err := fmt.Sscanf(lastPart(entry.Key), "%d", &n); err != nil {
			continue // the unit that found the items
		}
		u, err := state.Decode[unitRecord](entry)
		if err != nil {
			return nil, err
		}
		units[n] = u.Value
	}
	return units, nil
}

func page(limit int) int {
	if limit <= 0 || limit > MaxPage {
		return MaxPage
	}
	return limit
}
