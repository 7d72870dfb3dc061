package patching

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/run"
)

const (
	sweepEvery = 5 * time.Minute
	// patience is after how long a creation is taken to be dead: no request of the
	// fleet API runs so long.
	patience = 10 * time.Minute
)

// Run gives notice to devices, ends patches that nobody took or reported in
// time, and finishes what a crash interrupted, until ctx is done.
func (s *Service) Run(ctx context.Context) error {
	return run.All(ctx,
		run.Loop{Name: "patch notices", Run: s.notify},
		run.Loop{Name: "patch sweep", Run: func(ctx context.Context) error {
			return run.Every(ctx, sweepEvery, s.Sweep, func(err error) { s.log.WarnContext(ctx, "patches not swept", logx.Err, err) })
		}},
	)
}

// notify tells devices of what comes into their queues. What waited before they
// ask for when they connect.
func (s *Service) notify(ctx context.Context) error {
	if s.cfg.Notices == nil {
		<-ctx.Done()
		return nil
	}
	return state.Follow(ctx, s.store, queuePrefix, s.noticed, func(err error) {
		s.log.WarnContext(ctx, "queues of patches not watched", logx.Err, err)
	})
}

func (s *Service) noticed(events []state.Event) error {
	for _, e := range events {
		escaped, _, ok := strings.Cut(strings.TrimPrefix(e.Key, queuePrefix), "/")
		device, err := url.PathUnescape(escaped)
		if !e.Deleted && ok && err == nil {
			s.cfg.Notices.PatchWaits(device)
		}
	}
	return nil
}

// Sweep does once what Run does again and again.
func (s *Service) Sweep(ctx context.Context) error {
	return errors.Join(s.sweepOpen(ctx), s.sweepGone(ctx), s.sweepQueues(ctx))
}

// sweepOpen finishes tasks that exist and removes what others left.
func (s *Service) sweepOpen(ctx context.Context) error {
	return state.All(ctx, s.store, openPrefix, func(key string, o state.Record[opened]) error {
		id := strings.TrimPrefix(key, openPrefix)
		_, err := s.Task(ctx, id)
		switch {
		case err == nil:
			recs, err := s.ofTask(ctx, id)
			if err != nil {
				return err
			}
			return s.finish(ctx, id, recs)
		case !errors.Is(err, fault.NotFound):
			return err
		case s.cfg.Now().Sub(o.Value.At) < patience:
			return nil
		}
		return s.abandon(ctx, id)
	})
}

// abandon removes the patches of a task that never came to be.
func (s *Service) abandon(ctx context.Context, id string) error {
	r, err := state.Read[opened](ctx, s.store, openKey(id))
	if err != nil {
		return ignoreMissing(err)
	}
	// Written anew, so that a creation that still goes on fails at its last commit.
	rev, err := s.store.Commit(ctx, state.NewBatch(state.StepPatch).If(openKey(id), r.Rev).If(taskKey(id), 0).Put(openKey(id), r.Value))
	if errors.Is(err, fault.Conflict) {
		return nil // next time
	}
	if err != nil {
		return err
	}
	recs, err := s.ofTask(ctx, id)
	if err != nil {
		return err
	}
	for _, part := range chunks(recs, opsPerPatch) {
		b := state.NewBatch(state.StepPatch)
		for _, p := range part {
			b.Delete(patchKey(p.Value.ID)).Delete(p.Value.taskIndex()).Delete(p.Value.deviceIndex())
		}
		if _, err := s.store.Commit(ctx, b); err != nil {
			return err
		}
	}
	_, err = s.store.Commit(ctx, state.NewBatch(state.StepPatch).If(openKey(id), rev).Delete(openKey(id)))
	s.log.InfoContext(ctx, "rest of an interrupted patch task removed", logx.Task, id, "patches", len(recs))
	return err
}

// ofTask reads the patches of a task, existing or not.
func (s *Service) ofTask(ctx context.Context, id string) ([]state.Record[record], error) {
	var out []state.Record[record]
	err := state.All(ctx, s.store, byTask(id), func(_ string, i state.Record[string]) error {
		r, err := state.Read[record](ctx, s.store, patchKey(i.Value))
		if err == nil {
			out = append(out, r)
		}
		return ignoreMissing(err)
	})
	return out, err
}

func ignoreMissing(err error) error {
	if errors.Is(err, fault.NotFound) {
		return nil
	}
	return err
}

// sweepGone removes what belongs to deleted templates.
func (s *Service) sweepGone(ctx context.Context) error {
	return state.All(ctx, s.store, gonePrefix, func(key string, g state.Record[gone]) error {
		if s.cfg.Now().Sub(g.Value.At) < patience {
			return nil
		}
		return s.removeTemplate(ctx, strings.TrimPrefix(key, gonePrefix))
	})
}

// sweepQueues ends patches whose time is over.
func (s *Service) sweepQueues(ctx context.Context) error {
	now := s.cfg.Now()
	return state.All(ctx, s.store, queuePrefix, func(_ string, q state.Record[queued]) error {
		if now.Before(q.Value.ExpiresAt) {
			return nil
		}
		r, err := state.Read[record](ctx, s.store, patchKey(q.Value.PatchID))
		if err != nil || r.Value.Ended() || now.Before(r.Value.ExpiresAt) {
			return ignoreMissing(err)
		}
		message := fmt.Sprintf("%s: the device did not take the patch within %s", Expired, s.cfg.Expiry)
		if r.Value.Status == Pending {
			message = fmt.Sprintf("%s: the device took the patch at %s and has not reported", Expired, r.Value.UpdatedAt.Format(time.RFC3339))
		}
		if err := s.end(ctx, r, Failed, message); !errors.Is(err, fault.Conflict) {
			return err
		}
		return nil
	})
}

// Forget ends the patches that wait for a device which is being deleted: another
// one with its name must not get them. A device with none is no error.
func (s *Service) Forget(ctx context.Context, device string) error {
	return state.All(ctx, s.store, queueOf(device), func(_ string, q state.Record[queued]) error {
		r, err := state.Read[record](ctx, s.store, patchKey(q.Value.PatchID))
		if err != nil || r.Value.Ended() {
			return ignoreMissing(err)
		}
		return s.end(ctx, r, Failed, DeviceDeleted+": the device was deleted before it had reported")
	})
}
