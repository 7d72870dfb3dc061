//go:build !unix

package main

import "os"

var handOver []os.Signal //nolint:gochecknoglobals // a constant of this system
