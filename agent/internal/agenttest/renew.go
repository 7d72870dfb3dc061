package agenttest

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"io"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/shared/protocol"
)

// renewals answers what concerns certificates, and reports whether it did.
func (c *Cloud) renewals(w http.ResponseWriter, r *http.Request) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	spki := ""
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		spki = string(r.TLS.PeerCertificates[0].RawSubjectPublicKeyInfo)
	}
	agent, core := c.s.Agents[spki] != "", c.s.Cores[spki] != ""
	switch path := r.URL.Path; {
	case path == protocol.PathCertificateExpired && r.Method == http.MethodGet:
		c.answer(w, r, protocol.RenewNonce{Nonce: "nonce", Time: time.Now()})
	case strings.HasPrefix(path, "/greengrass/") && (agent || core):
		fail(w, http.StatusNotFound, "no operation has this path")
	case !agent:
		return false
	case path == protocol.PathCertificate:
		c.renew(w, r, c.s.Agents)
	case path == protocol.PathDeviceRenewal:
		c.renew(w, r, c.s.Cores)
	case path == protocol.PathCertificateConfirm:
		maps.DeleteFunc(c.s.Agents, func(k, _ string) bool { return k != spki })
		c.answer(w, r, struct{}{})
	case path == protocol.PathDeviceRenewalConfirm:
		var in protocol.RenewConfirm
		_ = json.NewDecoder(io.LimitReader(r.Body, 1<<16)).Decode(&in)
		maps.DeleteFunc(c.s.Cores, func(_, cert string) bool { return fingerprint(cert) != in.CertificateID })
		c.answer(w, r, struct{}{})
	default:
		return false
	}
	return true
}

// renew issues a certificate that is not aged.
func (c *Cloud) renew(w http.ResponseWriter, r *http.Request, issued map[string]string) {
	var in protocol.DeviceRenewal
	if json.NewDecoder(io.LimitReader(r.Body, 1<<16)).Decode(&in) != nil {
		fail(w, http.StatusBadRequest, "no JSON")
		return
	}
	aged := c.s.Aged
	c.s.Aged = false
	cert, ok := c.once(w, issued, in.CSR)
	c.s.Aged = aged
	if ok {
		c.answer(w, r, protocol.CSRResponse{CertificatePEM: cert})
	}
}

// dates are those of the next certificate.
func (c *Cloud) dates(t *x509.Certificate) {
	t.NotBefore, t.NotAfter = time.Now().Add(-time.Minute), time.Now().Add(time.Hour)
	if c.s.Aged {
		t.NotBefore, t.NotAfter = time.Now().Add(-24*time.Hour), time.Now().Add(30*time.Minute)
	}
}

func fingerprint(certPEM string) string {
	block, _ := pem.Decode([]byte(certPEM))
	if block == nil {
		return ""
	}
	h := sha256.Sum256(block.Bytes)
	return hex.EncodeToString(h[:])
}
