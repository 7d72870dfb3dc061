package signed

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strings"

	"aead.dev/minisign"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// Bounds of what is read.
const (
	MaxSignature = 1024 // bytes of a signature file
	maxKeyFile   = 64 << 10
	maxKeys      = 64
)

// Key is a public key that releases may be signed with.
type Key struct {
	ID   string // 16 upper-case hex digits
	text string
	key  minisign.PublicKey
}

// String is the key in base64, as minisign writes it.
func (k Key) String() string { return k.text }

// Keys are public keys, each once.
type Keys []Key

// ParseKey reads a public key: its base64, with minisign's comment line or
// without.
func ParseKey(text string) (Key, error) {
	keys, err := ReadKeys(strings.NewReader(text))
	if err != nil {
		return Key{}, err
	}
	if len(keys) != 1 {
		return Key{}, fault.New(fault.Invalid, "want one public key, got %d", len(keys))
	}
	return keys[0], nil
}

// ReadKeys reads public keys, one a line; comments and empty lines are skipped.
func ReadKeys(r io.Reader) (Keys, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxKeyFile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxKeyFile {
		return nil, fault.New(fault.TooLarge, "the keys have more than %d bytes", maxKeyFile)
	}
	var keys Keys
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") || strings.HasPrefix(line, "untrusted comment:") {
			continue
		}
		var k minisign.PublicKey
		if err := k.UnmarshalText([]byte(line)); err != nil {
			return nil, fault.New(fault.Invalid, "%.80q is not a minisign public key: %v", line, err)
		}
		keys = keys.With(Key{ID: fmt.Sprintf("%016X", k.ID()), text: k.String(), key: k})
	}
	if len(keys) > maxKeys {
		return nil, fault.New(fault.TooLarge, "there are more than %d keys", maxKeys)
	}
	return keys, nil
}

// With returns k and more, each once.
func (k Keys) With(more ...Key) Keys {
	out := append(Keys{}, k...)
	for _, m := range more {
		if !out.has(m) {
			out = append(out, m)
		}
	}
	return out
}

func (k Keys) has(m Key) bool {
	for _, o := range k {
		if o.key.Equal(m.key) {
			return true
		}
	}
	return false
}

// Signature is a signature file that was read and not verified yet.
type Signature struct {
	Statement Statement
	KeyID     string
	text      []byte
}

// ParseSignature reads a signature file. What it says is only a claim until
// Verify.
func ParseSignature(text string) (Signature, error) {
	if len(text) > MaxSignature {
		return Signature{}, fault.New(fault.TooLarge, "the signature has more than %d bytes", MaxSignature)
	}
	var s minisign.Signature
	if err := s.UnmarshalText([]byte(text)); err != nil {
		return Signature{}, fault.New(fault.Invalid, "this is not a minisign signature: %v", err)
	}
	if s.Algorithm != minisign.HashEdDSA {
		return Signature{}, fault.New(fault.Invalid, "the signature is of minisign's old kind, which needs the whole file in memory; sign with a current minisign, or with -H")
	}
	st, err := ParseStatement(s.TrustedComment)
	if err != nil {
		return Signature{}, err
	}
	return Signature{Statement: st, KeyID: fmt.Sprintf("%016X", s.KeyID), text: []byte(text)}, nil
}

// Knows reports whether a key with the id that s names is among k.
func (k Keys) Knows(s Signature) error {
	for _, key := range k {
		if key.ID == s.KeyID {
			return nil
		}
	}
	return fault.New(fault.Denied, "it is signed with key %s, which is not trusted here", s.KeyID)
}

// Verify reads r to its end and returns nil if s is a signature of that by one
// of the keys; else fault.Denied.
func (k Keys) Verify(r io.Reader, s Signature) error {
	if err := k.Knows(s); err != nil {
		return err
	}
	h := minisign.NewReader(r)
	if _, err := io.Copy(io.Discard, h); err != nil {
		return err
	}
	for _, key := range k {
		if key.ID == s.KeyID && h.Verify(key.key, s.text) {
			return nil
		}
	}
	return fault.New(fault.Denied, "the signature by key %s is not one of this file", s.KeyID)
}

// NewKey makes a key pair. private is encrypted with password, which takes a
// second and a gigabyte on purpose; not with an empty one.
func NewKey(password string) (public Key, private []byte, err error) {
	pub, priv, err := minisign.GenerateKey(nil)
	if err != nil {
		return Key{}, nil, err
	}
	if password == "" {
		private, err = priv.MarshalText()
	} else {
		private, err = minisign.EncryptKey(password, priv)
	}
	if err != nil {
		return Key{}, nil, err
	}
	return Key{ID: fmt.Sprintf("%016X", pub.ID()), text: pub.String(), key: pub}, private, nil
}

// Sign reads r to its end and returns the signature file that makes the
// statement s of it.
func Sign(private []byte, password string, r io.Reader, s Statement) ([]byte, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	return SignFile(private, password, r, s.String())
}

// SignFile is Sign for files that are no binary of the agent: trusted is any
// trusted comment of one line.
func SignFile(private []byte, password string, r io.Reader, trusted string) ([]byte, error) {
	key, err := openKey(private, password)
	if err != nil {
		return nil, err
	}
	h := minisign.NewReader(bufio.NewReaderSize(r, 1<<16))
	if _, err := io.Copy(io.Discard, h); err != nil {
		return nil, err
	}
	return h.SignWithComments(key, trusted, "signature of "+trusted), nil
}

func openKey(private []byte, password string) (minisign.PrivateKey, error) {
	var key minisign.PrivateKey
	if !minisign.IsEncrypted(private) {
		if err := key.UnmarshalText(bytes.TrimSpace(private)); err != nil {
			return key, fault.New(fault.Invalid, "this is not a minisign private key: %v", err)
		}
		return key, nil
	}
	key, err := minisign.DecryptKey(password, private)
	if err != nil {
		return key, fault.New(fault.Denied, "the private key does not open with this password")
	}
	return key, nil
}
