package enrollment

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/pki"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// RenewDevice issues a certificate for a new key of the core or client device, in
// place of the one that it works with, with the same policies. Both are ACTIVE until
// the new one is confirmed. The same key again gets the same certificate.
func (s *Service) RenewDevice(ctx context.Context, subject protocol.Subject, r protocol.DeviceRenewal) (protocol.CSRResponse, error) {
	d, err := s.cfg.Things.Describe(ctx, subject.Name)
	if err != nil {
		return protocol.CSRResponse{}, fmt.Errorf("renew certificate of %s: %w", subject.Name, err)
	}
	certs, err := certificatesOf(d)
	if err != nil {
		return protocol.CSRResponse{}, err
	}
	i := slices.IndexFunc(certs, func(c certificate) bool { return c.ID == r.Replaces && c.Status == cloud.Active })
	if i < 0 {
		return protocol.CSRResponse{}, fault.Field("replaces", "%q is no active certificate of %s", fault.Brief(r.Replaces), d.Name)
	}
	csr, err := newKey(certs[i].leaf, r.CSR)
	if err != nil {
		return protocol.CSRResponse{}, err
	}
	return s.issueInPlace(ctx, d, renewal{Old: r.Replaces}, certs[i].leaf, csr)
}

// reissue is RenewDevice for a device that has lost its files: the agent's own
// certificate is the proof. What is ACTIVE stays so until the new one is confirmed,
// since a nucleus may still work with what it has in memory. The key of an ACTIVE
// certificate gets that. A device all of whose certificates were ended by somebody
// gets none.
func (s *Service) reissue(ctx context.Context, name, csrPEM string) (protocol.CSRResponse, error) {
	csr, err := pki.ParseCSR([]byte(csrPEM))
	if err != nil {
		return protocol.CSRResponse{}, fault.Field("csr", "%s", fault.Message(err))
	}
	d, err := s.cfg.Things.Describe(ctx, name)
	if err != nil {
		return protocol.CSRResponse{}, fmt.Errorf("issue certificate of %s anew: %w", name, err)
	}
	certs, err := certificatesOf(d)
	if err != nil {
		return protocol.CSRResponse{}, err
	}
	var last *x509.Certificate
	var active []string
	known := false
	for _, c := range certs {
		same := pki.ID(c.leaf.RawSubjectPublicKeyInfo) == keyID(csr)
		if known = known || same; c.Status != cloud.Active {
			continue
		}
		if same {
			return protocol.CSRResponse{CertificatePEM: c.PEM}, nil
		}
		if active = append(active, c.ID); last == nil || c.leaf.NotAfter.After(last.NotAfter) {
			last = c.leaf
		}
	}
	switch {
	case last == nil:
		return protocol.CSRResponse{}, fault.New(fault.Denied, "no certificate of %s is ACTIVE, so none is issued in its place; make one ACTIVE again, or delete the device and create it anew", name)
	case known:
		return protocol.CSRResponse{}, fault.Field("csr", "is for the key of a certificate that was ended; make a new key")
	}
	return s.issueInPlace(ctx, d, renewal{Stale: active}, last, csr)
}

// issueInPlace issues a certificate like leaf for the key of csr.
func (s *Service) issueInPlace(ctx context.Context, d cloud.ThingDetail, begun renewal, leaf *x509.Certificate, csr *x509.CertificateRequest) (protocol.CSRResponse, error) {
	var policies []cloud.Policy
	for _, p := range d.Policies {
		policies = append(policies, cloud.Policy{Name: p.Name})
	}
	pem, err := s.renew(ctx, deviceRenewalKey(d.Name), begun, csr, func(issued cloud.Issued) cloud.Registration {
		return cloud.Registration{Thing: d.Name, Certificate: &issued, Policies: policies}
	}, cloud.IssueRequest{Subject: leaf.Subject, Public: csr.PublicKey, Validity: pki.Life(leaf), Replaces: leaf})
	if err != nil {
		return protocol.CSRResponse{}, fmt.Errorf("renew certificate of %s: %w", d.Name, err)
	}
	s.log.InfoContext(ctx, "device certificate issued", logx.Thing, d.Name, logx.Certificate, pki.ID(leaf.Raw))
	return protocol.CSRResponse{CertificatePEM: pem}, nil
}

