// Package renew replaces certificates before they end: the agent's own, and the
// device's, core or client. It does not know how connections are made or how the nucleus is run.
//
// Each renewal has a new key and is a walk through stored states: a name for the
// new key, the key, the certificate beside the old one, the switch after the new
// one has proved itself, the word to the control plane that ends the old one, and
// the end of the old key. Whatever kills the agent in between, the next look goes
// on from the state that is stored, and in each of them the device has a
// certificate that the control plane takes.
//
// When a certificate ends is told by the control plane's clock (identity.Clock);
// the device's own may be wrong by years.
package renew
