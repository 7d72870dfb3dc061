package distribution

import (
	"os"
	"strings"

	"github.com/ggfleet/ggfleet/installer/nucleus"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// inspect reads what the archive f holds, so that a mistaken upload is refused
// here and not by every agent. What is said of it must be what is found. The
// platform is the one of the package when it has one.
func inspect(f *os.File, u Upload) (nucleus.Manifest, string, error) {
	m, err := nucleus.Inspect(f, u.Format)
	if err != nil {
		return m, "", err
	}
	for _, c := range []struct{ field, said, found string }{
		{"name", u.Name, m.Name}, {"version", u.Version, m.Version}, {"platform", u.Platform, platformOf(m.Architecture)},
	} {
		if c.said != "" && c.found != "" && c.said != c.found {
			return m, "", fault.Field(c.field, "is %q, but the archive holds %s", c.said, strings.TrimSpace(m.Name+" "+m.Version+" "+platformOf(m.Architecture)))
		}
	}
	if found := platformOf(m.Architecture); found != "" {
		return m, found, nil
	}
	return m, u.Platform, nil
}

// platformOf turns a package's architecture into GOOS/GOARCH; "" when it is for
// any, or for none that is known.
func platformOf(architecture string) string {
	switch architecture {
	case "amd64", "x86_64":
		return "linux/amd64"
	case "arm64", "aarch64":
		return "linux/arm64"
	case "armhf", "armv7hl", "armhfp":
		return "linux/arm"
	case "i386", "i686":
		return "linux/386"
	case "riscv64":
		return "linux/riscv64"
	}
	return ""
}
