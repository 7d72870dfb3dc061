package component

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/run"
)

// A version that was asked for by Request is REQUESTED in the store, and that
// is all there is to say what is to be done: whoever leads takes every version
// whose s3: artifacts have no digest yet, makes it INITIATED, reads them, and
// ends it as DEPLOYABLE or FAILED. A crash anywhere leaves a version that is
// taken again.

const (
	checkerKey = state.Root + "greengrass/component-checker"
	checkerTTL = 10 * time.Second
	// smallBytes parts the versions that are checked within moments from those
	// that take their time: each kind has a lane of its own.
	smallBytes = 64 << 20
)

// Release ends the claim of a process that was killed, for a process that knows
// itself to be alone on this store.
func (s *Service) Release(ctx context.Context) error { return s.election().Depose(ctx) }

func (s *Service) election() state.Election {
	return state.Election{Store: s.cfg.Store, Step: state.StepComponent, Key: checkerKey, TTL: checkerTTL}
}

// stand checks artifacts for as long as this process is the one that does.
func (s *Service) stand(ctx context.Context) error {
	return s.election().Run(ctx, func(ctx context.Context) error {
		return run.All(ctx,
			run.Loop{Name: "small artifacts", Run: func(ctx context.Context) error { return s.work(ctx, small) }},
			run.Loop{Name: "large artifacts", Run: func(ctx context.Context) error { return s.work(ctx, large) }},
		)
	})
}

// work checks the versions of one lane, one after the other.
func (s *Service) work(ctx context.Context, l lane) error {
	var pause run.Backoff
	for ctx.Err() == nil {
		key, w := s.due.next(l)
		if w == nil {
			select {
			case <-ctx.Done():
			case <-s.due.wake[l]:
			}
			continue
		}
		err := s.check(ctx, key, w)
		if err == nil {
			pause.Reset()
			continue
		}
		if ctx.Err() == nil {
			s.cfg.Log.WarnContext(ctx, "artifacts of a component version not checked; trying again", "key", key, logx.Err, err)
			s.due.later(w)
			_ = run.Sleep(ctx, pause.Next()) // the loop looks at ctx
		}
	}
	return nil
}

// check takes the version at key to DEPLOYABLE or FAILED. If there is nothing to
// do, or no more, it does nothing.
func (s *Service) check(ctx context.Context, key string, w *wait) error {
	idle := false
	rec, err := state.Update(ctx, s.cfg.Store, state.StepComponent, key, func(v *Version, exists bool, _ *state.Batch) error {
		if idle = !exists || !v.unchecked(); idle || v.State == Initiated {
			return state.ErrKeep
		}
		v.State = Initiated
		return nil
	})
	if err != nil {
		return fmt.Errorf("begin the check: %w", err)
	}
	if idle {
		s.due.drop(key, w)
		return nil
	}
	found := rec.Value
	wrong, err := s.digest(ctx, &found)
	if err != nil {
		return err
	}
	_, err = state.Update(ctx, s.cfg.Store, state.StepComponent, key, func(v *Version, exists bool, _ *state.Batch) error {
		if !exists || !v.unchecked() || !v.CreatedAt.Equal(found.CreatedAt) || !bytes.Equal(v.Source, found.Source) {
			return state.ErrKeep // deleted, and perhaps made again
		}
		if len(wrong) > 0 {
			v.State, v.Errors = Failed, wrong
			return nil
		}
		for i, a := range v.Artifacts {
			if a.External { // the others may have been uploaded meanwhile
				v.Artifacts[i] = found.Artifacts[i]
			}
		}
		return v.settle()
	})
	if err != nil {
		return fmt.Errorf("end the check: %w", err)
	}
	return nil
}

// unchecked tells whether there are s3: artifacts that nobody has read yet.
func (v *Version) unchecked() bool {
	if v.Deleting || v.State == Failed {
		return false
	}
	for _, a := range v.Artifacts {
		if a.External && !a.Uploaded {
			return true
		}
	}
	return false
}

type lane int

const (
	small lane = iota
	large
)

// queue is the versions that await a check.
type queue struct {
	wake [2]run.Bell // by lane

	mu  sync.Mutex       // guards due
	due map[string]*wait // by key
}

// wait is one version in the queue.
type wait struct {
	size  int64 // bytes of its artifacts
	tries int
}

func newQueue() *queue {
	return &queue{due: map[string]*wait{}, wake: [2]run.Bell{run.NewBell(), run.NewBell()}}
}

func (w *wait) lane() lane {
	if w.size > smallBytes {
		return large
	}
	return small
}

// change takes over what the mirror tells; it only looks.
func (q *queue) change(key string, after *indexed) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if after == nil || !after.unchecked() {
		delete(q.due, key)
		return
	}
	w := &wait{}
	for _, a := range after.Artifacts {
		w.size += a.Size
	}
	if old := q.due[key]; old != nil {
		w.tries = old.tries
	}
	q.due[key] = w
	q.wake[w.lane()].Ring()
}

// next is the version of a lane that failed the least, of those the smallest.
func (q *queue) next(l lane) (key string, best *wait) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for k, w := range q.due {
		if w.lane() != l {
			continue
		}
		if best == nil || w.tries < best.tries || w.tries == best.tries && (w.size < best.size || w.size == best.size && strings.Compare(k, key) < 0) {
			best, key = w, k
		}
	}
	return key, best
}

// later puts a version behind the others.
func (q *queue) later(w *wait) {
	q.mu.Lock()
	defer q.mu.Unlock()
	w.tries++
}

// drop forgets a version that the store knows to need nothing, unless it changed
// since.
func (q *queue) drop(key string, w *wait) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.due[key] == w {
		delete(q.due, key)
	}
}
