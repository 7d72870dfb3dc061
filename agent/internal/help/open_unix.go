//go:build unix

package help

import "syscall"

const nonBlock = syscall.O_NONBLOCK
