package fleet

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/event"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/task"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/run"
)

// withdrawEvery is how often stopped rollouts are looked for, beside being told.
const withdrawEvery = 10 * time.Second

// withdrawStopped carries out what follows from a stop, until ctx is done: the
// task's items end, and what is still queued on cores is taken back. Every step
// can be repeated, so two replicas at it do no harm.
func (s *Service) withdrawStopped(ctx context.Context) error {
	if s.loaded(ctx) != nil {
		return nil
	}
	tick := time.NewTicker(withdrawEvery)
	defer tick.Stop()
	for {
		for id, r := range s.stopped() {
			if err := s.withdraw(ctx, id, r); err != nil && ctx.Err() == nil {
				s.log.WarnContext(ctx, "stopped task not withdrawn yet; trying again", logx.Task, id, logx.Err, err)
				_ = run.Sleep(ctx, time.Second) // the loop looks at ctx
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.stops:
		case <-tick.C:
		}
	}
}

// rolloutChanged is told of each change of a rollout record.
func (s *Service) rolloutChanged(_ string, _, now *taskRollout) {
	if now != nil && now.Stopped != "" && !now.Withdrawn {
		s.stops.Ring()
	}
}

func (s *Service) stopped() map[string]taskRollout {
	items, _ := s.rollouts.Range("", 0, func(_ string, r *taskRollout) bool { return r.Stopped != "" && !r.Withdrawn })
	out := make(map[string]taskRollout, len(items))
	for _, i := range items {
		out[strings.TrimPrefix(i.Key, rolloutPrefix)] = *i.Value
	}
	return out
}

func (s *Service) withdraw(ctx context.Context, id string, r taskRollout) error {
	err := s.tasks.Cancel(ctx, id, r.Stopped)
	if err != nil && !errors.Is(err, fault.Conflict) && !errors.Is(err, fault.NotFound) {
		return fmt.Errorf("cancel task %s: %w", id, err)
	}
	joined, err := s.joined(ctx, id)
	if err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(takers)
	for _, c := range joined {
		g.Go(func() error { return s.withdrawCore(gctx, c, id, r.Stopped) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	_, err = state.Update(ctx, s.cfg.Store, state.StepRollout, rolloutKey(id), func(v *taskRollout, exists bool, b *state.Batch) error {
		if !exists {
			b.Delete(rolloutKey(id)) // deleted meanwhile
		}
		v.Withdrawn = true
		return nil
	})
	return err
}

// joined returns the cores that the task sent somewhere and of which it is not known
// that they reported. It asks the task's items: what another replica did last may not
// be in the mirror yet.
func (s *Service) joined(ctx context.Context, id string) ([]string, error) {
	var out []string
	err := s.items(ctx, task.Task{ID: id}, func(i task.Item) {
		c, _, ok := s.cores.Get(coreKey(i.Name))
		done := ok && c.DeploymentTask == id && c.DeploymentStatus != DeploymentInProgress
		if i.Status == task.Success && !done {
			out = append(out, i.Name)
		}
	})
	if errors.Is(err, fault.NotFound) {
		return nil, nil // deleted meanwhile
	}
	return out, err
}

// unfinished returns the cores that the task sent somewhere and that have not
// reported, as far as the mirror knows.
func (s *Service) unfinished(taskID string) int {
	items, _ := s.cores.Range("", 0, func(_ string, c *Core) bool {
		return c.DeploymentTask == taskID && c.DeploymentStatus == DeploymentInProgress
	})
	return len(items)
}

// withdrawCore takes back what the task sent the core and it has not begun with.
// What it is at goes on.
func (s *Service) withdrawCore(ctx context.Context, name, taskID, why string) error {
	for range 16 {
		rec, err := state.ReadOr[Core](ctx, s.cfg.Store, coreKey(name))
		if err != nil {
			return err
		}
		core := rec.Value
		if rec.Rev == 0 || core.DeploymentTask != taskID || core.DeploymentStatus != DeploymentInProgress {
			return nil
		}
		e := cloud.Execution{Core: name, Group: groupOf(core.Desired), JobID: core.Execution.JobID, Number: core.Execution.Number}
		err = s.cfg.Cloud.Withdraw(ctx, e, func(b *state.Batch, withdrawn bool) error {
			if !withdrawn {
				return nil
			}
			core.DeploymentStatus, core.DeploymentMessage, core.UpdatedAt = DeploymentFailure, "withdrawn before the core took it up: "+why, s.stamp()
			b.If(coreKey(name), rec.Rev).Put(coreKey(name), core)
			event.Add(b, event.DeploymentWithdrawn, name, core.UpdatedAt, templateDetail{
				CoreName: name, DeploymentTaskID: core.DeploymentTask, JobID: core.Execution.JobID,
				TemplateName: core.Desired.Name, TemplateVersion: core.Desired.Version, Status: eventFailed, Message: why,
			})
			_, err := s.cfg.Store.Commit(ctx, b)
			return err
		})
		if !errors.Is(err, fault.Conflict) {
			return err
		}
	}
	return fmt.Errorf("withdraw from core %s: %w", name, fault.Conflict)
}
