package iot

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/installer/durable"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/pki"
)

// Sealer hides secrets that lie in the store of record.
type Sealer interface {
	// Seal encrypts plain; only Open with the same purpose gives it back.
	Seal(purpose string, plain []byte) ([]byte, error)
	Open(purpose string, sealed []byte) ([]byte, error)
}

const (
	rootLife         = 30 * 365 * 24 * time.Hour
	intermediateLife = 20 * 365 * 24 * time.Hour
	sealPurpose      = "iot/ca"
)

// CA is the authority that signs device and server certificates: an
// intermediate whose root signed it once. Safe for concurrent use.
type CA struct {
	ID     string            // certificate id of the intermediate: the seed's <ca-id>
	Root   *x509.Certificate // what devices trust
	Issuer *pki.Authority
	// Private is the private CA: another intermediate of the root. It is nil where
	// the data is older than private CAs and the key of the root is not at hand.
	Private *PrivateCA
}

// PrivateCA issues what ACM PCA would on AWS.
type PrivateCA struct {
	UUID string // the last part of its ARN
	ID   string // its certificate id
	*pki.Authority
}

type caRecord struct {
	ID        string                  `json:"id"`
	UUID      string                  `json:"uuid,omitempty"` // of a private CA
	PEM       string                  `json:"pem"`
	RootPEM   string                  `json:"rootPem"`
	SealedKey []byte                  `json:"sealedKey"`
	Status    cloud.CertificateStatus `json:"status"`
	CreatedAt time.Time               `json:"createdAt"`
}

// These name the CA's record.
func defaultCAKey() string { return prefix + "default-ca" }
func privateCAKey() string { return prefix + "private-ca" }

// EnsureCA loads the CA and the private CA, or makes them at the first start. The
// root's key stays in rootDir (0700), apart from the store, and is needed only
// to make another intermediate. Killed anywhere, the next call finishes.
func EnsureCA(ctx context.Context, s state.Store, seal Sealer, rootDir string, now time.Time) (*CA, error) {
	id, err := state.Read[string](ctx, s, defaultCAKey())
	if err == nil {
		return loadCA(ctx, s, seal, rootDir, id.Value, now)
	}
	if !errors.Is(err, fault.NotFound) {
		return nil, fmt.Errorf("read CA: %w", err)
	}
	root, err := ensureRoot(rootDir, now)
	if err != nil {
		return nil, err
	}
	b := state.NewBatch(state.StepSetup)
	issuer, err := intermediateBatch(b, defaultCAKey(), root, seal, caRecord{CreatedAt: now}, "ggfleet issuing CA")
	if err != nil {
		return nil, err
	}
	uuid := names.NewUUID()
	private, err := intermediateBatch(b, privateCAKey(), root, seal, caRecord{UUID: uuid, CreatedAt: now}, "ggfleet private CA")
	if err != nil {
		return nil, err
	}
	if _, err := s.Commit(ctx, b); err != nil {
		if errors.Is(err, fault.Conflict) { // another replica was first
			return EnsureCA(ctx, s, seal, rootDir, now)
		}
		return nil, fmt.Errorf("store CA: %w", err)
	}
	return &CA{
		ID: pki.ID(issuer.Cert.Raw), Root: root.Cert, Issuer: issuer,
		Private: &PrivateCA{UUID: uuid, ID: pki.ID(private.Cert.Raw), Authority: private},
	}, nil
}

// intermediateBatch makes an authority under root and stores it in b with its key
// sealed; key will name its record.
func intermediateBatch(b *state.Batch, key string, root *pki.Authority, seal Sealer, rec caRecord, name string) (*pki.Authority, error) {
	inter, err := root.NewIntermediate(name, rec.CreatedAt, intermediateLife)
	if err != nil {
		return nil, err
	}
	keyPEM, err := pki.MarshalKey(inter.Key)
	if err != nil {
		return nil, err
	}
	if rec.SealedKey, err = seal.Seal(sealPurpose, keyPEM); err != nil {
		return nil, fmt.Errorf("seal CA key: %w", err)
	}
	rec.ID, rec.PEM, rec.RootPEM = pki.ID(inter.Cert.Raw), string(pki.EncodeCert(inter.Cert.Raw)), string(pki.EncodeCert(root.Cert.Raw))
	rec.Status, rec.CreatedAt = cloud.Active, rec.CreatedAt.UTC()
	b.If(key, 0).Put(key, rec.ID).Put(caKey(rec.ID), rec)
	return inter, nil
}

func loadCA(ctx context.Context, s state.Store, seal Sealer, rootDir, id string, now time.Time) (*CA, error) {
	issuer, root, _, err := loadAuthority(ctx, s, seal, id)
	if err != nil {
		return nil, err
	}
	ca := &CA{ID: id, Root: root, Issuer: issuer}
	ca.Private, err = ensurePrivate(ctx, s, seal, rootDir, root, now)
	return ca, err
}

