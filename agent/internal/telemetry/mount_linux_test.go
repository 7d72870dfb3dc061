package telemetry_test

import "syscall"

// mount puts a file system of 128 KiB at dir.
func mount(dir string) error { return syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=128k") }

func unmount(dir string) { _ = syscall.Unmount(dir, syscall.MNT_DETACH) }
