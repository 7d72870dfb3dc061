// Package gateway is the device edge of the self-hosted cloud: MQTT 5 and 3.1.1
// over TLS with client certificates, and the admission of devices on HTTPS.
//
// It knows who may speak (a port to the registry), what they may say (policies)
// and how to hand a reserved request ($aws/…) to whoever serves it. It does not
// know what a job, a shadow or a core device is, nor where anything is stored.
//
// The broker library stays inside: no exported name shows it. Its defects are
// met here, each beside a comment that names it, and broker_test.go holds the
// behaviour that a replacement must show.
//
// One connection is one goroutine that reads. A publish passes in this order:
// limits, the rule that reserved topics belong to their thing, policy, then
// either the service behind the reserved topic (which commits) or the
// subscribers; only after that comes the PUBACK. Whatever goes to a device
// beside plain routing leaves through the session's outbox, in order, so that a
// slow device delays nobody else.
//
// Sessions live in memory. A restart forgets them; devices subscribe again.
package gateway
