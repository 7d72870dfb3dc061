package doctor

import (
	"context"
	"io/fs"
	"slices"
	"strings"
	"time"
)

// soon is how long before its end a certificate should have been renewed at the
// latest, whatever its life is.
const soon = 14 * 24 * time.Hour

func checkEnrolled(_ context.Context, e *examination) finding {
	if !e.Enrolled && e.Asks != "" {
		return failed("it asks %s to be let in; if it waits, approve it there: 'ggfleet enrollment list'", e.Asks)
	}
	if !e.Enrolled {
		return failed("there is no identity in %s", e.Device.Root)
	}
	return passed("it was enrolled")
}

func checkIdentity(_ context.Context, e *examination) finding {
	if e.Damaged != nil {
		return failed("%v", e.Damaged)
	}
	return passed("%s at %s", e.Thing, e.URL)
}

func checkSecrets(_ context.Context, e *examination) finding {
	if e.OS == "windows" {
		return skipped("file modes do not tell on Windows")
	}
	var open []string
	look := func(names []string, others fs.FileMode) {
		for _, name := range names {
			if info, err := e.Stat(name); err == nil && info.Mode().Perm()&others != 0 {
				open = append(open, name)
			}
		}
	}
	look(e.Device.Secrets, 0o077)
	look(e.Device.Shared, 0o037)
	if len(open) > 0 {
		return failed("others may read %s", strings.Join(open, ", "))
	}
	return passed("%d files are closed to others", len(e.Device.Secrets)+len(e.Device.Shared))
}

func checkAgentCertificate(_ context.Context, e *examination) finding { return valid(e, e.Certificate) }

// valid judges the dates of a certificate by this device's clock.
func valid(e *examination, c Certificate) finding {
	now, until := e.Now(), c.NotAfter.UTC().Format(time.RFC3339)
	life := c.NotAfter.Sub(c.NotBefore)
	switch left := c.NotAfter.Sub(now); {
	case c.NotBefore.After(now.Add(5 * time.Minute)):
		return failed("it begins only at %s", c.NotBefore.UTC().Format(time.RFC3339))
	case left <= 0:
		return failed("it ended at %s", until)
	case left < min(soon, life/4):
		return warned("it ends at %s", until)
	}
	return passed("until %s", until)
}

func lines(b []byte) []string {
	return slices.DeleteFunc(strings.Split(string(b), "\n"), func(s string) bool { return strings.TrimSpace(s) == "" })
}

func fields(b []byte) []string { return strings.Fields(string(b)) }
