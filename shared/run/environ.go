package run

import (
	"os"
	"slices"
	"strings"
)

// Environ is os.Environ for a program that this one starts: without what the
// service manager said to this process alone (sd_notify(3),
// sd_watchdog_enabled(3)). A program that heard it would speak in our name.
func Environ() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return name == "NOTIFY_SOCKET" || name == "WATCHDOG_USEC" || name == "WATCHDOG_PID"
	})
}
