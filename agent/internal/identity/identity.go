// Package identity keeps who the agent is: its own key, made on the device, and
// what enrolment gave it. It also makes and checks the keys, CSRs and
// certificates of the core device. It knows no network.
package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"

	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
)

const (
	keyName    = "key.pem"
	recordName = "identity.json"
)

// Identity is what enrolment gave the agent. It is one record, so the agent has
// all of it or nothing.
type Identity struct {
	URL            string `json:"url"`
	CAFingerprint  string `json:"caFingerprint"`
	ActivationID   string `json:"activationId"`
	AgentThing     string `json:"agentThing"`
	Core           string `json:"core"`
	CertificatePEM string `json:"certificatePem"`
	CAPEM          string `json:"caPem"`
	MQTTAddress    string `json:"mqttAddress"`
}

// Check reports what is wrong with i as an identity of the holder of key. The
// kind is fault.Invalid.
func (i Identity) Check(key *ecdsa.PrivateKey) error {
	if err := names.CheckThing(i.Core); err != nil {
		return fault.Field("core", "%v", err)
	}
	if err := names.CheckThing(i.AgentThing); err != nil {
		return fault.Field("agentThing", "%v", err)
	}
	if host, port, err := net.SplitHostPort(i.MQTTAddress); err != nil || host == "" || port == "" {
		return fault.Field("mqttAddress", "%q is not host:port", i.MQTTAddress)
	}
	cas, err := Bundle(i.CAPEM, i.CAFingerprint)
	if err != nil {
		return err
	}
	return CheckCertificate(i.CertificatePEM, key, cas)
}

// TLS returns a client configuration that proves to be the agent and trusts
// only the CA of the enrolment.
func (i Identity) TLS(key *ecdsa.PrivateKey) (*tls.Config, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair([]byte(i.CertificatePEM), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	if err != nil {
		return nil, fmt.Errorf("the agent's certificate: %w", err)
	}
	cas, err := Bundle(i.CAPEM, i.CAFingerprint)
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, RootCAs: pool(cas)}, nil
}

// Load returns the stored identity and its key. fs.ErrNotExist: not enrolled.
func Load(d *localstate.Dir) (Identity, *ecdsa.PrivateKey, error) {
	var i Identity
	if err := d.ReadJSON(recordName, &i); err != nil {
		return Identity{}, nil, err
	}
	b, err := d.Read(keyName)
	if err != nil {
		return Identity{}, nil, err
	}
	key, err := ParseKey(b)
	if err != nil {
		return Identity{}, nil, fmt.Errorf("%s: %w", d.Path(keyName), err)
	}
	return i, key, i.Check(key)
}

// Store keeps i.
func Store(d *localstate.Dir, i Identity) error {
	return d.Do(localstate.EnrollIdentity, func() error { return d.WriteJSON(recordName, i) })
}

// EnsureKey returns the agent's own key, made and stored on first use. A
// damaged key is replaced: no certificate can be in use with it.
func EnsureKey(d *localstate.Dir) (*ecdsa.PrivateKey, error) {
	b, err := d.Read(keyName)
	if err == nil {
		if key, err := ParseKey(b); err == nil {
			return key, nil
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	key, b, err := NewKey()
	if err != nil {
		return nil, err
	}
	return key, d.Do(localstate.EnrollKey, func() error { return d.Write(keyName, b) })
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

// ParseKey reads what NewKey wrote.
func ParseKey(b []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, fault.New(fault.Invalid, "no PKCS#8 private key")
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fault.New(fault.Invalid, "no PKCS#8 private key: %v", err)
	}
	key, ok := k.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fault.New(fault.Invalid, "a %T is not an ECDSA key", k)
	}
	return key, nil
}

// CSR returns a PEM request for key with the common name cn.
func CSR(key *ecdsa.PrivateKey, cn string) (string, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: cn}}, key)
	if err != nil {
		return "", err
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})), nil
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

// CheckCertificate reports whether the PEM chain, leaf first, is for key and,
// when cas is not empty, comes from one of them. The leaf's validity dates are
// not looked at: a device may not know the time yet, and the server does.
func CheckCertificate(chain string, key *ecdsa.PrivateKey, cas []*x509.Certificate) error {
	certs, err := certificates("certificatePem", chain)
	if err != nil {
		return err
	}
	pub, ok := certs[0].PublicKey.(*ecdsa.PublicKey)
	if !ok || !pub.Equal(&key.PublicKey) {
		return fault.Field("certificatePem", "is for another key than the one on this device")
	}
	if len(cas) == 0 {
		return nil
	}
	at := certs[0].NotBefore
	for _, c := range slices.Concat(certs, cas) {
		if c.NotBefore.After(at) {
			at = c.NotBefore // an instant at which the whole chain had begun
		}
	}
	_, err = certs[0].Verify(x509.VerifyOptions{
		Roots: pool(cas), Intermediates: pool(certs[1:]), CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return fault.Field("certificatePem", "does not come from the CA of the enrolment: %v", err)
	}
	return nil
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
