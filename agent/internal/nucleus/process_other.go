//go:build !linux

package nucleus

import (
	"runtime"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// newProcesses answers fault.Unsupported: without /proc a nucleus that outlived a
// killed agent could not be found again, and a second one would run beside it.
func newProcesses(*Config, Spec) (runner, error) {
	return nil, fault.New(fault.Unsupported, "a nucleus as a process of the agent is run on Linux only, not on %s", runtime.GOOS)
}

func (record) alive() (pid int, start uint64, ok bool) { return 0, 0, false }

func lost(string) (pid int, start uint64, ok bool) { return 0, 0, false }

func bootID() string { return "" }
