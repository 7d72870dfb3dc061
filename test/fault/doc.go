// Package fault breaks a running ggfleet and looks whether anything was lost:
// kill -9 at every durable step of the table in the control plane, in what an
// operator does, in what an AWS client does and in what agents do, replicas that die, an artifact
// store and an etcd that go away, devices that try what is not theirs, requests
// that are wrong or too large.
//
// All of it is in tests; they work on real processes from the outside, see
// package world, with simulated cores in this one.
//
// GGFLEET_FAULT_FULL=1 kills at every step on both sides, at the first, a middle
// and the last time it is passed, in the AWS client's and the agents' stories each time; without
// it each side gets one of these, there every twelfth step of the way.
package fault
