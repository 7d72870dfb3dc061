package signed

import (
	"regexp"
	"strings"

	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/recipe/semver"
)

// Program is what every statement is about.
const Program = "ggfleet-agent"

// Statement is what a signature says of a file.
type Statement struct {
	Version  string // semantic version
	Platform string // GOOS/GOARCH
	Over     string // may replace versions up to this one, also later ones; empty: earlier ones only
}

var platformPattern = regexp.MustCompile(`^[a-z0-9]{1,16}/[a-z0-9_]{1,16}$`)

// Check returns fault.Invalid unless every member is what it must be.
func (s Statement) Check() error {
	if _, err := semver.Parse(s.Version); err != nil {
		return fault.Field("version", "%s", fault.Message(err))
	}
	if !platformPattern.MatchString(s.Platform) {
		return fault.Field("platform", "%q is not GOOS/GOARCH such as linux/arm64", s.Platform)
	}
	if s.Over != "" {
		if _, err := semver.Parse(s.Over); err != nil {
			return fault.Field("over", "%s", fault.Message(err))
		}
	}
	return nil
}

// String is the trusted comment.
func (s Statement) String() string {
	text := Program + " " + s.Version + " " + s.Platform
	if s.Over != "" {
		text += " over=" + s.Over
	}
	return text
}

// ParseStatement reads a trusted comment. Words that a later version adds are an
// error: what they would limit is not known here.
func ParseStatement(comment string) (Statement, error) {
	words := strings.Split(comment, " ")
	var s Statement
	ok := len(words) >= 3 && words[0] == Program
	if ok {
		s.Version, s.Platform = words[1], words[2]
		if len(words) == 4 {
			s.Over, ok = strings.CutPrefix(words[3], "over=")
		}
	}
	if !ok || len(words) > 4 || s.Check() != nil || s.String() != comment {
		if len(comment) > 100 {
			comment = comment[:100]
		}
		return Statement{}, fault.New(fault.Invalid, `the signature's trusted comment is %q; want "%s VERSION GOOS/GOARCH"`, comment, Program)
	}
	return s, nil
}

// Replaces reports whether what s is about may replace the given version: a
// later one may always, an earlier one only if Over says so. A version that is
// none, as that of a build by hand, is replaced by all.
func (s Statement) Replaces(version string) bool {
	running, err := semver.Parse(version)
	if err != nil {
		return true
	}
	v, err := semver.Parse(s.Version)
	if err != nil || v.Compare(running) == 0 {
		return false
	}
	if v.Compare(running) > 0 {
		return true
	}
	over, err := semver.Parse(s.Over)
	return err == nil && running.Compare(over) <= 0
}
