package identity

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// ErrUntrusted is the error of a server that is not the one that it should be.
// Nothing was sent to it.
var ErrUntrusted = errors.New("the server is not to be trusted")

// trusting returns a client configuration for host that accepts only servers
// whose chain ends in roots and had not ended at floor.
//
// The device's own clock has no say, since it may be wrong by years: that a
// certificate has begun is taken from it, and that it has ended is known only as
// far as the time has passed for certain (Clock).
func trusting(host string, floor func() time.Time, roots func(chain []*x509.Certificate) (*x509.CertPool, error)) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: host,
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection does it, for every connection
		VerifyConnection: func(cs tls.ConnectionState) error {
			pool, err := roots(cs.PeerCertificates)
			if err == nil {
				err = verifyServer(cs.PeerCertificates, pool, host, floor())
			}
			if err != nil {
				return fmt.Errorf("%w: %w", ErrUntrusted, err)
			}
			return nil
		},
	}
}

func verifyServer(chain []*x509.Certificate, roots *x509.CertPool, host string, floor time.Time) error {
	at, between := floor, x509.NewCertPool()
	for _, c := range chain {
		if c.NotBefore.After(at) {
			at = c.NotBefore // the instant at which all of the chain had begun
		}
	}
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, DNSName: host, CurrentTime: at})
	if bad, ok := errors.AsType[x509.CertificateInvalidError](err); ok && bad.Reason == x509.Expired {
		return fault.New(fault.Denied, "the certificate of %s has expired: it ended %s, and %s has passed; renew the server's certificate",
			host, chain[0].NotAfter.UTC().Format(time.RFC3339), floor.UTC().Format(time.RFC3339))
	}
	if err != nil {
		return fault.New(fault.Denied, "the certificate of %s does not fit its address or CA: %v", host, err)
	}
	return nil
}

// Pinned returns a client configuration for host that trusts only the CA with the
// fingerprint. The server must send that root with its chain: before enrolment
// nothing else that the agent has could tell a false server from the true one.
func Pinned(host, fingerprint string, floor func() time.Time) *tls.Config {
	return trusting(host, floor, func(chain []*x509.Certificate) (*x509.CertPool, error) {
		i := slices.IndexFunc(chain, func(c *x509.Certificate) bool { return Fingerprint(c) == fingerprint })
		if i < 0 {
			return nil, fault.New(fault.Denied, "the server at %s does not show the CA with fingerprint %s; check the address, or ask for the fingerprint anew if the CA was replaced", host, fingerprint)
		}
		return pool(chain[i : i+1]), nil
	})
}

// Bundle reads the PEM bundle of CA certificates to trust. The one with the
// given fingerprint must be among them. Each of them is trusted as it stands.
func Bundle(text, fingerprint string) ([]*x509.Certificate, error) {
	certs, err := certificates("caPem", text)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(certs, func(c *x509.Certificate) bool { return Fingerprint(c) == fingerprint }) {
		return nil, fault.Field("caPem", "does not hold the CA with fingerprint %s that the enrolment names", fingerprint)
	}
	return certs, nil
}

// RootFingerprint returns the fingerprint of the root in a PEM bundle: the first
// certificate that signed itself, or else the first.
func RootFingerprint(text string) (string, error) {
	certs, err := certificates("ca", text)
	if err != nil {
		return "", err
	}
	for _, c := range certs {
		if c.CheckSignatureFrom(c) == nil {
			return Fingerprint(c), nil
		}
	}
	return Fingerprint(certs[0]), nil
}

func pool(certs []*x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	for _, c := range certs {
		p.AddCert(c)
	}
	return p
}

// Fingerprint returns the lower-case hex SHA-256 of c.
func Fingerprint(c *x509.Certificate) string {
	h := sha256.Sum256(c.Raw)
	return hex.EncodeToString(h[:])
}

// certificates reads 1 to 16 PEM certificates. field names them in errors.
func certificates(field, text string) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for rest := []byte(text); len(rest) > 0; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fault.Field(field, "holds a damaged certificate: %v", err)
		}
		if out = append(out, c); len(out) > 16 {
			return nil, fault.Field(field, "holds more than 16 certificates")
		}
	}
	if len(out) == 0 {
		return nil, fault.Field(field, "holds no certificate")
	}
	return out, nil
}
