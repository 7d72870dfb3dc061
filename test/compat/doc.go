// Package compat plays recorded sessions of a real nucleus to a running ggfleet
// and compares what the fleet API says afterwards with what the nucleus reported.
// Clients that others wrote are in the packages below.
//
// It reaches ggfleet as a device and as an operator would; it must not import
// anything of the control plane.
package compat
