package jobs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Config is what New needs. Store is required.
type Config struct {
	Store state.Store
	Log   *slog.Logger     // nil: nothing is logged
	Now   func() time.Time // nil: time.Now
}

// Service is the jobs service. Safe for concurrent use.
type Service struct {
	store state.Store
	log   *slog.Logger
	now   func() time.Time
	ended func(ctx context.Context, b *state.Batch, e Execution) error // see OnEnd; may be nil

	documents documents
}

// New checks cfg; it starts nothing.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil {
		return nil, errors.New("jobs: Store is required")
	}
	s := &Service{store: cfg.Store, log: cfg.Log, now: cfg.Now}
	if s.log == nil {
		s.log = logx.Discard()
	}
	if s.now == nil {
		s.now = time.Now
	}
	return s, nil
}

// OnEnd has hook add, to each batch in which an execution ends, what follows from
// that: e is as it ended. An error of hook keeps the execution from ending. Set it
// before the service is used; a second one takes the place of the first.
func (s *Service) OnEnd(hook func(ctx context.Context, b *state.Batch, e Execution) error) {
	s.ended = hook
}

// PutBatch adds the job to b: it must not exist yet.
func (s *Service) PutBatch(b *state.Batch, j Job) {
	b.If(jobKey(j.ID), 0)
	b.Put(jobKey(j.ID), j)
}

// CancelBatch marks the job canceled in b: nobody gets it any more. Executions
// already handed out are not touched.
func (s *Service) CancelBatch(ctx context.Context, b *state.Batch, id string, why Reason) error {
	j, err := s.Job(ctx, id)
	if err != nil {
		return err
	}
	j.Value.Canceled, j.Value.CanceledAt, j.Value.Why = true, s.now(), why
	b.If(jobKey(id), j.Rev)
	b.Put(jobKey(id), j.Value)
	return nil
}

// Job returns the job, or fault.NotFound.
func (s *Service) Job(ctx context.Context, id string) (state.Record[Job], error) {
	j, err := state.Read[Job](ctx, s.store, jobKey(id))
	if errors.Is(err, fault.NotFound) {
		return j, fault.New(fault.NotFound, "job %s does not exist", id)
	}
	return j, err
}

// Start says how an execution begins.
type Start struct {
	// Again queues the job anew on a thing where it waits, runs or ended.
	Again bool
	// TimeoutMinutes bounds this execution instead of what the job says; 0: as the
	// job says.
	TimeoutMinutes int
}

// StartBatch adds an execution of the job on thing to b and returns it. A
// pending execution of the same job is kept, or queued anew with a later time if
// how.Again is set; one that ended gets a successor with the next number. b is
// conditional on the job being as it was read, so that a canceled one is not handed
// out. Several of one thing may go into b, of different targets.
func (s *Service) StartBatch(ctx context.Context, b *state.Batch, job state.Record[Job], thing string, how Start) (Execution, error) {
	j := job.Value
	b.If(jobKey(j.ID), job.Rev)
	pending, err := state.ReadOr[Execution](ctx, s.store, pendingKey(thing, j.ID))
	if err != nil {
		return Execution{}, fmt.Errorf("read execution of job %s on %s: %w", j.ID, thing, err)
	}
	b.If(pendingKey(thing, j.ID), pending.Rev)
	if pending.Rev != 0 && !how.Again {
		return s.KeepBatch(b, pending.Value, how), nil
	}
	ended, err := state.ReadOr[Execution](ctx, s.store, endedKey(thing, j.Kind, j.Target))
	if err != nil {
		return Execution{}, fmt.Errorf("read last execution on %s for %s: %w", thing, j.Target, err)
	}
	last, err := state.ReadOr[latest](ctx, s.store, latestKey(thing))
	if err != nil {
		return Execution{}, fmt.Errorf("read when %s had its last execution: %w", thing, err)
	}
	if err := b.Peek(latestKey(thing), &last.Value); err != nil { // another execution in b is before this one
		return Execution{}, err
	}
	b.If(endedKey(thing, j.Kind, j.Target), ended.Rev)
	return s.queueBatch(b, j, thing, last, how.TimeoutMinutes, ended, pending), nil
}

// queueBatch puts a new execution of j on thing into b, after those before.
func (s *Service) queueBatch(b *state.Batch, j Job, thing string, last state.Record[latest], minutes int, before ...state.Record[Execution]) Execution {
	// Never older than anything this core had before, of whatever target, even
	// when the clock was set back (traps 12, 47).
	now := s.now()
	e := Execution{
		JobID: j.ID, Thing: thing, Kind: j.Kind, Target: j.Target, DeploymentID: j.DeploymentID, Status: protocol.JobQueued,
		QueuedAt: max(now.Unix(), last.Value.QueuedAt), Stamp: max(now.UnixMilli(), last.Value.Stamp+1), UpdatedAt: now.Unix(), Version: 1, Number: 1,
		TimeoutMinutes: minutes,
	}
	for _, before := range before {
		if before.Rev != 0 && before.Value.JobID == j.ID {
			// The same job again must be queued a full second later, or lite ignores it.
			e.QueuedAt = max(e.QueuedAt, before.Value.QueuedAt+1)
			if n := before.Value.Number + 1; n > e.Number {
				e.Number, e.Before = n, before.Value.counts()
			}
		}
	}
	b.If(latestKey(thing), last.Rev)
	b.Put(latestKey(thing), latest{QueuedAt: e.QueuedAt, Stamp: e.Stamp})
	b.Put(pendingKey(thing, j.ID), e)
	return e
}

