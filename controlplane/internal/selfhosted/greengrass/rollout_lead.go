package greengrass

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/run"
)

const (
	driverKey = prefix + "rollout-leader"
	driverTTL = 10 * time.Second
	// settle is how long counters are gathered before the record takes them over,
	// as long as they meet no criterion.
	settle = time.Second
)

func (s *Service) driver() state.Election {
	return state.Election{Store: s.store, Step: state.StepRolling, Key: driverKey, TTL: driverTTL}
}

// ReleaseRollouts lets this process drive rollouts at once, for one that knows
// itself to be the only one: see state.Election.
func (s *Service) ReleaseRollouts(ctx context.Context) error { return s.driver().Depose(ctx) }

// RunRollouts carries out rollouts until ctx is done: one process does so for all.
// Errors are logged, and it is tried again.
func (s *Service) RunRollouts(ctx context.Context) error {
	return s.driver().Run(ctx, func(ctx context.Context) error {
		return run.Retry(ctx, run.Backoff{Max: 5 * time.Second}, 0, func(ctx context.Context) error {
			l := &lead{s: s, more: run.NewBell(), works: map[string]*work{}}
			err := l.run(ctx)
			if ctx.Err() != nil {
				return nil
			}
			s.log.WarnContext(ctx, "rollouts are not driven; starting over", logx.Err, err)
			return fmt.Errorf("rollouts are not driven: %w", fault.Unavailable)
		})
	})
}

// lead is one term: a goroutine for each rollout that is not done, so that none
// waits for another, and one that counts while there is something to count.
type lead struct {
	s    *Service
	wg   sync.WaitGroup
	more run.Bell // there is something to count

	mu       sync.Mutex // guards all below
	works    map[string]*work
	counting int // of works, those that count
}

// work is one rollout.
type work struct {
	wake   run.Bell // the record says something else
	news   run.Bell // something was counted
	counts bool
}

func (l *lead) run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer l.wg.Wait()
	defer stop()
	if err := l.s.adoptRollouts(ctx); err != nil {
		return fmt.Errorf("take over rollouts of the version before: %w", err)
	}
	p, err := l.s.store.List(ctx, rolloutPrefix, "", 1) // for its revision
	if err != nil {
		return fmt.Errorf("list rollouts: %w", err)
	}
	err = l.s.rollouts(ctx, func(id string, r state.Record[spread]) error {
		l.changed(ctx, id, r.Value)
		return nil
	})
	if err != nil {
		return fmt.Errorf("list rollouts: %w", err)
	}
	l.wg.Go(func() { l.count(ctx) })
	return l.s.store.Watch(ctx, rolloutPrefix, p.At, func(events []state.Event) error {
		for _, e := range events {
			if e.Deleted {
				continue // whoever works at it sees it
			}
			r, err := state.Decode[spread](e.Entry)
			if err != nil {
				return err
			}
			l.changed(ctx, strings.TrimPrefix(e.Key, rolloutPrefix), r.Value)
		}
		return nil
	})
}

// adoptRollouts turns what the version before noted of group deployments that it had
// not rolled out whole into rollouts: without a rate, as that version did.
func (s *Service) adoptRollouts(ctx context.Context) error {
	const former = prefix + "rolling/" // <deployment>
	return state.All(ctx, s.store, former, func(key string, r state.Record[struct{}]) error {
		b := state.NewBatch(state.StepRolling).If(key, r.Rev).Delete(key)
		d, err := s.record(ctx, strings.TrimPrefix(key, former))
		switch v := d.Value; {
		case errors.Is(err, fault.NotFound):
		case err != nil:
			return err
		case v.Status == StatusActive && v.Kind == names.TargetThingGroup:
			v.JobConfig.Rollout, v.JobConfig.Abort = nil, nil
			s.beginRolloutBatch(b.If(deploymentKey(v.ID), d.Rev), v)
		}
		_, err = s.store.Commit(ctx, b)
		return err
	})
}

// changed begins with a new rollout. One that is known is told when others ended
// it: all else about it is done here.
func (l *lead) changed(ctx context.Context, id string, r spread) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w := l.works[id]; w != nil {
		if r.Phase == withdrawing {
			w.wake.Ring()
		}
		return
	}
	w := &work{wake: run.NewBell(), news: run.NewBell(), counts: r.counts()}
	l.works[id] = w
	if w.counts {
		l.counting++
		l.more.Ring()
	}
	l.wg.Go(func() { l.work(ctx, id, w) })
}

// done forgets the rollout if nothing is left to do, and reports whether it did.
func (l *lead) done(ctx context.Context, id string, w *work) bool {
	r, err := state.ReadOr[spread](ctx, l.s.store, rolloutKey(id))
	if err != nil || r.Rev != 0 {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(w.wake) > 0 {
		return false // it was canceled in this moment, and has a record again
	}
	delete(l.works, id)
	if w.counts {
		l.counting--
	}
	return true
}

// work drives one rollout until it is done.
func (l *lead) work(ctx context.Context, id string, w *work) {
	wait := run.Backoff{Max: 5 * time.Second}
	timer := time.NewTimer(0)
	defer timer.Stop()
	var last, due time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
		case <-timer.C:
		case <-w.news:
			if at := last.Add(settle); at.After(time.Now()) && !l.s.results.met(id) {
				if due.IsZero() || at.Before(due) {
					due = at
					timer.Reset(time.Until(due))
				}
				continue
			}
		}
		next, err := l.s.driveOne(ctx, id)
		last, due = time.Now(), next
		timer.Stop()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			l.s.log.WarnContext(ctx, "rollout is held up; trying again", logx.Deployment, id, logx.Err, err)
			due = last.Add(wait.Next())
			timer.Reset(time.Until(due))
			continue
		case !due.IsZero():
			timer.Reset(due.Sub(l.s.now()))
		case l.done(ctx, id, w):
			return
		}
		wait.Reset()
	}
}

// count counts whenever there is something to count.
func (l *lead) count(ctx context.Context) {
	wait := run.Backoff{Max: 5 * time.Second}
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.more:
		}
		err := l.s.results.run(ctx, l.s, l.idle, l.counted)
		if err == nil {
			wait.Reset()
			continue
		}
		l.s.log.WarnContext(ctx, "reports of cores are not counted; trying again", logx.Err, err)
		l.more.Ring()
		if run.Sleep(ctx, wait.Next()) != nil {
			return
		}
	}
}

func (l *lead) idle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counting == 0
}

func (l *lead) counted(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w := l.works[id]; w != nil {
		w.news.Ring()
	}
}
