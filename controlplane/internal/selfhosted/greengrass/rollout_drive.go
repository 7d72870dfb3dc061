package greengrass

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/iot"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/jobs"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
)

const (
	handPage   = 500 // members read at once without a rate
	pacedPage  = 32  // and with one
	inFlight   = 4   // commits of one rollout at once
	atOnce     = 4   // rollouts of this process that do much at once
	driveTries = 32  // of one rollout, while others change it
)

// Drive does one round of everything that is due and returns when something is due
// next, as far as that is known; the zero time: when something changes. Any number
// of processes may drive at once. RunRollouts does all of this by itself.
func (s *Service) Drive(ctx context.Context) (next time.Time, err error) {
	if err := s.results.recount(ctx, s); err != nil {
		return next, err
	}
	var ids []string
	err = s.rollouts(ctx, func(id string, _ state.Record[spread]) error {
		ids = append(ids, id)
		return nil
	})
	if err != nil {
		return next, fmt.Errorf("list rollouts: %w", err)
	}
	for _, id := range ids {
		at, err := s.driveOne(ctx, id)
		if err != nil {
			return next, err
		}
		if next.IsZero() || !at.IsZero() && at.Before(next) {
			next = at
		}
	}
	return next, nil
}

// driveOne does for one rollout what is due now.
func (s *Service) driveOne(ctx context.Context, id string) (next time.Time, err error) {
	for range driveTries {
		if next, err = s.round(ctx, id); !errors.Is(err, fault.Conflict) {
			break
		}
	}
	if err != nil {
		err = fmt.Errorf("roll out deployment %s: %w", id, err)
	}
	return next, err
}

func (s *Service) round(ctx context.Context, id string) (time.Time, error) {
	r, err := state.ReadOr[spread](ctx, s.store, rolloutKey(id))
	if err != nil || r.Rev == 0 {
		return time.Time{}, err
	}
	x := &spreading{Service: s, id: id, Record: r}
	if r.Value.Phase == withdrawing {
		return time.Time{}, s.much(ctx, func() error { return x.withdraw(ctx) })
	}
	counted := x.merge()
	if why := x.Value.Config.Met(x.Value.Results); why != "" {
		return time.Time{}, x.abort(ctx, why, counted)
	}
	if counted && (x.Value.Phase == following || x.Value.Hasten(x.now())) {
		if err := x.save(ctx); err != nil {
			return time.Time{}, err
		}
	}
	if x.Value.Phase == handing {
		return x.hand(ctx)
	}
	return time.Time{}, nil
}

// Handing reports whether this process is handing out deployments in bulk.
func (s *Service) Handing() bool { return len(s.busy) > 0 }

