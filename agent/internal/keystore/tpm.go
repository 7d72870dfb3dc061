//go:build linux

package keystore

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/asn1"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"os"
	"sync"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxtpm"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"github.com/ggfleet/ggfleet/shared/fault"
)

const defaultTPM = "/dev/tpmrm0"

// tpmStore keeps keys that the TPM made and encrypted for itself alone. Each
// signature opens the device, loads the key and leaves nothing behind, so that a
// reset of the TPM, or another user of its few slots, is of no consequence.
type tpmStore struct {
	path  string
	files Files
	mu    sync.Mutex // one user of the device at a time
}

// blob is a key as it lies in the agent's folder.
type blob struct {
	Public  []byte `json:"public"`
	Private []byte `json:"private"` // encrypted by the TPM
}

func openTPM(path string, files Files) (Store, error) {
	if path == "" {
		path = defaultTPM
	}
	s := &tpmStore{path: path, files: files}
	return s, s.use(func(transport.TPM, tpm2.NamedHandle) error { return nil })
}

func (s *tpmStore) file(name string) string { return name + ".tpm" }

func (s *tpmStore) Close() error { return nil }

func (s *tpmStore) Remove(name string) error { return remove(s.files, s.file(name)) }

func (s *tpmStore) Create(name string) (crypto.Signer, error) {
	var b blob
	err := s.use(func(t transport.TPM, parent tpm2.NamedHandle) error {
		made, err := tpm2.Create{
			ParentHandle: parent,
			InPublic: tpm2.New2B(tpm2.TPMTPublic{
				Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
				ObjectAttributes: tpm2.TPMAObject{
					FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true, SignEncrypt: true,
				},
				Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: tpm2.TPMECCNistP256}),
			}),
		}.Execute(t)
		if err == nil {
			b = blob{Public: tpm2.Marshal(made.OutPublic), Private: tpm2.Marshal(made.OutPrivate)}
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	data, err := json.Marshal(b)
	if err != nil {
		return nil, err
	}
	if err := s.files.Write(s.file(name), data); err != nil {
		return nil, err
	}
	return s.signer(b)
}

func (s *tpmStore) Signer(name string) (crypto.Signer, error) {
	data, err := s.files.Read(s.file(name))
	if err != nil {
		return nil, err
	}
	var b blob
	if err := json.Unmarshal(data, &b); err != nil {
		return nil, fault.New(fault.Invalid, "%s is damaged: %v", s.files.Path(s.file(name)), err)
	}
	key, err := s.signer(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.files.Path(s.file(name)), err)
	}
	return key, nil
}

// signer checks that the TPM knows the key.
func (s *tpmStore) signer(b blob) (crypto.Signer, error) {
	public, err := tpm2.Unmarshal[tpm2.TPM2BPublic](b.Public)
	if err != nil {
		return nil, fault.New(fault.Invalid, "the public part is damaged: %v", err)
	}
	private, err := tpm2.Unmarshal[tpm2.TPM2BPrivate](b.Private)
	if err != nil {
		return nil, fault.New(fault.Invalid, "the encrypted part is damaged: %v", err)
	}
	area, err := public.Contents()
	if err != nil {
		return nil, fault.New(fault.Invalid, "the public part is damaged: %v", err)
	}
	point, err := area.Unique.ECC()
	if err != nil {
		return nil, fault.New(fault.Invalid, "is no key of an elliptic curve: %v", err)
	}
	var raw [65]byte // uncompressed: 4, X, Y
	raw[0] = 4
	new(big.Int).SetBytes(point.X.Buffer[:min(32, len(point.X.Buffer))]).FillBytes(raw[1:33])
	new(big.Int).SetBytes(point.Y.Buffer[:min(32, len(point.Y.Buffer))]).FillBytes(raw[33:])
	pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), raw[:])
	if err != nil {
		return nil, fault.New(fault.Invalid, "the public part is damaged: %v", err)
	}
	key := &tpmKey{store: s, public: *public, private: *private, pub: pub}
	return key, key.load(func(transport.TPM, tpm2.NamedHandle) error { return nil })
}

// tpmKey signs with a key that only its TPM can read.
type tpmKey struct {
	store   *tpmStore
	public  tpm2.TPM2BPublic
	private tpm2.TPM2BPrivate
	pub     *ecdsa.PublicKey
}

func (k *tpmKey) Public() crypto.PublicKey { return k.pub }

