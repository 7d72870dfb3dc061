package fleet

import (
	"bytes"
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/provisioning"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/task"
	"github.com/ggfleet/ggfleet/installer/config"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/pki"
)

// coreCreate is the kind of task that creates cores (cdf-services §3.4).
func (s *Service) coreCreate() task.Kind {
	return task.Kind{Name: kindCoreCreate, Do: s.createCore}
}

// createCore brings one core into being. Artifacts are put before anything is
// registered and overwritten by a retry; then one commit registers certificate,
// thing, attachments, core record and the item's result.
func (s *Service) createCore(ctx context.Context, w *task.Work) error {
	var spec coreTaskSpec
	var n NewCore
	if err := errors.Join(w.Task.Decode(&spec), w.Item.Decode(&n)); err != nil {
		return err
	}
	rec, err := state.ReadOr[Core](ctx, s.cfg.Store, coreKey(n.Name))
	if err != nil {
		return fmt.Errorf("read core %s: %w", n.Name, err)
	}
	thing, err := s.cfg.Cloud.Thing(ctx, n.Name)
	if err != nil && !errors.Is(err, fault.NotFound) {
		return fmt.Errorf("look up thing %s: %w", n.Name, err) // only not-found means absent (W-42)
	}
	if len(thing.Certificates) > 0 || rec.Value.CertificatePending {
		return s.refreshCore(ctx, w, n, spec, rec)
	}
	p, err := s.prepare(ctx, n)
	if err != nil {
		return failed(err, "Failed provisioning")
	}
	core := rec.Value
	if rec.Rev == 0 {
		core = Core{Name: n.Name, DeploymentStatus: DeploymentNone, CreatedAt: w.Item.CreatedAt}
	}
	core.ProvisioningTemplate, core.CoreVersion = n.ProvisioningTemplate, spec.CoreVersion
	core.Artifacts = map[string]Artifact{}
	if p.zip != nil {
		if core.Artifacts[ArtifactCerts], err = s.put(ctx, state.PutCerts, n.Name, "certs.zip", p.zip); err != nil {
			return failed(err, "Failed uploading certs")
		}
	}
	if err := s.configure(ctx, &core, n, spec.CoreVersion); err != nil {
		return err
	}
	core.CertificatePending, core.Pending = p.pending != nil, p.pending
	core.UpdatedAt = s.stamp()
	err = s.cfg.Cloud.Register(ctx, p.registration, func(b *state.Batch) error {
		b.If(coreKey(n.Name), rec.Rev).Put(coreKey(n.Name), core)
		return w.Finish(ctx, b, task.Result{Status: task.Success})
	})
	return failed(err, "Failed provisioning")
}

// refreshCore is what Create does for a core that exists: nothing is reset, the
// installer configuration is made anew when one is asked for (D-19).
func (s *Service) refreshCore(ctx context.Context, w *task.Work, n NewCore, spec coreTaskSpec, rec state.Record[Core]) error {
	message := "Core device thing already provisioned"
	switch known, err := s.cfg.Cloud.HasCore(ctx, n.Name); {
	case err != nil:
		return fmt.Errorf("look up core device %s: %w", n.Name, err)
	case known:
		message = "Core device already registered"
	}
	core := rec.Value
	if rec.Rev == 0 {
		core = Core{Name: n.Name, DeploymentStatus: DeploymentNone, CreatedAt: w.Item.CreatedAt}
	}
	if core.Artifacts[ArtifactCerts].Key == "" && !core.CertificatePending {
		message += "; its certificate cannot be issued again"
	}
	b := state.NewBatch(state.StepTaskItem)
	if rec.Rev == 0 || n.ConfigFileGenerator != "" {
		if err := s.configure(ctx, &core, n, spec.CoreVersion); err != nil {
			return err
		}
		core.CoreVersion, core.UpdatedAt = spec.CoreVersion, s.stamp()
		b.If(coreKey(n.Name), rec.Rev).Put(coreKey(n.Name), core)
	}
	return w.Finish(ctx, b, task.Result{Status: task.Success, Message: message})
}

