package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/event"
	"github.com/ggfleet/ggfleet/controlplane/internal/rollout"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/run"
)

// Run keeps the view of the fleet: it mirrors the core records and turns what
// devices reported of their deployments into their reported state, until ctx is
// done.
func (s *Service) Run(ctx context.Context) error {
	return run.All(ctx,
		run.Loop{Name: "core mirror", Run: s.cores.Run},
		run.Loop{Name: "device mirror", Run: s.devices.all.Run},
		run.Loop{Name: "rollout mirror", Run: s.rollouts.Run},
		run.Loop{Name: "deleted templates", Run: s.sweepTemplates},
		run.Loop{Name: "stopped rollouts", Run: s.withdrawStopped},
		run.Loop{Name: "history of status", Run: s.followStatus},
		run.Loop{Name: "fleet readiness", Run: s.sayReady},
		run.Loop{Name: "reported state", Run: s.follow},
	)
}

// Ready is closed once lists and summary are complete.
func (s *Service) Ready() <-chan struct{} { return s.ready }

// loaded waits until every mirror is complete: what a mirror does not have yet is
// not to be taken for absent.
func (s *Service) loaded(ctx context.Context) error {
	select {
	case <-s.ready:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// sayReady closes ready once every mirror is complete.
func (s *Service) sayReady(ctx context.Context) error {
	for _, mirror := range []<-chan struct{}{s.cores.Ready(), s.rollouts.Ready(), s.devices.all.Ready()} {
		select {
		case <-mirror:
		case <-ctx.Done():
			return nil
		}
	}
	close(s.ready)
	<-ctx.Done()
	return nil
}

// follow applies results in order. The cursor is stored after the records, so a
// crash in between applies some again: applying is idempotent.
func (s *Service) follow(ctx context.Context) error {
	if s.loaded(ctx) != nil {
		return nil
	}
	var wait run.Backoff
	for ctx.Err() == nil {
		c, err := state.ReadOr[string](ctx, s.cfg.Store, cursorKey)
		if err == nil {
			err = s.cfg.Cloud.Results(ctx, c.Value, func(results []cloud.Execution, cursor string) error {
				wait.Reset()
				return s.take(ctx, results, cursor)
			})
		}
		if err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "reported state stopped; trying again", logx.Err, err)
			_ = run.Sleep(ctx, wait.Next()) // the loop looks at ctx
		}
	}
	return nil
}

// takers is how many cores' results are applied at once.
const takers = 16

func (s *Service) take(ctx context.Context, results []cloud.Execution, cursor string) error {
	if err := s.applyAll(ctx, results); err != nil {
		return err
	}
	// Applying a result again changes nothing, so the cursor may lag: once a
	// second is enough to keep a restart from reading a long history.
	if now := s.now(); cursor != "" && now.Sub(s.cursorAt) >= time.Second {
		s.cursorAt = now
		_, err := s.cfg.Store.Commit(ctx, state.NewBatch(state.StepCoreReport).Put(cursorKey, cursor))
		return err
	}
	return nil
}

// applyAll applies results, those of one core in their order.
func (s *Service) applyAll(ctx context.Context, results []cloud.Execution) error {
	byCore := map[string][]cloud.Execution{}
	for _, e := range results {
		byCore[e.Core] = append(byCore[e.Core], e)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(takers)
	for core, list := range byCore {
		g.Go(func() error {
			for _, e := range list {
				if err := s.apply(ctx, e); err != nil {
					return fmt.Errorf("apply result of job %s on %s: %w", e.JobID, core, err)
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// apply makes one result part of the core's record and of the rollout of the task
// that started it, in one commit with the event that tells of it (cdf-services
// §3.9).
func (s *Service) apply(ctx context.Context, e cloud.Execution) error {
	t, ours := templateOf(e.Group)
	if !ours || !e.Ended && e.Status != rollout.InProgress {
		return nil
	}
	if c, _, ok := s.cores.Get(coreKey(e.Core)); ok && c.knows(e, t) {
		return nil
	}
	for range 64 {
		err := s.applyOnce(ctx, e, t)
		if !errors.Is(err, fault.Conflict) {
			return err
		}
	}
	return fmt.Errorf("lost 64 races in a row: %w", fault.Conflict)
}

func (s *Service) applyOnce(ctx context.Context, e cloud.Execution, t TemplateRef) error {
	rec, err := state.ReadOr[Core](ctx, s.cfg.Store, coreKey(e.Core))
	if err != nil || rec.Rev == 0 {
		return err
	}
	core := rec.Value
	if !core.sentBy(e, t) {
		if current, err := s.delivers(ctx, e, t); err != nil || !current {
			return err
		}
	}
	x := core.apply(e, t)
	if !x.changed {
		return nil
	}
	b := state.NewBatch(state.StepCoreReport)
	if x.mine && core.Paced {
		leave, err := s.pace.enter(ctx, core.DeploymentTask)
		if err != nil {
			return err
		}
		defer leave()
		if err := s.countBatch(ctx, b, core.DeploymentTask, e, x.first); err != nil {
			return err
		}
	}
	core.UpdatedAt = s.stamp()
	b.If(coreKey(e.Core), rec.Rev).Put(coreKey(e.Core), core)
	if e.Ended {
		d := templateDetail{
			CoreName: e.Core, DeploymentTaskID: core.taskOf(e, t), DeploymentID: e.DeploymentID, JobID: e.JobID,
			TemplateName: t.Name, TemplateVersion: t.Version, Status: eventSuccess,
		}
		if status, message := outcome(e); status != DeploymentSuccess {
			d.Status, d.Message = eventFailed, message
		}
		event.Add(b, event.CoreTemplateUpdated, e.Core, core.UpdatedAt, d)
	}
	_, err = s.cfg.Store.Commit(ctx, b)
	return err
}

// delivers reports whether the execution is one of the deployment that the
// template version has. A template of the same name may have been there before,
// with cores that still report on it.
func (s *Service) delivers(ctx context.Context, e cloud.Execution, t TemplateRef) (bool, error) {
	d, err := state.ReadOr[TemplateDeployment](ctx, s.cfg.Store, deployedKey(t))
	return d.Value.JobID == e.JobID, err
}

// countBatch enters the execution into the rollout of its task.
func (s *Service) countBatch(ctx context.Context, b *state.Batch, taskID string, e cloud.Execution, first bool) error {
	r, err := state.ReadOr[taskRollout](ctx, s.cfg.Store, rolloutKey(taskID))
	if err != nil || r.Rev == 0 {
		return err
	}
	r.Value.count(e.Status, first, s.stamp())
	b.If(rolloutKey(taskID), r.Rev).Put(rolloutKey(taskID), r.Value)
	return nil
}

// Settled reports whether the running count equals a recount of the records;
// for tests and diagnosis.
func (s *Service) Settled(ctx context.Context) (bool, error) {
	want, err := s.Recount(ctx)
	if err != nil {
		return false, err
	}
	got := s.count.snapshot()
	if len(got) != len(want) {
		return false, nil
	}
	for k, v := range want {
		if got[k] != v {
			return false, nil
		}
	}
	return true, nil
}
