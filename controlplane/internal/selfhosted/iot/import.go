package iot

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"slices"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/pki"
)

// Bounds of a certificate that was made elsewhere (iot-api §16).
const (
	maxPEM   = 64 << 10
	maxChain = 10 // certificates in one PEM
)

// Import checks a certificate that was made elsewhere. What is registered is the
// PEM as it was given, chain and all; only the first certificate counts.
func (r *Registry) Import(ctx context.Context, q cloud.ImportRequest) (cloud.Issued, error) {
	certs, err := parsePEM("certificatePem", q.PEM)
	if err != nil {
		return cloud.Issued{}, err
	}
	leaf := certs[0]
	// The usual tools mark a certificate that signs itself as a CA's. Alone and
	// without CA it can be a device's all the same.
	own := q.WithoutCA && len(certs) == 1 && bytes.Equal(leaf.RawIssuer, leaf.RawSubject)
	if leaf.IsCA && !own {
		return cloud.Issued{}, fault.Field("certificatePem", "begins with the certificate of a CA, want the device's")
	}
	if err := r.checkLeaf(leaf); err != nil {
		return cloud.Issued{}, err
	}
	out := cloud.Issued{ID: pki.ID(leaf.Raw), PEM: q.PEM, NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter}
	if q.WithoutCA {
		if q.CAPEM != "" || q.CAID != "" {
			return cloud.Issued{}, fault.Field("caCertificatePem", "is given although the certificate is to be registered without CA")
		}
		return out, nil
	}
	out.CAID, err = r.signer(ctx, q, leaf, certs[1:])
	return out, err
}

func parsePEM(field, text string) ([]*x509.Certificate, error) {
	if len(text) > maxPEM {
		return nil, fault.Field(field, "has %d bytes, over the limit of %d", len(text), maxPEM)
	}
	certs, err := pki.ParseCerts([]byte(text))
	if err != nil {
		return nil, fault.Field(field, "%s", fault.Message(err))
	}
	if len(certs) > maxChain {
		return nil, fault.Field(field, "has %d certificates, over the limit of %d", len(certs), maxChain)
	}
	return certs, nil
}

// checkLeaf refuses what no device could connect with.
func (r *Registry) checkLeaf(c *x509.Certificate) error {
	forClients := len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) == 0 ||
		slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth) || slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny)
	switch {
	case !forClients:
		return fault.Field("certificatePem", "is not made for clients: its extended key usage lacks clientAuth")
	case !c.NotAfter.After(c.NotBefore):
		return fault.Field("certificatePem", "ends before it begins")
	case !r.now().Before(c.NotAfter):
		return fault.Field("certificatePem", "was valid until %s only", c.NotAfter.UTC().Format("2006-01-02T15:04:05Z"))
	}
	if err := pki.CheckPublic(c.PublicKey); err != nil {
		return fault.Field("certificatePem", "%s", fault.Message(err))
	}
	return nil
}

// signer returns the id of the CA that q names, or any that is registered if it
// names none, after a look at the signatures from leaf up to it.
func (r *Registry) signer(ctx context.Context, q cloud.ImportRequest, leaf *x509.Certificate, chain []*x509.Certificate) (string, error) {
	id, err := caOf(q)
	if err != nil {
		return "", err
	}
	known, err := r.knownCAs(ctx, append([]*x509.Certificate{leaf}, chain...))
	if err != nil {
		return "", err
	}
	if id != "" {
		if !slices.ContainsFunc(known, func(k knownCA) bool { return k.id == id }) {
			return "", r.notTheSigner(ctx, id)
		}
		known = slices.DeleteFunc(known, func(k knownCA) bool { return k.id != id })
	}
	if bytes.Equal(leaf.RawIssuer, leaf.RawSubject) && leaf.CheckSignature(leaf.SignatureAlgorithm, leaf.RawTBSCertificate, leaf.Signature) == nil {
		return "", fault.Field("certificatePem", "signed itself; register it without CA, or have a CA sign it")
	}
	between := x509.NewCertPool()
	for _, c := range chain {
		between.AddCert(c)
	}
	now := r.now()
	if now.Before(leaf.NotBefore) {
		now = leaf.NotBefore // valid later is good enough
	}
	signers := slices.DeleteFunc(known, func(k knownCA) bool {
		roots := x509.NewCertPool()
		roots.AddCert(k.cert)
		_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
		return err != nil
	})
	switch {
	case len(signers) == 0 && id == "":
		return "", fault.New(fault.NotFound, "no CA that is registered signed the certificate; register it without CA")
	case len(signers) == 0:
		return "", fault.Field("certificatePem", "was not signed by CA %s", id)
	case !signers[0].active:
		return "", refuse(WrongStatus, fault.Invalid, "CA certificate %s is INACTIVE; make it ACTIVE first", signers[0].id)
	case len(signers) > 1 && bytes.Equal(signers[0].cert.RawSubject, signers[1].cert.RawSubject):
		return "", refuse(AmbiguousCA, fault.Invalid, "CA certificates %s and %s could both have signed the certificate; name one with caCertificatePem", signers[0].id, signers[1].id)
	}
	return signers[0].id, nil
}