// much does what keeps the store busy, a few at once; those that have a rate do not
// wait for it.
func (s *Service) much(ctx context.Context, do func() error) error {
	select {
	case s.busy <- struct{}{}:
		defer func() { <-s.busy }()
		return do()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// spreading is one round of one rollout; its record is what the next commit is
// conditional on.
type spreading struct {
	*Service
	state.Record[spread]
	id string
}

// saveBatch puts the record as it is now into b.
func (x *spreading) saveBatch(b *state.Batch) {
	if x.Value.Counted == 0 {
		x.Value.Counted = x.Rev // nothing was reported before the job was there
	}
	b.If(rolloutKey(x.id), x.Rev).Put(rolloutKey(x.id), x.Value)
}

func (x *spreading) commit(ctx context.Context, b *state.Batch) error {
	rev, err := x.store.Commit(ctx, b)
	if err == nil {
		x.Rev = rev
	}
	return err
}

func (x *spreading) save(ctx context.Context) error {
	b := state.NewBatch(state.StepRolling)
	x.saveBatch(b)
	return x.commit(ctx, b)
}

// merge brings in what was counted since, and reports whether there was something.
func (x *spreading) merge() bool {
	counted, at, ok := x.results.of(x.id)
	if !ok || at <= x.Value.Counted {
		return false
	}
	x.Value.Results, x.Value.Counted = counted, at
	return true
}

// abort cancels the deployment: a criterion is met. The counters that say so are
// kept first, so that another replica comes to the same end.
func (x *spreading) abort(ctx context.Context, why string, counted bool) error {
	if counted {
		if err := x.save(ctx); err != nil {
			return err
		}
	}
	err := x.Cancel(ctx, x.id, jobs.Reason{Comment: why})
	if _, over := errors.AsType[*ResourceError](err); over {
		err = nil // superseded, canceled or deleted meanwhile
	}
	return err
}

// withdraw ends what is queued, and what runs if that was asked for, and with that
// the rollout.
func (x *spreading) withdraw(ctx context.Context) error {
	job, err := x.jobs.Job(ctx, x.Value.JobID)
	if err != nil && !errors.Is(err, fault.NotFound) {
		return err
	}
	if err := x.jobs.Withdraw(ctx, x.Value.JobID, job.Value.Why.Force); err != nil {
		return err
	}
	return x.finish(ctx)
}

func (x *spreading) finish(ctx context.Context) error {
	b := state.NewBatch(state.StepRolling).If(rolloutKey(x.id), x.Rev).Delete(rolloutKey(x.id))
	return x.commit(ctx, b)
}

// handed is called when all members have an execution.
func (x *spreading) handed(ctx context.Context) error {
	if x.Value.Phase = following; !x.Value.counts() {
		return x.finish(ctx)
	}
	return x.save(ctx)
}

// hand gives members their executions as far as that is allowed now.
func (x *spreading) hand(ctx context.Context) (time.Time, error) {
	now := x.now()
	paced := x.Value.Rate() > 0
	if next := x.Value.Next(now); paced && next.After(now) {
		return next, nil
	}
	job, err := x.jobs.Job(ctx, x.Value.JobID)
	if errors.Is(err, fault.NotFound) || err == nil && job.Value.Canceled {
		// As a rule the record became another in the same commit, and this one is old.
		x.Value.Phase = withdrawing
		return x.now(), x.save(ctx)
	}
	if err != nil {
		return time.Time{}, err
	}
	if !paced {
		return time.Time{}, x.much(ctx, func() error { return x.handAll(ctx, job) })
	}
	for {
		members, known, err := x.next(ctx, job.Value, pacedPage)
		if err != nil {
			return time.Time{}, err
		}
		if len(members) == 0 {
			return time.Time{}, x.handed(ctx)
		}
		if next, err := x.handInTurn(ctx, job, members, known); err != nil || !next.IsZero() {
			return next, err
		}
	}
}

// handAll gives all members that are left theirs, a page after the other, until a
// criterion is met.
func (x *spreading) handAll(ctx context.Context, job state.Record[jobs.Job]) error {
	for {
		members, known, err := x.next(ctx, job.Value, handPage)
		if err != nil {
			return err
		}
		if len(members) == 0 {
			return x.handed(ctx)
		}
		n, err := x.handPage(ctx, job, members, known)
		if err != nil {
			return err
		}
		x.Value.After, x.Value.Notified = members[len(members)-1].Thing, x.Value.Notified+n
		counted := x.merge()
		if why := x.Value.Config.Met(x.Value.Results); why != "" {
			return x.abort(ctx, why, counted)
		}
		if err := x.save(ctx); err != nil {
			return err
		}
	}
}

// next returns the members whose turn it is, up to limit, and what decides about
// them.
func (x *spreading) next(ctx context.Context, j jobs.Job, limit int) ([]iot.Member, map[string]jobs.Known, error) {
	members, err := x.registry.MembersAfter(ctx, x.Value.Group, x.Value.After, limit)
	if err != nil {
		return nil, nil, err
	}
	things := make([]string, len(members))
	for i, m := range members {
		things[i] = m.Thing
	}
	known, err := x.jobs.Known(ctx, j, things)
	return members, known, err
}

// handInTurn gives members theirs, each in a commit with the record, until the next
// one has to wait: then it returns until when.
func (x *spreading) handInTurn(ctx context.Context, job state.Record[jobs.Job], members []iot.Member, known map[string]jobs.Known) (time.Time, error) {
	for _, m := range members {
		now := x.now()
		if next := x.Value.Next(now); next.After(now) {
			return next, nil
		}
		if !known[m.Thing].Has(job.Value.ID) {
			before := x.Value
			x.Value.Joined(now)
			x.Value.After = m.Thing
			ok, err := x.handOne(ctx, job, m, known[m.Thing])
			if err != nil {
				return time.Time{}, err
			}
			if ok {
				continue
			}
			x.Value = before
		}
		x.Value.After = m.Thing // joined meanwhile and has it already, or left
	}
	return time.Time{}, nil
}

// handOne gives one member its execution, in one commit with the record, and
// reports whether it got it. fault.Conflict is the record's or the job's.
func (x *spreading) handOne(ctx context.Context, job state.Record[jobs.Job], m iot.Member, k jobs.Known) (bool, error) {
	for range driveTries {
		b := state.NewBatch(state.StepRolling)
		x.registry.StillBatch(b, x.Value.Group, m)
		ok, err := x.jobs.HandBatch(ctx, b, job, k)
		if err != nil || !ok {
			return false, err
		}
		x.saveBatch(b)
		if err = x.commit(ctx, b); !errors.Is(err, fault.Conflict) {
			return err == nil, err
		}
		// Whose conflict was it? Only the member's own is settled here.
		still := state.NewBatch(state.StepRolling).If(rolloutKey(x.id), x.Rev)
		if _, err := x.store.Commit(ctx, still); err != nil {
			return false, err
		}
		if m, k, ok, err = x.again(ctx, job, m.Thing); err != nil || !ok {
			return false, err
		}
	}
	return false, fault.New(fault.Conflict, "thing %s does not stay as it is", m.Thing)
}

// again reads anew what decides about one member; ok is false when it left.
func (s *Service) again(ctx context.Context, job state.Record[jobs.Job], thing string) (m iot.Member, k jobs.Known, ok bool, err error) {
	m, ok, err = s.registry.Member(ctx, job.Value.Target, thing)
	if err != nil || !ok {
		return m, k, false, err
	}
	known, err := s.jobs.Known(ctx, job.Value, []string{thing})
	return m, known[thing], err == nil, err
}

// handPage gives members theirs, many in a commit, and returns how many got it.
// Those of a commit that failed are taken one by one.
func (x *spreading) handPage(ctx context.Context, job state.Record[jobs.Job], members []iot.Member, known map[string]jobs.Known) (int, error) {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(inFlight)
	handed := 0
	pack := jobs.Packer{Commit: func(b *state.Batch, things []string) error {
		g.Go(func() error {
			_, err := x.store.Commit(gctx, b)
			if errors.Is(err, fault.Conflict) {
				return x.handEach(gctx, job, things)
			}
			return err
		})
		return gctx.Err()
	}}
	err := func() error {
		for _, m := range members {
			part := state.NewBatch(state.StepExecutions)
			x.registry.StillBatch(part, x.Value.Group, m)
			ok, err := x.jobs.HandBatch(ctx, part, job, known[m.Thing])
			if err != nil {
				return err
			}
			if !ok {
				continue
			}
			handed++
			if err := pack.Add(m.Thing, part); err != nil {
				return err
			}
		}
		return pack.Flush()
	}()
	return handed, errors.Join(g.Wait(), err)
}

// handEach gives each of the things its execution in a commit of its own.
func (s *Service) handEach(ctx context.Context, job state.Record[jobs.Job], things []string) error {
	for _, thing := range things {
		if err := s.handSingly(ctx, job, thing); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) handSingly(ctx context.Context, job state.Record[jobs.Job], thing string) error {
	for range driveTries {
		m, k, ok, err := s.again(ctx, job, thing)
		if err != nil || !ok {
			return err
		}
		b := state.NewBatch(state.StepExecutions)
		s.registry.StillBatch(b, job.Value.Target, m)
		if ok, err = s.jobs.HandBatch(ctx, b, job, k); err != nil || !ok {
			return err
		}
		if _, err = s.store.Commit(ctx, b); !errors.Is(err, fault.Conflict) {
			return err
		}
		now, err := s.jobs.Job(ctx, job.Value.ID)
		if err != nil || now.Rev != job.Rev {
			return errors.Join(err, fault.New(fault.Conflict, "job %s was canceled", job.Value.ID))
		}
	}
	return fault.New(fault.Conflict, "thing %s does not stay as it is", thing)
}
