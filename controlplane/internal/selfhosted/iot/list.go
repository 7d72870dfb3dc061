package iot

import (
	"context"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
)

// listPage is how many records a filtered list reads at a time.
const listPage = 500

// pageOf returns up to limit (0: all) records under prefix with keys greater than
// after that keep (nil: all) accepts, in key order, and whether there are more.
func pageOf[T any](ctx context.Context, s state.Store, prefix, after string, limit int, keep func(*T) bool) (page []T, more bool, err error) {
	for {
		p, err := s.List(ctx, prefix, after, listPage)
		if err != nil {
			return nil, false, err
		}
		for _, e := range p.Entries {
			rec, err := state.Decode[T](e)
			if err != nil {
				return nil, false, err
			}
			after = e.Key
			if keep != nil && !keep(&rec.Value) {
				continue
			}
			if limit > 0 && len(page) == limit {
				return page, true, nil
			}
			page = append(page, rec.Value)
		}
		if !p.More {
			return page, false, nil
		}
	}
}