// ensurePrivate loads the private CA, or makes it for data that has none.
func ensurePrivate(ctx context.Context, s state.Store, seal Sealer, rootDir string, rootCert *x509.Certificate, now time.Time) (*PrivateCA, error) {
	for range 2 {
		id, err := state.Read[string](ctx, s, privateCAKey())
		if err == nil {
			a, _, uuid, err := loadAuthority(ctx, s, seal, id.Value)
			return &PrivateCA{UUID: uuid, ID: id.Value, Authority: a}, err
		}
		if !errors.Is(err, fault.NotFound) {
			return nil, fmt.Errorf("read private CA: %w", err)
		}
		file := filepath.Join(rootDir, rootFile)
		content, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) {
			return nil, nil //nolint:nilnil // it is optional, see CA
		}
		if err != nil {
			return nil, fmt.Errorf("read root CA: %w", err)
		}
		root, err := parseRoot(file, content)
		if err != nil || !root.Cert.Equal(rootCert) {
			return nil, err
		}
		b := state.NewBatch(state.StepSetup)
		if _, err = intermediateBatch(b, privateCAKey(), root, seal, caRecord{UUID: names.NewUUID(), CreatedAt: now}, "ggfleet private CA"); err != nil {
			return nil, err
		}
		if _, err = s.Commit(ctx, b); err != nil && !errors.Is(err, fault.Conflict) {
			return nil, fmt.Errorf("store private CA: %w", err)
		}
	}
	return nil, errors.New("the private CA vanished while it was being read")
}

// loadAuthority reads an intermediate and its root.
func loadAuthority(ctx context.Context, s state.Store, seal Sealer, id string) (a *pki.Authority, root *x509.Certificate, uuid string, err error) {
	rec, err := state.Read[caRecord](ctx, s, caKey(id))
	if err != nil {
		return nil, nil, "", fmt.Errorf("read CA %s: %w", id, err)
	}
	keyPEM, err := seal.Open(sealPurpose, rec.Value.SealedKey)
	if err != nil {
		return nil, nil, "", fmt.Errorf("open the key of CA %s (is the seal key file the one that this data was made with?): %w", id, err)
	}
	key, err := pki.ParseKey(keyPEM)
	if err != nil {
		return nil, nil, "", fmt.Errorf("CA %s: %w", id, err)
	}
	certs, err := pki.ParseCerts([]byte(rec.Value.PEM + rec.Value.RootPEM))
	if err != nil {
		return nil, nil, "", fmt.Errorf("CA %s: stored certificates are damaged: %w", id, err)
	}
	if len(certs) != 2 {
		return nil, nil, "", fmt.Errorf("CA %s: %d certificates are stored, want the CA's and its root's", id, len(certs))
	}
	return &pki.Authority{Cert: certs[0], Key: key}, certs[1], rec.Value.UUID, nil
}

// rootFile holds key and certificate: there whole or not at all.
const rootFile = "root.pem"

// ensureRoot reads or makes the root.
func ensureRoot(dir string, now time.Time) (*pki.Authority, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make directory of the root CA: %w", err)
	}
	file := filepath.Join(dir, rootFile)
	b, err := os.ReadFile(file)
	if err == nil {
		return parseRoot(file, b)
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read root CA: %w", err)
	}
	root, err := pki.NewRoot("ggfleet root CA", now, rootLife)
	if err != nil {
		return nil, err
	}
	keyPEM, err := pki.MarshalKey(root.Key)
	if err != nil {
		return nil, err
	}
	if err := durable.WriteFileAt(file, append(keyPEM, pki.EncodeCert(root.Cert.Raw)...), 0o600); err != nil {
		return nil, fmt.Errorf("write root CA: %w", err)
	}
	return root, nil
}

func parseRoot(file string, b []byte) (*pki.Authority, error) {
	key, err := pki.ParseKey(b)
	if err != nil {
		return nil, fmt.Errorf("root CA %s: %w", file, err)
	}
	_, rest := pem.Decode(b) // the key, which was read
	certs, err := pki.ParseCerts(rest)
	if err != nil {
		return nil, fmt.Errorf("root CA %s: %w", file, err)
	}
	return &pki.Authority{Cert: certs[0], Key: key}, nil
}

// Bundle is what devices trust, root first: the content of rootCaPath.
func (c *CA) Bundle() []byte {
	return append(pki.EncodeCert(c.Root.Raw), pki.EncodeCert(c.Issuer.Cert.Raw)...)
}

// RootFingerprint is the certificate id of the root, pinned by enrolment strings.
func (c *CA) RootFingerprint() string { return pki.ID(c.Root.Raw) }
