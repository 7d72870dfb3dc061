package greengrass

import (
	"context"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
)

// beginRolloutBatch records in b that the members of d's group are to get it.
func (s *Service) beginRolloutBatch(b *state.Batch, d Deployment) {
	b.Put(rollingKey(d.ID), struct{}{})
}

// withdrawRolloutBatch records in b that d reaches nobody any more: what is queued
// of it ends CANCELED. d is a group's deployment that was ACTIVE until b.
func (s *Service) withdrawRolloutBatch(_ context.Context, b *state.Batch, d Deployment) error {
	b.Delete(rollingKey(d.ID))
	return nil
}

// kick lets the driver begin with what beginRolloutBatch or withdrawRolloutBatch
// recorded. It is called after the commit.
func (s *Service) kick(ctx context.Context, d Deployment) error { return s.rollOut(ctx, d) }

// Drive does one round of everything that is due.
func (s *Service) Drive(ctx context.Context) (next time.Time, err error) {
	return time.Time{}, s.Resume(ctx)
}

// RunRollouts carries out rollouts until ctx is done.
func (s *Service) RunRollouts(ctx context.Context) error {
	if _, err := s.Drive(ctx); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}
