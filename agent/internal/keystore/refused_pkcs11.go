//go:build pkcs11

package keystore

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// refusedPIN remembers the PIN that a token did not take: a service that is started
// again and again would lock the token with it.
type refusedPIN struct{ files Files }

const refusedName = "pin-refused.json"

type refusal struct {
	Salt   []byte `json:"salt"`
	Digest []byte `json:"digest"` // slow to guess the PIN from
}

// rounds make guessing slow and cost a start less than a second of a small CPU; only
// one with a refusal pays.
const rounds = 200_000

func digestOf(t token, pin string, salt []byte) ([]byte, error) {
	return pbkdf2.Key(sha256.New, fmt.Sprintf("%q %q %q", t.label, t.serial, pin), salt, rounds, sha256.Size)
}

// check returns fault.Denied if the token refused this PIN before.
func (r refusedPIN) check(t token, pin string) error {
	b, err := r.files.Read(refusedName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var was refusal
	if json.Unmarshal(b, &was) != nil || len(was.Salt) == 0 {
		return nil
	}
	now, err := digestOf(t, pin, was.Salt)
	if err != nil || !hmac.Equal(now, was.Digest) {
		return err
	}
	return fault.New(fault.Denied, "token %s refused the PIN in %s before, and each further attempt brings it nearer to locking itself; write the right PIN there, or, if this one became right, remove %s", t.name(), t.pin, r.files.Path(refusedName))
}

// remember makes check refuse the PIN from now on.
func (r refusedPIN) remember(t token, pin string) error {
	salt := make([]byte, 16)
	rand.Read(salt)
	digest, err := digestOf(t, pin, salt)
	if err != nil {
		return err
	}
	b, err := json.Marshal(refusal{salt, digest})
	if err != nil {
		return err
	}
	if err := r.files.Write(refusedName, b); err != nil {
		return fmt.Errorf("the refused PIN cannot be remembered and will be tried again: %w", err)
	}
	return nil
}

// name is how an operator knows the token.
func (t token) name() string {
	if t.label == "" {
		return t.serial
	}
	return t.label
}
