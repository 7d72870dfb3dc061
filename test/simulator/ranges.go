package simulator

import (
	"strings"

	"github.com/Masterminds/semver/v3"
)

// satisfies reports whether version meets every requirement. A requirement that
// cannot be read is met by nothing.
func satisfies(version string, requirements map[string]string) bool {
	v, err := semver.StrictNewVersion(version)
	if err != nil {
		return false
	}
	for _, r := range requirements {
		c, err := semver.NewConstraint(r)
		if err != nil || !c.Check(v) {
			return false
		}
	}
	return true
}

// normalForm writes an npm range in plain comparators, as classic sends it:
// 1.4.0 is =1.4.0, ^1.0 is >=1.0.0 <2.0.0 (§4.1).
func normalForm(r string) string {
	var alternatives []string
	for alt := range strings.SplitSeq(r, "||") {
		var parts []string
		for token := range strings.FieldsSeq(alt) {
			parts = append(parts, comparators(token))
		}
		if len(parts) == 0 {
			parts = []string{">=0.0.0"}
		}
		alternatives = append(alternatives, strings.Join(parts, " "))
	}
	return strings.Join(alternatives, " || ")
}

func comparators(token string) string {
	if strings.HasPrefix(token, ">") || strings.HasPrefix(token, "<") {
		return token
	}
	op, text := token[:1], strings.TrimLeft(token, "^~=v")
	numbers := strings.Split(strings.SplitN(text, "-", 2)[0], ".")
	given := 0 // numbers before the first wildcard
	for given < len(numbers) && given < 3 && numbers[given] != "*" && numbers[given] != "x" && numbers[given] != "X" && numbers[given] != "" {
		given++
	}
	if given == 0 {
		return ">=0.0.0"
	}
	low, err := semver.NewVersion(strings.Join(numbers[:given], ".") + text[len(strings.Join(numbers, ".")):])
	if err != nil {
		return token
	}
	var high semver.Version
	switch {
	case op == "^" && low.Major() > 0, given == 1:
		high = *semver.New(low.Major()+1, 0, 0, "", "")
	case op == "^" && (low.Minor() > 0 || given == 2), op == "~", given == 2:
		high = *semver.New(low.Major(), low.Minor()+1, 0, "", "")
	case op == "^":
		high = *semver.New(0, 0, low.Patch()+1, "", "")
	default:
		return "=" + low.String()
	}
	return ">=" + low.String() + " <" + high.String()
}
