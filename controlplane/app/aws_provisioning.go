package app

import (
	"context"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/provisioning"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/claims"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// claimParts is fleet provisioning.
type claimParts struct {
	registrar registrar
	claims    *claims.Service
}

// longest is longer than any CA lives: certificates that templates of AWS clients
// ask for end with the CA, since these clients know no other end than AWS's, the
// year 2049.
const longest = 100 * 365 * 24 * time.Hour

// openClaims puts RegisterThing and fleet provisioning on the cloud c.
func (a *App) openClaims(c provisioning.Cloud) error {
	p, err := provisioning.NewProvisioner(provisioning.Config{Cloud: c, Templates: a.templates, Realm: a.cfg.realm(), DefaultValidity: longest})
	if err != nil {
		return err
	}
	if a.registrar.service, err = provisioning.NewService(provisioning.ServiceConfig{Provisioner: p, Store: a.hub}); err != nil {
		return err
	}
	a.claims, err = claims.New(claims.Config{Store: a.hub, Registry: a.registry, Registrar: a.registrar, Log: a.log})
	return err
}

// registrar is the provisioning service as AWS clients and claims ask it.
type registrar struct{ service *provisioning.Service }

// CheckTemplate implements claims.Registrar.
func (r registrar) CheckTemplate(body []byte) error {
	_, err := parsePlain(body)
	return err
}

// RegisterThing implements claims.Registrar.
func (r registrar) RegisterThing(ctx context.Context, body []byte, parameters map[string]string) (claims.Registered, error) {
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
