package fleet

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/event"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/run"
)

// followStatus makes changes of devices' status part of the history of their
// cores, until ctx is done; one replica does.
func (s *Service) followStatus(ctx context.Context) error {
	leader := state.Election{Store: s.cfg.Store, Step: state.StepHistory, Key: prefix + "status-leader", TTL: 10 * time.Second}
	return leader.Run(ctx, func(ctx context.Context) error {
		if s.loaded(ctx) != nil { // whose devices they are
			return nil
		}
		var wait run.Backoff
		for ctx.Err() == nil {
			cursor, err := state.ReadOr[string](ctx, s.cfg.Store, statusCursorKey)
			if err == nil {
				rev := cursor.Rev
				err = s.cfg.Cloud.Statuses(ctx, cursor.Value, func(changes []cloud.StatusChange, now string) error {
					wait.Reset()
					rev, err = s.tellStatuses(ctx, changes, now, rev)
					return err
				})
			}
			if err != nil && ctx.Err() == nil {
				s.log.WarnContext(ctx, "history of devices' status stopped; trying again", logx.Err, err)
				_ = run.Sleep(ctx, wait.Next()) // the loop looks at ctx
			}
		}
		return nil
	})
}

// statusDetail is the detail of StatusChanged.
type statusDetail struct {
	CoreName string `json:"coreName"`
	Status   string `json:"status"`
}

// eventsPerCommit bounds the events of one commit.
const eventsPerCommit = 50

// tellStatuses commits the events together with the cursor behind them, so that
// each is told once. Many changes go in parts, the cursor with the last one: a
// crash in between may tell some again.
func (s *Service) tellStatuses(ctx context.Context, changes []cloud.StatusChange, cursor string, rev state.Rev) (state.Rev, error) {
	if rev == 0 && len(changes) == 0 { // where to go on after a restart
		return s.cfg.Store.Commit(ctx, state.NewBatch(state.StepHistory).If(statusCursorKey, 0).Put(statusCursorKey, cursor))
	}
	var ours []cloud.StatusChange
	for _, c := range changes {
		if _, _, ok := s.cores.Get(coreKey(c.Core)); ok {
			ours = append(ours, c)
		}
	}
	for part := range slices.Chunk(ours, eventsPerCommit) {
		b := state.NewBatch(state.StepHistory).If(statusCursorKey, rev)
		for _, c := range part {
			event.Add(b, event.StatusChanged, c.Core, c.At, statusDetail{CoreName: c.Core, Status: c.Status})
		}
		last := &part[len(part)-1] == &ours[len(ours)-1]
		if last {
			b.Put(statusCursorKey, cursor)
		}
		at, err := s.cfg.Store.Commit(ctx, b)
		if err != nil {
			return rev, fmt.Errorf("tell changes of status: %w", err)
		}
		if last {
			rev = at
		}
	}
	return rev, nil
}
