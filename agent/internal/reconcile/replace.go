package reconcile

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"

	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	"github.com/ggfleet/ggfleet/installer/config"
	"github.com/ggfleet/ggfleet/installer/nucleus"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// swapName is the record of a change of the core's certificate that has begun. It
// holds what was there before.
const swapName = "core-swap.json"

type swap struct {
	Files []swapFile `json:"files"`
}

type swapFile struct {
	Name string `json:"name"` // on the host
	Old  []byte `json:"old"`
}

// corePair is where the nucleus reads certificate and key, and where else the
// agent keeps them: paths of the host.
type corePair struct{ certs, keys []string }

// Certificate returns the core's certificate and key as the nucleus uses them,
// both in PEM; fs.ErrNotExist when there are none yet.
func (l *Loop) Certificate() (certPEM, keyPEM []byte, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p, err := l.corePair()
	if err != nil {
		return nil, nil, err
	}
	return l.readPair(p)
}

func (l *Loop) readPair(p corePair) (cert, key []byte, err error) {
	if cert, err = l.sys.ReadFile(p.certs[0]); err != nil {
		return nil, nil, err
	}
	key, err = l.sys.ReadFile(p.keys[0])
	return cert, key, err
}

// corePair finds the files. The first of each list is what the nucleus reads.
func (l *Loop) corePair() (p corePair, err error) {
	r, err := l.record()
	if err != nil {
		return p, err
	}
	add := func(doc []byte) error {
		s, err := config.ReadSystem(doc)
		if err == nil && s.CertificateFilePath != "" && s.PrivateKeyPath != "" {
			p.certs, p.keys = append(p.certs, s.CertificateFilePath), append(p.keys, s.PrivateKeyPath)
		}
		return err
	}
	if r.Adopted != nil {
		doc, err := l.sys.ReadFile(r.Adopted.Config)
		if err == nil {
			err = add(doc)
		}
		return p, orMissing(p, err)
	}
	if r.Current != nil && runtimeOf(r.Current.Layout) != "" {
		o, err := l.document(r, r.Current.Layout)
		if err == nil && o != nil {
			err = add(o)
		}
		if err != nil {
			return p, err
		}
	}
	doc, err := l.cfg.Site.ReadFile(nucleus.ConfigFile, config.MaxDocument)
	if err == nil {
		err = add(doc)
	}
	// The stored document names files as this process sees them.
	if n := len(p.certs); err == nil && n > 0 {
		p.certs[n-1], p.keys[n-1] = l.sys.Name(p.certs[n-1]), l.sys.Name(p.keys[n-1])
	}
	return p, orMissing(p, err)
}

func orMissing(p corePair, err error) error {
	if err == nil && len(p.certs) == 0 {
		err = fmt.Errorf("the core's certificate: %w", fs.ErrNotExist)
	}
	return err
}

// ReplaceCertificate gives the nucleus another certificate with its key, both in
// PEM: the files are swapped, the nucleus is restarted and has to pass the health
// gate; when it does not, the old pair is put back and the nucleus restarted with
// it. Killed in between, the device has the old pair at the next start. The pair
// that is there already is no error and changes nothing.
func (l *Loop) ReplaceCertificate(ctx context.Context, certPEM, keyPEM []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := tls.X509KeyPair(certPEM, keyPEM); err != nil {
		return fault.New(fault.Invalid, "the new certificate and key of the core do not belong together: %v", err)
	}
	p, err := l.corePair()
	if err != nil {
		return err
	}
	cert, key, err := l.readPair(p)
	if err != nil {
		return err
	}
	if bytes.Equal(cert, certPEM) && bytes.Equal(key, keyPEM) {
		return nil
	}
	// The configuration of a nucleus may be its account's to write, and name any
	// file: nothing but a certificate with its key is replaced.
	if _, err := tls.X509KeyPair(cert, key); err != nil {
		return fault.New(fault.Conflict, "%s and %s, which the nucleus's configuration names, hold no certificate with its key and are not replaced: %v", p.certs[0], p.keys[0], err)
	}
	var s swap
	for i := range p.certs {
		for _, name := range []string{p.keys[i], p.certs[i]} {
			old, err := l.sys.ReadFile(name)
			if err != nil {
				return err
			}
			s.Files = append(s.Files, swapFile{name, old})
		}
	}
	if err := l.cfg.Dir.Do(localstate.CoreSwapIntent, func() error { return l.cfg.Dir.WriteJSON(swapName, s) }); err != nil {
		return err
	}
	err = l.cfg.Dir.Do(localstate.CoreSwap, func() error {
		for i, f := range s.Files {
			data, mode := certPEM, fs.FileMode(0o644)
			if i%2 == 0 {
				data, mode = keyPEM, 0o600
			}
			if err := l.put(f.Name, data, mode); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = l.restart(ctx)
	}
	if err == nil {
		return l.cfg.Dir.Do(localstate.CoreSwapEnd, func() error { return l.cfg.Dir.Root().Remove(swapName) })
	}
	if ctx.Err() != nil { // the next start puts the old pair back
		return err
	}
	err = fmt.Errorf("the nucleus does not work with its new certificate: %w", err)
	if back := l.swapBack(); back != nil {
		return errors.Join(err, back)
	}
	return errors.Join(err, l.restart(ctx))
}

// restart restarts the nucleus, if there is one, and waits for its proof.
func (l *Loop) restart(ctx context.Context) error {
	err := l.cfg.Supervisor.Restart(ctx)
	if errors.Is(err, fault.NotFound) {
		return nil
	}
	return err
}

// swapBack puts the old pair back when a change of the certificate was begun and
// not ended.
func (l *Loop) swapBack() error {
	var s swap
	err := l.cfg.Dir.ReadJSON(swapName, &s)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return l.cfg.Dir.Do(localstate.CoreSwapBack, func() error {
		for _, f := range s.Files {
			if err := l.put(f.Name, f.Old, 0o600); err != nil {
				return err
			}
		}
		return l.cfg.Dir.Root().Remove(swapName)
	})
}
