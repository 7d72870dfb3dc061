//go:build unix

package main

import (
	"os"
	"os/exec"
	"syscall"
)

// handOver are the signals after which the program that now lies at the path of
// this one takes over: a package was upgraded, or a release staged.
var handOver = []os.Signal{syscall.SIGUSR1} //nolint:gochecknoglobals // a constant of this system

// becomeNext turns this process into that program. The process id stays, so a
// service manager sees no end, and what this process started stays its child.
func becomeNext() error {
	path, err := exec.LookPath(os.Args[0]) // not os.Executable: this may be a release that was handed over to
	if err != nil {
		return err
	}
	return syscall.Exec(path, os.Args, os.Environ()) //nolint:gosec // the arguments are those that it was started with
}
