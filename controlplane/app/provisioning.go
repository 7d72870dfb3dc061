package app

import (
	"fmt"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/provisioning"
)

// openProvisioner makes what brings things into being on the cloud, and the
// service of things outside of the fleet.
func (a *App) openProvisioner(c provisioning.Cloud) (*provisioning.Provisioner, error) {
	cas, err := pairs("ca-aliases", a.cfg.CAAliases)
	if err != nil {
		return nil, err
	}
	pcas, err := pairs("pca-aliases", a.cfg.PCAAliases)
	if err != nil {
		return nil, err
	}
	p, err := provisioning.NewProvisioner(provisioning.Config{
		Cloud: c, Templates: a.templates, Realm: a.cfg.realm(), CAAliases: cas, PCAAliases: pcas,
		DefaultValidity: time.Duration(a.cfg.CertificateDays) * 24 * time.Hour,
	})
	if err != nil {
		return nil, err
	}
	a.things, err = provisioning.NewService(provisioning.ServiceConfig{Provisioner: p, Store: a.hub, Deprovision: a.deprovision()})
	return p, err
}

// deprovision is what goes with a thing that is deleted.
func (a *App) deprovision() cloud.Deprovision {
	return cloud.Deprovision{Certificates: a.cfg.DeleteCertificates, Policies: a.cfg.DeletePolicies}
}

// pairs reads the NAME=VALUE texts of a setting.
func pairs(setting string, list []string) (map[string]string, error) {
	out := make(map[string]string, len(list))
	for _, s := range list {
		name, value, ok := strings.Cut(s, "=")
		if !ok || name == "" || value == "" {
			return nil, fmt.Errorf("%s: %q must be NAME=VALUE", setting, s)
		}
		out[name] = value
	}
	return out, nil
}
