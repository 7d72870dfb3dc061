package enrollment

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/pki"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Bounds of the life of an agent's certificate, and of how long after its end it
// may still be renewed.
const (
	DefaultCertificateLife  = 5 * 365 * 24 * time.Hour
	MinCertificateLife      = time.Minute
	MaxCertificateLife      = 20 * 365 * 24 * time.Hour
	DefaultCertificateGrace = 180 * 24 * time.Hour
	MaxCertificateGrace     = 5 * 365 * 24 * time.Hour
)

// Certificates removes certificates that nobody uses any more.
type Certificates interface {
	// DropCertificate detaches an INACTIVE certificate from the thing and removes
	// it; one that is gone is no error.
	DropCertificate(ctx context.Context, thing, certificate string) error
}

// keepRetired is how many certificates of a device stay attached, INACTIVE, after
// others took their place.
const keepRetired = 8

// keepStale is how many certificates may have been issued and never confirmed: a
// device that loses each new key, or tries what it may ask for, gets no more.
const keepStale = 8

// renewal is a certificate that was issued in place of another one and has not
// proved itself yet.
type renewal struct {
	Old string `json:"old,omitempty"` // id of the certificate whose place it takes; empty: of those in Stale
	New string `json:"new"`
	Key string `json:"key"` // hex SHA-256 of the new public key
	PEM string `json:"pem"` // of the new certificate

	// Of a core's or client device's: those that end with the old one, because they
	// were never confirmed or their keys are lost, and those that others took the
	// place of, oldest first.
	Stale   []string `json:"stale,omitempty"`
	Retired []string `json:"retired,omitempty"`
}

func renewalKey(name string) string       { return prefix + "renewal/agent/" + name }
func deviceRenewalKey(name string) string { return prefix + "renewal/device/" + name }

// Renew issues a certificate for a new key of the agent of subject, which shows
// leaf. Both are ACTIVE until the new one is confirmed. The same key again gets the
// same certificate.
func (s *Service) Renew(ctx context.Context, subject protocol.Subject, leaf *x509.Certificate, csrPEM string) (protocol.CSRResponse, error) {
	csr, err := newKey(leaf, csrPEM)
	if err != nil {
		return protocol.CSRResponse{}, err
	}
	agent, old := protocol.AgentThing(subject.Name), pki.ID(leaf.Raw)
	pem, err := s.renew(ctx, renewalKey(subject.Name), renewal{Old: old}, csr, func(issued cloud.Issued) cloud.Registration {
		return cloud.Registration{Thing: agent, Certificate: &issued, Policies: []cloud.Policy{{Name: AgentPolicy}}}
	}, cloud.IssueRequest{Subject: pkix.Name{CommonName: agent}, Public: csr.PublicKey, Validity: s.cfg.CertificateLife, Replaces: leaf})
	if err != nil {
		return protocol.CSRResponse{}, fmt.Errorf("renew certificate of agent %s: %w", agent, err)
	}
	s.log.InfoContext(ctx, "agent certificate issued", logx.Thing, agent, logx.Certificate, old)
	return protocol.CSRResponse{CertificatePEM: pem}, nil
}

// newKey reads the CSR and checks that it is for another key than leaf's.
func newKey(leaf *x509.Certificate, csrPEM string) (*x509.CertificateRequest, error) {
	csr, err := pki.ParseCSR([]byte(csrPEM))
	if err != nil {
		return nil, fault.Field("csr", "%s", fault.Message(err))
	}
	if h := sha256.Sum256(leaf.RawSubjectPublicKeyInfo); hex.EncodeToString(h[:]) == keyID(csr) {
		return nil, fault.Field("csr", "is for the key of the certificate that is to be replaced; a renewal needs a new key")
	}
	return csr, nil
}