// certificate is one of a thing, read.
type certificate struct {
	cloud.CertificateDetail
	leaf *x509.Certificate
}

func certificatesOf(d cloud.ThingDetail) (out []certificate, err error) {
	for _, c := range d.Certificates {
		list, err := pki.ParseCerts([]byte(c.PEM))
		if err != nil {
			return nil, fmt.Errorf("certificate %s: %w", c.ID, err)
		}
		out = append(out, certificate{c, list[0]})
	}
	return out, nil
}

// ConfirmDevice makes INACTIVE what the certificate took the place of, and removes
// the certs.zip with the key of that. Confirming again changes nothing, and neither
// does a certificate that was not renewed.
func (s *Service) ConfirmDevice(ctx context.Context, subject protocol.Subject, certificate string) error {
	name, key := subject.Name, deviceRenewalKey(subject.Name)
	rec, err := state.ReadOr[renewal](ctx, s.store, key)
	if err != nil {
		return fmt.Errorf("read renewal of %s: %w", name, err)
	}
	if rec.Rev == 0 || rec.Value.New != certificate {
		return nil
	}
	next := rec.Value
	ended := next.Stale
	if next.Old != "" {
		ended = append(ended, next.Old)
	}
	if err := s.end(ctx, name, ended); err != nil {
		return fmt.Errorf("confirm certificate of %s: %w", name, err)
	}
	if err := s.renewed(ctx, subject, next); err != nil {
		return fmt.Errorf("confirm certificate of %s: %w", name, err)
	}
	next = renewal{Retired: append(next.Retired, ended...)}
	for s.cfg.Certificates != nil && len(next.Retired) > keepRetired {
		if err := s.cfg.Certificates.DropCertificate(ctx, name, next.Retired[0]); err != nil {
			return fmt.Errorf("remove retired certificate of %s: %w", name, err)
		}
		next.Retired = next.Retired[1:]
	}
	_, err = s.store.Commit(ctx, state.NewBatch(state.StepRenewConfirm).If(key, rec.Rev).Put(key, next))
	if err != nil {
		return fmt.Errorf("confirm certificate of %s: %w", name, err) // the agent says it again
	}
	s.log.InfoContext(ctx, "device certificate renewed", logx.Thing, name, logx.Certificate, certificate, "replaces", ended)
	return nil
}

// renewed has the fleet know the certificate as the one for the device's own key.
func (s *Service) renewed(ctx context.Context, subject protocol.Subject, r renewal) error {
	if subject.Role == protocol.RoleClient {
		return s.cfg.Devices.DeviceRenewed(ctx, subject.Name, r.Key, r.PEM)
	}
	return s.cfg.Cores.CoreRenewed(ctx, subject.Name, r.Key, r.PEM)
}

// end makes those of the certificates INACTIVE that are ACTIVE and still the thing's.
func (s *Service) end(ctx context.Context, name string, list []string) error {
	for range races {
		d, err := s.cfg.Things.Describe(ctx, name)
		if err != nil {
			return err
		}
		for _, c := range d.Certificates {
			if c.Status != cloud.Active || !slices.Contains(list, c.ID) {
				continue
			}
			reg := cloud.Registration{Thing: name, CertificateID: c.ID, Status: cloud.Inactive, OverrideStatus: cloud.Replace}
			err = s.cfg.Things.Register(ctx, reg, func(b *state.Batch) error {
				b.Step = state.StepRenewConfirm
				_, err := s.store.Commit(ctx, b)
				return err
			})
			if err != nil {
				break
			}
		}
		if !errors.Is(err, fault.Conflict) && !errors.Is(err, fault.NotFound) { // an operator was faster: look again
			return err
		}
	}
	return fmt.Errorf("%d lost races in a row: %w", races, fault.Conflict)
}
