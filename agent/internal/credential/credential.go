package credential

import (
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"

	"github.com/ggfleet/ggfleet/agent/internal/identity"
	"github.com/ggfleet/ggfleet/agent/internal/keystore"
	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// Want says what is to be there, and by whom.
type Want struct {
	Name                   string // of the device
	HasCertificate         bool   // the control plane knows a certificate of it
	CertsZip               bool   // and its key, made there, is in certs.zip
	CertFile, KeyFile      string
	Key, Call, Certificate localstate.Point // of storing the key, having it signed, storing the certificate

	Read  func(name string) ([]byte, error) // nil for a file that is not there
	Write func(p localstate.Point, name string, data []byte, mode fs.FileMode) error
	Do    func(p localstate.Point, do func() error) error
	Sign  func(ctx context.Context, csr string) (certificatePEM string, err error)
	Fetch func(ctx context.Context) (certsZip []byte, err error)
}

// Ensure makes w so. A pair that fits is left alone; files that are lost or
// damaged are fetched again, or replaced by a certificate for a new key. It may be
// called again after a failure or a kill at any point.
func Ensure(ctx context.Context, w Want) error {
	cert, err := w.Read(w.CertFile)
	if err != nil {
		return err
	}
	key, err := w.Read(w.KeyFile)
	if err != nil {
		return err
	}
	_, pairErr := tls.X509KeyPair(cert, key)
	if w.HasCertificate && pairErr == nil {
		return nil
	}
	if w.HasCertificate && w.CertsZip {
		if err := fetch(ctx, w); !errors.Is(err, fault.NotFound) {
			return err
		} // it went when another certificate took the place of the one in it
	}
	// Also when the control plane has signed already and its answer was lost: asking
	// again with the same key is asking the same. If it has a certificate of the
	// device whose key is lost, the new one takes its place.
	stored, _ := keystore.ParseKey(key)
	err = request(ctx, w, stored)
	if stored != nil && w.HasCertificate && errors.Is(err, fault.Invalid) {
		err = request(ctx, w, nil) // a key that was replaced
	}
	return err
}

func fetch(ctx context.Context, w Want) error {
	b, err := w.Fetch(ctx)
	if err != nil {
		return fmt.Errorf("fetching the certificate of %s: %w", w.Name, err)
	}
	cert, key, err := ReadCertsZip(b)
	if err != nil {
		return err
	}
	if _, err := tls.X509KeyPair(cert, key); err != nil {
		return fault.New(fault.Invalid, "certs.zip holds a certificate and a key that do not belong together: %v", err)
	}
	if err := w.Write(w.Key, w.KeyFile, key, 0o600); err != nil {
		return err
	}
	return w.Write(w.Certificate, w.CertFile, cert, 0o644)
}

// request has key signed, or a new one if it is nil.
func request(ctx context.Context, w Want, key crypto.Signer) error {
	var err error
	if key == nil {
		var b []byte
		if key, b, err = keystore.NewKey(); err != nil {
			return err
		}
		if err := w.Write(w.Key, w.KeyFile, b, 0o600); err != nil {
			return err
		}
	}
	csr, err := identity.CSR(key, w.Name)
	if err != nil {
		return err
	}
	var cert string
	err = w.Do(w.Call, func() error {
		cert, err = w.Sign(ctx, csr)
		return err
	})
	if err != nil {
		return fmt.Errorf("having the certificate of %s signed: %w", w.Name, err)
	}
	if err := identity.CheckCertificate(cert, key, nil); err != nil {
		return fmt.Errorf("the certificate of %s: %w", w.Name, err)
	}
	return w.Write(w.Certificate, w.CertFile, []byte(cert), 0o644)
}