// failed makes the reason of a permanent error the item's message, in the words
// of the original service; passing errors stay as they are and are retried.
func failed(err error, what string) error {
	if err == nil || !fault.Permanent(err) {
		return err
	}
	return fault.New(fault.KindOf(err), "%s: %s", what, fault.Message(err))
}

// prepared is all that registering a core needs, made in memory.
type prepared struct {
	registration cloud.Registration
	zip          []byte              // certs.zip; nil: the key is made on the device
	pending      *PendingCertificate // the certificate comes with the CSR at enrolment
}

func (s *Service) prepare(ctx context.Context, n NewCore) (prepared, error) {
	params, err := cdfParameters(n.CDFProvisioningParameters)
	if err != nil {
		return prepared{}, err
	}
	tpl, err := s.provisioningTemplate(ctx, n.ProvisioningTemplate)
	if err != nil {
		return prepared{}, err
	}
	plan, err := provisioning.Bind(tpl, n.ProvisioningParameters)
	if err != nil {
		return prepared{}, err
	}
	if plan.ThingName != n.Name {
		return prepared{}, fault.New(fault.Invalid, "the provisioning template %s names the thing %q, but the core is %q; set provisioningParameters.ThingName to the core's name", n.ProvisioningTemplate, plan.ThingName, n.Name)
	}
	out := prepared{registration: s.registration(plan)}
	request := issueRequest(n.Name, params)
	switch plan.Certificate.Source {
	case provisioning.SourceNone: // a thing alone
	case provisioning.SourceDeferred:
		out.pending = &PendingCertificate{Parameters: n.CDFProvisioningParameters, Policies: out.registration.Policies, Status: out.registration.Status}
		out.registration.Policies = nil
	case provisioning.SourceCSR:
		err = s.fromCSR(ctx, &out, request, []byte(plan.Certificate.CSR))
	case provisioning.SourceCreate:
		err = s.withNewKey(ctx, &out, request, plan.Certificate.KeyAlgorithm)
	case provisioning.SourcePEM, provisioning.SourceID:
		err = fault.New(fault.Unsupported, "certificates by %s are not served yet; use CDF.createDeviceCertificate or a CSR", plan.Certificate.Source)
	}
	return out, err
}

func (s *Service) withNewKey(ctx context.Context, out *prepared, r cloud.IssueRequest, a pki.KeyAlgorithm) error {
	key, err := pki.NewKey(a)
	if err != nil {
		return err
	}
	r.Public = key.Public()
	return s.issue(ctx, out, r, key)
}

func (s *Service) fromCSR(ctx context.Context, out *prepared, r cloud.IssueRequest, csrPEM []byte) error {
	csr, err := pki.ParseCSR(csrPEM)
	if err != nil {
		return err
	}
	r.Public = csr.PublicKey
	return s.issue(ctx, out, r, nil)
}

func (s *Service) issue(ctx context.Context, out *prepared, r cloud.IssueRequest, key crypto.Signer) error {
	issued, err := s.cfg.Cloud.Issue(ctx, r)
	if err != nil {
		return err
	}
	out.registration.Certificate = &issued
	files := []zipFile{{"certs/cert.pem", []byte(issued.PEM)}}
	if key != nil {
		b, err := pki.MarshalKey(key)
		if err != nil {
			return err
		}
		files = append(files, zipFile{"certs/private.key", b})
	}
	out.zip, err = certsZip(files, s.now())
	return err
}