// renew issues a certificate in place of what begun names and keeps it in the record
// of key.
func (s *Service) renew(ctx context.Context, key string, begun renewal, csr *x509.CertificateRequest, registration func(cloud.Issued) cloud.Registration, issue cloud.IssueRequest) (string, error) {
	for range races {
		rec, err := state.ReadOr[renewal](ctx, s.store, key)
		if err != nil {
			return "", err
		}
		id, last := keyID(csr), rec.Value
		if last.Old == begun.Old && last.Key == id {
			return last.PEM, nil
		}
		issued, err := s.cfg.Things.Issue(ctx, issue)
		if err != nil {
			return "", err
		}
		next := renewal{Old: begun.Old, New: issued.ID, Key: id, PEM: issued.PEM, Retired: last.Retired}
		for _, stale := range slices.Concat(last.Stale, []string{last.New}, begun.Stale) {
			if stale != "" && stale != begun.Old && !slices.Contains(next.Stale, stale) {
				next.Stale = append(next.Stale, stale)
			}
		}
		if thing := registration(issued).Thing; len(next.Stale) > keepStale {
			if next.Stale, err = s.abandon(ctx, thing, next.Stale); err != nil {
				return "", fmt.Errorf("end certificates that were never confirmed: %w", err)
			}
		}
		err = s.cfg.Things.Register(ctx, registration(issued), func(b *state.Batch) error {
			b.Step = state.StepRenew
			b.If(key, rec.Rev).Put(key, next)
			_, err := s.store.Commit(ctx, b)
			return err
		})
		if !errors.Is(err, fault.Conflict) {
			return issued.PEM, err
		}
	}
	return "", fmt.Errorf("%d lost races in a row: %w", races, fault.Conflict)
}

// abandon ends and removes the oldest of the list, which it returns without them.
func (s *Service) abandon(ctx context.Context, thing string, stale []string) ([]string, error) {
	n := len(stale) - keepStale
	if err := s.end(ctx, thing, stale[:n]); err != nil || s.cfg.Certificates == nil {
		return stale[n:], err
	}
	for _, id := range stale[:n] {
		if err := s.cfg.Certificates.DropCertificate(ctx, thing, id); err != nil {
			return nil, err
		}
	}
	return stale[n:], nil
}

// ConfirmRenewal ends every other certificate of the agent of subject, in favour of
// the one that it shows: the one that was issued last. Confirming again changes
// nothing, and neither does a certificate that was not renewed.
func (s *Service) ConfirmRenewal(ctx context.Context, subject protocol.Subject, certificate string) error {
	agent, key := protocol.AgentThing(subject.Name), renewalKey(subject.Name)
	for range races {
		rec, err := state.ReadOr[renewal](ctx, s.store, key)
		if err != nil {
			return fmt.Errorf("read renewal of agent %s: %w", agent, err)
		}
		if rec.Rev == 0 || rec.Value.New != certificate {
			return nil
		}
		last, err := state.ReadOr[agentRecord](ctx, s.store, agentKey(subject.Name))
		if err != nil {
			return fmt.Errorf("read agent of %s: %w", subject.Name, err)
		}
		next := last.Value
		next.Key, next.Certificate = rec.Value.Key, certificate
		err = s.cfg.Things.Register(ctx, cloud.Registration{Thing: agent, CertificateID: certificate, Supersede: true}, func(b *state.Batch) error {
			b.Step = state.StepRenewConfirm
			b.If(key, rec.Rev).Delete(key).If(agentKey(subject.Name), last.Rev).Put(agentKey(subject.Name), next)
			_, err := s.store.Commit(ctx, b)
			return err
		})
		if err == nil {
			s.log.InfoContext(ctx, "agent certificate renewed", logx.Thing, agent, logx.Certificate, certificate, "replaces", rec.Value.Old)
		}
		if !errors.Is(err, fault.Conflict) {
			return err
		}
	}
	return fmt.Errorf("confirm certificate of agent %s: %d lost races in a row: %w", agent, races, fault.Conflict)
}
