package iot

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/tag"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/pki"
)

// CACertificate is the certificate of a CA. Those that somebody registered have
// records of their own; of the server's own CAs this reads what is public.
//
// What auto registration asks for is kept and told; this server does not register
// certificates at their first connection (iot-api §16, just-in-time registration).
type CACertificate struct {
	ID        string                  `json:"id"`
	PEM       string                  `json:"pem"`
	Status    cloud.CertificateStatus `json:"status"` // Active or Inactive
	Mode      CertificateMode         `json:"mode,omitempty"`
	NotBefore time.Time               `json:"notBefore"`
	NotAfter  time.Time               `json:"notAfter"`
	CreatedAt time.Time               `json:"createdAt"`

	ModifiedAt       time.Time           `json:"modifiedAt,omitzero"`
	Version          int                 `json:"version,omitempty"` // grows with each change; 0 means 1
	AutoRegistration bool                `json:"autoRegistration,omitempty"`
	Registration     *RegistrationConfig `json:"registration,omitempty"`
	Tags             map[string]string   `json:"tags,omitempty"`
}

// RegistrationConfig is what a CA's certificates would be provisioned with.
type RegistrationConfig struct {
	TemplateBody string `json:"templateBody,omitempty"`
	RoleARN      string `json:"roleArn,omitempty"`
	TemplateName string `json:"templateName,omitempty"`
}

// MaxSameSubject is how many CAs with one subject can be registered (iot-api §16).
const MaxSameSubject = 10

func codeKey() string { return prefix + "registration-code" }

// subjectKey lists the registered CAs with a subject: what signed a certificate is
// looked up by its issuer's name.
func subjectKey(raw []byte) string {
	sum := sha256.Sum256(raw)
	return prefix + "ca-subject/" + hex.EncodeToString(sum[:])
}

// casOf returns the registered CAs with the subject.
func (r *Registry) casOf(ctx context.Context, rawSubject []byte) ([]CACertificate, error) {
	ids, err := state.ReadOr[[]string](ctx, r.store, subjectKey(rawSubject))
	if err != nil {
		return nil, fmt.Errorf("read the CAs of a subject: %w", err)
	}
	var out []CACertificate
	for _, id := range ids.Value {
		ca, err := state.ReadOr[CACertificate](ctx, r.store, caKey(id))
		if err != nil {
			return nil, fmt.Errorf("read CA %s: %w", id, err)
		}
		if ca.Rev != 0 {
			out = append(out, ca.Value)
		}
	}
	return out, nil
}

