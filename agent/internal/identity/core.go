package identity

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"slices"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// CSR returns a PEM request for key with the common name cn.
func CSR(key crypto.Signer, cn string) (string, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: cn}}, key)
	if err != nil {
		return "", err
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})), nil
}

// KeyFingerprint is the lower-case hex SHA-256 of the public key (SPKI): what a
// technician and an operator compare.
func KeyFingerprint(key crypto.Signer) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return "", err
	}
	h := sha256.Sum256(der)
	return hex.EncodeToString(h[:]), nil
}

// CheckCertificate reports whether the PEM chain, leaf first, is for key and,
// when cas is not empty, comes from one of them. The leaf's validity dates are
// not looked at: a device may not know the time yet, and the server does.
func CheckCertificate(chain string, key crypto.Signer, cas []*x509.Certificate) error {
	certs, err := certificates("certificatePem", chain)
	if err != nil {
		return err
	}
	pub, ok := certs[0].PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !pub.Equal(key.Public()) {
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

// ParseCertificate reads the first certificate of a PEM chain.
func ParseCertificate(chain string) (*x509.Certificate, error) {
	certs, err := certificates("certificatePem", chain)
	if err != nil {
		return nil, err
	}
	return certs[0], nil
}
