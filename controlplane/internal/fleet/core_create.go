package fleet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/ggfleet/ggfleet/controlplane/internal/event"
	"github.com/ggfleet/ggfleet/controlplane/internal/provisioning"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/task"
	"github.com/ggfleet/ggfleet/installer/config"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// createCore brings one core into being. Artifacts are put before anything is
// registered and overwritten by a retry (W-45); then one commit has certificate,
// thing, attachments, core record, event and the item's result. A core that
// cannot be made leaves no record (W-43).
func (s *Service) createCore(ctx context.Context, w *task.Work, spec coreTaskSpec) error {
	var n NewCore
	if err := w.Item.Decode(&n); err != nil {
		return err
	}
	rec, err := state.ReadOr[Core](ctx, s.cfg.Store, coreKey(n.Name))
	if err != nil {
		return fmt.Errorf("read core %s: %w", n.Name, err)
	}
	if rec.Rev == 0 {
		rec.Value = Core{Name: n.Name, DeploymentStatus: DeploymentNone, CreatedAt: w.Item.CreatedAt}
	}
	c := creation{s: s, w: w, n: n, version: spec.CoreVersion, rev: rec.Rev, core: rec.Value}
	c.core.Artifacts = maps.Clone(rec.Value.Artifacts)
	switch thing, err := s.cfg.Cloud.Thing(ctx, n.Name); {
	case err != nil && !errors.Is(err, fault.NotFound):
		return fmt.Errorf("look up thing %s: %w", n.Name, err) // only not-found means absent (W-42)
	case n.Claim && len(thing.Certificates) == 0:
		return c.leaveToDevice(ctx)
	case len(thing.Certificates) > 0 || c.core.CertificatePending:
		return c.refresh(ctx)
	}
	return c.provision(ctx)
}

// creation is one core on its way into being.
type creation struct {
	s       *Service
	w       *task.Work
	n       NewCore
	version string    // of the nucleus
	rev     state.Rev // of the core's record; 0: none yet
	core    Core      // as it will be
}

// provision makes the thing.
func (c *creation) provision(ctx context.Context) error {
	p, err := c.s.prepare(ctx, c.n)
	if err != nil {
		return failed(err, "Failed provisioning")
	}
	c.core.ProvisioningTemplate, c.core.Artifacts = c.n.ProvisioningTemplate, nil
	if p.Certificate != "" {
		certs, err := c.s.putCerts(ctx, c.n.Name, p)
		if err != nil {
			return failed(err, "Failed uploading certs")
		}
		c.core.Artifacts = map[string]Artifact{ArtifactCerts: certs}
	}
	if err := c.configure(ctx, c.n.ConfigFileGenerator); err != nil {
		return err
	}
	c.core.CertificatePending, c.core.Pending, c.core.Claim = p.Deferred != nil, p.Deferred, false
	err = c.s.cfg.Cloud.Register(ctx, p.Registration, func(b *state.Batch) error {
		addIssued(b, c.n.Name, p.Registration, c.s.now())
		return c.finish(ctx, b, "")
	})
	return failed(err, "Failed provisioning")
}

// leaveToDevice makes record and configuration, no thing: the device makes it when
// it claims the name (W-94).
func (c *creation) leaveToDevice(ctx context.Context) error {
	c.core.ProvisioningTemplate, c.core.Claim = c.n.ProvisioningTemplate, true
	if err := c.configure(ctx, c.n.ConfigFileGenerator); err != nil {
		return err
	}
	return c.finish(ctx, state.NewBatch(state.StepTaskItem), "")
}

// refresh is what Create does for a core that exists: nothing is reset (W-44), the
// installer configuration is made anew when one is asked for or it is missing
// (D-19).
func (c *creation) refresh(ctx context.Context) error {
	message := "Core device thing already provisioned"
	switch known, err := c.s.cfg.Cloud.HasCore(ctx, c.n.Name); {
	case err != nil:
		return fmt.Errorf("look up core device %s: %w", c.n.Name, err)
	case known:
		message = "Core device already registered"
	}
	if !c.core.CertificatePending && c.core.Completed == nil {
		lost, err := c.s.missing(ctx, c.core.Artifacts[ArtifactCerts])
		if err != nil {
			return err
		}
		if lost {
			message += "; its certificate cannot be issued again"
		}
	}
	generator := c.n.ConfigFileGenerator
	if generator == "" && c.core.ConfigGenerator != "" {
		lost, err := c.s.missing(ctx, c.core.Artifacts[ArtifactConfig])
		if err != nil {
			return err
		}
		if lost {
			generator = c.core.ConfigGenerator
		}
	}
	if c.rev == 0 {
		c.core.ProvisioningTemplate = c.n.ProvisioningTemplate
	}
	c.core.Claim = false
	if err := c.configure(ctx, generator); err != nil {
		return err
	}
	return c.finish(ctx, state.NewBatch(state.StepTaskItem), message)
}

