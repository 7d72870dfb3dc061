package jobs

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Expire ends the executions whose time is over with TIMED_OUT and returns how
// many. Call it every half minute.
func (s *Service) Expire(ctx context.Context) (int, error) {
	due := deadlineKey(s.now().Unix(), "", "")
	n, after := 0, ""
	for {
		page, err := s.store.List(ctx, deadlineAll(), after, 1000)
		if err != nil {
			return n, fmt.Errorf("list deadlines: %w", err)
		}
		for _, d := range page.Entries {
			if d.Key > due {
				return n, nil
			}
			ended, err := s.expire(ctx, d.Key)
			if err != nil {
				return n, err
			}
			if ended {
				n++
			}
			after = d.Key
		}
		if !page.More {
			return n, nil
		}
	}
}

// expire removes one deadline and ends the execution that it is still of.
func (s *Service) expire(ctx context.Context, deadline string) (ended bool, err error) {
	part := strings.Split(strings.TrimPrefix(deadline, deadlineAll()), "/")
	if len(part) != 3 {
		return false, nil
	}
	thing, job := part[1], part[2]
	if job == "" {
		return false, s.outlive(ctx, deadline, thing)
	}
	p, err := state.ReadOr[Execution](ctx, s.store, pendingKey(thing, job))
	if err != nil {
		return false, fmt.Errorf("read execution of job %s on %s: %w", job, thing, err)
	}
	b := state.NewBatch(state.StepJobTimeout).If(pendingKey(thing, job), p.Rev).Delete(deadline)
	if p.Rev != 0 && p.Value.TimeoutAt != 0 && deadlineKey(p.Value.TimeoutAt, thing, job) == deadline {
		if _, err := s.endBatch(ctx, b, p.Value, protocol.JobTimedOut, nil); err != nil {
			return false, err
		}
		ended = true
	}
	switch _, err = s.store.Commit(ctx, b); {
	case errors.Is(err, fault.Conflict): // the device was faster, or the next round does it
		return false, nil
	case err != nil:
		return false, fmt.Errorf("time out job %s on %s: %w", job, thing, err)
	}
	return ended, nil
}

// Results calls handle for executions that were taken up (IN_PROGRESS) or ended
// after revision from, in order, until ctx is done. It returns state.ErrCompacted
// when that history is gone: read AllResults then.
func (s *Service) Results(ctx context.Context, from state.Rev, handle func([]Execution, state.Rev) error) error {
	return s.store.Watch(ctx, executionAll(), from, func(events []state.Event) error {
		var out []Execution
		var rev state.Rev
		for _, e := range events {
			rev = e.Rev
			if e.Deleted {
				continue
			}
			r, err := state.Decode[Execution](e.Entry)
			if err != nil {
				return err
			}
			if r.Value.Status != protocol.JobQueued {
				out = append(out, r.Value)
			}
		}
		if len(out) == 0 {
			return nil
		}
		return handle(out, rev)
	})
}

// Of returns what the thing's executions are: those that wait or run, in the order
// of $next, and the last one that ended for each target that it ever had one for.
func (s *Service) Of(ctx context.Context, thing string) (pending, ended []Execution, err error) {
	if pending, err = s.Pending(ctx, thing); err != nil {
		return nil, nil, err
	}
	err = state.All(ctx, s.store, endedPrefix(thing), func(_ string, r state.Record[Execution]) error {
		ended = append(ended, r.Value)
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("list ended executions of %s: %w", thing, err)
	}
	return pending, ended, nil
}

// AllResults calls each for the last ended execution of every target of every
// thing, then for those taken up, and returns the revision to continue from with
// Results.
func (s *Service) AllResults(ctx context.Context, each func(Execution) error) (state.Rev, error) {
	p, err := s.store.List(ctx, executionAll(), "", 1)
	if err != nil {
		return 0, err
	}
	return p.At, state.All(ctx, s.store, executionAll(), func(_ string, r state.Record[Execution]) error {
		if r.Value.Status == protocol.JobQueued {
			return nil
		}
		return each(r.Value)
	})
}

// Snapshot calls each for all that AllResults has, and for what is queued again, as it is
// at one revision of the store, which it returns. It reads everything at once: for when history is gone.
func (s *Service) Snapshot(ctx context.Context, each func(Execution)) (state.Rev, error) {
	page, err := s.store.List(ctx, executionAll(), "", 0)
	if err != nil {
		return 0, fmt.Errorf("list executions: %w", err)
	}
	for _, e := range page.Entries {
		r, err := state.Decode[Execution](e)
		if err != nil {
			return 0, err
		}
		if r.Value.Status != protocol.JobQueued || r.Value.Before != "" {
			each(r.Value)
		}
	}
	return page.At, nil
}
