package durable

import (
	"errors"
	"syscall"
)

// Full reports whether err says that a disk takes nothing: it is full, over its
// quota, or read-only. That passes, or somebody mends it; nothing is wrong with
// what was to be written.
func Full(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EROFS)
}
