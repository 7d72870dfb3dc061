package enrollment

import (
	"context"
	"fmt"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
)

// Forget removes the activation of a device; none is no error. Agents that used it
// stay enrolled.
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
	return nil
}
