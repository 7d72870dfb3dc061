package keystore

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"strings"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// Files is where a store keeps what belongs to its keys: localstate.Dir.
type Files interface {
	Read(name string) ([]byte, error)
	// Write leaves the old or the new content after a power cut, mode 0600.
	Write(name string, data []byte) error
	// Remove removes name; fs.ErrNotExist when it is not there.
	Remove(name string) error
	// Path is name as an operator finds it.
	Path(name string) string
}

// Store keeps private keys by name. All are P-256. Safe for concurrent use.
type Store interface {
	// Signer returns the key; fs.ErrNotExist when it was never made, fault.Invalid
	// when what is there is no key of this store.
	Signer(name string) (crypto.Signer, error)
	// Create makes a key, in place of what has the name.
	Create(name string) (crypto.Signer, error)
	// Remove destroys the key; none is no error.
	Remove(name string) error
	// Close lets go of the device. Signers do not work any more.
	Close() error
}

// FileRef is the reference of keys in files.
const FileRef = "file"

// Open returns the store that ref names; "" is FileRef. A device that is not
// there, or cannot be used, is an error that says what to do.
func Open(ref string, files Files) (Store, error) {
	scheme, rest, _ := strings.Cut(ref, ":")
	switch scheme {
	case "", FileRef:
		if rest == "" {
			return fileStore{files}, nil
		}
	case "tpm":
		return openTPM(rest, files)
	case "pkcs11":
		at, err := parseURI(ref)
		if err != nil {
			return nil, err
		}
		return openToken(at, files)
	}
	return nil, fault.Field("key", "%q is no place for a key; use file, tpm, tpm:/dev/tpmrm0 or a pkcs11: URI", ref)
}

// Ensure returns the key with the name, made if it is not there. create carries
// out the making; it may add what belongs to it. A damaged key is replaced.
func Ensure(s Store, name string, create func(do func() error) error) (crypto.Signer, error) {
	key, err := s.Signer(name)
	if err == nil || !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fault.Invalid) {
		return key, err
	}
	err = create(func() (err error) {
		key, err = s.Create(name)
		return err
	})
	return key, err
}

// NewName returns a name that no other key has.
func NewName() string { return "key-" + strings.ToLower(rand.Text()[:12]) }

// fileStore keeps keys as NewKey writes them.
type fileStore struct{ files Files }

func (s fileStore) file(name string) string { return name + ".pem" }

func (s fileStore) Signer(name string) (crypto.Signer, error) {
	b, err := s.files.Read(s.file(name))
	if err != nil {
		return nil, err
	}
	key, err := ParseKey(b)
	if err != nil {
		return nil, fault.New(fault.Invalid, "%s: %s", s.files.Path(s.file(name)), fault.Message(err))
	}
	return key, nil
}

func (s fileStore) Create(name string) (crypto.Signer, error) {
	key, b, err := NewKey()
	if err != nil {
		return nil, err
	}
	return key, s.files.Write(s.file(name), b)
}

func (s fileStore) Remove(name string) error { return remove(s.files, s.file(name)) }

func (fileStore) Close() error { return nil }

func remove(files Files, name string) error {
	if err := files.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// NewKey makes a P-256 key and its PKCS#8 PEM, the form that classic can read.
func NewKey() (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// ParseKey reads one PKCS#8 PEM block of whatever kind of key.
func ParseKey(b []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, fault.New(fault.Invalid, "no PKCS#8 private key")
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fault.New(fault.Invalid, "no PKCS#8 private key: %v", err)
	}
	key, ok := k.(crypto.Signer)
	if !ok {
		return nil, fault.New(fault.Invalid, "a %T cannot sign", k)
	}
	return key, nil
}
