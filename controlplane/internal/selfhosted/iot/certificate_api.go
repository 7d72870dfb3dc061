package iot

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"slices"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/pki"
)

// PendingActivation is the status of a certificate that was made for somebody who
// has not proved yet what it is for (iot-api §16).
const PendingActivation cloud.CertificateStatus = "PENDING_ACTIVATION"

// CertificateMode says whether a CA that is registered must have signed.
type CertificateMode string

// The modes (iot-api §12).
const (
	ModeDefault CertificateMode = "DEFAULT"
	ModeSNIOnly CertificateMode = "SNI_ONLY" // without a CA, or of a CA that was registered so
)

// ModeOf is the mode of the certificate.
func (c Certificate) ModeOf() CertificateMode {
	switch {
	case c.Mode != "":
		return c.Mode
	case c.CAID == "":
		return ModeSNIOnly
	}
	return ModeDefault
}

func (c Certificate) version() int { return max(1, c.Version) }

// Number grows with each change of the status; it begins at 1.
func (c Certificate) Number() int { return c.version() }

// Modified is when the status was last set.
func (c Certificate) Modified() time.Time {
	if c.ModifiedAt.IsZero() {
		return c.CreatedAt
	}
	return c.ModifiedAt
}

func noCertificate(id string) error {
	return fault.New(fault.NotFound, "certificate %s is not registered", id)
}

// awsEnd is until when AWS IoT issues certificates; ours end with our CA at the
// latest.
var awsEnd = time.Date(2049, 12, 31, 23, 59, 59, 0, time.UTC) //nolint:gochecknoglobals // a constant

// commonName is the subject of a certificate whose owner asks for none.
const commonName = "AWS IoT Certificate"

// KeyPair is a key as it is given out once, in PEM.
type KeyPair struct {
	Public  string // SubjectPublicKeyInfo
	Private string // PKCS #1, as AWS IoT gives it
}

// CreateKeys makes an RSA key and a certificate for it, and registers that. The
// private key is nowhere but in the answer.
func (r *Registry) CreateKeys(ctx context.Context, s cloud.CertificateStatus) (Certificate, KeyPair, error) {
	issued, pair, err := r.IssueKeys(r.Longest())
	if err != nil {
		return Certificate{}, KeyPair{}, err
	}
	c, err := r.AddCertificate(ctx, issued, s)
	return c, pair, err
}

// IssueKeys makes an RSA key and a certificate for it. Nothing is registered.
func (r *Registry) IssueKeys(validity time.Duration) (cloud.Issued, KeyPair, error) {
	signer, err := pki.NewKey(pki.RSA2048)
	if err != nil {
		return cloud.Issued{}, KeyPair{}, err
	}
	key, ok := signer.(*rsa.PrivateKey)
	if !ok {
		return cloud.Issued{}, KeyPair{}, fmt.Errorf("an RSA key is a %T", signer)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return cloud.Issued{}, KeyPair{}, fmt.Errorf("encode public key: %w", err)
	}
	issued, err := r.Issue(cloud.IssueRequest{Subject: pkix.Name{CommonName: commonName}, Public: key.Public(), Validity: validity})
	return issued, KeyPair{
		Public:  string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})),
		Private: string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})),
	}, err
}

// SignCSR makes a certificate for the key and subject of a PEM CSR and registers
// it.
func (r *Registry) SignCSR(ctx context.Context, csr string, s cloud.CertificateStatus) (Certificate, error) {
	issued, err := r.IssueCSR(csr)
	if err != nil {
		return Certificate{}, err
	}
	return r.AddCertificate(ctx, issued, s)
}

// IssueCSR makes a certificate for the key and subject of a PEM CSR. Nothing is
// registered.
func (r *Registry) IssueCSR(csr string) (cloud.Issued, error) {
	q, err := pki.ParseCSR([]byte(csr))
	if err != nil {
		return cloud.Issued{}, fault.Field("certificateSigningRequest", "%s", fault.Message(err))
	}
	subject := q.Subject
	if len(subject.Names) == 0 {
		subject.CommonName = commonName
	}
	return r.Issue(cloud.IssueRequest{Subject: subject, Public: q.PublicKey, Validity: r.Longest()})
}

// Longest is how long certificates of AWS IoT live from now on; ours end with our
// CA at the latest.
func (r *Registry) Longest() time.Duration { return awsEnd.Sub(r.now()) }

// DropPending removes a certificate that nobody took up: one that still waits for
// its activation and has no thing. Any other stays as it is.
func (r *Registry) DropPending(ctx context.Context, id string) error {
	_, err := state.Update(ctx, r.store, state.StepRegistry, certKey(id), func(c *Certificate, exists bool, b *state.Batch) error {
		if !exists || c.Status != PendingActivation || len(c.Things) > 0 {
			return state.ErrKeep
		}
		dropCertificateBatch(b, *c)
		return nil
	})
	if err != nil {
		return fmt.Errorf("remove certificate %s, which was not taken up: %w", id, err)
	}
	return nil
}

// AddCertificate registers a certificate that nothing is attached to yet. One that
// is registered is fault.Exists.
func (r *Registry) AddCertificate(ctx context.Context, n cloud.Issued, s cloud.CertificateStatus) (Certificate, error) {
	c, err := state.Update(ctx, r.store, state.StepRegistry, certKey(n.ID), func(c *Certificate, exists bool, b *state.Batch) (err error) {
		if exists {
			return fault.New(fault.Exists, "certificate %s is registered already", n.ID)
		}
		*c, err = r.newCertificate(ctx, b, n, s)
		return err
	})
	if err != nil {
		return Certificate{}, fmt.Errorf("register certificate %s: %w", n.ID, err)
	}
	return c.Value, nil
}

