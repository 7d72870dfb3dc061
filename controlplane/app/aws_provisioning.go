package app

import (
	"context"

	"github.com/ggfleet/ggfleet/controlplane/internal/provisioning"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/claims"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// claimParts is fleet provisioning.
type claimParts struct {
	registrar *registrar
	claims    *claims.Service
}

// openClaims makes fleet provisioning. Its registrar gets its service later, from
// openRegistrar: that one stands on the whole cloud.
func (a *App) openClaims() (err error) {
	a.registrar = &registrar{}
	a.claims, err = claims.New(claims.Config{Store: a.hub, Registry: a.registry, Registrar: a.registrar, Log: a.log})
	return err
}

// openRegistrar puts RegisterThing on the cloud c. Certificates that templates of
// AWS clients ask for last as long as those of AWS IoT, since these clients know no
// other.
func (a *App) openRegistrar(c provisioning.Cloud) error {
	p, err := provisioning.NewProvisioner(provisioning.Config{
		Cloud: c, Templates: a.templates, Realm: a.cfg.realm(), DefaultValidity: a.registry.Longest(),
	})
	if err != nil {
		return err
	}
	a.registrar.service, err = provisioning.NewService(provisioning.ServiceConfig{Provisioner: p, Store: a.hub})
	return err
}

// registrar is the provisioning service as AWS clients and claims ask it.
type registrar struct{ service *provisioning.Service }

// CheckTemplate implements claims.Registrar.
func (r *registrar) CheckTemplate(body []byte) error {
	_, err := parsePlain(body)
	return err
}

// RegisterThing implements claims.Registrar.
func (r *registrar) RegisterThing(ctx context.Context, body []byte, parameters map[string]string) (claims.Registered, error) {
	t, err := parsePlain(body)
	if err != nil {
		return claims.Registered{}, err
	}
	out, err := r.service.Register(ctx, t, parameters)
	if fault.Permanent(err) {
		err = &claims.RefusedError{Err: err}
	}
	return claims.Registered{Thing: out.ThingName, CertificatePEM: out.CertificatePEM, ARNs: out.ResourceARNs}, err
}

// parsePlain makes a template that is too long one more that is no template.
func parsePlain(body []byte) (*provisioning.Template, error) {
	t, err := provisioning.ParsePlain(body)
	if fault.KindOf(err) == fault.TooLarge {
		err = fault.New(fault.Invalid, "%s", fault.Message(err))
	}
	return t, err
}
