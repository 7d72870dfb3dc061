package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"time"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// backdate is how far before now a certificate becomes valid, for devices
// whose clock is a little behind.
const backdate = 5 * time.Minute

// ID returns the certificate id of a DER certificate.
func ID(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// EncodeCert encodes one certificate as PEM.
func EncodeCert(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// ParseCerts reads one or more PEM certificates and nothing else.
func ParseCerts(b []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for len(bytes.TrimSpace(b)) > 0 {
		block, rest := pem.Decode(b)
		if block == nil || block.Type != "CERTIFICATE" {
			return nil, fault.New(fault.Invalid, "want PEM blocks CERTIFICATE and nothing else")
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fault.New(fault.Invalid, "certificate %d does not parse", len(out)+1)
		}
		out, b = append(out, c), rest
	}
	if len(out) == 0 {
		return nil, fault.New(fault.Invalid, "no certificate found")
	}
	return out, nil
}

// ParseCSR decodes one PEM CSR, checks its own signature (which proves that the
// sender holds the key) and that the key is strong enough: P-256, P-384,
// P-521, Ed25519, or RSA of 2048 to 4096 bits. Errors are of kind fault.Invalid.
func ParseCSR(b []byte) (*x509.CertificateRequest, error) {
	if len(b) > 16<<10 {
		return nil, fault.New(fault.Invalid, "CSR of %d bytes is over the limit of 16384", len(b))
	}
	block, rest := pem.Decode(b)
	if block == nil || (block.Type != "CERTIFICATE REQUEST" && block.Type != "NEW CERTIFICATE REQUEST") || len(bytes.TrimSpace(rest)) > 0 {
		return nil, fault.New(fault.Invalid, "want exactly one PEM block CERTIFICATE REQUEST")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fault.New(fault.Invalid, "the CSR does not parse")
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fault.New(fault.Invalid, "the CSR is not signed by its own key")
	}
	return csr, CheckPublic(csr.PublicKey)
}

// CheckPublic refuses a public key that is too weak or of a kind that devices do
// not have: fault.Invalid.
func CheckPublic(pub any) error {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		if n := k.Curve.Params().BitSize; n != 256 && n != 384 && n != 521 {
			return fault.New(fault.Invalid, "EC key of %d bits: want P-256, P-384 or P-521", n)
		}
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < 2048 || n > 4096 {
			return fault.New(fault.Invalid, "RSA key of %d bits: want 2048 to 4096", n)
		}
	case ed25519.PublicKey:
	default:
		return fault.New(fault.Invalid, "key type %T is not supported: want EC P-256, P-384, P-521, Ed25519 or RSA", pub)
	}
	return nil
}

// NewCSR makes a PEM CSR for key with the common name.
func NewCSR(key crypto.Signer, commonName string) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: commonName}}, key)
	if err != nil {
		return nil, fmt.Errorf("make CSR: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}

// Authority signs certificates. Safe for concurrent use.
type Authority struct {
	Cert *x509.Certificate
	Key  crypto.Signer
}

// NewRoot makes a self-signed root valid for life.
func NewRoot(commonName string, now time.Time, life time.Duration) (*Authority, error) {
	return newAuthority(commonName, nil, now, life, 1)
}

// NewIntermediate makes an authority under a, which may sign end entities only.
func (a *Authority) NewIntermediate(commonName string, now time.Time, life time.Duration) (*Authority, error) {
	return newAuthority(commonName, a, now, life, 0)
}

func newAuthority(commonName string, parent *Authority, now time.Time, life time.Duration, maxPath int) (*Authority, error) {
	key, err := NewKey(P256)
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: Serial(), Subject: pkix.Name{CommonName: commonName, Organization: []string{"ggfleet"}},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(life),
		IsCA: true, BasicConstraintsValid: true, MaxPathLen: maxPath, MaxPathLenZero: maxPath == 0,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
	}
	signer := &Authority{Cert: t, Key: key}
	if parent != nil {
		signer = parent
	}
	der, err := x509.CreateCertificate(rand.Reader, t, signer.Cert, key.Public(), signer.Key)
	if err != nil {
		return nil, fmt.Errorf("sign authority %s: %w", commonName, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parse authority %s: %w", commonName, err)
	}
	return &Authority{Cert: cert, Key: key}, nil
}

// Client is what SignClient puts into a certificate. Nothing is taken from a
// CSR but its public key.
type Client struct {
	Subject  pkix.Name
	Public   crypto.PublicKey
	NotAfter time.Time // cut to the authority's own end

	// Replaces is the certificate whose place this one takes: it begins when that
	// began, and does not end before that. So a clock that was wrong when it was
	// made, by however much, takes nothing from the device. nil: none.
	Replaces *x509.Certificate
}

// SignClient issues a client certificate and returns it as DER.
func (a *Authority) SignClient(c Client, now time.Time) ([]byte, error) {
	if err := CheckPublic(c.Public); err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: Serial(), Subject: c.Subject,
		NotBefore: now.Add(-backdate), NotAfter: earlier(c.NotAfter, a.Cert.NotAfter),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	if old := c.Replaces; old != nil {
		ext, err := lifeExtension(now, t.NotAfter)
		if err != nil {
			return nil, err
		}
		t.ExtraExtensions = append(t.ExtraExtensions, ext)
		t.NotBefore = earlier(t.NotBefore, old.NotBefore)
		if old.NotAfter.After(t.NotAfter) {
			t.NotAfter = earlier(old.NotAfter, a.Cert.NotAfter)
		}
	}
	return a.sign(t, c.Public)
}

// SignServer issues a server certificate for hosts: DNS names and addresses.
func (a *Authority) SignServer(public crypto.PublicKey, hosts []string, now time.Time, life time.Duration) ([]byte, error) {
	t := &x509.Certificate{
		SerialNumber: Serial(), Subject: pkix.Name{CommonName: "ggfleet"},
		NotBefore: now.Add(-backdate), NotAfter: earlier(now.Add(life), a.Cert.NotAfter),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, h)
		}
	}
	return a.sign(t, public)
}

func (a *Authority) sign(t *x509.Certificate, public crypto.PublicKey) ([]byte, error) {
	der, err := x509.CreateCertificate(rand.Reader, t, a.Cert, public, a.Key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	return der, nil
}

// Serial returns a random positive serial number of 128 bits.
func Serial() *big.Int {
	b := make([]byte, 16)
	rand.Read(b)
	b[0] &= 0x7f
	b[0] |= 0x40
	return new(big.Int).SetBytes(b)
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// TLSCertificate builds what a TLS server or client presents: leaf first, then
// the chain.
func TLSCertificate(key crypto.Signer, leaf []byte, chain ...*x509.Certificate) tls.Certificate {
	c := tls.Certificate{Certificate: [][]byte{leaf}, PrivateKey: key}
	for _, x := range chain {
		c.Certificate = append(c.Certificate, x.Raw)
	}
	return c
}
