// Package client looks after a client device: its certificate and key, what it
// trusts, where its cores are, and one file that tells all that to the
// application on the device (Config).
//
// One goroutine, the one in Loop.Run, does the work. A pass compares and does
// what is missing, so a pass after a kill at any point goes on where the killed
// one was. What was there last stays when the control plane is away: an
// application needs no control plane to talk to its core.
//
// Files, below ROOT/device, where the application may read them:
//
//	client.json                               the file for the application, replaced by rename
//	identity/cert.pem, identity/private.key   the device's own; they change together
//	ca.pem                                    what it trusts of the control plane
//	cores/<core>.pem                          what it trusts of a core
package client
