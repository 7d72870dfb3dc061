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
// stop makes it end in order as soon as it has taken over.
func becomeNext(stop bool) error {
	path, err := exec.LookPath(os.Args[0]) // not os.Executable: this may be a release that was handed over to
	if err != nil {
		return err
	}
	env := os.Environ()
	if stop {
		env = append(env, stopVar+"=1")
	}
	return syscall.Exec(path, os.Args, env) //nolint:gosec // the arguments are those that it was started with
}
