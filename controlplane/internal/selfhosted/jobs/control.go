package jobs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// What the control plane does with jobs and executions (iot-api §10). Refusals
// are *RefusedError, as those of Apply.

// Jobs returns up to limit jobs whose id is greater than after, in the order of
// their ids, and whether there are more.
func (s *Service) Jobs(ctx context.Context, after string, limit int) ([]Job, bool, error) {
	page, err := s.store.List(ctx, jobKey(""), jobKey(after), limit)
	if err != nil {
		return nil, false, fmt.Errorf("list jobs: %w", err)
	}
	out := make([]Job, len(page.Entries))
	for i, e := range page.Entries {
		r, err := state.Decode[Job](e)
		if err != nil {
			return nil, false, err
		}
		out[i] = r.Value
	}
	return out, page.More, nil
}

// ExecutionsOf returns what is known of the thing's executions: those that are
// pending, in the order of $next, then for each target the last one that ended.
func (s *Service) ExecutionsOf(ctx context.Context, thing string) ([]Execution, error) {
	pending, ended, err := s.Of(ctx, thing)
	return append(pending, ended...), err
}

// Execution returns the execution of job on thing with that number (0: the newest),
// as long as no other job of its target ended after it.
func (s *Service) Execution(ctx context.Context, thing, job string, number int64) (Execution, error) {
	list, err := s.ExecutionsOf(ctx, thing)
	if err != nil {
		return Execution{}, err
	}
	for _, e := range list { // the pending one is the newest
		if e.JobID == job && (number == 0 || number == e.Number) {
			return e, nil
		}
	}
	if number != 0 {
		return Execution{}, fault.New(fault.NotFound, "job %s has no execution %d on %s", job, number, thing)
	}
	return Execution{}, fault.New(fault.NotFound, "job %s has no execution on %s", job, thing)
}

// ExecutionsOfJob returns up to limit executions of the job that come after the
// cursor after (empty: from the first), and the cursor to go on from, empty after
// the last one. It goes through what all things have, a page at a time.
func (s *Service) ExecutionsOfJob(ctx context.Context, job, after string, limit int) (list []Execution, next string, err error) {
	j, err := s.Job(ctx, job)
	if err != nil {
		return nil, "", err
	}
	thing, number := after, int64(0)
	if i := strings.LastIndex(after, "/"); i >= 0 {
		thing = after[:i]
		if number, err = strconv.ParseInt(after[i+1:], 10, 64); err != nil {
			return nil, "", fault.New(fault.Invalid, "cursor %q of executions cannot be read", after)
		}
	}
	tail := "/" + string(j.Value.Kind) + "/" + j.Value.Target
	ended := &walk{store: s.store, prefix: endedAll(), tail: tail, job: job}
	pending := &walk{store: s.store, prefix: pendingAll(), tail: "/" + job, job: job}
	if thing != "" {
		ended.after, pending.after = endedPrefix(thing), pendingPrefix(thing)
	}
	for {
		e, err := ended.peek(ctx)
		if err != nil {
			return nil, "", err
		}
		p, err := pending.peek(ctx)
		if err != nil {
			return nil, "", err
		}
		from := ended // what ended on a thing comes before what is pending there
		if e == nil || p != nil && p.Thing+"/" < e.Thing+"/" {
			from, e = pending, p
		}
		if e == nil {
			return list, "", nil
		}
		from.head = nil
		if e.Thing == thing && e.Number <= number {
			continue
		}
		if len(list) == limit {
			return list, list[limit-1].Cursor(), nil
		}
		list = append(list, *e)
	}
}

// Cursor is where ExecutionsOfJob goes on after e.
func (e Execution) Cursor() string { return e.Thing + "/" + strconv.FormatInt(e.Number, 10) }

// walk goes through the executions of one job under a prefix, in key order.
type walk struct {
	store             state.Store
	prefix, tail, job string
	after             string
	page              []state.Entry
	last              bool
	head              *Execution
}

// peek returns the next one, nil at the end; it stays the next until head is
// taken away.
func (w *walk) peek(ctx context.Context) (*Execution, error) {
	for w.head == nil {
		if len(w.page) == 0 {
			if w.last {
				return nil, nil //nolint:nilnil // there is no more
			}
			p, err := w.store.List(ctx, w.prefix, w.after, 1000)
			if err != nil {
				return nil, fmt.Errorf("list executions of job %s: %w", w.job, err)
			}
			w.page, w.last = p.Entries, !p.More
			continue
		}
		e := w.page[0]
		w.page, w.after = w.page[1:], e.Key
		if !strings.HasSuffix(e.Key, w.tail) {
			continue
		}
		r, err := state.Decode[Execution](e)
		if err != nil {
			return nil, err
		}
		if r.Value.JobID == w.job {
			w.head = &r.Value
		}
	}
	return w.head, nil
}

