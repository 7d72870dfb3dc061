package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io/fs"
	"path"

	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	"github.com/ggfleet/ggfleet/installer/durable"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// Certificate returns the device's certificate and key in PEM; fs.ErrNotExist
// when there are none yet.
func (l *Loop) Certificate() (certPEM, keyPEM []byte, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if certPEM, err = l.read(CertName); err == nil {
		keyPEM, err = l.read(KeyName)
	}
	if err == nil && (certPEM == nil || keyPEM == nil) {
		err = fmt.Errorf("the device's certificate: %w", fs.ErrNotExist)
	}
	return certPEM, keyPEM, err
}

// ReplaceCertificate gives the device another certificate with its key, both in
// PEM, in one change. An application that opened one file before it and the other
// after it opens both again. The pair that is there already changes nothing.
func (l *Loop) ReplaceCertificate(_ context.Context, certPEM, keyPEM []byte) error {
	if _, err := tls.X509KeyPair(certPEM, keyPEM); err != nil {
		return fault.New(fault.Invalid, "the new certificate and key of the device do not belong together: %v", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	cert, err := l.read(CertName)
	if err != nil {
		return err
	}
	key, err := l.read(KeyName)
	if err != nil || bytes.Equal(cert, certPEM) && bytes.Equal(key, keyPEM) {
		return err
	}
	sum := sha256.Sum256(certPEM)
	name := hex.EncodeToString(sum[:8])
	dir := path.Join(identitiesDir, name)
	if err := l.root.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := durable.WriteFile(l.root, path.Join(dir, path.Base(KeyName)), keyPEM, 0o600); err != nil {
		return err
	}
	if err := l.share(path.Join(dir, path.Base(KeyName))); err != nil {
		return err
	}
	if err := durable.WriteFile(l.root, path.Join(dir, path.Base(CertName)), certPEM, 0o644); err != nil {
		return err
	}
	return l.cfg.Dir.Do(localstate.ClientSwap, func() error { return l.place(name) })
}

// place makes the identity of this name the device's, and removes the others.
func (l *Loop) place(name string) error {
	if err := l.root.MkdirAll(path.Join(identitiesDir, name), 0o755); err != nil {
		return err
	}
	if err := durable.SyncDir(l.root, identitiesDir); err != nil {
		return err
	}
	if err := durable.Symlink(l.root, path.Join(identitiesDir, name), identityLink); err != nil {
		return err
	}
	entries, err := fs.ReadDir(l.root.FS(), identitiesDir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() != name {
			if err := l.root.RemoveAll(path.Join(identitiesDir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}
