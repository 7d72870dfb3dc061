// Package signed says whether a binary of the agent is what somebody with a
// known key released: minisign's signature over the file, and its trusted
// comment, which names version and platform, so that a signature is of use for
// nothing else.
//
//	ggfleet-agent 1.4.0 linux/arm64
//	ggfleet-agent 1.3.9 linux/arm64 over=1.4.0
//
// The second may also replace a later version, up to the one named: going back
// is a decision that is signed, and one that ends by itself.
//
// It is the only user of aead.dev/minisign. It knows no device and no control
// plane.
package signed
