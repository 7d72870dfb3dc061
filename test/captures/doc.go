// Package captures plays the core's half of recorded sessions of a real nucleus
// to a running cloud, with the identities rewritten, and checks every answer
// against spec nucleus-contract. The cloud's half of a recording is used only to
// know when an answer is due; it is never compared with.
//
// It knows the wire, and nothing of the cloud behind it: addresses, certificates
// and a Driver that makes deployments are handed in.
package captures