// missing reports whether an artifact is not there (any more).
func (s *Service) missing(ctx context.Context, a Artifact) (bool, error) {
	if a.Key == "" {
		return true, nil
	}
	_, err := s.cfg.Objects.Stat(ctx, a.Key)
	if err == nil || errors.Is(err, fault.NotFound) {
		return err != nil, nil
	}
	return false, fmt.Errorf("look at %s: %w", a.Key, err)
}

// finish ends the item with what b holds already.
func (c *creation) finish(ctx context.Context, b *state.Batch, message string) error {
	c.core.CoreVersion, c.core.UpdatedAt = c.version, c.s.stamp()
	b.If(coreKey(c.n.Name), c.rev).Put(coreKey(c.n.Name), c.core)
	b.If(deviceKey(c.n.Name), 0)
	r := task.Result{Status: task.Success, Message: message}
	tell(b, event.CoreCreated, c.w, r, c.s.stamp())
	err := c.w.Finish(ctx, b, r)
	if errors.Is(err, fault.Conflict) {
		if d, derr := c.s.deviceRecord(ctx, c.n.Name); derr == nil && d.Rev != 0 {
			return fault.New(fault.Invalid, "%s is a client device of this fleet and cannot be a core", c.n.Name)
		}
	}
	return err
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

// configure makes the installer configuration by the generator; "" makes none.
func (c *creation) configure(ctx context.Context, generator string) error {
	if generator == "" {
		return nil
	}
	g, err := c.s.cfg.Generators.For(generator)
	if err != nil {
		return fault.New(fault.Invalid, "Unrecognized generator alias: %s", generator)
	}
	b, err := g.Generate(ctx, config.Input{
		Version: c.version, CoreDeviceName: c.n.Name, ProvisioningTemplate: c.n.ProvisioningTemplate, TemplateParameters: c.n.ProvisioningParameters,
		CDFParameters: c.n.CDFProvisioningParameters, Overlay: c.n.ConfigOverlay,
	})
	if err != nil {
		return failed(err, "Failed creating config")
	}
	a, err := c.s.put(ctx, state.PutConfig, c.n.Name, "installerConfig.yml", b)
	if err != nil {
		return failed(err, "Failed uploading config")
	}
	if c.core.Artifacts == nil {
		c.core.Artifacts = map[string]Artifact{}
	}
	c.core.Artifacts[ArtifactConfig], c.core.ConfigGenerator = a, generator
	return nil
}

// certsFile is the archive of certificate and key.
const certsFile = "certs.zip"

// putCerts stores the archive of certificate and key of a core or client device.
func (s *Service) putCerts(ctx context.Context, name string, p provisioning.Prepared) (Artifact, error) {
	b, err := certsZip(p.Certificate, p.PrivateKey, s.now())
	if err != nil {
		return Artifact{}, err
	}
	return s.put(ctx, state.PutCerts, name, certsFile, b)
}

// artifactKey is the key of cdf-services §3.11, which has the name twice.
func (s *Service) artifactKey(name, file string) string {
	return s.cfg.ArtifactPrefix + name + "/" + name + "/" + file
}

// put stores one artifact of a core.
func (s *Service) put(ctx context.Context, step state.Step, core, file string, b []byte) (Artifact, error) {
	key := s.artifactKey(core, file)
	if err := s.cfg.Objects.Put(ctx, step, key, bytes.NewReader(b), int64(len(b)), "text/plain"); err != nil {
		return Artifact{}, fmt.Errorf("put %s: %w", key, err)
	}
	return Artifact{Bucket: s.cfg.Objects.Bucket(), Key: key, CreatedAt: s.stamp()}, nil
}
