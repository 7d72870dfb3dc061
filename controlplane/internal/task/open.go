package task

import (
	"context"
	"errors"
	"fmt"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// Open calls each for every task of the kind that has not ended, in the order of
// the ids, until it returns an error.
func (e *Engine) Open(ctx context.Context, kind string, each func(Task) error) error {
	err := state.All(ctx, e.store, openRoot, func(key string, r state.Record[openRecord]) error {
		if r.Value.Kind != kind {
			return nil
		}
		t, err := e.Get(ctx, lastPart(key))
		if errors.Is(err, fault.NotFound) {
			return nil // ended and deleted in this moment
		}
		if err != nil {
			return err
		}
		return each(t)
	})
	if err != nil {
		return fmt.Errorf("list open tasks: %w", err)
	}
	return nil
}
