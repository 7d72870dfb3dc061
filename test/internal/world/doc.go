// Package world runs a real ggfleet in a process of its own, for tests that look
// at it from the outside: over its listeners, through its files and its log, and
// by killing it.
//
// It is built once (an up to date binary is used again); GGFLEET_BIN names
// another. Ports are free ones and stay the same over Restart.
//
// The package knows the public contracts only: flags, addresses, the fleet API
// and S3. It must not import anything of the control plane.
package world
