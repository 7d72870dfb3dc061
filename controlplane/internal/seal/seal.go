// Package seal encrypts the few secrets that must lie in the store of record
// (the key of a CA, keys that sign tokens), so that a copy of the store or of a
// backup gives none of them away. It knows neither the store nor the secrets;
// it is no key management: one key, in a file beside the data.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"fmt"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// Sealer seals and opens secrets. The context names the place of a secret (its
// key in the store): a sealed secret opens only with the same context, so none
// can be moved to the place of another. Safe for concurrent use.
type Sealer interface {
	// Seal encrypts plain. Sealing the same twice gives different bytes.
	Seal(context string, plain []byte) ([]byte, error)
	// Open returns what Seal was given, or fault.Denied if sealed was changed,
	// cut short, or made with another key or context.
	Open(context string, sealed []byte) ([]byte, error)
}

// KeySize is the size of a key in bytes: AES-256.
const KeySize = 32

// form is the first byte of all that Seal makes, so that another form can be
// told apart later. It is bound like the context.
const form = 1

type aead struct{ gcm cipher.AEAD }

// New returns a Sealer with AES-256-GCM, a random nonce per secret, and key of
// KeySize random bytes. One key is good for four billion secrets.
func New(key []byte) (Sealer, error) {
	if len(key) != KeySize {
		return nil, fmt.Errorf("sealing key has %d bytes, want %d", len(key), KeySize)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("use sealing key: %w", err)
	}
	gcm, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("use sealing key: %w", err)
	}
	return aead{gcm}, nil
}

func (a aead) Seal(context string, plain []byte) ([]byte, error) {
	return a.gcm.Seal([]byte{form}, nil, plain, bound(context)), nil //nolint:gosec // no nonce is given: this mode draws one
}

func (a aead) Open(context string, sealed []byte) ([]byte, error) {
	if len(sealed) == 0 || sealed[0] != form {
		return nil, fault.New(fault.Denied, "secret %s is not in the sealed form", context)
	}
	plain, err := a.gcm.Open(nil, nil, sealed[1:], bound(context))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", fault.New(fault.Denied,
			"secret %s does not open with this key: it was sealed with another key or changed since", context), err)
	}
	return plain, nil
}

func bound(context string) []byte { return append([]byte{form}, context...) }
