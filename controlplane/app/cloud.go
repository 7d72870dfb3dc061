package app

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/distribution"
	"github.com/ggfleet/ggfleet/controlplane/internal/enrollment"
	"github.com/ggfleet/ggfleet/controlplane/internal/fleet"
	"github.com/ggfleet/ggfleet/controlplane/internal/help"
	"github.com/ggfleet/ggfleet/controlplane/internal/patching"
	"github.com/ggfleet/ggfleet/controlplane/internal/provisioning"
	"github.com/ggfleet/ggfleet/controlplane/internal/seal"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/artifact"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/component"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/gateway"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/greengrass"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/iot"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/jobs"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/task"
	"github.com/ggfleet/ggfleet/controlplane/internal/telemetry"
	"github.com/ggfleet/ggfleet/installer/durable"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Prefixes of keys in the bucket, beside those of cores' artifacts and of
// provisioning templates.
const (
	componentPrefix    = "components/"
	distributionPrefix = "distributions/"
)

// openCloud puts the self-hosted cloud together.
func (a *App) openCloud(ctx context.Context) error {
	ca, err := iot.EnsureCA(ctx, a.hub, a.sealer, a.file("ca"), time.Now())
	if err != nil {
		return err
	}
	for name, content := range map[string][]byte{"ca.pem": ca.Bundle(), "ca.id": []byte(ca.ID), "api.url": []byte(a.apiURL())} {
		if err := writeIfChanged(a.file(name), content); err != nil {
			return err
		}
	}
	if a.registry, err = iot.New(iot.Config{Store: a.hub, Realm: a.cfg.realm(), CA: ca, Log: a.log}); err != nil {
		return err
	}
	if a.jobs, err = jobs.New(jobs.Config{Store: a.hub, Log: a.log}); err != nil {
		return err
	}
	tmp := a.file("tmp")
	if err := os.MkdirAll(tmp, 0o700); err != nil {
		return fmt.Errorf("make directory for uploads: %w", err)
	}
	a.components, err = component.New(component.Config{
		Store: a.hub, Objects: a.objects, Realm: a.cfg.realm(), Prefix: componentPrefix, TempDir: tmp, Log: a.log,
		Private: []string{a.cfg.ArtifactPrefix, componentPrefix, distributionPrefix, "templates/", patching.DefaultPrefix, help.DefaultPrefix},
		InUse:   a.componentUser,
	})
	if err != nil {
		return err
	}
	a.greengrass, err = greengrass.New(greengrass.Config{
		Store: a.hub, Registry: a.registry, Jobs: a.jobs, Components: a.components,
		RolloutRate: a.cfg.RolloutRate, DeployOnLeave: a.cfg.DeployOnLeave, Log: a.log,
	})
	if err != nil {
		return err
	}
	if err := a.openDevices(); err != nil {
		return err
	}
	return a.openDownloads(ctx)
}

// openDevices puts together what devices reach by MQTT.
func (a *App) openDevices() error {
	a.agents = telemetry.New(telemetry.Config{Log: a.log})
	a.devices = selfhosted.NewDevices(a.jobs, a.greengrass, a.log)
	if a.etcd == nil {
		a.devices.Share(a.hub, func(thing string) {
			if of, is := strings.CutSuffix(thing, protocol.AgentThing("")); is {
				a.agents.Moved(of)
			}
		})
	}
	if err := a.openClaims(); err != nil {
		return err
	}
	a.devices.ServeClaims(a.claims)
	ids := selfhosted.Clients{Identities: selfhosted.Identities{Registry: a.registry}, Claims: a.claims}
	var err error
	a.gateway, err = gateway.New(gateway.Config{
		Identities: ids, Reserved: a.devices, Changes: ids, Events: a.events(), Realm: a.cfg.realm(),
		TLS: gateway.MQTTConfig(ids, a.serverCertificate().get), Log: a.log,
	})
	if err != nil {
		return err
	}
	a.devices.Attach(a.gateway)
	return nil
}

// openDownloads puts together the links to artifacts and who serves them.
func (a *App) openDownloads(ctx context.Context) error {
	secret, err := ensureSecret(ctx, a.hub, a.sealer, "artifact-links")
	if err != nil {
		return err
	}
	a.signer, err = artifact.NewSigner(artifact.Config{PublicURL: "http://" + a.hostPort(a.listeners.artifact), Secret: secret})
	if err != nil {
		return err
	}
	a.downloads, err = artifact.NewHandler(artifact.HandlerConfig{Signer: a.signer, Objects: a.objects, Log: a.log})
	return err
}

// componentUser names the deployment that a component version must stay for.
func (a *App) componentUser(ctx context.Context, name, version string) (string, error) {
	id, err := a.greengrass.UsedBy(ctx, name, version)
	if id != "" {
		id = "deployment " + id
	}
	return id, err
}

// runComponents keeps and checks component versions. Alone on the data, it need
// not wait for the lease of the process before.
func (a *App) runComponents(ctx context.Context) error {
	if a.etcd != nil {
		if err := a.components.Release(ctx); err != nil && ctx.Err() == nil {
			return err
		}
	}
	return a.components.Run(ctx)
}

