package provisioning

import (
	"context"
	"crypto"
	"errors"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/pki"
)

const (
	day = 24 * time.Hour
	// privateTimeout bounds the wait for a private CA.
	privateTimeout = 20 * time.Second
)

// made is a certificate that is not registered yet; the zero value is none.
type made struct {
	issued cloud.Issued
	pem    string        // what the device gets: the certificate, perhaps with its chain
	key    crypto.Signer // nil: the device has it
}

// certificate makes or checks the certificate of the plan. Nothing is stored.
func (p *Provisioner) certificate(ctx context.Context, plan *Plan, params CDFParameters) (made, error) {
	c := plan.Certificate
	r := p.issueRequest(plan.ThingName, params)
	switch c.Source {
	case SourceCreate:
		return p.withNewKey(ctx, r, c.KeyAlgorithm)
	case SourceAWS:
		r.CAID = "" // always the cloud's own
		return p.withNewKey(ctx, r, c.KeyAlgorithm)
	case SourceCSR:
		return p.fromCSR(ctx, r, c.CSR)
	case SourcePEM:
		return p.imported(ctx, cloud.ImportRequest{PEM: c.PEM, CAPEM: c.CAPEM})
	case SourceExternal:
		return p.external(ctx, params)
	case SourcePrivate:
		return p.private(ctx, c, r, params)
	case SourceNone, SourceDeferred, SourceID:
	}
	return made{}, nil
}

// issueRequest is the certificate that the parameters ask for. Without certInfo
// the subject is the thing's name.
func (p *Provisioner) issueRequest(thing string, c CDFParameters) cloud.IssueRequest {
	r := cloud.IssueRequest{CAID: c.CAID, Subject: c.Subject, Validity: time.Duration(c.Days) * day}
	if r.Validity == 0 {
		r.Validity = p.cfg.DefaultValidity
	}
	if r.Subject.String() == "" && thing != unknownID {
		r.Subject.CommonName = thing
	}
	return r
}

func (p *Provisioner) withNewKey(ctx context.Context, r cloud.IssueRequest, a pki.KeyAlgorithm) (made, error) {
	key, err := pki.NewKey(a)
	if err != nil {
		return made{}, err
	}
	r.Public = key.Public()
	issued, err := p.cfg.Cloud.Issue(ctx, r)
	return made{issued, issued.PEM, key}, err
}

func (p *Provisioner) fromCSR(ctx context.Context, r cloud.IssueRequest, csrPEM string) (made, error) {
	csr, err := pki.ParseCSR([]byte(csrPEM))
	if err != nil {
		return made{}, err
	}
	r.Public = csr.PublicKey
	issued, err := p.cfg.Cloud.Issue(ctx, r)
	return made{issued, issued.PEM, nil}, err
}

func (p *Provisioner) imported(ctx context.Context, r cloud.ImportRequest) (made, error) {
	issued, err := p.cfg.Cloud.Import(ctx, r)
	return made{issued, r.PEM, nil}, err
}

// external is CDF.registerDeviceCertificateWithoutCA.
func (p *Provisioner) external(ctx context.Context, c CDFParameters) (made, error) {
	if c.CertificatePEM == "" {
		return made{}, fault.Field(inCDF+"certificatePem", "is missing: the provisioning template uses CDF.registerDeviceCertificateWithoutCA")
	}
	if s := c.CertificateStatus; s != cloud.Active && s != cloud.Inactive {
		return made{}, fault.Field(inCDF+"certificateStatus", "is %q, want %s or %s: the provisioning template uses CDF.registerDeviceCertificateWithoutCA", s, cloud.Active, cloud.Inactive)
	}
	return p.imported(ctx, cloud.ImportRequest{PEM: c.CertificatePEM, WithoutCA: true})
}

// private is CDF.acmpca: a certificate of the customer's own CA, registered with
// the CA of the cloud that knows it, or without (cdf-services §4.4).
func (p *Provisioner) private(ctx context.Context, plan Certificate, r cloud.IssueRequest, c CDFParameters) (made, error) {
	if !c.Given {
		return made{}, fault.Field(cdfMember, "is missing: the provisioning template uses CDF.acmpca")
	}
	imp := cloud.ImportRequest{WithoutCA: plan.Mode == WithoutCA}
	if plan.Mode == WithCA {
		ca, err := resolve(p.cfg.CAAliases, c.RegisteredCA, "awsiotCa")
		if err != nil {
			return made{}, err
		}
		imp.CAID = ca[strings.LastIndexByte(ca, '/')+1:] // of an ARN the id, an id as it is
	}
	ca, err := resolve(p.cfg.PCAAliases, c.PrivateCA, "acmpcaCa")
	if err != nil {
		return made{}, err
	}
	if !c.HasInfo {
		return made{}, fault.Field(inCDF+"certInfo", "is missing: the provisioning template uses CDF.acmpca")
	}
	out := made{}
	csr := []byte(c.CSR)
	if c.CSR == "" {
		if out.key, err = pki.NewKey(plan.KeyAlgorithm); err != nil {
			return made{}, err
		}
		if csr, err = pki.NewCSR(out.key, r.Subject.CommonName); err != nil {
			return made{}, err
		}
	} else if _, err := pki.ParseCSR(csr); err != nil {
		return made{}, fault.Field(inCDF+"csr", "%s", fault.Message(err))
	}
	// What ACM PCA passes through; the rest is ignored there (cdf-services §4.5).
	r.Subject.Locality, r.Subject.ExtraNames = nil, nil
	cert, err := p.issuePrivate(ctx, ca, cloud.PrivateRequest{CSR: csr, Subject: r.Subject, Validity: r.Validity})
	if err != nil {
		return made{}, err
	}
	out.pem = strings.TrimRight(cert.PEM, "\n") + "\n" + cert.Chain
	imp.PEM = out.pem
	out.issued, err = p.cfg.Cloud.Import(ctx, imp)
	return out, err
}

func (p *Provisioner) issuePrivate(ctx context.Context, ca string, r cloud.PrivateRequest) (cloud.PrivateCertificate, error) {
	short, cancel := context.WithTimeout(ctx, privateTimeout)
	defer cancel()
	cert, err := p.cfg.Cloud.IssuePrivate(short, ca, r)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return cert, fault.New(fault.Unavailable, "the private CA %s did not issue a certificate within %s", ca, privateTimeout)
	}
	return cert, err
}

// resolve returns the CA that n names. An alias wins over an ARN.
func resolve(aliases map[string]string, n CAName, member string) (string, error) {
	switch {
	case n.Alias != "":
		if ca, ok := aliases[strings.ToUpper(n.Alias)]; ok {
			return ca, nil
		}
		return "", fault.Field(inCDF+member+"Alias", "Invalid %sAlias: %q is no alias that this server is set up with", member, n.Alias)
	case n.ARN != "":
		return n.ARN, nil
	}
	return "", fault.Field(inCDF+member+"Arn", "Invalid %[1]sArn: the provisioning template uses CDF.acmpca, which needs %[1]sAlias or %[1]sArn", member)
}

// filled is what the certificate's own step puts into the template's parameters.
func (p *Provisioner) filled(id string) map[string]string {
	return map[string]string{paramID: id, paramARN: p.cfg.Realm.Certificate(id)}
}
