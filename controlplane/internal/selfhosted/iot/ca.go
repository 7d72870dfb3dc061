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
}

type caRecord struct {
	ID        string                  `json:"id"`
	PEM       string                  `json:"pem"`
	RootPEM   string                  `json:"rootPem"`
	SealedKey []byte                  `json:"sealedKey"`
	Status    cloud.CertificateStatus `json:"status"`
	CreatedAt time.Time               `json:"createdAt"`
}

func defaultCAKey() string { return prefix + "default-ca" }

// EnsureCA loads the CA, or makes root and intermediate at the first start. The
// root's key stays in rootDir (0700), apart from the store, and is needed only
// to make another intermediate. Killed anywhere, the next call finishes.
func EnsureCA(ctx context.Context, s state.Store, seal Sealer, rootDir string, now time.Time) (*CA, error) {
	id, err := state.Read[string](ctx, s, defaultCAKey())
	if err == nil {
		return loadCA(ctx, s, seal, id.Value)
	}
	if !errors.Is(err, fault.NotFound) {
		return nil, fmt.Errorf("read CA: %w", err)
	}
	root, err := ensureRoot(rootDir, now)
	if err != nil {
		return nil, err
	}
	inter, err := root.NewIntermediate("ggfleet issuing CA", now, intermediateLife)
	if err != nil {
		return nil, err
	}
	keyPEM, err := pki.MarshalKey(inter.Key)
	if err != nil {
		return nil, err
	}
	sealed, err := seal.Seal(sealPurpose, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("seal CA key: %w", err)
	}
	rec := caRecord{
		ID: pki.ID(inter.Cert.Raw), PEM: string(pki.EncodeCert(inter.Cert.Raw)), RootPEM: string(pki.EncodeCert(root.Cert.Raw)),
		SealedKey: sealed, Status: cloud.Active, CreatedAt: now.UTC(),
	}
	b := state.NewBatch(state.StepSetup).If(defaultCAKey(), 0).Put(defaultCAKey(), rec.ID).Put(caKey(rec.ID), rec)
	if _, err := s.Commit(ctx, b); err != nil {
		if errors.Is(err, fault.Conflict) { // another replica was first
			return EnsureCA(ctx, s, seal, rootDir, now)
		}
		return nil, fmt.Errorf("store CA: %w", err)
	}
	return &CA{ID: rec.ID, Root: root.Cert, Issuer: inter}, nil
}

func loadCA(ctx context.Context, s state.Store, seal Sealer, id string) (*CA, error) {
	rec, err := state.Read[caRecord](ctx, s, caKey(id))
	if err != nil {
		return nil, fmt.Errorf("read CA %s: %w", id, err)
	}
	keyPEM, err := seal.Open(sealPurpose, rec.Value.SealedKey)
	if err != nil {
		return nil, fmt.Errorf("open the key of CA %s (is the seal key file the one that this data was made with?): %w", id, err)
	}
	key, err := pki.ParseKey(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("CA %s: %w", id, err)
	}
	certs, err := pki.ParseCerts([]byte(rec.Value.PEM + rec.Value.RootPEM))
	if err != nil {
		return nil, fmt.Errorf("CA %s: stored certificates are damaged: %w", id, err)
	}
	if len(certs) != 2 {
		return nil, fmt.Errorf("CA %s: %d certificates are stored, want the CA's and its root's", id, len(certs))
	}
	return &CA{ID: id, Root: certs[1], Issuer: &pki.Authority{Cert: certs[0], Key: key}}, nil
}

// ensureRoot reads or makes the root.
func ensureRoot(dir string, now time.Time) (*pki.Authority, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make directory of the root CA: %w", err)
	}
	file := filepath.Join(dir, "root.pem") // key and certificate in one file: there whole or not at all
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