// newCertificate is the record of a certificate that is registered in b.
func (r *Registry) newCertificate(ctx context.Context, b *state.Batch, n cloud.Issued, s cloud.CertificateStatus) (Certificate, error) {
	c := Certificate{
		ID: n.ID, PEM: n.PEM, Status: s, CAID: n.CAID, NotBefore: n.NotBefore.UTC(), NotAfter: n.NotAfter.UTC(), CreatedAt: r.now().UTC(),
	}
	if n.CAID != "" && !r.own(n.CAID) {
		ca, err := state.ReadOr[CACertificate](ctx, r.store, caKey(n.CAID))
		if err != nil {
			return c, fmt.Errorf("read CA %s: %w", n.CAID, err)
		}
		if ca.Value.Mode != ModeDefault {
			c.Mode = ca.Value.Mode
		}
	}
	b.Put(madeKey(madeCerts, c.CreatedAt, c.ID), made{ID: c.ID, CAID: c.CAID})
	return c, nil
}

// UpdateCertificate sets the status on somebody's demand: ACTIVE, INACTIVE or
// REVOKED; any other is WrongStatus. Live sessions follow.
func (r *Registry) UpdateCertificate(ctx context.Context, id string, s cloud.CertificateStatus) error {
	if err := CheckStatus("newStatus", s); err != nil {
		return err
	}
	return r.SetCertificateStatus(ctx, id, s)
}

// CheckStatus refuses what nobody can set, with WrongStatus.
func CheckStatus(field string, s cloud.CertificateStatus) error {
	if s == cloud.Active || s == cloud.Inactive || s == cloud.Revoked {
		return nil
	}
	return because(WrongStatus, fault.Field(field, "is %s, which cannot be set; use ACTIVE, INACTIVE or REVOKED", s))
}

// DeleteCertificate removes a certificate that is INACTIVE, else WrongStatus, and
// attached to no thing; with policies it is Attached as well unless forced.
func (r *Registry) DeleteCertificate(ctx context.Context, id string, force bool) error {
	_, err := state.Update(ctx, r.store, state.StepRegistry, certKey(id), func(c *Certificate, exists bool, b *state.Batch) error {
		switch {
		case !exists:
			return noCertificate(id)
		case c.Status != cloud.Inactive:
			return refuse(WrongStatus, fault.Conflict, "certificate %s is %s; make it INACTIVE before it is deleted", id, c.Status)
		case len(c.Things) > 0:
			return refuse(Attached, fault.Conflict, "certificate %s is attached to thing %s; detach it first", id, c.Things[0])
		case len(c.Policies) > 0 && !force:
			return refuse(Attached, fault.Conflict, "certificate %s has policy %s; detach it first, or force the deletion", id, c.Policies[0])
		}
		dropCertificateBatch(b, *c)
		return nil
	})
	if err != nil {
		return fmt.Errorf("delete certificate %s: %w", id, err)
	}
	return nil
}

// dropCertificateBatch removes the certificate's records in b.
func dropCertificateBatch(b *state.Batch, c Certificate) {
	b.Delete(certKey(c.ID)).Delete(changedKey("certificate", c.ID)).Delete(madeKey(madeCerts, c.CreatedAt, c.ID))
	for _, p := range c.Policies {
		b.Delete(policyRefKey(p, c.ID))
	}
}

// scanned bounds what one page of a list reads for nothing.
const scanned = 2000

// ListCertificates returns a page of the certificates in the order made, of one CA
// unless caID is empty, and what After is for the next one ("": this is the last).
// A page may have fewer than Limit although there are more.
func (r *Registry) ListCertificates(ctx context.Context, caID string, page Page) (out []Certificate, next string, err error) {
	q, looked := page, 0
	if caID != "" {
		q.Limit = max(q.Limit, madeSpan)
	}
	for {
		entries, more, err := r.inOrder(ctx, madeCerts, q)
		if err != nil {
			return nil, "", fmt.Errorf("list certificates: %w", err)
		}
		for i, e := range entries {
			q.After = e.after
			if caID != "" && e.CAID != caID {
				continue
			}
			c, err := state.ReadOr[Certificate](ctx, r.store, certKey(e.ID))
			if err != nil {
				return nil, "", fmt.Errorf("read certificate %s: %w", e.ID, err)
			}
			if c.Rev == 0 {
				continue
			}
			if out = append(out, c.Value); len(out) == page.Limit {
				if more || i < len(entries)-1 {
					next = q.After
				}
				return out, next, nil
			}
		}
		if !more {
			return out, "", nil
		}
		if looked += len(entries); looked >= scanned || caID == "" {
			return out, q.After, nil
		}
	}
}

// own reports whether the CA is one of this server's.
func (r *Registry) own(caID string) bool { return caID == r.ca.ID || caID == r.PrivateCAID() }

// mayAttach refuses another thing where the certificate is for one alone.
func (c Certificate) mayAttach(thing string) error {
	if c.Exclusive && len(c.Things) > 0 && !slices.Contains(c.Things, thing) {
		return fault.New(fault.Invalid, "certificate %s is attached to thing %s exclusively; detach it there first", c.ID, c.Things[0])
	}
	return nil
}
