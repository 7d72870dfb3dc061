//go:build !faults || !unix

package faultpoint

// FromEnv returns nil: this binary cannot be ended through its environment.
func FromEnv() (*Points, error) { return nil, nil }
