// Package tag holds the rules for tags of resources (greengrassv2-api §9). It
// knows no resource: who has tags keeps them.
package tag

import (
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// Limits of the tags of one resource, in entries and characters.
const (
	Max      = 50
	MaxKey   = 128
	MaxValue = 256
)

// reserved begins keys that no user may set, in any case of its letters.
const reserved = "aws:"

// Check returns an error of kind fault.Invalid that names the field tags if these
// cannot be the tags of a resource. None are fine.
func Check(tags map[string]string) error {
	if len(tags) > Max {
		return fault.Field("tags", "has %d entries, over the limit of %d", len(tags), Max)
	}
	for _, k := range slices.Sorted(maps.Keys(tags)) {
		switch n := utf8.RuneCountInString(k); {
		case n == 0:
			return fault.Field("tags", "has an empty key")
		case n > MaxKey:
			return fault.Field("tags", "key %.40q… is %d characters long, over the limit of %d", k, n, MaxKey)
		case len(k) >= len(reserved) && strings.EqualFold(k[:len(reserved)], reserved):
			return fault.Field("tags", "key %q begins with the reserved prefix %s", k, reserved)
		}
		if n := utf8.RuneCountInString(tags[k]); n > MaxValue {
			return fault.Field("tags", "value of key %q is %d characters long, over the limit of %d", k, n, MaxValue)
		}
	}
	return nil
}

// Edit returns have as change leaves a copy of it, which is never nil, if Check
// accepts that.
func Edit(have map[string]string, change func(tags map[string]string)) (map[string]string, error) {
	out := maps.Clone(have)
	if out == nil {
		out = map[string]string{}
	}
	change(out)
	return out, Check(out)
}

// Change is Edit that sets tags and takes those with the keys in remove away. More
// than Max are fault.Exhausted, as IoT has it.
func Change(have, set map[string]string, remove []string) (map[string]string, error) {
	out, err := Edit(have, func(tags map[string]string) {
		maps.Copy(tags, set)
		for _, k := range remove {
			delete(tags, k)
		}
	})
	if len(out) > Max {
		return nil, fault.New(fault.Exhausted, "there would be %d tags, over the limit of %d", len(out), Max)
	}
	return out, err
}
