package app

import (
	"context"
	"io"
	"strings"

	"github.com/ggfleet/ggfleet/controlplane/internal/edge/fleetapi"
	"github.com/ggfleet/ggfleet/controlplane/internal/enrollment"
	"github.com/ggfleet/ggfleet/controlplane/internal/fleet"
	"github.com/ggfleet/ggfleet/controlplane/internal/provisioning"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/component"
	"github.com/ggfleet/ggfleet/shared/buildinfo"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/pki"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// unready is what anybody may read of why the server is not ready.
func unready(err error) string {
	if m := fault.Message(err); m != "" {
		return m
	}
	what, _, _ := strings.Cut(err.Error(), ":")
	return what + " does not answer"
}

// componentsPort is the component store in the words of the fleet API.
type componentsPort struct{ s *component.Service }

func (p componentsPort) CreateComponentVersion(ctx context.Context, recipe []byte) (fleetapi.ComponentVersion, error) {
	v, err := p.s.Create(ctx, recipe, component.CreateOptions{Replace: true})
	return componentVersion(v), err
}

func (p componentsPort) PutArtifact(ctx context.Context, name, version, artifact string, r io.Reader, size int64) (fleetapi.ComponentVersion, error) {
	v, err := p.s.PutArtifact(ctx, name, version, artifact, r, size)
	return componentVersion(v), err
}

func (p componentsPort) Components(ctx context.Context, page fleet.Page) ([]fleetapi.ComponentVersion, string, error) {
	list, more, err := p.s.List(ctx, component.ScopeAll, page.After, page.Count)
	if err != nil {
		return nil, "", err
	}
	out := make([]fleetapi.ComponentVersion, len(list))
	for i, c := range list {
		out[i] = componentVersion(c.Latest)
	}
	if !more {
		return out, "", nil
	}
	return out, list[len(list)-1].Name, nil
}

func (p componentsPort) ComponentVersions(ctx context.Context, name string, page fleet.Page) ([]fleetapi.ComponentVersion, string, error) {
	list, err := p.s.ListVersions(ctx, name)
	if err != nil {
		return nil, "", err
	}
	var out []fleetapi.ComponentVersion
	started := page.After == ""
	for _, v := range list {
		if started {
			if page.Count > 0 && len(out) == page.Count {
				return out, out[len(out)-1].Version, nil
			}
			out = append(out, componentVersion(v))
		}
		started = started || v.Version == page.After
	}
	return out, "", nil
}

func (p componentsPort) ComponentVersion(ctx context.Context, name, version string) (fleetapi.ComponentVersion, error) {
	v, err := p.s.Get(ctx, name, version)
	return componentVersion(v), err
}

func (p componentsPort) DeleteComponentVersion(ctx context.Context, name, version string) error {
	return p.s.Delete(ctx, name, version)
}

func componentVersion(v component.Version) fleetapi.ComponentVersion {
	return fleetapi.ComponentVersion{
		ARN: v.ARN, Name: v.Name, Version: v.Version, State: string(v.State), Stub: v.Stub, Publisher: v.Publisher,
		Description: v.Description, MissingArtifacts: v.Missing(), CreatedAt: v.CreatedAt,
	}
}

// provisioningPort is the provisioning templates in the words of the fleet API.
type provisioningPort struct{ t *provisioning.Templates }

func (p provisioningPort) PutProvisioningTemplate(ctx context.Context, id string, document []byte, m provisioning.Match) (string, error) {
	return p.t.Put(ctx, id, document, m)
}

func (p provisioningPort) ProvisioningTemplate(ctx context.Context, id string) ([]byte, string, error) {
	return p.t.Document(ctx, id)
}

func (p provisioningPort) DeleteProvisioningTemplate(ctx context.Context, id string, m provisioning.Match) error {
	return p.t.Delete(ctx, id, m)
}

func (p provisioningPort) ProvisioningTemplates(ctx context.Context) ([]fleetapi.ProvisioningTemplateInfo, error) {
	list, err := p.t.List(ctx, "", 0)
	out := make([]fleetapi.ProvisioningTemplateInfo, len(list))
	for i, t := range list {
		out[i] = fleetapi.ProvisioningTemplateInfo(t)
	}
	return out, err
}

// activationsPort is the enrolment in the words of the fleet API.
type activationsPort struct{ a *App }

func (p activationsPort) CreateActivation(ctx context.Context, n fleetapi.NewActivation) (fleetapi.IssuedActivation, error) {
	act, code, err := p.a.enrollment.Activate(ctx, enrollment.NewActivation{DeviceID: n.DeviceID, Life: n.ValidFor, Limit: n.Registrations, Role: n.Role})
	if err != nil {
		return fleetapi.IssuedActivation{}, err
	}
	e := protocol.Enrollment{
		URL: "https://" + p.a.hostPort(p.a.listeners.device), CAFingerprint: p.a.registry.CA().RootFingerprint(), ActivationID: act.ID, Code: code,
	}
	return fleetapi.IssuedActivation{ID: act.ID, Code: code, Region: p.a.cfg.Region, Enrollment: e.String()}, nil
}

func (p activationsPort) Activation(ctx context.Context, id string) (fleetapi.Activation, error) {
	act, err := p.a.enrollment.Activation(ctx, id)
	out := fleetapi.Activation{
		ID: act.ID, DeviceID: act.DeviceID, CreatedAt: act.CreatedAt, UpdatedAt: act.UpdatedAt, ExpiresAt: act.ExpiresAt,
		RegistrationLimit: act.Limit, Registrations: len(act.Issued), Role: act.Role,
	}
	if err == nil && out.Role == "" {
		out.Role, err = p.a.enrollment.RoleOf(ctx, act.DeviceID)
	}
	return out, err
}

func (p activationsPort) DeleteActivation(ctx context.Context, id string) error {
	return p.a.enrollment.DeleteActivation(ctx, id)
}

// systemPort is the server as its callers see it.
type systemPort struct{ a *App }

func (p systemPort) Info(context.Context) (fleetapi.Info, error) {
	a := p.a
	return fleetapi.Info{
		Version: buildinfo.Version, Commit: buildinfo.Commit(), Region: a.cfg.Region, Account: a.cfg.Account, Bucket: a.objects.Bucket(),
		PrivateCA: a.registry.PrivateCAARN(), PrivateCAID: a.registry.PrivateCAID(),
		Addresses: map[string]string{
			fleetapi.AddressAPI: a.apiURL(), fleetapi.AddressAWS: a.awsURL(), fleetapi.AddressMQTT: a.hostPort(a.listeners.mqtt),
			fleetapi.AddressDevice: "https://" + a.hostPort(a.listeners.device), fleetapi.AddressArtifacts: "http://" + a.hostPort(a.listeners.artifact),
		},
	}, nil
}

func (p systemPort) CA(context.Context) (fleetapi.CA, error) {
	ca := p.a.registry.CA()
	return fleetapi.CA{ID: ca.ID, RootFingerprint: ca.RootFingerprint(), IssuerFingerprint: pki.ID(ca.Issuer.Cert.Raw), BundlePEM: ca.Bundle()}, nil
}

func (p systemPort) Ready(ctx context.Context) error {
	err := p.a.ready(ctx)
	if err == nil {
		return nil
	}
	if fault.Message(err) == "" { // names addresses: for the log only, the answer needs no token
		p.a.log.WarnContext(ctx, "not ready", logx.Err, err)
	}
	return fault.New(fault.Unavailable, "not ready: %s", unready(err))
}
