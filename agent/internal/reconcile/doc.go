// Package reconcile makes true on the device what the control plane assigns to
// its core: certificates, installer configuration, and the version of the
// nucleus.
//
// One goroutine, the one in Loop.Run, owns the state. A pass compares and does
// what is missing, so a pass after a kill at any point goes on where the killed
// one was. A new version of the nucleus is on trial until it passes the health
// gate; the old one stays beside it and is gone back to when it does not. The
// device needs no control plane to start what it has.
//
// The control plane and the process supervisor are ports (ports.go).
package reconcile
