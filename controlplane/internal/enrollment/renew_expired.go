package enrollment

import (
	"context"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/pki"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// nonceSize: when it was made, random bytes, and our word that it is ours.
const nonceSize = 8 + 16 + sha256.Size

// RenewNonce begins the renewal of an expired certificate. Nothing is stored.
func (s *Service) RenewNonce() protocol.RenewNonce {
	now := s.now()
	b := make([]byte, nonceSize-sha256.Size)
	binary.BigEndian.PutUint64(b, uint64(now.UnixMilli()))
	rand.Read(b[8:])
	return protocol.RenewNonce{Nonce: base64.RawURLEncoding.EncodeToString(s.seal(b)), Time: now.UTC()}
}

func (s *Service) seal(b []byte) []byte {
	m := hmac.New(sha256.New, s.cfg.NonceKey)
	m.Write(b)
	return m.Sum(b)
}

// fresh reports whether the nonce is ours and not older than MaxNonceAge.
func (s *Service) fresh(nonce string) bool {
	b, err := base64.RawURLEncoding.DecodeString(nonce)
	if err != nil || len(b) != nonceSize || !hmac.Equal(s.seal(slices.Clone(b[:nonceSize-sha256.Size])), b) {
		return false
	}
	age := s.now().Sub(time.UnixMilli(int64(binary.BigEndian.Uint64(b)))) //nolint:gosec // we made it
	return age > -time.Minute && age <= protocol.MaxNonceAge
}

// RenewExpired is Renew for an agent whose certificate has expired, so that TLS
// does not take it any more: the key signs instead. Not longer after the end than
// CertificateGrace says, and never for one that was revoked, ended or is unknown.
func (s *Service) RenewExpired(ctx context.Context, r protocol.ExpiredRequest) (protocol.CSRResponse, error) {
	refused := fault.New(fault.Denied, "the certificate cannot be renewed: it is unknown, revoked, was replaced, has not expired or has for too long, or the request is not signed by its key; enrol the device anew")
	list, err := pki.ParseCerts([]byte(r.CertificatePEM))
	if err != nil {
		return protocol.CSRResponse{}, fault.Field("certificatePem", "%s", fault.Message(err))
	}
	leaf := list[0]
	key, ok := leaf.PublicKey.(*ecdsa.PublicKey)
	if !ok || !s.fresh(r.Nonce) || !ecdsa.VerifyASN1(key, r.Digest(), r.Signature) {
		return protocol.CSRResponse{}, refused
	}
	if now := s.now(); !now.After(leaf.NotAfter) || now.Sub(leaf.NotAfter) > s.cfg.CertificateGrace {
		return protocol.CSRResponse{}, refused
	}
	d, err := s.cfg.Things.Describe(ctx, leaf.Subject.CommonName) // as we issue them
	if errors.Is(err, fault.NotFound) {
		return protocol.CSRResponse{}, refused
	}
	if err != nil {
		return protocol.CSRResponse{}, err
	}
	id := pki.ID(leaf.Raw)
	subject, is := protocol.AgentSubject(d.Name, d.Attributes)
	if !is || !slices.ContainsFunc(d.Certificates, func(c cloud.CertificateDetail) bool { return c.ID == id && c.Status == cloud.Active }) {
		return protocol.CSRResponse{}, refused
	}
	s.log.WarnContext(ctx, "expired agent certificate is renewed", logx.Thing, d.Name, logx.Certificate, id, "expired", leaf.NotAfter)
	return s.Renew(ctx, subject, leaf, r.CSR)
}
