//go:build !unix

package selfupdate

import (
	"runtime"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// Supported returns why this agent cannot update itself.
func Supported() error {
	return fault.New(fault.Unsupported, "the agent does not update itself on %s; install the new package", runtime.GOOS)
}

func execute(string, []string) error { return Supported() }

// Again cannot be done here: this process ends with an error, and the service
// manager starts what now lies at its path.
func Again(...string) error { return Supported() }
