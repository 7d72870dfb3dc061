//go:build pkcs11

package keystore

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/ThalesGroup/crypto11"
	"github.com/miekg/pkcs11"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// maxPIN bounds the file that holds a PIN.
const maxPIN = 256

// tokenStore keeps keys in a PKCS#11 token.
type tokenStore struct {
	at  token
	ctx *crypto11.Context
}

func openToken(t token, files Files) (Store, error) {
	if _, err := os.Stat(t.module); err != nil {
		return nil, fault.New(fault.NotFound, "the library of the token: %v", err)
	}
	pin, err := t.secret()
	if err != nil {
		return nil, err
	}
	refused := refusedPIN{files}
	if err := refused.check(t, pin); err != nil {
		return nil, err
	}
	ctx, err := crypto11.Configure(&crypto11.Config{Path: t.module, TokenLabel: t.label, TokenSerial: t.serial, Pin: pin})
	if errors.Is(err, pkcs11.Error(pkcs11.CKR_PIN_INCORRECT)) || errors.Is(err, pkcs11.Error(pkcs11.CKR_PIN_LOCKED)) {
		return nil, errors.Join(t.explain(err), refused.remember(t, pin))
	}
	if err != nil {
		return nil, t.explain(err)
	}
	if err := remove(files, refusedName); err != nil {
		return nil, errors.Join(err, ctx.Close())
	}
	return &tokenStore{at: t, ctx: ctx}, nil
}

func (s *tokenStore) label(name string) []byte { return []byte(s.at.object + "-" + name) }

// find returns nil when there is none.
func (s *tokenStore) find(name string) (crypto11.Signer, error) {
	keys, err := s.ctx.FindKeyPairs(nil, s.label(name))
	if err != nil || len(keys) == 0 {
		return nil, s.at.explain(err)
	}
	return keys[0], nil
}

func (s *tokenStore) Signer(name string) (crypto.Signer, error) {
	key, err := s.find(name)
	if err == nil && key == nil {
		err = fmt.Errorf("key %s in the token: %w", s.label(name), fs.ErrNotExist)
	}
	if err != nil {
		return nil, err
	}
	return key, nil
}

func (s *tokenStore) Create(name string) (crypto.Signer, error) {
	if err := s.Remove(name); err != nil {
		return nil, err
	}
	key, err := s.ctx.GenerateECDSAKeyPairWithLabel(s.label(name), s.label(name), elliptic.P256())
	if err != nil {
		return nil, s.at.explain(err)
	}
	return key, nil
}

func (s *tokenStore) Remove(name string) error {
	key, err := s.find(name)
	if err != nil || key == nil {
		return err
	}
	return s.at.explain(key.Delete())
}

func (s *tokenStore) Close() error { return s.ctx.Close() }

// explain says what an operator can do about an answer of the token.
func (t token) explain(err error) error {
	name := t.name()
	code, known := errors.AsType[pkcs11.Error](err)
	switch {
	case err == nil:
		return nil
	case !known && fault.KindOf(err) == "":
		return fault.New(fault.NotFound, "token %s is not there: %v; look with pkcs11-tool --module %s --list-token-slots", name, err, t.module)
	case code == pkcs11.CKR_PIN_INCORRECT, code == pkcs11.CKR_PIN_INVALID, code == pkcs11.CKR_PIN_LEN_RANGE:
		return fault.New(fault.Denied, "token %s does not take the PIN in %s; correct it before the token locks itself", name, t.pin)
	case code == pkcs11.CKR_PIN_LOCKED:
		return fault.New(fault.Denied, "token %s has locked itself after wrong PINs; its security officer can unlock it", name)
	case code == pkcs11.CKR_DEVICE_MEMORY, code == pkcs11.CKR_HOST_MEMORY:
		return fault.New(fault.Exhausted, "token %s has no room for another key; remove one that is not used", name)
	case code == pkcs11.CKR_TOKEN_NOT_PRESENT, code == pkcs11.CKR_DEVICE_REMOVED, code == pkcs11.CKR_TOKEN_NOT_RECOGNIZED:
		return fault.New(fault.Unavailable, "token %s was removed", name)
	}
	return fault.New(fault.Unavailable, "token %s: %v", name, err)
}

// secret reads the PIN.
func (t token) secret() (string, error) {
	b, err := os.ReadFile(t.pin)
	if err != nil {
		return "", fault.New(fault.NotFound, "the file with the token's PIN: %v", err)
	}
	if b = bytes.TrimSpace(b); len(b) == 0 || len(b) > maxPIN {
		return "", fault.New(fault.Invalid, "%s has %d characters, which is no PIN", t.pin, len(b))
	}
	return string(b), nil
}
