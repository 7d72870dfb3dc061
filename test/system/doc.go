// Package system boots machines with a real systemd, on which tests install
// packages, enrol agents, and break things. A machine is a Debian root file
// system that is made once (debootstrap, in a cache folder outside the
// repository) and laid below an overlay of its own for each test
// (systemd-nspawn). It shares the network of the host, so that it reaches a
// ggfleet that the test started (package world).
//
// Booting needs root, debootstrap, systemd-nspawn and nsenter. The tests skip
// unless GGFLEET_REQUIRE_SYSTEMD is set, and then fail when something is missing.
package system
