//go:build unix

package selfupdate

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// Supported returns why this agent cannot update itself, nil if it can.
func Supported() error { return nil }

// execute turns this process into the program at path, with the arguments of
// this one. It returns only an error.
func execute(path string, env []string) error {
	if err := syscall.Exec(path, os.Args, env); err != nil { //nolint:gosec // a slot whose digest was verified, or ourselves
		return fmt.Errorf("executing %s: %w", path, err)
	}
	return nil
}

// Again turns this process into the program that it was started as: the packaged
// agent, also when this is a release. The process id stays, so a service manager
// sees no end, and what this process started stays its child. tell is added to
// its environment, as NAME=VALUE. It returns only an error.
func Again(tell ...string) error {
	path, err := exec.LookPath(os.Args[0]) // not os.Executable: that is the release
	if err != nil {
		return err
	}
	return execute(path, append(os.Environ(), tell...))
}
