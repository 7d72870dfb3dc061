package fleet

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/ggfleet/ggfleet/controlplane/internal/provisioning"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/task"
	"github.com/ggfleet/ggfleet/installer/config"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// createCore brings one core into being. Artifacts are put before anything is
// registered and overwritten by a retry; then one commit registers certificate,
// thing, attachments, core record and the item's result.
func (s *Service) createCore(ctx context.Context, w *task.Work, spec coreTaskSpec) error {
	var n NewCore
	if err := w.Item.Decode(&n); err != nil {
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
	if p.Certificate != "" {
		if core.Artifacts[ArtifactCerts], err = s.putCerts(ctx, n.Name, p); err != nil {
			return failed(err, "Failed uploading certs")
		}
	}
	if err := s.configure(ctx, &core, n, spec.CoreVersion); err != nil {
		return err
	}
	core.CertificatePending, core.Pending = p.Deferred != nil, p.Deferred
	core.UpdatedAt = s.stamp()
	err = s.cfg.Cloud.Register(ctx, p.Registration, func(b *state.Batch) error {
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

// prepare makes, in memory, what the core's thing is registered with.
func (s *Service) prepare(ctx context.Context, n NewCore) (provisioning.Prepared, error) {
	p, err := s.cfg.Provisioner.Prepare(ctx, provisioning.Request{Template: n.ProvisioningTemplate, Parameters: n.ProvisioningParameters, CDF: n.CDFProvisioningParameters})
	if err == nil && p.ThingName != n.Name {
		err = fault.New(fault.Invalid, "the provisioning template %s names the thing %q, but the core is %q; set provisioningParameters.ThingName to the core's name", n.ProvisioningTemplate, p.ThingName, n.Name)
	}
	return p, err
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

// putCerts stores the archive of certificate and key of a core or client device.
func (s *Service) putCerts(ctx context.Context, name string, p provisioning.Prepared) (Artifact, error) {
	b, err := certsZip(p.Certificate, p.PrivateKey, s.now())
	if err != nil {
		return Artifact{}, err
	}
	return s.put(ctx, state.PutCerts, name, "certs.zip", b)
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
