// Package buildinfo holds what the build knows about itself.
package buildinfo

import "runtime/debug"

// Version is the release, set by -ldflags "-X …/buildinfo.Version=1.2.3".
var Version = "dev"

// Commit returns the commit the binary was built from, or "".
func Commit() string {
	bi, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range bi.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}
