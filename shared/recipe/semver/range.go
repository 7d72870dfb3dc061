package semver

import (
	"slices"
	"strings"

	"github.com/ggfleet/ggfleet/shared/fault"
)

const (
	maxRange       = 1024 // bytes
	maxComparators = 128
)

// Range is a set of versions. The zero Range is empty.
type Range struct {
	alternatives [][]comparator // any of them, and within one all comparators
}

type comparator struct {
	op string // "<", "<=", ">", ">=", "=" or "" (every version)
	v  Version
}

func (c comparator) holds(v Version) bool {
	switch d := v.Compare(c.v); c.op {
	case "<":
		return d < 0
	case "<=":
		return d <= 0
	case ">":
		return d > 0
	case ">=":
		return d >= 0
	case "=":
		return d == 0
	}
	return true
}

// Contains reports whether v satisfies the range by npm's rules: a pre-release
// only if one comparator of the alternative that holds names a pre-release of
// the same major.minor.patch.
func (r Range) Contains(v Version) bool {
	return slices.ContainsFunc(r.alternatives, func(all []comparator) bool {
		named := len(v.Pre) == 0
		for _, c := range all {
			if !c.holds(v) {
				return false
			}
			named = named || c.op != "" && len(c.v.Pre) > 0 && c.v.sameTuple(v)
		}
		return named
	})
}

// ParseRange reads a range as npm writes it: comparators (< <= > >= =), caret,
// tilde, x-ranges, hyphen ranges; blanks join with "and", || with "or". An empty
// text holds every release. Errors are fault.Invalid.
func ParseRange(s string) (Range, error) {
	bad := func(why string) error {
		return fault.New(fault.Invalid, "%q is not a version range: %s", fault.Clip(s, 80), why)
	}
	if len(s) > maxRange {
		return Range{}, bad("it is longer than 1024 characters")
	}
	var r Range
	count := 0
	for alt := range strings.SplitSeq(s, "||") {
		all, wrong, ok := parseAlternative(strings.Fields(alt))
		if !ok {
			return Range{}, bad(`cannot read "` + fault.Clip(wrong, 40) + `"; want comparators such as >=1.2.0 <2.0.0, ^1.2, ~1.2.3, 1.x`)
		}
		if count += len(all); count > maxComparators {
			return Range{}, bad("it has more than 128 comparators")
		}
		r.alternatives = append(r.alternatives, all)
	}
	return r, nil
}

func parseAlternative(words []string) (all []comparator, wrong string, ok bool) {
	if len(words) == 3 && words[1] == "-" {
		all, ok = hyphen(words[0], words[2])
		return all, strings.Join(words, " "), ok
	}
	if len(words) == 0 {
		return []comparator{{}}, "", true
	}
	for i := 0; i < len(words); i++ {
		w := words[i]
		// npm allows blanks between an operator and its version
		for i+1 < len(words) && strings.Trim(w, "<>=~^v") == "" {
			i++
			w += words[i]
		}
		cs, ok := parseComparator(w)
		if !ok {
			return nil, w, false
		}
		all = append(all, cs...)
	}
	return all, "", true
}

func hyphen(from, to string) ([]comparator, bool) {
	a, ok1 := parsePartial(strings.TrimLeft(from, "v="))
	b, ok2 := parsePartial(strings.TrimLeft(to, "v="))
	if !ok1 || !ok2 || strings.TrimLeft(from, "v=") == "" || strings.TrimLeft(to, "v=") == "" {
		return nil, false
	}
	var all []comparator
	if a.parts > 0 {
		all = append(all, comparator{">=", a.v})
	}
	switch b.parts {
	case 0:
	case 3:
		all = append(all, comparator{"<=", b.v})
	default:
		all = append(all, comparator{"<", b.next()})
	}
	if len(all) == 0 {
		all = append(all, comparator{})
	}
	return all, true
}

// next is the first version after everything that p leaves open, below its own
// pre-releases: 1.2 → 1.3.0-0.
func (p partial) next() Version {
	switch p.parts {
	case 1:
		return before(p.v.Major+1, 0, 0)
	default:
		return before(p.v.Major, p.v.Minor+1, 0)
	}
}

// before is the lowest pre-release of a version, so that "< it" keeps out the
// version's pre-releases as well.
func before(major, minor, patch uint64) Version {
	return Version{Major: major, Minor: minor, Patch: patch, Pre: []string{"0"}}
}

func parseComparator(w string) ([]comparator, bool) {
	op := ""
	for _, o := range []string{"~>", "~", "^", ">=", "<=", ">", "<", "="} {
		if strings.HasPrefix(w, o) {
			op, w = o, w[len(o):]
			break
		}
	}
	w = strings.TrimLeft(w, "v=")
	if w == "" {
		return nil, false
	}
	p, ok := parsePartial(w)
	if !ok {
		return nil, false
	}
	p.v.Build = ""
	switch op {
	case "^":
		return p.caret(), true
	case "~", "~>":
		return p.tilde(), true
	case "", "=":
		return p.xrange(), true
	}
	return p.compared(op), true
}

func (p partial) xrange() []comparator {
	switch p.parts {
	case 0:
		return []comparator{{}}
	case 3:
		return []comparator{{"=", p.v}}
	}
	return []comparator{{">=", p.v}, {"<", p.next()}}
}

func (p partial) tilde() []comparator {
	if p.parts < 3 {
		return p.xrange()
	}
	return []comparator{{">=", p.v}, {"<", before(p.v.Major, p.v.Minor+1, 0)}}
}

// caret keeps the leftmost number that is not zero.
func (p partial) caret() []comparator {
	v := p.v
	var end Version
	switch {
	case p.parts == 0:
		return []comparator{{}}
	case v.Major > 0 || p.parts == 1:
		end = before(v.Major+1, 0, 0)
	case v.Minor > 0 || p.parts == 2:
		end = before(0, v.Minor+1, 0)
	default:
		end = before(0, 0, v.Patch+1)
	}
	return []comparator{{">=", v}, {"<", end}}
}

// compared gives < <= > >= of a version that may be partial: >1.2 begins after
// all of 1.2, <=1.2 ends there.
func (p partial) compared(op string) []comparator {
	if p.parts == 3 {
		return []comparator{{op, p.v}}
	}
	if p.parts == 0 {
		if op == ">" || op == "<" {
			return []comparator{{"<", before(0, 0, 0)}} // nothing
		}
		return []comparator{{}}
	}
	after := p.next()
	switch op {
	case ">":
		after.Pre = nil
		return []comparator{{">=", after}}
	case "<=":
		return []comparator{{"<", after}}
	case "<":
		return []comparator{{"<", before(p.v.Major, p.v.Minor, 0)}}
	}
	return []comparator{{">=", p.v}}
}
