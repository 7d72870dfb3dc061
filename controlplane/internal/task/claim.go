package task

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// claim is a unit in hand.
type claim struct {
	task  Task
	kind  *Kind
	n     int
	open  state.Rev // of the task's open record
	key   string
	rev   state.Rev // of the claim and of the unit: both were written by one commit
	unit  unitRecord
	items []Item // of a batch, in order; those that ended before have their result

	recall *recall
}

// guard makes a commit conditional on the claim still being ours: a worker whose
// lease ended unnoticed can write nothing.
func (c *claim) guard(b *state.Batch) { b.If(c.key, c.rev) }

// claim takes a unit and loads what belongs to it. It returns nil without error
// when the unit is over or is someone else's.
func (s *session) claim(ctx context.Context, p pick) (*claim, error) {
	u, err := state.ReadOr[unitRecord](ctx, s.store, unitKey(p.task, p.n))
	if err != nil {
		return nil, fmt.Errorf("read unit: %w", err)
	}
	if u.Value.EndedAt != nil {
		return nil, nil
	}
	o, err := state.Read[openRecord](ctx, s.store, openKey(p.task))
	if errors.Is(err, fault.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read open task: %w", err)
	}
	p.recall.set(o.Value.Canceled)
	t, st, err := s.read(ctx, p.task)
	if errors.Is(err, fault.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	c := &claim{task: t, kind: s.kinds[t.Kind], n: p.n, open: o.Rev, key: claimKey(p.task, p.n), unit: u.Value, recall: p.recall}
	if p.n != expandUnit {
		if err := s.loadItems(ctx, c, u.Rev != 0); err != nil {
			return nil, err
		}
	}
	if err := s.commitClaim(ctx, c, u.Rev, st); err != nil {
		if !errors.Is(err, fault.Conflict) {
			return nil, err
		}
		return s.adopt(ctx, c, err)
	}
	return c, nil
}

// adopt finds out why a claim failed. If it is our own claim of before, whose
// answer was lost, work goes on under it. If it is another's, there is nothing to
// do until the watch tells its end. Else only the task's state had moved on.
func (s *session) adopt(ctx context.Context, c *claim, conflict error) (*claim, error) {
	r, err := state.ReadOr[claimRecord](ctx, s.store, c.key)
	switch {
	case err != nil:
		return nil, err
	case r.Rev == 0:
		return nil, conflict
	case r.Value.Lease != s.lease.ID():
		return nil, nil
	}
	u, err := state.Read[unitRecord](ctx, s.store, unitKey(c.task.ID, c.n))
	if err != nil {
		return nil, err
	}
	if u.Value.EndedAt != nil || u.Rev != r.Rev {
		return nil, conflict
	}
	c.rev, c.unit = r.Rev, u.Value
	return c, nil
}

func (s *session) commitClaim(ctx context.Context, c *claim, unit state.Rev, st state.Record[stateRecord]) error {
	at := now()
	if unit == 0 {
		c.unit.StartedAt = at
	}
	b := state.NewBatch(state.StepTaskClaim).
		If(c.key, 0).PutLeased(c.key, claimRecord{Worker: s.cfg.Worker, Lease: s.lease.ID()}, s.lease.ID()).
		If(unitKey(c.task.ID, c.n), unit).Put(unitKey(c.task.ID, c.n), c.unit).
		If(openKey(c.task.ID), c.open)
	if c.n != expandUnit && st.Value.Status == Waiting {
		st.Value.Status, st.Value.UpdatedAt = InProgress, &at
		key := stateKey(c.task.Kind, c.task.ID)
		b.If(key, st.Rev).Put(key, st.Value)
		c.task.Status, c.task.UpdatedAt = InProgress, &at
	}
	rev, err := s.store.Commit(ctx, b)
	c.rev = rev
	return err
}

// loadItems reads the inputs of the batch and, if it was begun before, results.
func (s *session) loadItems(ctx context.Context, c *claim, begun bool) error {
	in, err := state.Read[batchRecord](ctx, s.store, batchKey(c.task.ID, c.n))
	if err != nil {
		return fmt.Errorf("read batch: %w", err)
	}
	for i, it := range in.Value.Items {
		c.items = append(c.items, Item{
			Seq: in.Value.First + i, Name: it.Name, Spec: it.Spec, Status: Waiting, CreatedAt: in.Value.CreatedAt,
		})
	}
	if !begun {
		return nil
	}
	return addResults(ctx, s.store, c.task.ID, c.items)
}

// addResults fills in the results that are there of consecutive items.
func addResults(ctx context.Context, store state.Store, id string, items []Item) error {
	if len(items) == 0 {
		return nil
	}
	first := items[0].Seq
	after := "" // List goes on after a key: the one before the first
	if first > 0 {
		after = itemKey(id, first-1)
	}
	p, err := store.List(ctx, itemRoot(id), after, len(items))
	if err != nil {
		return fmt.Errorf("list results: %w", err)
	}
	for _, e := range p.Entries {
		seq, err := strconv.Atoi(lastPart(e.Key))
		if err != nil || seq-first >= len(items) {
			continue
		}
		r, err := state.Decode[itemRecord](e)
		if err != nil {
			return err
		}
		items[seq-first].ended(r.Value)
	}
	return nil
}

func (i *Item) ended(r itemRecord) {
	i.Status, i.Message, i.Data = r.Status, r.Message, r.Data
	i.UpdatedAt = new(time.Time)
	*i.UpdatedAt = r.EndedAt
}

// stillOurs returns errClaimLost unless the claim is as we made it.
func (s *session) stillOurs(ctx context.Context, c *claim) error {
	e, err := s.store.Get(ctx, c.key)
	if errors.Is(err, fault.NotFound) || err == nil && e.Rev != c.rev {
		return errClaimLost
	}
	return err
}
