package enrollment

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
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
	MinCertificateLife      = 10 * time.Minute
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

// keepRetired is how many certificates of a core stay attached, INACTIVE, after
// others took their place.
const keepRetired = 8

// renewal is a certificate that was issued in place of another one and has not
// proved itself yet.
type renewal struct {
	Old string `json:"old"` // id of the certificate that asked
	New string `json:"new"`
	Key string `json:"key"` // hex SHA-256 of the new public key
	PEM string `json:"pem"` // of the new certificate

	// Of a core's: those that were issued and never confirmed, and those that
	// others took the place of, oldest first.
	Stale   []string `json:"stale,omitempty"`
	Retired []string `json:"retired,omitempty"`
}

func renewalKey(s protocol.Subject) string { return prefix + "renewal/agent/" + s.Name }
func coreRenewalKey(core string) string    { return prefix + "renewal/core/" + core }

// Renew issues a certificate for a new key of the agent of subject, which shows
// leaf. Both are ACTIVE until the new one is confirmed. The same key again gets the
// same certificate.
func (s *Service) Renew(ctx context.Context, subject protocol.Subject, leaf *x509.Certificate, csrPEM string) (protocol.CSRResponse, error) {
	csr, err := newKey(leaf, csrPEM)
	if err != nil {
		return protocol.CSRResponse{}, err
	}
	agent, old := protocol.AgentThing(subject.Name), pki.ID(leaf.Raw)
	pem, err := s.renew(ctx, renewalKey(subject), old, csr, func(issued cloud.Issued) cloud.Registration {
		return cloud.Registration{Thing: agent, Certificate: &issued, Policies: []cloud.Policy{{Name: AgentPolicy}}}
	}, cloud.IssueRequest{Subject: pkix.Name{CommonName: agent}, Public: csr.PublicKey, Validity: s.cfg.CertificateLife})
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

// renew issues a certificate in place of old and keeps it in the record of key.
func (s *Service) renew(ctx context.Context, key, old string, csr *x509.CertificateRequest, registration func(cloud.Issued) cloud.Registration, issue cloud.IssueRequest) (string, error) {
	for range races {
		rec, err := state.ReadOr[renewal](ctx, s.store, key)
		if err != nil {
			return "", err
		}
		id := keyID(csr)
		if rec.Value.Old == old && rec.Value.Key == id {
			return rec.Value.PEM, nil
		}
		issued, err := s.cfg.Things.Issue(ctx, issue)
		if err != nil {
			return "", err
		}
		next := renewal{Old: old, New: issued.ID, Key: id, PEM: issued.PEM, Stale: rec.Value.Stale, Retired: rec.Value.Retired}
		if rec.Value.New != "" && rec.Value.New != old {
			next.Stale = append(next.Stale, rec.Value.New)
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

// ConfirmRenewal ends every other certificate of the agent of subject, in favour of
// the one that it shows: the one that was issued last. Confirming again changes
// nothing, and neither does a certificate that was not renewed.
func (s *Service) ConfirmRenewal(ctx context.Context, subject protocol.Subject, certificate string) error {
	agent, key := protocol.AgentThing(subject.Name), renewalKey(subject)
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

// RenewCore issues a certificate for a new key of the core, in place of the one
// that it works with, with the same policies. Both are ACTIVE until the new one is
// confirmed. The same key again gets the same certificate.
func (s *Service) RenewCore(ctx context.Context, core string, r protocol.CoreRenewal) (protocol.CSRResponse, error) {
	d, err := s.cfg.Things.Describe(ctx, core)
	if err != nil {
		return protocol.CSRResponse{}, fmt.Errorf("renew certificate of core %s: %w", core, err)
	}
	leaf, err := attached(d, r.Replaces)
	if err != nil {
		return protocol.CSRResponse{}, err
	}
	csr, err := newKey(leaf, r.CSR)
	if err != nil {
		return protocol.CSRResponse{}, err
	}
	var policies []cloud.Policy
	for _, p := range d.Policies {
		policies = append(policies, cloud.Policy{Name: p.Name})
	}
	pem, err := s.renew(ctx, coreRenewalKey(core), r.Replaces, csr, func(issued cloud.Issued) cloud.Registration {
		return cloud.Registration{Thing: core, Certificate: &issued, Policies: policies}
	}, cloud.IssueRequest{Subject: leaf.Subject, Public: csr.PublicKey, Validity: leaf.NotAfter.Sub(leaf.NotBefore)})
	if err != nil {
		return protocol.CSRResponse{}, fmt.Errorf("renew certificate of core %s: %w", core, err)
	}
	s.log.InfoContext(ctx, "core certificate issued", logx.Core, core, logx.Certificate, r.Replaces)
	return protocol.CSRResponse{CertificatePEM: pem}, nil
}

// attached returns the certificate of the thing with this id.
func attached(d cloud.ThingDetail, id string) (*x509.Certificate, error) {
	for _, c := range d.Certificates {
		if c.ID != id || c.Status != cloud.Active {
			continue
		}
		list, err := pki.ParseCerts([]byte(c.PEM))
		if err != nil {
			return nil, fmt.Errorf("certificate %s: %w", id, err)
		}
		return list[0], nil
	}
	return nil, fault.Field("replaces", "%q is no active certificate of %s", clip(id), d.Name)
}

// ConfirmCore makes the certificate that the new one replaces INACTIVE. Confirming
// again changes nothing.
func (s *Service) ConfirmCore(ctx context.Context, core, certificate string) error {
	key := coreRenewalKey(core)
	for range races {
		rec, err := state.ReadOr[renewal](ctx, s.store, key)
		if err != nil {
			return fmt.Errorf("read renewal of core %s: %w", core, err)
		}
		if rec.Rev == 0 || rec.Value.New != certificate {
			return nil
		}
		for _, stale := range rec.Value.Stale {
			if err := s.end(ctx, core, stale, func(b *state.Batch) {}); err != nil {
				return err
			}
		}
		next := renewal{Retired: append(rec.Value.Retired, append(rec.Value.Stale, rec.Value.Old)...)}
		for len(next.Retired) > keepRetired {
			if s.cfg.Certificates == nil {
				break
			}
			if err := s.cfg.Certificates.DropCertificate(ctx, core, next.Retired[0]); err != nil {
				return fmt.Errorf("remove retired certificate of core %s: %w", core, err)
			}
			next.Retired = next.Retired[1:]
		}
		err = s.end(ctx, core, rec.Value.Old, func(b *state.Batch) { b.If(key, rec.Rev).Put(key, next) })
		if err == nil {
			s.log.InfoContext(ctx, "core certificate renewed", logx.Core, core, logx.Certificate, certificate, "replaces", rec.Value.Old)
		}
		if !errors.Is(err, fault.Conflict) {
			return err
		}
	}
	return fmt.Errorf("confirm certificate of core %s: %d lost races in a row: %w", core, races, fault.Conflict)
}

// end makes a certificate of the core INACTIVE, in one commit with what more adds.
func (s *Service) end(ctx context.Context, core, certificate string, more func(*state.Batch)) error {
	reg := cloud.Registration{Thing: core, CertificateID: certificate, Status: cloud.Inactive, OverrideStatus: cloud.Replace}
	err := s.cfg.Things.Register(ctx, reg, func(b *state.Batch) error {
		b.Step = state.StepRenewConfirm
		more(b)
		_, err := s.store.Commit(ctx, b)
		return err
	})
	if errors.Is(err, fault.NotFound) { // an operator has removed it
		b := state.NewBatch(state.StepRenewConfirm)
		if more(b); b.Len() == 0 {
			return nil
		}
		_, err = s.store.Commit(ctx, b)
	}
	return err
}