// openFleet puts the fleet service on the cloud.
func (a *App) openFleet(ctx context.Context) error {
	generators, err := a.cfg.generators(a.hostPort(a.listeners.device), port(a.listeners.mqtt), port(a.listeners.device))
	if err != nil {
		return err
	}
	assets, err := a.cfg.assets()
	if err != nil {
		return err
	}
	a.templates = provisioning.NewTemplates(a.objects)
	cloud := &selfhosted.Cloud{Registry: a.registry, Jobs: a.jobs, Greengrass: a.greengrass, Components: a.components, Presence: a.devices}
	provisioner, err := a.openProvisioner(cloud)
	if err != nil {
		return err
	}
	if err := a.openRegistrar(cloud); err != nil {
		return err
	}
	a.fleet, err = fleet.New(fleet.Config{
		Store: a.hub, Objects: a.objects, Cloud: cloud, Provisioner: provisioner, Realm: a.cfg.realm(), ArtifactPrefix: a.cfg.ArtifactPrefix,
		Generators: generators, Agents: a.agents, Reprovisioned: a.assignmentChanged, Activations: activationsOfCores{a}, Assets: assets, Deprovision: a.deprovision(),
		PreStage: a.cfg.PreStage, Log: a.log,
	})
	if err != nil {
		return err
	}
	a.tasks, err = task.New(task.Config{Store: a.hub, Kinds: append(a.fleet.Kinds(), a.things.Kinds()...), Concurrency: a.cfg.Workers, Log: a.log})
	if err != nil {
		return err
	}
	a.fleet.Use(a.tasks)
	a.things.Use(a.tasks)
	a.dist = distribution.New(a.hub, a.objects, distributionPrefix, nil)
	nonces, err := ensureSecret(ctx, a.hub, a.sealer, "renewals")
	if err != nil {
		return err
	}
	a.enrollment, err = enrollment.New(enrollment.Config{
		Store: a.hub, Objects: a.objects, Things: cloud, Cores: coresOfFleet{a.fleet}, Devices: devicesOfFleet{a.fleet},
		Creator: creatorOfFleet{a}, Distributions: a.dist,
		CAPEM: string(a.registry.CA().Bundle()), MQTTAddress: a.hostPort(a.listeners.mqtt), HTTPSURL: "https://" + a.hostPort(a.listeners.device),
		MaxWaiting: a.cfg.EnrollmentWaiting, MaxFromOne: a.cfg.EnrollmentWaitingFrom, Log: a.log,
		Certificates: cloud, CertificateLife: a.cfg.AgentCertificateLife, CertificateGrace: cmp.Or(a.cfg.AgentCertificateGrace, -1), NonceKey: nonces,
	})
	return err
}

// events is what the gateway tells: to the cloud, and of agents to the view of
// them.
func (a *App) events() gateway.Events {
	e := a.devices.Events(func(s gateway.Session, topic string, payload []byte) {
		if of, is := protocol.AgentSubject(s.Identity.Thing, s.Identity.Attributes); is {
			a.agents.Observe(of.Name, topic, payload)
		}
	})
	gone := e.Disconnected
	e.Disconnected = func(s gateway.Session, reason string, at time.Time) {
		gone(s, reason, at)
		if of, is := protocol.AgentSubject(s.Identity.Thing, s.Identity.Attributes); is {
			a.agents.Disconnected(of.Name)
			if a.devices.Elsewhere(s.Identity.Thing) { // the session here was the older one
				a.agents.Moved(of.Name)
			}
		}
	}
	return e
}

// activationsOfCores is what waits for a device, as the fleet service asks for it:
// activations, patches and the version of its nucleus. The services are made after
// the fleet service.
type activationsOfCores struct{ a *App }

// Forget implements fleet.Activations.
func (c activationsOfCores) Forget(ctx context.Context, device string) error {
	return errors.Join(c.a.enrollment.Forget(ctx, device), c.a.patching.Forget(ctx, device), c.a.dist.Forget(ctx, device), c.a.help.Forget(ctx, device), c.a.releases.Forget(ctx, device))
}

// ensureSecret returns 32 random bytes that all replicas share, sealed in the
// store under name.
func ensureSecret(ctx context.Context, s state.Store, sealer seal.Sealer, name string) ([]byte, error) {
	key := state.Root + "secret/" + name
	rec, err := state.Read[[]byte](ctx, s, key)
	if errors.Is(err, fault.NotFound) {
		plain := make([]byte, 32)
		rand.Read(plain)
		sealed, err := sealer.Seal(key, plain)
		if err != nil {
			return nil, fmt.Errorf("seal secret %s: %w", name, err)
		}
		_, err = s.Commit(ctx, state.NewBatch(state.StepSetup).If(key, 0).Put(key, sealed))
		if errors.Is(err, fault.Conflict) { // another replica was first
			return ensureSecret(ctx, s, sealer, name)
		}
		return plain, err
	}
	if err != nil {
		return nil, fmt.Errorf("read secret %s: %w", name, err)
	}
	plain, err := sealer.Open(key, rec.Value)
	if err != nil {
		return nil, fmt.Errorf("open secret %s (is the seal key file the one that this data was made with?): %w", name, err)
	}
	return plain, nil
}

// writeIfChanged keeps a file that others read up to date without a moment in
// which it is not whole.
func writeIfChanged(path string, content []byte) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, content) {
		return nil
	}
	return durable.WriteFileAt(path, content, 0o644)
}
