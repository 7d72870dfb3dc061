package recipe

import (
	"regexp"
	"strings"

	"github.com/ggfleet/ggfleet/shared/fault"
)

const (
	runtimeKey = "runtime"
	lite       = "aws_nucleus_lite"
	maxPattern = 256 // characters of a regex, and bytes that one is applied to
)

// IsLite reports whether attrs, as a device describes itself, are those of the
// lite runtime.
func IsLite(attrs map[string]string) bool { return attrs[runtimeKey] == lite }

// Match returns the index of the first manifest that claims the platform attrs,
// as a device describes itself. By the rules of classic, an attribute that a
// manifest does not name matches all, * matches all, all does for os, and
// /regex/ must match whole; lite additionally wants a runtime of its own name or
// *, an os of linux, * or all, and knows no regex (nucleus-contract §8).
func (r *Recipe) Match(attrs map[string]string) (manifest int, ok bool) {
	return Match(r.platforms, attrs)
}

// Match is Recipe.Match for platforms kept apart from their recipe.
func Match(platforms []Platform, attrs map[string]string) (manifest int, ok bool) {
	for i, p := range platforms {
		if p.claims(attrs) {
			return i, true
		}
	}
	return 0, false
}

func (p Platform) claims(attrs map[string]string) bool {
	if IsLite(attrs) && !p.visibleToLite() {
		return false
	}
	for key, want := range p.Attributes {
		if want == "*" || key == "os" && want == "all" {
			continue
		}
		have, ok := attrs[key]
		if !ok {
			return false
		}
		pattern, err := compilePattern(want)
		if err != nil {
			return false
		}
		if pattern == nil && have != want {
			return false
		}
		if pattern != nil && (len(have) > maxPattern || !pattern.MatchString(have)) {
			return false
		}
	}
	return true
}

func (p Platform) visibleToLite() bool {
	switch p.Attributes[runtimeKey] {
	case "*", lite:
	default:
		return false
	}
	switch p.Attributes["os"] {
	case "linux", "*", "all":
	default:
		return false
	}
	for _, v := range p.Attributes {
		if isPattern(v) {
			return false
		}
	}
	return true
}

func isPattern(s string) bool {
	return len(s) > 2 && strings.HasPrefix(s, "/") && strings.HasSuffix(s, "/")
}

// compilePattern returns nil for a plain value. Go's expressions run in linear
// time, so a recipe cannot stall the server.
func compilePattern(s string) (*regexp.Regexp, error) {
	if !isPattern(s) {
		return nil, nil
	}
	if len(s) > maxPattern {
		return nil, fault.New(fault.Invalid, "the pattern is longer than %d characters", maxPattern)
	}
	re, err := regexp.Compile(`^(?:` + s[1:len(s)-1] + `)$`)
	if err != nil {
		return nil, fault.New(fault.Invalid, "the pattern %s cannot be read: %v", s, err)
	}
	return re, nil
}
