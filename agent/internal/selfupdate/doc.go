// Package selfupdate replaces the agent by a newer release of itself, and goes
// back when that one does not prove itself. docs/self-update.md tells why it is
// as it is.
//
// The service manager starts the packaged agent, always. That one begins with
// HandOver: it looks into the record which program is to run, counts the start,
// and turns into it by exec. So whatever a release does, the next start is
// decided by a program that a person installed. A release lies in a slot of its
// own below ROOT/agent/releases, 0600 until size, digest and signature are right.
//
// A new release is on trial until it has its assignment, a session and a nucleus
// no worse than before. A trial that ends three times by itself, or has reached
// the control plane and yet not proven itself, is rejected and not tried again. One
// that did not reach the control plane is put aside: the old agent runs, and by
// whether that one reaches it is known what to blame.
//
// Record is the state machine; it is pure. The package knows neither HTTP nor
// MQTT nor what a nucleus is: it is told of them.
package selfupdate
