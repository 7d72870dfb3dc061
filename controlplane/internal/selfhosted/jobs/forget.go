package jobs

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
)

// clockSpread is how far the clocks of replicas and devices may be apart: what
// was queued longer ago than that is older than anything queued from now on.
const clockSpread = time.Minute

// Forget hands each, in batches of a few operations, the removal of all that is
// kept for the thing: executions that wait, run or ended, and their deadlines.
// Nothing may be started for the thing meanwhile. A device that reports in this
// moment makes the batch with its execution conflict; then Forget starts anew.
func (s *Service) Forget(ctx context.Context, thing string, each func(*state.Batch) error) error {
	err := state.All(ctx, s.store, pendingPrefix(thing), func(key string, e state.Record[Execution]) error {
		b := state.NewBatch(state.StepDeprovision).If(key, e.Rev).Delete(key)
		if at := e.Value.TimeoutAt; at != 0 {
			b.Delete(deadlineKey(at, thing, e.Value.JobID))
		}
		return each(b)
	})
	if err != nil {
		return fmt.Errorf("forget executions of %s: %w", thing, err)
	}
	// What ends from here on ends by a report that the conditions above refuse.
	err = s.keys(ctx, endedPrefix(thing), func(key string) error { return each(state.NewBatch(state.StepDeprovision).Delete(key)) })
	if err != nil {
		return fmt.Errorf("forget ended executions of %s: %w", thing, err)
	}
	last, err := state.ReadOr[latest](ctx, s.store, latestKey(thing))
	if err != nil || last.Rev == 0 || last.Value.Gone {
		return err
	}
	b := state.NewBatch(state.StepDeprovision).If(latestKey(thing), last.Rev)
	l := latest{QueuedAt: last.Value.QueuedAt + 1, Stamp: last.Value.Stamp, Gone: true}
	if until := max(l.QueuedAt, l.Stamp/1000) + int64(clockSpread/time.Second); until > s.now().Unix() {
		b.Put(latestKey(thing), l)
		b.Put(deadlineKey(until, thing, ""), struct{}{}) // Expire removes it then
	} else {
		b.Delete(latestKey(thing))
	}
	return each(b)
}

// outlive removes what Forget kept for a thing that did not come back.
func (s *Service) outlive(ctx context.Context, deadline, thing string) error {
	last, err := state.ReadOr[latest](ctx, s.store, latestKey(thing))
	if err != nil {
		return err
	}
	b := state.NewBatch(state.StepJobTimeout).Delete(deadline)
	if last.Value.Gone && max(last.Value.QueuedAt, last.Value.Stamp/1000) < s.now().Unix() {
		b.If(latestKey(thing), last.Rev).Delete(latestKey(thing))
	}
	if _, err = s.store.Commit(ctx, b); errors.Is(err, fault.Conflict) {
		return nil // the thing came back in this moment; the next round sees it
	}
	return err
}

// ForgetTarget removes the ended executions of all things for a target that is
// no more. It goes through all that ended: a thing has one for each target.
func (s *Service) ForgetTarget(ctx context.Context, kind names.TargetKind, target string) error {
	tail := "/" + string(kind) + "/" + target
	b := state.NewBatch(state.StepDeployment)
	commit := func() error {
		_, err := s.store.Commit(ctx, b)
		b = state.NewBatch(state.StepDeployment)
		return err
	}
	err := s.keys(ctx, endedAll(), func(key string) error {
		if !strings.HasSuffix(key, tail) {
			return nil
		}
		if b.Delete(key); b.Len() < state.MaxBatch {
			return nil
		}
		return commit()
	})
	if err == nil {
		err = commit()
	}
	if err != nil {
		return fmt.Errorf("forget executions for %s %s: %w", kind, target, err)
	}
	return nil
}

// DiscardBatch notes in b that the job is of interest only to who carries it out
// still; Prune removes it then. Nothing may be started for it any more.
func (s *Service) DiscardBatch(b *state.Batch, id string) { b.Put(discardedKey(id), struct{}{}) }

// Prune removes the jobs that were discarded and that no thing has pending. It goes
// through all that is pending if there are such jobs.
func (s *Service) Prune(ctx context.Context) error {
	idle := map[string]struct{}{}
	err := s.keys(ctx, discardedKey(""), func(key string) error {
		idle[strings.TrimPrefix(key, discardedKey(""))] = struct{}{}
		return nil
	})
	if err == nil && len(idle) > 0 {
		err = s.keys(ctx, pendingAll(), func(key string) error {
			delete(idle, key[strings.LastIndexByte(key, '/')+1:])
			return nil
		})
	}
	if err != nil {
		return fmt.Errorf("look for discarded jobs: %w", err)
	}
	for id := range idle {
		b := state.NewBatch(state.StepExecutions).Delete(jobKey(id)).Delete(discardedKey(id))
		if _, err := s.store.Commit(ctx, b); err != nil {
			return fmt.Errorf("remove job %s: %w", id, err)
		}
	}
	return nil
}

// keys calls each for every key under p.
func (s *Service) keys(ctx context.Context, p string, each func(key string) error) error {
	for after := ""; ; {
		page, err := s.store.List(ctx, p, after, 1000)
		if err != nil {
			return err
		}
		for _, e := range page.Entries {
			if err := each(e.Key); err != nil {
				return err
			}
			after = e.Key
		}
		if !page.More {
			return nil
		}
	}
}
