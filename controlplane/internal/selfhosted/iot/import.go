package iot

import (
	"bytes"
	"context"
	"crypto/x509"
	"maps"
	"slices"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
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
func (r *Registry) Import(_ context.Context, q cloud.ImportRequest) (cloud.Issued, error) {
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
	out.CAID, err = r.signer(q, leaf, certs[1:])
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
func (r *Registry) signer(q cloud.ImportRequest, leaf *x509.Certificate, chain []*x509.Certificate) (string, error) {
	known, id := r.knownCAs(), q.CAID
	if q.CAPEM != "" {
		cas, err := parsePEM("caCertificatePem", q.CAPEM)
		if err != nil {
			return "", err
		}
		if of := pki.ID(cas[0].Raw); id == "" || id == of {
			id = of
		} else {
			return "", fault.Field("caCertificatePem", "is of CA %s, but the CA's id is given as %s", of, id)
		}
	}
	if id != "" {
		if _, ok := known[id]; !ok {
			return "", fault.New(fault.NotFound, "CA certificate %s is not registered; the CA of this server is %s", id, r.ca.ID)
		}
		maps.DeleteFunc(known, func(k string, _ *x509.Certificate) bool { return k != id })
	}
	if bytes.Equal(leaf.RawIssuer, leaf.RawSubject) && leaf.CheckSignature(leaf.SignatureAlgorithm, leaf.RawTBSCertificate, leaf.Signature) == nil {
		return "", fault.Field("certificatePem", "signed itself; register it without CA, or have a CA sign it")
	}
	between := x509.NewCertPool()
	for _, c := range chain {
		between.AddCert(c)
	}
	for _, k := range slices.Sorted(maps.Keys(known)) {
		roots := x509.NewCertPool()
		roots.AddCert(known[k])
		now := r.now()
		if now.Before(leaf.NotBefore) {
			now = leaf.NotBefore // valid later is good enough
		}
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err == nil {
			return k, nil
		}
	}
	if id == "" {
		return "", fault.New(fault.NotFound, "no CA that is registered signed the certificate; register it without CA")
	}
	return "", fault.Field("certificatePem", "was not signed by CA %s", id)
}

// knownCAs are the authorities whose certificates can be registered, by id.
func (r *Registry) knownCAs() map[string]*x509.Certificate {
	out := map[string]*x509.Certificate{r.ca.ID: r.ca.Issuer.Cert, pki.ID(r.ca.Root.Raw): r.ca.Root}
	if p := r.ca.Private; p != nil {
		out[p.ID] = p.Cert
	}
	return out
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
