package enrollment

import (
	"context"
	"fmt"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
)

// Forget removes the activation of a device, whose its agent was, and what is known
// of renewals; nothing is no error. Its requests stay: a device that asks again
// waits for an operator.
func (s *Service) Forget(ctx context.Context, device string) error {
	key := deviceKey(device)
	_, err := state.Update(ctx, s.store, state.StepActivation, key, func(id *string, exists bool, b *state.Batch) error {
		if !exists {
			return state.ErrKeep
		}
		b.Delete(activationKey(*id)).Delete(key)
		return nil
	})
	if err != nil {
		return fmt.Errorf("forget activation of %s: %w", device, err)
	}
	if checkName(device) != nil {
		return nil // no agent can have this name
	}
	b := state.NewBatch(state.StepActivation).Delete(agentKey(device)).Delete(renewalKey(device)).Delete(deviceRenewalKey(device))
	if _, err := s.store.Commit(ctx, b); err != nil {
		return fmt.Errorf("forget agent of %s: %w", device, err)
	}
	return nil
}
