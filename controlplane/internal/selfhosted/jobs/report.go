package jobs

import (
	"context"
	"errors"
	"fmt"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Update is a device's report on one execution.
type Update struct {
	Thing, JobID    string
	Status          protocol.JobStatus
	Details         map[string]string // replaces all details when not nil
	ExpectedVersion int64             // 0: any
	ExecutionNumber int64             // 0: the current one
}

// RefusedError says why an update cannot be: Code is one of protocol.Code…, State
// what the execution is now, if known.
type RefusedError struct {
	Code  string
	Text  string
	State *protocol.JobExecutionState
}

func (r *RefusedError) Error() string { return r.Text }

// Apply commits a device's report and returns the execution as it is then. It
// returns *RefusedError for a report that cannot be (iot-api §19).
func (s *Service) Apply(ctx context.Context, u Update) (Execution, error) {
	for range 16 {
		e, err := s.apply(ctx, u)
		if !errors.Is(err, fault.Conflict) {
			return e, err
		}
	}
	return Execution{}, fmt.Errorf("update job %s on %s: lost races: %w", u.JobID, u.Thing, fault.Conflict)
}

func (s *Service) apply(ctx context.Context, u Update) (Execution, error) {
	key := pendingKey(u.Thing, u.JobID)
	p, err := state.ReadOr[Execution](ctx, s.store, key)
	if err != nil {
		return Execution{}, fmt.Errorf("read execution of job %s on %s: %w", u.JobID, u.Thing, err)
	}
	if p.Rev == 0 {
		return Execution{}, s.refuseEnded(ctx, u)
	}
	e := p.Value
	if u.ExecutionNumber != 0 && u.ExecutionNumber != e.Number {
		return e, &RefusedError{Code: protocol.CodeResourceNotFound, Text: fmt.Sprintf("job %s has no execution %d on %s", u.JobID, u.ExecutionNumber, u.Thing)}
	}
	if u.ExpectedVersion != 0 && u.ExpectedVersion != e.Version {
		return e, &RefusedError{Code: protocol.CodeVersionMismatch, Text: fmt.Sprintf("expectedVersion %d is not the current version %d", u.ExpectedVersion, e.Version), State: stateOf(e)}
	}
	b := state.NewBatch(state.StepJobUpdate).If(key, p.Rev)
	switch u.Status {
	case protocol.JobInProgress:
		if err := s.progressBatch(ctx, b, &e); err != nil {
			return e, err
		}
		if u.Details != nil {
			e.Details = u.Details
		}
		b.Put(key, e)
	case protocol.JobSucceeded, protocol.JobFailed, protocol.JobRejected:
		if e, err = s.endBatch(ctx, b, e, u.Status, u.Details); err != nil {
			return e, err
		}
	case protocol.JobQueued, protocol.JobTimedOut, protocol.JobRemoved, protocol.JobCanceled:
		return e, &RefusedError{Code: protocol.CodeInvalidStateTransition, Text: fmt.Sprintf("a device cannot set status %s", u.Status), State: stateOf(e)}
	default:
		return e, &RefusedError{Code: protocol.CodeInvalidRequest, Text: fmt.Sprintf("status %q is not a job execution status", u.Status)}
	}
	_, err = s.store.Commit(ctx, b)
	return e, err
}

// progressBatch moves e to IN_PROGRESS and sets its deadline.
func (s *Service) progressBatch(ctx context.Context, b *state.Batch, e *Execution) error {
	now := s.now().Unix()
	if e.Status == protocol.JobQueued {
		e.StartedAt = now
		minutes := e.TimeoutMinutes
		if minutes == 0 {
			t, err := s.template(ctx, e.JobID)
			if err != nil {
				return err
			}
			minutes = t.minutes
		}
		if minutes > 0 {
			e.TimeoutAt = now + int64(minutes)*60
			b.Put(deadlineKey(e.TimeoutAt, e.Thing, e.JobID), struct{}{})
		}
	}
	e.Status, e.UpdatedAt, e.Version = protocol.JobInProgress, now, e.Version+1
	return nil
}

func (s *Service) refuseEnded(ctx context.Context, u Update) error {
	found, err := s.lastOf(ctx, u.Thing, u.JobID)
	if err != nil {
		return err
	}
	if found == nil {
		return noExecution(u.Thing, u.JobID)
	}
	return &RefusedError{Code: protocol.CodeInvalidStateTransition, Text: fmt.Sprintf("the execution is already %s", found.Status), State: stateOf(*found)}
}

// refuseDescribe says why a job has no execution that a device could describe.
func (s *Service) refuseDescribe(ctx context.Context, thing, job string) error {
	found, err := s.lastOf(ctx, thing, job)
	if err != nil {
		return err
	}
	if found == nil {
		return noExecution(thing, job)
	}
	return &RefusedError{Code: protocol.CodeTerminalStateReached, Text: fmt.Sprintf("the execution is already %s", found.Status), State: stateOf(*found)}
}

// lastOf returns the last execution of job on thing that ended, as long as no
// other job of the same target ended after it, or nil.
func (s *Service) lastOf(ctx context.Context, thing, job string) (*Execution, error) {
	var found *Execution
	err := state.All(ctx, s.store, endedPrefix(thing), func(_ string, r state.Record[Execution]) error {
		if r.Value.JobID == job {
			found = &r.Value
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read executions of %s: %w", thing, err)
	}
	return found, nil
}

func noExecution(thing, job string) error {
	return &RefusedError{Code: protocol.CodeResourceNotFound, Text: fmt.Sprintf("job %s has no pending execution on %s", job, thing)}
}

func stateOf(e Execution) *protocol.JobExecutionState {
	d := e.Details
	if d == nil {
		d = map[string]string{}
	}
	return &protocol.JobExecutionState{Status: e.Status, StatusDetails: d, VersionNumber: e.Version}
}

// Fail ends a pending execution that can never be carried out, with the cause
// where a nucleus would report it. An execution that is gone is no error.
func (s *Service) Fail(ctx context.Context, thing, job, cause string) error {
	key := pendingKey(thing, job)
	for range 16 {
		p, err := state.ReadOr[Execution](ctx, s.store, key)
		if err != nil || p.Rev == 0 {
			return err
		}
		b := state.NewBatch(state.StepJobUpdate).If(key, p.Rev)
		_, err = s.endBatch(ctx, b, p.Value, protocol.JobFailed, map[string]string{
			protocol.DetailStatus: "FAILED_NO_STATE_CHANGE", protocol.DetailFailureCause: cause,
		})
		if err != nil {
			return err
		}
		if _, err = s.store.Commit(ctx, b); !errors.Is(err, fault.Conflict) {
			return err
		}
	}
	return fmt.Errorf("fail job %s on %s: %w", job, thing, fault.Conflict)
}
