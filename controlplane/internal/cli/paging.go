package cli

import "github.com/spf13/cobra"

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

// limited gives a command that lists a flag for how much of the list.
func limited(c *cobra.Command, limit *int) *cobra.Command {
	c.Flags().IntVar(limit, "limit", 0, "at most so many; 0: all")
	return c
}

// given makes an optional parameter: nil for the zero value.
func given[T comparable](v T) *T {
	if v == *new(T) {
		return nil
	}
	return &v
}