// Sign signs a digest as ECDSA does: of one that is longer than the curve, its
// beginning counts.
func (k *tpmKey) Sign(_ io.Reader, digest []byte, _ crypto.SignerOpts) (sig []byte, err error) {
	if len(digest) < 32 {
		return nil, fault.New(fault.Invalid, "a digest of %d bytes is too short to sign", len(digest))
	}
	err = k.load(func(t transport.TPM, key tpm2.NamedHandle) error {
		signed, err := tpm2.Sign{
			KeyHandle: key, Digest: tpm2.TPM2BDigest{Buffer: digest[:32]},
			InScheme: tpm2.TPMTSigScheme{
				Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUSigScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSchemeHash{HashAlg: tpm2.TPMAlgSHA256}),
			},
			Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck},
		}.Execute(t)
		if err != nil {
			return err
		}
		e, err := signed.Signature.Signature.ECDSA()
		if err != nil {
			return err
		}
		sig, err = asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(e.SignatureR.Buffer), new(big.Int).SetBytes(e.SignatureS.Buffer)})
		return err
	})
	return sig, err
}

// load has do work with the key loaded.
func (k *tpmKey) load(do func(transport.TPM, tpm2.NamedHandle) error) error {
	return k.store.use(func(t transport.TPM, parent tpm2.NamedHandle) error {
		loaded, err := tpm2.Load{ParentHandle: parent, InPrivate: k.private, InPublic: k.public}.Execute(t)
		if err != nil {
			return err
		}
		defer flush(t, loaded.ObjectHandle)
		return do(t, tpm2.NamedHandle{Handle: loaded.ObjectHandle, Name: loaded.Name})
	})
}

// use opens the device and has do work below the storage key: the one that the
// TPM derives from its own seed, always the same.
func (s *tpmStore) use(do func(t transport.TPM, parent tpm2.NamedHandle) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.open()
	if err != nil {
		return err
	}
	defer t.Close() //nolint:errcheck // nothing is written through it any more
	parent, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(t)
	if err != nil {
		return s.explain(err)
	}
	defer flush(t, parent.ObjectHandle)
	return s.explain(do(t, tpm2.NamedHandle{Handle: parent.ObjectHandle, Name: parent.Name}))
}

func (s *tpmStore) open() (transport.TPMCloser, error) {
	info, err := os.Stat(s.path)
	var t transport.TPMCloser
	switch {
	case err != nil:
	case info.Mode()&fs.ModeSocket != 0:
		t, err = linuxudstpm.Open(s.path)
	default:
		t, err = linuxtpm.Open(s.path)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fault.New(fault.NotFound, "there is no TPM at %s; name its device with --key tpm:PATH, switch it on in the firmware, or keep the key in a file", s.path)
	case errors.Is(err, fs.ErrPermission):
		return nil, fault.New(fault.Denied, "the TPM at %s may not be used by this user; run as root, or as a member of the group of the device", s.path)
	case err != nil:
		return nil, fault.New(fault.Unavailable, "the TPM at %s cannot be used: %v", s.path, err)
	}
	return t, nil
}

// explain says what an operator can do about an answer of the TPM.
func (s *tpmStore) explain(err error) error {
	switch {
	case err == nil || fault.KindOf(err) != "":
		return err
	case errors.Is(err, tpm2.TPMRCIntegrity):
		return fault.New(fault.Denied, "the key belongs to another TPM than the one at %s, or that one was cleared; enrol this device anew", s.path)
	case errors.Is(err, tpm2.TPMRCBadAuth), errors.Is(err, tpm2.TPMRCAuthFail):
		return fault.New(fault.Denied, "the owner hierarchy of the TPM at %s has a password, which the agent does not know; clear it, or keep the key in a file", s.path)
	case errors.Is(err, tpm2.TPMRCObjectMemory), errors.Is(err, tpm2.TPMRCObjectHandles):
		return fault.New(fault.Exhausted, "the TPM at %s has no room for another key now; use the device with a resource manager (/dev/tpmrm0), or end what holds keys in it", s.path)
	case errors.Is(err, tpm2.TPMRCLockout):
		return fault.New(fault.Unavailable, "the TPM at %s is locked after wrong passwords; it opens by itself after a while, or with tpm2_dictionarylockout", s.path)
	}
	return fault.New(fault.Unavailable, "the TPM at %s: %v", s.path, err)
}

func flush(t transport.TPM, h tpm2.TPMHandle) {
	_, _ = tpm2.FlushContext{FlushHandle: h}.Execute(t) // a resource manager does it as well
}