// Cancel ends the execution of job on thing with CANCELED: a queued one, with
// force also one that runs. expectedVersion 0 is any; details replace those that the
// execution has, unless nil.
func (s *Service) Cancel(ctx context.Context, thing, job string, force bool, expectedVersion int64, details map[string]string) error {
	for range 16 {
		key := pendingKey(thing, job)
		p, err := state.ReadOr[Execution](ctx, s.store, key)
		if err != nil {
			return fmt.Errorf("read execution of job %s on %s: %w", job, thing, err)
		}
		e := p.Value
		switch {
		case p.Rev == 0:
			return s.refuseEnded(ctx, Update{Thing: thing, JobID: job})
		case expectedVersion != 0 && expectedVersion != e.Version:
			return &RefusedError{Code: protocol.CodeVersionMismatch, Text: fmt.Sprintf("expectedVersion %d is not the current version %d", expectedVersion, e.Version), State: stateOf(e)}
		case e.Status != protocol.JobQueued && !force:
			return running(e)
		}
		b := state.NewBatch(state.StepJobUpdate).If(key, p.Rev)
		if _, err := s.endBatch(ctx, b, e, protocol.JobCanceled, details); err != nil {
			return err
		}
		if _, err = s.store.Commit(ctx, b); !errors.Is(err, fault.Conflict) {
			return err
		}
	}
	return fmt.Errorf("cancel job %s on %s: lost races: %w", job, thing, fault.Conflict)
}

// Delete forgets one execution: one that ended, with force also one that is
// pending.
func (s *Service) Delete(ctx context.Context, thing, job string, number int64, force bool) error {
	for range 16 {
		b := state.NewBatch(state.StepJobUpdate)
		p, err := state.ReadOr[Execution](ctx, s.store, pendingKey(thing, job))
		if err != nil {
			return fmt.Errorf("read execution of job %s on %s: %w", job, thing, err)
		}
		if p.Rev != 0 && p.Value.Number == number {
			if !force {
				return running(p.Value)
			}
			if err := s.removeBatch(ctx, b, p); err != nil {
				return err
			}
		} else if err := s.deleteEndedBatch(ctx, b, thing, job, number); err != nil {
			return err
		}
		if _, err = s.store.Commit(ctx, b); !errors.Is(err, fault.Conflict) {
			return err
		}
	}
	return fmt.Errorf("delete execution %d of job %s on %s: lost races: %w", number, job, thing, fault.Conflict)
}

// removeBatch removes a pending execution in b, and no trace remains: for what follows
// it ended as REMOVED.
func (s *Service) removeBatch(ctx context.Context, b *state.Batch, p state.Record[Execution]) error {
	e := p.Value
	b.If(pendingKey(e.Thing, e.JobID), p.Rev).Delete(pendingKey(e.Thing, e.JobID))
	if e.TimeoutAt != 0 {
		b.Delete(deadlineKey(e.TimeoutAt, e.Thing, e.JobID))
	}
	if s.ended == nil {
		return nil
	}
	e.Status = protocol.JobRemoved
	return s.ended(ctx, b, e)
}

func (s *Service) deleteEndedBatch(ctx context.Context, b *state.Batch, thing, job string, number int64) error {
	found := false
	err := state.All(ctx, s.store, endedPrefix(thing), func(key string, r state.Record[Execution]) error {
		if r.Value.JobID == job && r.Value.Number == number {
			b.If(key, r.Rev).Delete(key)
			found = true
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read executions of %s: %w", thing, err)
	}
	if !found {
		return &RefusedError{Code: protocol.CodeResourceNotFound, Text: fmt.Sprintf("job %s has no execution %d on %s", job, number, thing)}
	}
	return nil
}

// DeleteJob removes a job that is canceled, or of which nothing is pending: nothing may
// be started for it any more. What is pending all the same ends CANCELED; what ended stays
// known of its things and targets. Run again it goes on where it stopped.
func (s *Service) DeleteJob(ctx context.Context, id string) error {
	for range 16 {
		j, err := s.Job(ctx, id)
		if err != nil {
			return err
		}
		if err := s.Withdraw(ctx, id, true); err != nil {
			return err
		}
		b := state.NewBatch(state.StepExecutions).If(jobKey(id), j.Rev).Delete(jobKey(id)).Delete(discardedKey(id))
		if _, err = s.store.Commit(ctx, b); !errors.Is(err, fault.Conflict) {
			return err
		}
	}
	return fmt.Errorf("delete job %s: lost races: %w", id, fault.Conflict)
}

func running(e Execution) error {
	return &RefusedError{
		Code: protocol.CodeInvalidStateTransition, State: stateOf(e),
		Text: fmt.Sprintf("the execution of job %s on %s is %s; only force does this then", e.JobID, e.Thing, e.Status),
	}
}

// Withdraw ends with CANCELED whatever of the job is still queued, with force
// also what runs. Nothing may be started for the job any more: see CancelBatch.
// Run again it goes on where it stopped.
func (s *Service) Withdraw(ctx context.Context, job string, force bool) error {
	w := &walk{store: s.store, prefix: pendingAll(), tail: "/" + job, job: job}
	for {
		var list []Execution
		for len(list) < handful {
			e, err := w.peek(ctx)
			if err != nil {
				return err
			}
			if e == nil {
				break
			}
			if w.head = nil; force || e.Status == protocol.JobQueued {
				list = append(list, *e)
			}
		}
		if len(list) == 0 {
			return nil
		}
		things := make([]string, len(list))
		for i, e := range list {
			things[i] = e.Thing
		}
		if err := s.withdraw(ctx, slices.Compact(things), job, force); err != nil {
			return fmt.Errorf("withdraw job %s: %w", job, err)
		}
	}
}
