package app

import (
	"fmt"

	"github.com/ggfleet/ggfleet/controlplane/internal/generator"
	"github.com/ggfleet/ggfleet/installer/config"
)

// generators are the built-in installer configurations and those of --generators.
func (a *App) generators() (config.Registry, error) {
	overlays, err := generator.Overlays(a.cfg.Overlays)
	if err != nil {
		return config.Registry{}, err
	}
	builtin, err := config.Builtin(config.Settings{
		AWSRegion: a.cfg.Region, RoleAlias: a.cfg.RoleAlias, DataEndpoint: a.cfg.PublicHost, CredEndpoint: a.hostPort(a.listeners.device),
		DataPlaneEndpoint: "iotdata", MQTTPort: port(a.listeners.mqtt), DataPlanePort: port(a.listeners.device), ClaimDir: a.cfg.ClaimCertDir,
	}, overlays)
	if err != nil {
		return config.Registry{}, fmt.Errorf("installer configuration: %w", err)
	}
	return generator.Registry(builtin, a.cfg.Generators)
}
