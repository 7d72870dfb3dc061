//go:build unix

package main

import (
	"os"
	"syscall"
)

// handOver are the signals after which the program that now lies at the path of
// this one takes over: a package was upgraded, or a release staged.
var handOver = []os.Signal{syscall.SIGUSR1} //nolint:gochecknoglobals // a constant of this system
