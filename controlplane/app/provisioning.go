package app

import (
	"fmt"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/provisioning"
)

// openProvisioner makes what brings things into being on the cloud.
func (a *App) openProvisioner(c provisioning.Cloud) (*provisioning.Provisioner, error) {
	cas, err := pairs("ca-aliases", a.cfg.CAAliases)
	if err != nil {
		return nil, err
	}
	pcas, err := pairs("pca-aliases", a.cfg.PCAAliases)
	if err != nil {
		return nil, err
	}
	return provisioning.NewProvisioner(provisioning.Config{
		Cloud: c, Templates: a.templates, Realm: a.cfg.realm(), CAAliases: cas, PCAAliases: pcas,
		DefaultValidity: time.Duration(a.cfg.CertificateDays) * 24 * time.Hour,
	})
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