// RegistrationCode returns the code that verification certificates name; it is
// made when first asked for.
func (r *Registry) RegistrationCode(ctx context.Context) (string, error) {
	c, err := state.Update(ctx, r.store, state.StepRegistry, codeKey(), func(c *string, exists bool, _ *state.Batch) error {
		if exists {
			return state.ErrKeep
		}
		raw := make([]byte, 32)
		rand.Read(raw)
		*c = hex.EncodeToString(raw)
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("make registration code: %w", err)
	}
	return c.Value, nil
}

// DeleteRegistrationCode removes the code; the next one is another. fault.NotFound
// if there is none.
func (r *Registry) DeleteRegistrationCode(ctx context.Context) error {
	_, err := state.Update(ctx, r.store, state.StepRegistry, codeKey(), func(_ *string, exists bool, b *state.Batch) error {
		if !exists {
			return fault.New(fault.NotFound, "there is no registration code; ask for one first")
		}
		b.Delete(codeKey())
		return nil
	})
	if err != nil {
		return fmt.Errorf("delete registration code: %w", err)
	}
	return nil
}

// NewCA is what RegisterCA registers.
type NewCA struct {
	PEM              string
	Verification     string // PEM; in ModeDefault: signed by the CA, its common name is the registration code
	Mode             CertificateMode
	Active           bool
	AutoRegistration bool
	Registration     *RegistrationConfig
	Tags             map[string]string
}

// RegisterCA registers the certificate of a CA, so that certificates that it signed
// can be. BadCertificate and BadVerification say what does not fit; one that is
// registered is fault.Exists, the 11th of one subject fault.Exhausted.
func (r *Registry) RegisterCA(ctx context.Context, n NewCA) (CACertificate, error) {
	cert, err := r.checkCA(n.PEM)
	if err == nil {
		err = tag.Check(n.Tags)
	}
	if err == nil {
		err = r.verifyCA(ctx, cert, n)
	}
	if err != nil {
		return CACertificate{}, err
	}
	now := r.now().UTC()
	ca := CACertificate{
		ID: pki.ID(cert.Raw), PEM: n.PEM, Status: cloud.Inactive, Mode: n.Mode, NotBefore: cert.NotBefore.UTC(), NotAfter: cert.NotAfter.UTC(), CreatedAt: now,
		AutoRegistration: n.AutoRegistration, Registration: n.Registration, Tags: n.Tags,
	}
	if n.Active {
		ca.Status = cloud.Active
	}
	_, err = state.Update(ctx, r.store, state.StepRegistry, subjectKey(cert.RawSubject), func(ids *[]string, _ bool, b *state.Batch) error {
		rec, err := state.ReadOr[CACertificate](ctx, r.store, caKey(ca.ID))
		switch {
		case err != nil:
			return err
		case rec.Rev != 0 || ca.ID == r.ca.RootFingerprint():
			return fault.New(fault.Exists, "CA certificate %s is registered already", ca.ID)
		case len(*ids) >= MaxSameSubject:
			return fault.New(fault.Exhausted, "%d CA certificates with the subject %s are registered, which is the limit; delete one that is not used", len(*ids), cert.Subject)
		}
		*ids = addTo(*ids, ca.ID)
		b.If(caKey(ca.ID), 0).Put(caKey(ca.ID), ca).Put(madeKey(madeCAs, now, ca.ID), made{ID: ca.ID})
		return nil
	})
	if err != nil {
		return CACertificate{}, fmt.Errorf("register CA certificate %s: %w", ca.ID, err)
	}
	r.tellOfAutoRegistration(ctx, ca)
	return ca, nil
}

func (r *Registry) tellOfAutoRegistration(ctx context.Context, ca CACertificate) {
	if ca.AutoRegistration {
		r.log.WarnContext(ctx, "certificates of this ca are not registered at their first connection: register them before", logx.Certificate, ca.ID)
	}
}

// checkCA reads the certificate of a CA.
func (r *Registry) checkCA(text string) (*x509.Certificate, error) {
	certs, err := parsePEM("caCertificate", text)
	if err != nil {
		return nil, because(BadCertificate, err)
	}
	c := certs[0]
	switch {
	case len(certs) > 1:
		err = fault.Field("caCertificate", "has %d certificates, want the CA's alone", len(certs))
	case !c.IsCA || !c.BasicConstraintsValid:
		err = fault.Field("caCertificate", "is not the certificate of a CA: its basic constraints do not say so")
	case c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0:
		err = fault.Field("caCertificate", "may not sign certificates: its key usage lacks keyCertSign")
	case !r.now().Before(c.NotAfter):
		err = fault.Field("caCertificate", "was valid until %s only", c.NotAfter.UTC().Format(time.RFC3339))
	default:
		if err = pki.CheckPublic(c.PublicKey); err != nil {
			err = fault.Field("caCertificate", "%s", fault.Message(err))
		}
	}
	return c, because(BadCertificate, err)
}

// verifyCA looks for the proof that whoever registers the CA has its key.
func (r *Registry) verifyCA(ctx context.Context, ca *x509.Certificate, n NewCA) error {
	const field = "verificationCertificate"
	switch {
	case n.Mode == ModeSNIOnly && n.Verification != "":
		return fault.Field(field, "is given although the mode is SNI_ONLY, which wants none")
	case n.Mode == ModeSNIOnly:
		return nil
	case n.Mode != ModeDefault:
		return fault.Field("certificateMode", "is %q, want DEFAULT or SNI_ONLY", n.Mode)
	case n.Verification == "":
		return fault.Field(field, "is missing; it is needed in mode DEFAULT")
	}
	certs, err := parsePEM(field, n.Verification)
	if err != nil {
		return because(BadCertificate, err)
	}
	v := certs[0]
	if err := v.CheckSignatureFrom(ca); err != nil {
		return because(BadCertificate, fault.Field(field, "was not signed by the CA"))
	}
	if now := r.now(); now.After(v.NotAfter) {
		return because(BadCertificate, fault.Field(field, "was valid until %s only", v.NotAfter.UTC().Format(time.RFC3339)))
	}
	code, err := state.ReadOr[string](ctx, r.store, codeKey())
	if err != nil {
		return fmt.Errorf("read registration code: %w", err)
	}
	if code.Rev == 0 || subtle.ConstantTimeCompare([]byte(v.Subject.CommonName), []byte(code.Value)) != 1 {
		return because(BadVerification, fault.Field(field, "has a common name that is not the registration code; GetRegistrationCode tells it"))
	}
	return nil
}

// CACertificate returns the CA, registered or this server's own, or
// fault.NotFound.
func (r *Registry) CACertificate(ctx context.Context, id string) (CACertificate, error) {
	ca, err := state.Read[CACertificate](ctx, r.store, caKey(id))
	if errors.Is(err, fault.NotFound) {
		return CACertificate{}, noCA(id)
	}
	if err != nil {
		return CACertificate{}, fmt.Errorf("read CA %s: %w", id, err)
	}
	if v := &ca.Value; v.Mode == "" { // our own
		certs, err := pki.ParseCerts([]byte(v.PEM))
		if err != nil {
			return *v, fmt.Errorf("stored CA certificate %s: %w", id, err)
		}
		v.Mode, v.NotBefore, v.NotAfter = ModeDefault, certs[0].NotBefore, certs[0].NotAfter
	}
	return ca.Value, nil
}

func noCA(id string) error {
	return fault.New(fault.NotFound, "CA certificate %s is not registered", id)
}

// Number grows with each change; it begins at 1.
func (c CACertificate) Number() int { return max(1, c.Version) }

// Modified is when the CA was last changed.
func (c CACertificate) Modified() time.Time {
	if c.ModifiedAt.IsZero() {
		return c.CreatedAt
	}
	return c.ModifiedAt
}

// CAChange is what UpdateCA changes; what is nil stays as it is.
type CAChange struct {
	Active             *bool
	AutoRegistration   *bool
	Registration       *RegistrationConfig
	RemoveRegistration bool
}

// UpdateCA changes a registered CA. INACTIVE keeps more of its certificates from
// being registered; those that are stay as they are.
func (r *Registry) UpdateCA(ctx context.Context, id string, c CAChange) error {
	if c.RemoveRegistration && c.Registration != nil {
		return fault.Field("removeAutoRegistration", "is true although a registrationConfig is given")
	}
	ca, err := r.changeCA(ctx, id, func(ca *CACertificate, _ *state.Batch) error {
		if c.Active != nil {
			ca.Status = cloud.Inactive
			if *c.Active {
				ca.Status = cloud.Active
			}
		}
		if c.AutoRegistration != nil {
			ca.AutoRegistration = *c.AutoRegistration
		}
		if c.Registration != nil {
			ca.Registration = c.Registration
		}
		if c.RemoveRegistration {
			ca.Registration, ca.AutoRegistration = nil, false
		}
		return nil
	})
	if err == nil && c.AutoRegistration != nil {
		r.tellOfAutoRegistration(ctx, ca)
	}
	return err
}

// DeleteCA removes a registered CA that is INACTIVE, else WrongStatus. Its
// certificates stay registered.
func (r *Registry) DeleteCA(ctx context.Context, id string) error {
	_, err := r.changeCA(ctx, id, func(ca *CACertificate, b *state.Batch) error {
		if ca.Status != cloud.Inactive {
			return refuse(WrongStatus, fault.Conflict, "CA certificate %s is %s; make it INACTIVE before it is deleted", id, ca.Status)
		}
		certs, err := pki.ParseCerts([]byte(ca.PEM))
		if err != nil {
			return fmt.Errorf("stored CA certificate %s: %w", id, err)
		}
		key := subjectKey(certs[0].RawSubject)
		ids, err := state.ReadOr[[]string](ctx, r.store, key)
		if err != nil {
			return err
		}
		b.If(key, ids.Rev)
		if left := without(ids.Value, id); len(left) > 0 {
			b.Put(key, left)
		} else {
			b.Delete(key)
		}
		b.Delete(caKey(id)).Delete(madeKey(madeCAs, ca.CreatedAt, id))
		return nil
	})
	return err
}

func (r *Registry) changeCA(ctx context.Context, id string, change func(ca *CACertificate, b *state.Batch) error) (CACertificate, error) {
	if r.own(id) {
		return CACertificate{}, fault.New(fault.Invalid, "CA certificate %s is this server's own; it cannot be changed", id)
	}
	ca, err := state.Update(ctx, r.store, state.StepRegistry, caKey(id), func(ca *CACertificate, exists bool, b *state.Batch) error {
		if !exists {
			return noCA(id)
		}
		if err := change(ca, b); err != nil {
			return err
		}
		ca.ModifiedAt, ca.Version = r.now().UTC(), ca.Number()+1
		return nil
	})
	if err != nil {
		return ca.Value, fmt.Errorf("change CA certificate %s: %w", id, err)
	}
	return ca.Value, nil
}

// CACertificates returns a page of the registered CAs in the order made, with a
// template name only those that have it, and what After is for the next one.
func (r *Registry) CACertificates(ctx context.Context, template string, page Page) (out []CACertificate, next string, err error) {
	entries, more, err := r.inOrder(ctx, madeCAs, page)
	if err != nil {
		return nil, "", fmt.Errorf("list CA certificates: %w", err)
	}
	for _, e := range entries {
		ca, err := state.ReadOr[CACertificate](ctx, r.store, caKey(e.ID))
		if err != nil {
			return nil, "", fmt.Errorf("read CA %s: %w", e.ID, err)
		}
		if named := ca.Value.Registration; ca.Rev != 0 && (template == "" || named != nil && named.TemplateName == template) {
			out = append(out, ca.Value)
		}
		if more {
			next = e.after
		}
	}
	return out, next, nil
}
