package task

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/run"
)

var (
	errLeaseLost = errors.New("the worker's lease ended")
	errClaimLost = errors.New("the claim belongs to nobody or to another worker")
)

// session is the work under one lease.
type session struct {
	*Engine
	lease     state.Lease
	queue     *queue
	slots     chan struct{} // one for each item in work
	unstarted atomic.Int64  // items of claimed batches that have had no slot yet
	kick      run.Bell      // something changed: look for work again
	batches   sync.WaitGroup

	seed  maphash.Seed
	locks [16]chan struct{} // by task: its batches end one after the other here
}

// session works until ctx is done or the lease is lost; then nothing of it runs
// any more.
func (e *Engine) session(ctx context.Context) error {
	lease, err := e.store.NewLease(ctx, e.cfg.LeaseTTL)
	if err != nil {
		return fmt.Errorf("get a lease: %w", err)
	}
	s := &session{
		Engine: e, lease: lease, kick: run.NewBell(),
		slots: make(chan struct{}, e.cfg.Concurrency), seed: maphash.MakeSeed(),
	}
	for i := range s.locks {
		s.locks[i] = make(chan struct{}, 1)
	}
	s.queue = newQueue(e.kinds, e.cfg.Concurrency, lease.ID(), s.kick.Ring)

	err = run.All(ctx,
		run.Loop{Name: "lease", Run: s.guard},
		run.Loop{Name: "watch", Run: s.watch},
		run.Loop{Name: "claim", Run: s.claims},
		run.Loop{Name: "sweep", Run: s.sweeps},
	)
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if cerr := lease.Close(closing); cerr != nil && err == nil {
		e.log.WarnContext(ctx, "lease not closed; its claims end by themselves", logx.Err, cerr)
	}
	return err
}

func (s *session) guard(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-s.lease.Lost():
		return errLeaseLost
	}
}

func (s *session) sweeps(ctx context.Context) error {
	for ctx.Err() == nil {
		wait := sweepAge
		if err := s.Sweep(ctx); err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "sweep failed; trying again later", logx.Err, err)
			wait = time.Minute
		}
		select {
		case <-time.After(wait):
		case <-s.deleted:
		case <-ctx.Done():
		}
	}
	return nil
}

// watch keeps the queue up to date.
func (s *session) watch(ctx context.Context) error {
	var b run.Backoff
	for ctx.Err() == nil {
		p, err := s.store.List(ctx, liveRoot, "", 0)
		if err == nil {
			s.queue.reset(p.Entries)
			b.Reset()
			err = s.store.Watch(ctx, liveRoot, p.At, func(events []state.Event) error {
				s.queue.apply(events)
				return nil
			})
		}
		if errors.Is(err, state.ErrCompacted) || ctx.Err() != nil {
			continue
		}
		s.log.WarnContext(ctx, "watch of tasks broke; listing again", logx.Err, err)
		_ = run.Sleep(ctx, b.Next()) // ctx is looked at above
	}
	return nil
}

// claims takes units as long as there are slots for their items. It returns when
// everything in hand has stopped.
func (s *session) claims(ctx context.Context) error {
	defer s.batches.Wait()
	b := run.Backoff{Max: time.Second}
	for ctx.Err() == nil {
		p, ok := pick{}, false
		if s.unstarted.Load() < int64(s.cfg.Concurrency) {
			p, ok = s.queue.next()
		}
		if !ok {
			select {
			case <-s.kick:
			case <-ctx.Done():
			}
			continue
		}
		c, err := s.claim(ctx, p)
		switch {
		case err == nil && c == nil: // nothing to do here
			s.queue.done(p, false)
		case err == nil:
			b.Reset()
			s.start(ctx, p, c)
		default:
			s.queue.done(p, true)
			if ctx.Err() == nil && !errors.Is(err, fault.Conflict) {
				s.log.WarnContext(ctx, "claim failed; trying again", logx.Task, p.task, logx.Err, err)
				_ = run.Sleep(ctx, b.Next()) // ctx is looked at above
			}
		}
	}
	return nil
}

func (s *session) start(ctx context.Context, p pick, c *claim) {
	s.unstarted.Add(int64(len(c.items)))
	s.batches.Go(func() {
		again := false
		defer func() { s.queue.done(p, again) }()
		var err error
		if p.n == expandUnit {
			err = s.expand(ctx, c)
		} else {
			err = s.runBatch(ctx, c)
		}
		if err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "batch given back", logx.Task, p.task, "batch", p.n, logx.Err, err)
			// If the claim is lost, its end makes the watch offer the batch again.
			// Else it is still ours: go on with it, but not in a tight loop.
			again = !errors.Is(err, errClaimLost) && run.Sleep(ctx, time.Second) == nil
		}
	})
}

// lock keeps this process from racing with itself for the state of a task. It
// returns how to unlock.
func (s *session) lock(ctx context.Context, id string) (func(), error) {
	l := s.locks[maphash.String(s.seed, id)%uint64(len(s.locks))]
	select {
	case l <- struct{}{}:
		return func() { <-l }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
