package protocol

import (
	"crypto/sha256"
	"time"
)

// Paths of the agent's calls about certificates, on the device HTTPS listener.
// They need the agent's client certificate, but for PathCertificateExpired.
//
// A renewal is in two parts, so that there is a usable certificate at each
// moment: first a certificate for a new key that is ACTIVE beside the old one;
// then, with the new one, the word that it works, upon which the old one is
// INACTIVE. Each part may be said again.
const (
	PathCertificate          = "/agent/v1/certificate"         // POST CSRRequest → CSRResponse; the same key again gives the same certificate
	PathCertificateConfirm   = "/agent/v1/certificate/confirm" // POST {} with the new certificate → {}
	PathCertificateExpired   = "/agent/v1/certificate/expired" // GET → RenewNonce; POST ExpiredRequest → CSRResponse
	PathDeviceRenewal        = "/agent/v1/renewal"             // POST DeviceRenewal → CSRResponse: the core's certificate
	PathDeviceRenewalConfirm = "/agent/v1/renewal/confirm"     // POST RenewConfirm → {}
)

// RenewNonce begins a renewal of an expired certificate. Use it on the connection
// that it came by, within MaxNonceAge.
type RenewNonce struct {
	Nonce string    `json:"nonce"`
	Time  time.Time `json:"time"` // the control plane's
}

// MaxNonceAge is how long a RenewNonce is good.
const MaxNonceAge = 5 * time.Minute

// ExpiredRequest asks for a certificate for a new key in place of one that
// expired while the device was away, too late to show it in TLS.
type ExpiredRequest struct {
	CertificatePEM string `json:"certificatePem"` // the expired one
	CSR            string `json:"csr"`            // PEM; of the new key
	Nonce          string `json:"nonce"`
	Signature      []byte `json:"signature"` // over Digest, by the key of the expired certificate
}

// Digest is what an expired certificate's key signs: SHA-256 of a text that is
// used for nothing else.
func (r ExpiredRequest) Digest() []byte {
	h := sha256.New()
	for _, part := range []string{"ggfleet renew expired certificate v1", r.CertificatePEM, r.CSR, r.Nonce} {
		sum := sha256.Sum256([]byte(part)) // of one length, so that no part runs into the next
		h.Write(sum[:])
	}
	return h.Sum(nil)
}

// DeviceRenewal asks for a certificate for a new key of the agent's core or
// client device.
type DeviceRenewal struct {
	CSR      string `json:"csr"`
	Replaces string `json:"replaces"` // id of the certificate that it works with
}

// RenewConfirm says that core or client device work with the certificate.
type RenewConfirm struct {
	CertificateID string `json:"certificateId"` // hex SHA-256 of the certificate (DER)
}
