package semver

import (
	"cmp"
	"strconv"
	"strings"

	"github.com/ggfleet/ggfleet/shared/fault"
)

const (
	// MaxLength is the longest component version in bytes.
	MaxLength = 64
	// MaxNumber is the largest major, minor or patch number of a component version.
	MaxNumber = 999999

	maxInteger = 1<<53 - 1 // npm's bound for numbers inside a range
)

// Version is an exact semantic version (semver.org 2.0.0).
type Version struct {
	Major, Minor, Patch uint64
	Pre                 []string // dot-separated pre-release identifiers; empty: a release
	Build               string   // ignored by comparisons
}

// Parse reads an exact version: MAJOR.MINOR.PATCH with optional pre-release and
// build parts, at most MaxLength bytes, each number at most MaxNumber. Errors
// are fault.Invalid.
func Parse(s string) (Version, error) {
	bad := func(why string) (Version, error) {
		if len(s) > MaxLength {
			s = s[:MaxLength] + "…"
		}
		return Version{}, fault.New(fault.Invalid, "%q is not a semantic version: %s", s, why)
	}
	if len(s) > MaxLength {
		return bad("it is longer than 64 characters")
	}
	p, ok := parsePartial(s)
	if !ok || p.parts != 3 {
		return bad("want MAJOR.MINOR.PATCH such as 1.4.0 or 1.4.0-beta.1")
	}
	if max(p.v.Major, p.v.Minor, p.v.Patch) > MaxNumber {
		return bad("a number is over 999999")
	}
	return p.v, nil
}

// String writes v in its one canonical form.
func (v Version) String() string {
	s := strconv.FormatUint(v.Major, 10) + "." + strconv.FormatUint(v.Minor, 10) + "." + strconv.FormatUint(v.Patch, 10)
	if len(v.Pre) > 0 {
		s += "-" + strings.Join(v.Pre, ".")
	}
	if v.Build != "" {
		s += "+" + v.Build
	}
	return s
}

// Compare orders by precedence: -1 if v is lower than o, 0 if equal, +1 if
// higher. Build parts do not count.
func (v Version) Compare(o Version) int {
	if c := cmp.Or(cmp.Compare(v.Major, o.Major), cmp.Compare(v.Minor, o.Minor), cmp.Compare(v.Patch, o.Patch)); c != 0 {
		return c
	}
	switch {
	case len(v.Pre) == 0 && len(o.Pre) == 0:
		return 0
	case len(v.Pre) == 0:
		return 1
	case len(o.Pre) == 0:
		return -1
	}
	for i := range min(len(v.Pre), len(o.Pre)) {
		if c := compareIdentifier(v.Pre[i], o.Pre[i]); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(v.Pre), len(o.Pre))
}

func (v Version) sameTuple(o Version) bool {
	return v.Major == o.Major && v.Minor == o.Minor && v.Patch == o.Patch
}

// compareIdentifier puts numbers before texts; numbers have no leading zero, so
// length decides before digits do, whatever their size.
func compareIdentifier(a, b string) int {
	an, bn := isNumber(a), isNumber(b)
	switch {
	case an && bn:
		return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
	case an:
		return -1
	case bn:
		return 1
	}
	return strings.Compare(a, b)
}

func isNumber(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// partial is a version of which minor and patch may be left open.
type partial struct {
	v     Version
	parts int // numbers given: 0 (any), 1, 2 or 3
}

// parsePartial reads "", "*", "1", "1.x", "1.2", "1.2.3-pre+build".
func parsePartial(s string) (partial, bool) {
	var p partial
	core, build, hasBuild := strings.Cut(s, "+")
	core, pre, hasPre := strings.Cut(core, "-")
	nums := strings.Split(core, ".")
	if len(nums) > 3 || (hasBuild || hasPre) && len(nums) != 3 {
		return p, false
	}
	for i, dst := range []*uint64{&p.v.Major, &p.v.Minor, &p.v.Patch} {
		if i >= len(nums) {
			break
		}
		n := nums[i]
		if n == "x" || n == "X" || n == "*" {
			n = ""
		} else if !isNumber(n) || len(n) > 1 && n[0] == '0' || len(n) > 16 {
			return p, false
		}
		if n == "" {
			continue
		}
		v, err := strconv.ParseUint(n, 10, 64)
		if err != nil || v > maxInteger {
			return p, false
		}
		if p.parts == i { // after an open number the rest is open, too
			*dst, p.parts = v, i+1
		}
	}
	if hasPre {
		ids := strings.Split(pre, ".")
		for _, id := range ids {
			if !isIdentifier(id) || isNumber(id) && len(id) > 1 && id[0] == '0' {
				return p, false
			}
		}
		if p.parts == 3 {
			p.v.Pre = ids
		}
	}
	if hasBuild {
		for id := range strings.SplitSeq(build, ".") {
			if !isIdentifier(id) {
				return p, false
			}
		}
		p.v.Build = build
	}
	return p, true
}

func isIdentifier(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return s != ""
}
