package provisioning

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/event"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/task"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/run"
)

// ServiceConfig is what NewService needs. Provisioner and Store are required.
type ServiceConfig struct {
	Provisioner *Provisioner
	Store       state.Store
	// Deprovision says what goes with a thing that is deleted.
	Deprovision cloud.Deprovision
}

// Service is the provisioning service (cdf-services §4.2): things outside of the
// fleet's tasks, one by one and in bulk. Safe for concurrent use.
type Service struct {
	cfg   ServiceConfig
	p     *Provisioner
	tasks *task.Engine
	busy  sync.Map // names of the things that Register is at
}

// NewService checks cfg; it starts nothing. The task engine is made by the caller
// with the service's Kinds and handed back by Use.
func NewService(cfg ServiceConfig) (*Service, error) {
	if cfg.Provisioner == nil || cfg.Store == nil {
		return nil, errors.New("provisioning service: Provisioner and Store are required")
	}
	return &Service{cfg: cfg, p: cfg.Provisioner}, nil
}

// Use hands over the engine that runs the service's Kinds.
func (s *Service) Use(e *task.Engine) { s.tasks = e }

// patience bounds how long one request is tried again.
const patience = 25 * time.Second

// again calls step until it succeeds or fails for good, for a bearable time.
func again(ctx context.Context, step func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return run.Retry(ctx, run.Backoff{Min: 20 * time.Millisecond, Max: 2 * time.Second}, 0, step)
}

// NewThing is the input of Provision.
type NewThing struct {
	TemplateID string
	Parameters map[string]string
	CDF        json.RawMessage // cdfProvisioningParameters
}

// Provisioned is a thing that was registered.
type Provisioned struct {
	ThingName      string
	CertificatePEM string
	PrivateKey     string // PEM; empty when the server did not make it. It is not kept
	// ResourceARNs has thing, certificate and policyLogicalName, and each resource
	// of the template under its logical name.
	ResourceARNs map[string]string
}

// Provision registers a thing as the template says. Certificate, thing, policies
// and attachments are one commit: nothing stays of one that fails (W-82). An
// unknown template is fault.Invalid as in the original, an unknown CA, policy or
// group fault.NotFound.
func (s *Service) Provision(ctx context.Context, n NewThing) (Provisioned, error) {
	p, err := s.p.Prepare(ctx, Request{Template: n.TemplateID, Parameters: n.Parameters, CDF: n.CDF})
	if err != nil {
		return Provisioned{}, unknownTemplate(n.TemplateID, err)
	}
	if p.Deferred != nil {
		return Provisioned{}, needsCSR(p.Deferred)
	}
	out, err := s.register(ctx, p)
	if err != nil {
		return Provisioned{}, refused(err)
	}
	out.ResourceARNs = s.p.arns(p)
	return out, nil
}

// register stores what was prepared: all of it, or nothing.
func (s *Service) register(ctx context.Context, p Prepared) (Provisioned, error) {
	err := again(ctx, func(ctx context.Context) error {
		return s.p.cfg.Cloud.Register(ctx, p.Registration, func(b *state.Batch) error {
			_, err := s.cfg.Store.Commit(ctx, b)
			return err
		})
	})
	if err != nil {
		return Provisioned{}, err
	}
	out := Provisioned{ThingName: p.ThingName, CertificatePEM: p.Certificate, PrivateKey: p.PrivateKey}
	id := p.Registration.CertificateID
	if id == "" {
		return out, nil
	}
	d, err := s.p.cfg.Cloud.Describe(ctx, p.ThingName) // the cloud has the certificate
	if err != nil {
		return out, fmt.Errorf("describe thing %s: %w", p.ThingName, err)
	}
	for _, c := range d.Certificates {
		if c.ID == id {
			out.CertificatePEM = c.PEM
		}
	}
	return out, nil
}

// unknownTemplate makes a template that is not there the caller's mistake.
func unknownTemplate(id string, err error) error {
	if text := noTemplate(id); errors.Is(err, fault.NotFound) && fault.Message(err) == text {
		return fault.New(fault.Invalid, "%s", text)
	}
	return err
}

