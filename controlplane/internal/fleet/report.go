package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
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
		run.Loop{Name: "reported state", Run: s.follow},
	)
}

// Ready is closed once lists and summary are complete.
func (s *Service) Ready() <-chan struct{} { return s.cores.Ready() }

// follow applies results in order. The cursor is stored after the records, so a
// crash in between applies some again: applying is idempotent.
func (s *Service) follow(ctx context.Context) error {
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

func (s *Service) take(ctx context.Context, results []cloud.Execution, cursor string) error {
	for _, e := range results {
		if err := s.apply(ctx, e); err != nil {
			return fmt.Errorf("apply result of job %s on %s: %w", e.JobID, e.Core, err)
		}
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

// apply makes one result part of the core's record (cdf-services §3.9). Only the
// execution that the last deployment task started decides deploymentStatus; any
// success of a template group decides the reported template.
func (s *Service) apply(ctx context.Context, e cloud.Execution) error {
	t, ours := templateOf(e.Group)
	if !ours || !e.Ended {
		return nil
	}
	_, err := state.Update(ctx, s.cfg.Store, state.StepCoreReport, coreKey(e.Core), func(c *Core, exists bool, _ *state.Batch) error {
		if !exists {
			return state.ErrKeep
		}
		before := *c
		if e.Status == statusSucceeded && !(c.Reported == t) && reportedLater(*c, e) {
			c.Reported = t
		}
		if c.Desired == t && c.Execution == (ExecutionRef{JobID: e.JobID, Number: e.Number}) {
			c.DeploymentStatus, c.DeploymentMessage = outcome(e)
		}
		if before.Reported == c.Reported && before.DeploymentStatus == c.DeploymentStatus && before.DeploymentMessage == c.DeploymentMessage {
			return state.ErrKeep
		}
		c.UpdatedAt = s.stamp()
		return nil
	})
	if errors.Is(err, fault.NotFound) {
		return nil
	}
	return err
}

// reportedLater reports whether e may decide the reported template: a success of
// a template that the core has left since is old news once the desired one was
// reported.
func reportedLater(c Core, e cloud.Execution) bool {
	if c.Reported == c.Desired && c.DeploymentStatus == DeploymentSuccess {
		return c.Execution == (ExecutionRef{JobID: e.JobID, Number: e.Number})
	}
	return true
}

func outcome(e cloud.Execution) (DeploymentStatus, string) {
	if e.Status == statusSucceeded {
		return DeploymentSuccess, ""
	}
	m := e.Status
	if e.Detailed != "" {
		m = e.Detailed
	}
	if e.Cause != "" {
		m += ": " + e.Cause
	}
	return DeploymentFailure, m
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
