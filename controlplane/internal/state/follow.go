package state

import (
	"context"
	"errors"
	"time"

	"github.com/ggfleet/ggfleet/shared/run"
)

// Follow calls handle with what changes below prefix from now on, until ctx is
// done. It goes on when the store was away, or handle failed, which failed hears
// of; what changed meanwhile is not told. It is for notices, that are no more than
// a reason to look: who has to know everything keeps a Mirror.
func Follow(ctx context.Context, s Store, prefix string, handle func([]Event) error, failed func(error)) error {
	b := run.Backoff{Max: 5 * time.Second}
	for ctx.Err() == nil {
		page, err := s.List(ctx, prefix, "", 1) // for its revision
		if err == nil {
			b.Reset()
			err = s.Watch(ctx, prefix, page.At, handle)
		}
		if err != nil && ctx.Err() == nil && !errors.Is(err, ErrCompacted) {
			failed(err)
		}
		_ = run.Sleep(ctx, b.Next()) // ctx is looked at above
	}
	return nil
}
