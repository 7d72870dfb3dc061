package identity

import (
	"crypto"
	"strings"

	"github.com/ggfleet/ggfleet/agent/internal/keystore"
	"github.com/ggfleet/ggfleet/agent/internal/localstate"
)

// FirstKey returns the key that the agent enrols with, made and stored in keys on
// first use. A damaged one is replaced: no certificate can be in use with it.
func FirstKey(d *localstate.Dir, keys keystore.Store, name string) (crypto.Signer, error) {
	return keystore.Ensure(keys, name, func(do func() error) error { return d.Do(localstate.EnrollKey, do) })
}

// FirstKeyName is the name of the first key in the store that ref names. A token
// may hold keys of several agents; the others keep theirs in the agent's folder.
func FirstKeyName(ref string) string {
	if strings.HasPrefix(ref, "pkcs11:") {
		return keystore.NewName()
	}
	return firstKey
}

// Store checks and keeps i, the key of which is in keys.
func Store(d *localstate.Dir, keys keystore.Store, i Identity) error {
	if _, err := newLive(d, keys, i); err != nil {
		return err
	}
	return d.Do(localstate.EnrollIdentity, func() error { return d.WriteKept(recordName, i) })
}
