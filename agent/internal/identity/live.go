package identity

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/ggfleet/ggfleet/agent/internal/keystore"
	"github.com/ggfleet/ggfleet/agent/internal/localstate"
)

// Live is the agent's identity while it works: connections made with its TLS
// configurations follow a renewal without a restart. Safe for concurrent use.
type Live struct {
	dir   *localstate.Dir
	keys  keystore.Store
	cas   *x509.CertPool
	clock *Clock

	mu   sync.Mutex
	id   Identity
	cert *tls.Certificate // what is shown now
}

// Open loads the stored identity with its key. fs.ErrNotExist: not enrolled; any
// other error says what is wrong. Close it.
func Open(d *localstate.Dir) (*Live, error) {
	id, err := Read(d)
	if err != nil {
		return nil, err
	}
	keys, err := keystore.Open(id.Keys, d)
	if err != nil {
		return nil, fmt.Errorf("the agent's key: %w", err)
	}
	l, err := newLive(d, keys, id)
	if err != nil {
		return nil, errors.Join(err, keys.Close())
	}
	return l, nil
}

// OpenKept is Open for the agent at its start: an identity that is gone or damaged is
// taken from its copy (localstate.Dir.Kept), and damage then says what was wrong.
func OpenKept(d *localstate.Dir) (l *Live, damage, err error) {
	damage, err = d.Kept(recordName, func() (err error) {
		l, err = Open(d)
		return err
	})
	return l, damage, err
}

func newLive(d *localstate.Dir, keys keystore.Store, id Identity) (*Live, error) {
	if err := id.check(); err != nil {
		return nil, err
	}
	cas, err := Bundle(id.CAPEM, id.CAFingerprint)
	if err != nil {
		return nil, err
	}
	l := &Live{dir: d, keys: keys, cas: pool(cas), clock: OpenClock(d), id: id}
	return l, l.Use(id.Credential)
}

// Close lets go of the keys.
func (l *Live) Close() error { return l.keys.Close() }

// Clock is the agent's clock.
func (l *Live) Clock() *Clock { return l.clock }

// Identity returns the record.
func (l *Live) Identity() Identity {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.id
}

// Store changes the record as the step p.
func (l *Live) Store(p localstate.Point, change func(*Identity)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	next := l.id
	change(&next)
	err := l.dir.Do(p, func() error { return l.dir.WriteKept(recordName, next) })
	if err == nil {
		l.id = next
	}
	return err
}

// Signer returns the key of c; fs.ErrNotExist when there is none.
func (l *Live) Signer(c Credential) (crypto.Signer, error) { return l.keys.Signer(c.Key()) }

// EnsureKey returns the key of c, made as the step p if it is not there.
func (l *Live) EnsureKey(c Credential, p localstate.Point) (crypto.Signer, error) {
	return keystore.Ensure(l.keys, c.Key(), func(do func() error) error { return l.dir.Do(p, do) })
}

// RemoveKey destroys the key of c; none is no error.
func (l *Live) RemoveKey(c Credential) error { return l.keys.Remove(c.Key()) }

// Check reports whether c is a certificate of the CA for its own key.
func (l *Live) Check(c Credential) error {
	_, err := l.Pair(c)
	return err
}

// Pair returns the certificate and key of c, checked, for TLS.
func (l *Live) Pair(c Credential) (*tls.Certificate, error) {
	key, err := l.Signer(c)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the agent's key is gone: %v", err) //nolint:errorlint // it is not the identity that does not exist
	}
	if err != nil {
		return nil, err
	}
	id := l.Identity()
	cas, err := Bundle(id.CAPEM, id.CAFingerprint)
	if err != nil {
		return nil, err
	}
	if err := CheckCertificate(c.CertificatePEM, key, cas); err != nil {
		return nil, err
	}
	chain, err := certificates("certificatePem", c.CertificatePEM)
	if err != nil {
		return nil, err
	}
	out := &tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	for _, cert := range chain {
		out.Certificate = append(out.Certificate, cert.Raw)
	}
	return out, nil
}

// Use shows c in every connection made from now on. Nothing is stored.
func (l *Live) Use(c Credential) error {
	cert, err := l.Pair(c)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cert = cert
	return nil
}

// Certificate is what is shown now.
func (l *Live) Certificate() *x509.Certificate { return l.shown().Leaf }

func (l *Live) shown() *tls.Certificate {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cert
}

// TLS returns a client configuration for host that proves to be the agent, with
// the certificate of the moment, and trusts only the CA of the enrolment.
func (l *Live) TLS(host string) *tls.Config {
	c := l.Anonymous(host)
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return l.shown(), nil }
	return c
}

// With is TLS with any certificate.
func (l *Live) With(host string, cert *tls.Certificate) *tls.Config {
	c := l.Anonymous(host)
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	return c
}

// Anonymous is TLS without a certificate.
func (l *Live) Anonymous(host string) *tls.Config {
	return trusting(host, l.floor, func([]*x509.Certificate) (*x509.CertPool, error) { return l.cas, nil })
}

func (l *Live) floor() time.Time { return l.clock.Floor() }
