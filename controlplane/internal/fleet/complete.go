package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/event"
	"github.com/ggfleet/ggfleet/controlplane/internal/provisioning"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/pki"
)

// PendingCertificate is what the certificate of a core will be, once its key,
// made on the device, comes as a CSR.
type PendingCertificate = provisioning.Deferred

// CompleteCore signs the CSR for a core that was created without certificate,
// registers it and returns it. The same key again gives the same certificate, so
// that a lost answer costs nothing; another key is refused.
func (s *Service) CompleteCore(ctx context.Context, name, csrPEM string) (string, error) {
	csr, err := pki.ParseCSR([]byte(csrPEM))
	if err != nil {
		return "", fault.Field("csr", "%s", fault.Message(err))
	}
	return whileBusy(func() (string, error) { return s.complete(ctx, name, csrPEM, pki.ID(csr.RawSubjectPublicKeyInfo)) })
}

// CompleteDevice is CompleteCore for a client device.
func (s *Service) CompleteDevice(ctx context.Context, name, csrPEM string) (string, error) {
	csr, err := pki.ParseCSR([]byte(csrPEM))
	if err != nil {
		return "", fault.Field("csr", "%s", fault.Message(err))
	}
	return whileBusy(func() (string, error) {
		return s.completeDevice(ctx, name, csrPEM, pki.ID(csr.RawSubjectPublicKeyInfo))
	})
}

// whileBusy calls step again while another writer is faster. A refused key is no
// such thing.
func whileBusy(step func() (string, error)) (string, error) {
	for range 8 {
		pem, err := step()
		if !errors.Is(err, fault.Conflict) || fault.Message(err) == refusedKey {
			return pem, err
		}
	}
	return "", fmt.Errorf("complete a certificate: %w", fault.Conflict)
}

const refusedKey = "the device has a certificate for another key already; delete it and create it anew, or use the key it was completed with"

func (s *Service) complete(ctx context.Context, name, csrPEM, key string) (string, error) {
	rec, err := s.record(ctx, name)
	if err != nil {
		return "", err
	}
	if !rec.Value.CertificatePending {
		if done := rec.Value.Completed; done != nil && done.Key == key {
			return done.PEM, nil
		}
		return "", fault.New(fault.Conflict, refusedKey)
	}
	pending := rec.Value.Pending
	if pending == nil {
		return "", fmt.Errorf("core %s waits for a certificate but keeps no request for it", name)
	}
	reg, err := s.cfg.Provisioner.Complete(ctx, name, *pending, csrPEM)
	if err != nil {
		return "", err
	}
	core := rec.Value
	core.CertificatePending, core.Pending = false, nil
	core.Completed = &CompletedCertificate{Key: key, PEM: reg.Certificate.PEM}
	core.UpdatedAt = s.stamp()
	err = s.cfg.Cloud.Register(ctx, reg, func(b *state.Batch) error {
		b.Step = state.StepCoreComplete
		addIssued(b, name, reg, s.now())
		b.If(coreKey(name), rec.Rev).Put(coreKey(name), core)
		_, err := s.cfg.Store.Commit(ctx, b)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("register certificate of core %s: %w", name, err)
	}
	return reg.Certificate.PEM, nil
}

func (s *Service) completeDevice(ctx context.Context, name, csrPEM, key string) (string, error) {
	rec, err := s.deviceRecord(ctx, name)
	if err != nil {
		return "", err
	}
	d := rec.Value
	switch done := d.Completed; {
	case rec.Rev == 0:
		return "", noDevice(name)
	case d.CertificatePending && d.Pending != nil:
	case done != nil && done.Key == key:
		return done.PEM, nil
	default:
		return "", fault.New(fault.Conflict, refusedKey)
	}
	reg, err := s.cfg.Provisioner.Complete(ctx, name, *d.Pending, csrPEM)
	if err != nil {
		return "", err
	}
	d.CertificatePending, d.Pending = false, nil
	d.Completed = &CompletedCertificate{Key: key, PEM: reg.Certificate.PEM}
	d.UpdatedAt = s.stamp()
	err = s.cfg.Cloud.Register(ctx, reg, func(b *state.Batch) error {
		b.Step = state.StepDevice
		addIssued(b, name, reg, s.now())
		b.If(deviceKey(name), rec.Rev).Put(deviceKey(name), d)
		_, err := s.cfg.Store.Commit(ctx, b)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("register certificate of client device %s: %w", name, err)
	}
	return reg.Certificate.PEM, nil
}

// CoreRenewed notes that the core works with a certificate for a key that was made on
// the device, of which key is the hex SHA-256, and removes certs.zip with the key that
// it had. Again it changes nothing; a core that is gone is no error.
func (s *Service) CoreRenewed(ctx context.Context, name, key, certificatePEM string) error {
	_, err := state.Update(ctx, s.cfg.Store, state.StepCoreComplete, coreKey(name), func(c *Core, exists bool, _ *state.Batch) error {
		if !exists || c.Completed != nil && c.Completed.Key == key {
			return state.ErrKeep
		}
		c.Completed, c.UpdatedAt = &CompletedCertificate{Key: key, PEM: certificatePEM}, s.stamp()
		delete(c.Artifacts, ArtifactCerts)
		return nil
	})
	return s.dropCerts(ctx, name, err)
}

// DeviceRenewed is CoreRenewed for a client device.
func (s *Service) DeviceRenewed(ctx context.Context, name, key, certificatePEM string) error {
	_, err := state.Update(ctx, s.cfg.Store, state.StepDevice, deviceKey(name), func(d *Device, exists bool, _ *state.Batch) error {
		if !exists || d.Completed != nil && d.Completed.Key == key {
			return state.ErrKeep
		}
		d.Completed, d.UpdatedAt = &CompletedCertificate{Key: key, PEM: certificatePEM}, s.stamp()
		delete(d.Artifacts, ArtifactCerts)
		return nil
	})
	return s.dropCerts(ctx, name, err)
}

// dropCerts removes certs.zip, which no record names any more unless noted failed.
func (s *Service) dropCerts(ctx context.Context, name string, noted error) error {
	if noted == nil {
		noted = s.cfg.Objects.Delete(ctx, s.artifactKey(name, certsFile))
	}
	if noted != nil {
		return fmt.Errorf("note the renewed certificate of %s: %w", name, noted)
	}
	return nil
}

// CompletedCertificate is the certificate that a core or client device got for its own key.
type CompletedCertificate struct {
	Key string `json:"key"` // hex SHA-256 of the public key
	PEM string `json:"pem"`
}

// certificateDetail is the detail of CertificateIssued.
type certificateDetail struct {
	CertificateID string     `json:"certificateId"`
	NotAfter      *time.Time `json:"notAfter,omitempty"`
}

// addIssued tells the core's history of the certificate that r registers.
func addIssued(b *state.Batch, core string, r cloud.Registration, at time.Time) {
	switch {
	case r.Certificate != nil:
		until := r.Certificate.NotAfter.UTC()
		event.Add(b, event.CertificateIssued, core, at, certificateDetail{r.Certificate.ID, &until})
	case r.CertificateID != "":
		event.Add(b, event.CertificateIssued, core, at, certificateDetail{CertificateID: r.CertificateID})
	}
}
