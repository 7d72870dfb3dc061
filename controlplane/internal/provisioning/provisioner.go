package provisioning

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/pki"
)

// Cloud is what a Provisioner asks of a cloud.
type Cloud interface {
	cloud.Things
	cloud.PrivateCA
}

// Config is what NewProvisioner needs. Cloud and Templates are required.
type Config struct {
	Cloud     Cloud
	Templates *Templates
	Realm     names.Realm

	// CAAliases names CAs that are registered with the cloud (by id or ARN),
	// PCAAliases private CAs (by ARN). The case of an alias does not count.
	CAAliases, PCAAliases map[string]string
	// DefaultValidity is that of certificates whose request names none; 0: 365
	// days.
	DefaultValidity time.Duration

	Now func() time.Time // nil: time.Now
}

// Provisioner makes, in memory, all that a thing needs to be registered. Safe for
// concurrent use.
type Provisioner struct {
	cfg Config

	mu    sync.Mutex // guards fresh
	fresh map[string]cached
}

// NewProvisioner checks cfg; it starts nothing.
func NewProvisioner(cfg Config) (*Provisioner, error) {
	if cfg.Cloud == nil || cfg.Templates == nil {
		return nil, errors.New("provisioning: Cloud and Templates are required")
	}
	if cfg.DefaultValidity < 0 {
		return nil, errors.New("provisioning: DefaultValidity must not be negative")
	}
	if cfg.DefaultValidity == 0 {
		cfg.DefaultValidity = 365 * day
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.CAAliases, cfg.PCAAliases = upperCased(cfg.CAAliases), upperCased(cfg.PCAAliases)
	return &Provisioner{cfg: cfg, fresh: map[string]cached{}}, nil
}

func upperCased(m map[string]string) map[string]string {
	out := make(map[string]string, len(m))
	for k, v := range m {
		out[strings.ToUpper(k)] = v
	}
	return out
}

// Request asks for one thing.
type Request struct {
	Template   string            // id of the provisioning template
	Parameters map[string]string // of the template; values it does not declare are dropped
	CDF        json.RawMessage   // cdfProvisioningParameters; empty: none
}

// Prepared is what Prepare made. Nothing of it is stored yet: a certificate that
// is never registered can never connect.
type Prepared struct {
	ThingName    string
	Registration cloud.Registration
	Certificate  string // PEM, a chain may follow; empty: none, or one that is registered already
	PrivateKey   string // PEM (PKCS#8); empty: the server did not make it
	// Deferred is set when the template waits for a CSR that was not given: the
	// registration is without certificate then, and Complete makes one.
	Deferred *Deferred

	plan *Plan
	tpl  *Template
}

// Deferred is what the certificate of a thing will be once its key, made on the
// device, comes as a CSR. It can be kept as JSON.
type Deferred struct {
	Parameters json.RawMessage         `json:"parameters,omitempty"` // cdfProvisioningParameters of the request
	Policies   []cloud.Policy          `json:"policies,omitempty"`
	Status     cloud.CertificateStatus `json:"status,omitempty"`
	// Parameter is the one that the template takes a CSR from.
	Parameter string `json:"parameter,omitempty"`
}

// Check says what can be said of cdfProvisioningParameters without a template.
// Errors name the member at fault.
func (p *Provisioner) Check(cdf json.RawMessage) error {
	_, err := ParseCDFParameters(cdf)
	return err
}

// Prepare makes all that registering the thing needs, and stores nothing. An
// unknown template is fault.NotFound (INVALID_PROVISIONING_TEMPLATE: <id>), an
// unknown CA too; input that the template cannot be carried out with is
// fault.Invalid and names the member at fault.
func (p *Provisioner) Prepare(ctx context.Context, r Request) (Prepared, error) {
	params, err := ParseCDFParameters(r.CDF)
	if err != nil {
		return Prepared{}, err
	}
	tpl, err := p.template(ctx, r.Template)
	if err != nil {
		return Prepared{}, err
	}
	return p.prepare(ctx, tpl, r, params)
}

// prepare is Prepare with template and parameters at hand.
func (p *Provisioner) prepare(ctx context.Context, tpl *Template, r Request, params CDFParameters) (Prepared, error) {
	plan, err := Bind(tpl, r.Parameters)
	if err != nil {
		return Prepared{}, err
	}
	m, err := p.certificate(ctx, plan, params)
	if err != nil {
		return Prepared{}, err
	}
	if tpl.late { // the thing or a policy refers to the certificate, which is known now
		if plan, err = bind(tpl, r.Parameters, p.filled(m.issued.ID)); err != nil {
			return Prepared{}, err
		}
	}
	out := Prepared{ThingName: plan.ThingName, Registration: p.registration(plan), Certificate: m.pem, tpl: tpl, plan: plan}
	if m.key != nil {
		b, err := pki.MarshalKey(m.key)
		if err != nil {
			return Prepared{}, err
		}
		out.PrivateKey = string(b)
	}
	return out, p.attach(&out, m, r, params)
}

// attach adds the certificate to the registration.
func (p *Provisioner) attach(out *Prepared, m made, r Request, params CDFParameters) error {
	reg, c := &out.Registration, out.plan.Certificate
	reg.Status = cloud.CertificateStatus(c.Status)
	switch c.Source {
	case SourceNone:
		reg.Status = ""
	case SourceDeferred:
		out.Deferred = &Deferred{Parameters: r.CDF, Policies: reg.Policies, Status: reg.Status, Parameter: c.Parameter}
		reg.Policies = nil
	case SourceID:
		reg.CertificateID, reg.OverrideStatus = c.ID, cloud.Override(c.Override)
	case SourceCreate, SourceCSR, SourcePEM:
		reg.Certificate, reg.OverrideStatus = &m.issued, cloud.Override(c.Override)
	case SourceAWS, SourceExternal, SourcePrivate:
		// To the template this certificate is one that exists, with the status that
		// its own step gave it.
		reg.Certificate = &m.issued
		own := cloud.Active
		if c.Source == SourceExternal {
			own = params.CertificateStatus
		}
		switch {
		case c.Override == Fail && reg.Status != own:
			return fault.New(fault.Exists, "the certificate is %s, the provisioning template wants %s and says FAIL", own, reg.Status)
		case c.Override != Replace:
			reg.Status = own
		}
	}
	return nil
}

func (p *Provisioner) registration(plan *Plan) cloud.Registration {
	r := cloud.Registration{
		Thing: plan.ThingName, Type: plan.ThingType, Attributes: plan.Attributes, Groups: plan.Groups,
		OverrideType: cloud.Override(plan.Overrides.Type), OverrideAttributes: cloud.Override(plan.Overrides.Attributes), OverrideGroups: cloud.Override(plan.Overrides.Groups),
	}
	policies := append(slices.Clip(plan.Policies), plan.AdditionalPolicies...)
	if plan.ClientIDMustMatchThingName {
		policies = append(policies, plan.ClientIDPolicy(p.cfg.Realm.Region, p.cfg.Realm.Account))
	}
	for _, x := range policies {
		r.Policies = append(r.Policies, cloud.Policy{Name: x.Name, Document: x.Document})
	}
	return r
}

// Complete makes the certificate of a thing that was registered without one, for
// the key of the CSR, and what registers it.
func (p *Provisioner) Complete(ctx context.Context, thing string, d Deferred, csrPEM string) (cloud.Registration, error) {
	params, err := ParseCDFParameters(d.Parameters)
	if err != nil {
		return cloud.Registration{}, err
	}
	m, err := p.fromCSR(ctx, p.issueRequest(thing, params), csrPEM)
	if err != nil {
		return cloud.Registration{}, err
	}
	return cloud.Registration{Thing: thing, Certificate: &m.issued, Status: d.Status, Policies: d.Policies}, nil
}

// cached is a template that was read a moment ago.
type cached struct {
	t    *Template
	read time.Time
}

const (
	// fresh is how long a template that was read is used without looking again:
	// a task of ten thousand cores reads it a few times.
	fresh    = 2 * time.Second
	maxFresh = 100 // templates kept at once
)

func (p *Provisioner) template(ctx context.Context, id string) (*Template, error) {
	p.mu.Lock()
	c, ok := p.fresh[id]
	p.mu.Unlock()
	if ok && p.cfg.Now().Sub(c.read) < fresh {
		return c.t, nil
	}
	t, err := p.cfg.Templates.Get(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("provisioning template: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.fresh) >= maxFresh {
		clear(p.fresh)
	}
	p.fresh[id] = cached{t, p.cfg.Now()}
	return t, nil
}