// KeepBatch leaves e, which b is conditional on, as it is, but for the time it may
// take if it did not begin yet.
func (s *Service) KeepBatch(b *state.Batch, e Execution, how Start) Execution {
	if e.Status == protocol.JobQueued && e.TimeoutMinutes != how.TimeoutMinutes {
		e.TimeoutMinutes = how.TimeoutMinutes
		b.Put(pendingKey(e.Thing, e.JobID), e)
	}
	return e
}

// ClearBatch ends in b, with status to, the QUEUED executions that the thing has
// for a target, of whatever job but keep (empty: of all). What runs goes on.
func (s *Service) ClearBatch(ctx context.Context, b *state.Batch, thing string, kind names.TargetKind, target, keep string, to protocol.JobStatus) error {
	list, err := s.Pending(ctx, thing)
	if err != nil {
		return err
	}
	for _, e := range list {
		if e.Kind == kind && e.Target == target && e.JobID != keep {
			if _, err := s.RemoveBatch(ctx, b, thing, e.JobID, 0, to); err != nil {
				return err
			}
		}
	}
	return nil
}

// RemoveBatch ends the execution of job on thing in b with status to, if it is
// still QUEUED and, unless number is 0, the one with that number. It reports
// whether it does; what runs already goes on. Either way b is conditional on it.
func (s *Service) RemoveBatch(ctx context.Context, b *state.Batch, thing, job string, number int64, to protocol.JobStatus) (bool, error) {
	key := pendingKey(thing, job)
	p, err := state.ReadOr[Execution](ctx, s.store, key)
	if err != nil {
		return false, fmt.Errorf("read execution of job %s on %s: %w", job, thing, err)
	}
	b.If(key, p.Rev)
	if p.Rev == 0 || p.Value.Status != protocol.JobQueued || number != 0 && number != p.Value.Number {
		return false, nil
	}
	_, err = s.endBatch(ctx, b, p.Value, to, nil)
	return err == nil, err
}

// endBatch moves e from pending to ended with its final status. One that ends
// after a newer one of its target does not take that one's place.
func (s *Service) endBatch(ctx context.Context, b *state.Batch, e Execution, to protocol.JobStatus, details map[string]string) (Execution, error) {
	last, err := state.ReadOr[Execution](ctx, s.store, endedKey(e.Thing, e.Kind, e.Target))
	if err != nil {
		return e, fmt.Errorf("read last execution on %s for %s: %w", e.Thing, e.Target, err)
	}
	return s.endAfterBatch(ctx, b, e, last, to, details)
}

// endAfterBatch is endBatch with the last one that ended for the target.
func (s *Service) endAfterBatch(ctx context.Context, b *state.Batch, e Execution, last state.Record[Execution], to protocol.JobStatus, details map[string]string) (Execution, error) {
	if e.TimeoutAt != 0 {
		b.Delete(deadlineKey(e.TimeoutAt, e.Thing, e.JobID))
		e.TimeoutAt = 0
	}
	e.Status, e.UpdatedAt, e.Version = to, s.now().Unix(), e.Version+1
	if details != nil {
		e.Details = details
	}
	key := endedKey(e.Thing, e.Kind, e.Target)
	b.Delete(pendingKey(e.Thing, e.JobID))
	b.If(key, last.Rev)
	var other Execution // of the target, that ends in b too
	if err := b.Peek(key, &other); err != nil {
		return e, err
	}
	if max(last.Value.Stamp, other.Stamp) <= e.Stamp {
		b.Put(key, e)
	}
	if s.ended == nil {
		return e, nil
	}
	return e, s.ended(ctx, b, e)
}

// Pending returns the thing's pending executions in the order of $next.
func (s *Service) Pending(ctx context.Context, thing string) ([]Execution, error) {
	var out []Execution
	err := state.All(ctx, s.store, pendingPrefix(thing), func(_ string, r state.Record[Execution]) error {
		out = append(out, r.Value)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list pending executions of %s: %w", thing, err)
	}
	inOrder(out)
	return out, nil
}

// inOrder sorts pending executions of a thing as $next has them.
func inOrder(list []Execution) {
	slices.SortFunc(list, func(a, b Execution) int {
		return cmp.Or(rank(a)-rank(b), cmp.Compare(a.QueuedAt, b.QueuedAt), cmp.Compare(a.Stamp, b.Stamp), strings.Compare(a.JobID, b.JobID))
	})
}

func rank(e Execution) int {
	if e.Status == protocol.JobInProgress {
		return 0
	}
	return 1
}

// Last returns what is known of the target's deployment on the thing: the
// pending execution of job, else the last one that ended. ok is false when the
// thing never had one.
func (s *Service) Last(ctx context.Context, thing, job string, kind names.TargetKind, target string) (e Execution, ok bool, err error) {
	return s.LastBatch(ctx, state.NewBatch(state.StepExecutions), thing, job, kind, target)
}

// LastBatch is Last, and makes b conditional on its answer.
func (s *Service) LastBatch(ctx context.Context, b *state.Batch, thing, job string, kind names.TargetKind, target string) (e Execution, ok bool, err error) {
	for _, key := range []string{pendingKey(thing, job), endedKey(thing, kind, target)} {
		r, err := state.ReadOr[Execution](ctx, s.store, key)
		if err != nil {
			return Execution{}, false, fmt.Errorf("read execution of job %s on %s: %w", job, thing, err)
		}
		b.If(key, r.Rev)
		if r.Rev != 0 {
			return r.Value, true, nil
		}
	}
	return Execution{}, false, nil
}
