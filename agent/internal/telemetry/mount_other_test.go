//go:build !linux

package telemetry_test

import "errors"

func mount(string) error { return errors.ErrUnsupported }

func unmount(string) {}