// caOf is the id of the CA that q names, "" for none.
func caOf(q cloud.ImportRequest) (string, error) {
	if q.CAPEM == "" {
		return q.CAID, nil
	}
	cas, err := parsePEM("caCertificatePem", q.CAPEM)
	if err != nil {
		return "", err
	}
	of := pki.ID(cas[0].Raw)
	if q.CAID != "" && q.CAID != of {
		return "", fault.Field("caCertificatePem", "is of CA %s, but the CA's id is given as %s", of, q.CAID)
	}
	return of, nil
}

// notTheSigner tells a CA that is not registered from one of another name than the
// certificate's issuer.
func (r *Registry) notTheSigner(ctx context.Context, id string) error {
	ca, err := state.ReadOr[CACertificate](ctx, r.store, caKey(id))
	switch {
	case err != nil:
		return fmt.Errorf("read CA %s: %w", id, err)
	case ca.Rev != 0:
		return fault.Field("certificatePem", "was not signed by CA %s", id)
	}
	return fault.New(fault.NotFound, "CA certificate %s is not registered; the CA of this server is %s", id, r.ca.ID)
}

// knownCA is an authority whose certificates can be registered.
type knownCA struct {
	id     string
	cert   *x509.Certificate
	active bool
}

// knownCAs are this server's own, and those registered ones that have the name of
// an issuer of these certificates; those that are ACTIVE come first.
func (r *Registry) knownCAs(ctx context.Context, of []*x509.Certificate) ([]knownCA, error) {
	out := []knownCA{{r.ca.ID, r.ca.Issuer.Cert, true}, {pki.ID(r.ca.Root.Raw), r.ca.Root, true}}
	if p := r.ca.Private; p != nil {
		out = append(out, knownCA{p.ID, p.Cert, true})
	}
	seen := map[string]bool{}
	for _, c := range of {
		if seen[string(c.RawIssuer)] {
			continue
		}
		seen[string(c.RawIssuer)] = true
		registered, err := r.casOf(ctx, c.RawIssuer)
		if err != nil {
			return nil, err
		}
		for _, ca := range registered {
			certs, err := pki.ParseCerts([]byte(ca.PEM))
			if err != nil {
				return nil, fmt.Errorf("stored CA certificate %s: %w", ca.ID, err)
			}
			out = append(out, knownCA{ca.ID, certs[0], ca.Status == cloud.Active})
		}
	}
	slices.SortStableFunc(out, func(a, b knownCA) int {
		if a.active == b.active {
			return 0
		}
		if a.active {
			return -1
		}
		return 1
	})
	return out, nil
}

// RegisterCertificate checks a certificate that was made elsewhere and registers
// it. One that cannot be registered is BadCertificate, or says why more precisely.
func (r *Registry) RegisterCertificate(ctx context.Context, q cloud.ImportRequest, s cloud.CertificateStatus) (Certificate, error) {
	if err := CheckStatus("status", s); err != nil {
		return Certificate{}, err
	}
	n, err := r.Import(ctx, q)
	if err != nil {
		if k := fault.KindOf(err); k == fault.Invalid || k == fault.NotFound {
			err = because(BadCertificate, err)
		}
		return Certificate{}, err
	}
	return r.AddCertificate(ctx, n, s)
}

// PrivateCAARN is the name of the private CA, "" if there is none.
func (r *Registry) PrivateCAARN() string {
	if r.ca.Private == nil {
		return ""
	}
	return r.realm.PrivateCA(r.ca.Private.UUID)
}

// PrivateCAID is the id of the private CA among the registered ones, "" if there
// is none.
func (r *Registry) PrivateCAID() string {
	if r.ca.Private == nil {
		return ""
	}
	return r.ca.Private.ID
}

// IssuePrivate signs the key of a CSR with the private CA. Nothing is registered.
func (r *Registry) IssuePrivate(_ context.Context, arn string, q cloud.PrivateRequest) (cloud.PrivateCertificate, error) {
	if own := r.PrivateCAARN(); own == "" {
		return cloud.PrivateCertificate{}, fault.New(fault.NotFound, "this server has no private CA: its data is older than private CAs; start it once where the root CA's key file is")
	} else if arn != own {
		return cloud.PrivateCertificate{}, fault.New(fault.NotFound, "private CA %s does not exist; the one of this server is %s", arn, own)
	}
	csr, err := pki.ParseCSR(q.CSR)
	if err != nil {
		return cloud.PrivateCertificate{}, err
	}
	if q.Validity <= 0 {
		return cloud.PrivateCertificate{}, fault.New(fault.Invalid, "a certificate cannot be valid for %s", q.Validity)
	}
	now := r.now()
	der, err := r.ca.Private.SignClient(pki.Client{Subject: q.Subject, Public: csr.PublicKey, NotAfter: now.Add(q.Validity)}, now)
	if err != nil {
		return cloud.PrivateCertificate{}, err
	}
	return cloud.PrivateCertificate{
		PEM:   string(pki.EncodeCert(der)),
		Chain: string(append(pki.EncodeCert(r.ca.Private.Cert.Raw), pki.EncodeCert(r.ca.Root.Raw)...)),
	}, nil
}