func needsCSR(d *Deferred) error {
	return fault.Field("parameters."+d.Parameter, "has no value: the certificate of this provisioning template is made from it")
}

// refused puts what the registration refused into the words of the original.
func refused(err error) error {
	if slices.Contains([]fault.Kind{fault.Invalid, fault.Exists, fault.TooLarge}, fault.KindOf(err)) {
		return fault.New(fault.Invalid, "REGISTRATION_FAILED: %s", fault.Message(err))
	}
	return err
}

// arns names what was registered: by type, as the original's clients look for it
// (cdf-services Q-04), and by the template's logical names.
func (p *Provisioner) arns(x Prepared) map[string]string {
	out := p.logicalARNs(x)
	out["thing"] = p.cfg.Realm.Thing(x.ThingName)
	if id := x.certificateID(); id != "" {
		out["certificate"] = p.cfg.Realm.Certificate(id)
	}
	if len(x.plan.Policies) > 0 {
		out["policyLogicalName"] = p.cfg.Realm.Policy(x.plan.Policies[0].Name)
	}
	return out
}

// logicalARNs names each resource of the template.
func (p *Provisioner) logicalARNs(x Prepared) map[string]string {
	out := map[string]string{x.tpl.ThingLogicalName(): p.cfg.Realm.Thing(x.ThingName)}
	for _, pol := range x.plan.Policies {
		out[pol.Logical] = p.cfg.Realm.Policy(pol.Name)
	}
	if id := x.certificateID(); id != "" {
		out[x.tpl.CertificateLogicalName()] = p.cfg.Realm.Certificate(id)
	}
	return out
}

// certificateID is that of the certificate that the thing gets, "" for none.
func (x Prepared) certificateID() string {
	if c := x.Registration.Certificate; c != nil {
		return c.ID
	}
	return x.Registration.CertificateID
}

// Thing returns all there is to know of a thing, or fault.NotFound.
func (s *Service) Thing(ctx context.Context, name string) (cloud.ThingDetail, error) {
	return s.p.cfg.Cloud.Describe(ctx, name)
}

// Delete removes a thing and what the service is set to remove with it; what
// another thing shares is only detached (W-83). fault.NotFound if there is none.
func (s *Service) Delete(ctx context.Context, name string) error {
	if _, err := s.p.cfg.Cloud.Thing(ctx, name); err != nil {
		return err
	}
	err := again(ctx, func(ctx context.Context) error {
		return s.p.cfg.Cloud.Deprovision(ctx, name, s.cfg.Deprovision, func(b *state.Batch) error {
			_, err := s.cfg.Store.Commit(ctx, b)
			return err
		})
	})
	if err != nil {
		return fmt.Errorf("delete thing %s: %w", name, err)
	}
	return nil
}

// inActive is how the original's own document spells INACTIVE.
const inActive cloud.CertificateStatus = "IN_ACTIVE"

// SetCertificates sets the status of every certificate of the thing: ACTIVE,
// INACTIVE (or IN_ACTIVE), REVOKED. fault.NotFound for an unknown thing.
func (s *Service) SetCertificates(ctx context.Context, name string, to cloud.CertificateStatus) error {
	switch to {
	case cloud.Active, cloud.Inactive, cloud.Revoked:
	case inActive:
		to = cloud.Inactive
	default:
		return fault.Field("certificateStatus", "is %q, want %s, %s or %s", to, cloud.Active, cloud.Inactive, cloud.Revoked)
	}
	err := again(ctx, func(ctx context.Context) error { return s.p.cfg.Cloud.SetCertificates(ctx, name, to) })
	if err != nil {
		return err
	}
	b := state.NewBatch(state.StepHistory)
	event.Add(b, event.CertificateChanged, name, s.p.cfg.Now(), map[string]string{"certificateStatus": string(to)})
	if _, err := s.cfg.Store.Commit(ctx, b); err != nil {
		return fmt.Errorf("history of thing %s: %w", name, err)
	}
	return nil
}
