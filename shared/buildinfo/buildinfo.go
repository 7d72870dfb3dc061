// Package buildinfo holds what the build knows about itself.
package buildinfo

import (
	"runtime/debug"
	"time"
)

// Version is the release, set by -ldflags "-X …/buildinfo.Version=1.2.3".
var Version = "dev"

// Commit returns the commit the binary was built from, or "".
func Commit() string { return setting("vcs.revision") }

// Time returns when that commit was made, zero when it is not known.
func Time() time.Time {
	t, _ := time.Parse(time.RFC3339, setting("vcs.time"))
	return t
}

func setting(key string) string {
	bi, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range bi.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}
