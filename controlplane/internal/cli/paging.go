package cli

import (
	"slices"

	"github.com/spf13/cobra"

	"github.com/ggfleet/ggfleet/controlplane/api"
)

// largestPage is the API's.
const largestPage = 1000

// pages reads a list to its end, or until it has limit elements (0: no limit).
// fetch gets the size of a page and the key after which it begins, nil for the
// first one; it returns the key for the next page, the zero value on the last.
func pages[T any, K comparable](limit int, fetch func(count *int, after *K) ([]T, K, error)) ([]T, error) {
	all := []T{}
	var after *K
	for {
		count := largestPage
		if limit > 0 {
			count = min(count, limit-len(all))
		}
		items, next, err := fetch(&count, after)
		if err != nil {
			return nil, err
		}
		all = append(all, items...)
		if next == *new(K) || limit > 0 && len(all) >= limit {
			return all, nil
		}
		after = &next
	}
}

// newest reads a list to its end and returns the newest elements, at most limit
// of them (0: all): lists of tasks come in the order of ids.
func newest[T any](limit int, created func(T) api.Timestamp, fetch func(count *int, after *string) ([]T, string, error)) ([]T, error) {
	all, err := pages(0, fetch)
	slices.SortStableFunc(all, func(a, b T) int { return created(b).Compare(created(a).Time) })
	if limit > 0 && len(all) > limit {
		all = all[:limit]
	}
	return all, err
}

// limited gives a command that lists a flag for how much of the list.
func limited(c *cobra.Command, limit *int) *cobra.Command {
	c.Flags().IntVar(limit, "limit", 0, "at most so many; 0: all")
	c.PreRunE = func(*cobra.Command, []string) error {
		if *limit < 0 {
			return failure(ExitUsage, "--limit: is %d, want 1 or more, or 0 for all", *limit)
		}
		return nil
	}
	return c
}

// given makes an optional parameter: nil for the zero value.
func given[T comparable](v T) *T {
	if v == *new(T) {
		return nil
	}
	return &v
}