func (s *Service) registration(p *provisioning.Plan) cloud.Registration {
	r := cloud.Registration{
		Thing: p.ThingName, Type: p.ThingType, Attributes: p.Attributes, Groups: p.Groups, Status: cloud.CertificateStatus(p.Certificate.Status),
		OverrideType: cloud.Override(p.Overrides.Type), OverrideAttributes: cloud.Override(p.Overrides.Attributes), OverrideGroups: cloud.Override(p.Overrides.Groups),
	}
	policies := append(slices.Clip(p.Policies), p.AdditionalPolicies...)
	if p.ClientIDMustMatchThingName {
		policies = append(policies, p.ClientIDPolicy(s.cfg.Realm.Region, s.cfg.Realm.Account))
	}
	for _, x := range policies {
		r.Policies = append(r.Policies, cloud.Policy{Name: x.Name, Document: x.Document})
	}
	return r
}

// configure makes the installer configuration if the request names a generator.
func (s *Service) configure(ctx context.Context, core *Core, n NewCore, version string) error {
	if n.ConfigFileGenerator == "" {
		return nil
	}
	g, err := s.cfg.Generators.For(n.ConfigFileGenerator)
	if err != nil {
		return fault.New(fault.Invalid, "Unrecognized generator alias: %s", n.ConfigFileGenerator)
	}
	b, err := g.Generate(ctx, config.Input{
		Version: version, CoreDeviceName: n.Name, ProvisioningTemplate: n.ProvisioningTemplate, TemplateParameters: n.ProvisioningParameters,
		CDFParameters: n.CDFProvisioningParameters,
	})
	if err != nil {
		return failed(err, "Failed creating config")
	}
	a, err := s.put(ctx, state.PutConfig, n.Name, "installerConfig.yml", b)
	if err != nil {
		return failed(err, "Failed uploading config")
	}
	artifacts := map[string]Artifact{ArtifactConfig: a}
	for k, v := range core.Artifacts {
		if k != ArtifactConfig {
			artifacts[k] = v
		}
	}
	core.Artifacts, core.ConfigGenerator = artifacts, n.ConfigFileGenerator
	return nil
}

// put stores one artifact of a core under the key of cdf-services §3.11, which
// has the name twice.
func (s *Service) put(ctx context.Context, step state.Step, core, file string, b []byte) (Artifact, error) {
	key := s.cfg.ArtifactPrefix + core + "/" + core + "/" + file
	if err := s.cfg.Objects.Put(ctx, step, key, bytes.NewReader(b), int64(len(b)), "text/plain"); err != nil {
		return Artifact{}, fmt.Errorf("put %s: %w", key, err)
	}
	return Artifact{Bucket: s.cfg.Objects.Bucket(), Key: key, CreatedAt: s.stamp()}, nil
}

// cachedTemplate is a provisioning template that was read a moment ago.
type cachedTemplate struct {
	t    *provisioning.Template
	read time.Time
}

// templateFresh is how long a provisioning template that was read is used
// without looking again: a task of ten thousand cores reads it a few times.
const templateFresh = 2 * time.Second

func (s *Service) provisioningTemplate(ctx context.Context, id string) (*provisioning.Template, error) {
	s.mu.Lock()
	c, ok := s.plans[id]
	s.mu.Unlock()
	if ok && s.now().Sub(c.read) < templateFresh {
		return c.t, nil
	}
	t, err := s.cfg.Templates.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.plans) > 100 {
		clear(s.plans)
	}
	s.plans[id] = cachedTemplate{t, s.now()}
	return t, nil
}

// issueRequest is the certificate that the parameters ask for. Without certInfo
// the subject is the core's name.
func issueRequest(core string, p provisioning.CDFParameters) cloud.IssueRequest {
	r := cloud.IssueRequest{CAID: p.CAID, Subject: p.Subject, Validity: time.Duration(p.Days) * 24 * time.Hour}
	if r.Subject.String() == "" {
		r.Subject.CommonName = core
	}
	return r
}

func cdfParameters(raw json.RawMessage) (provisioning.CDFParameters, error) {
	p, err := provisioning.ParseCDFParameters(raw)
	return p, fault.Under("cdfProvisioningParameters", err)
}
