package app

import (
	"fmt"

	"github.com/ggfleet/ggfleet/controlplane/internal/generator"
	"github.com/ggfleet/ggfleet/installer/config"
)

// generators are the built-in installer configurations and those of --generators.
func (c *Config) generators(credentials string, mqttPort, devicePort int) (config.Registry, error) {
	overlays, err := generator.Overlays(c.Overlays)
	if err != nil {
		return config.Registry{}, fmt.Errorf("generator-overlays: %w", err)
	}
	settings := config.Settings{
		AWSRegion: c.Region, RoleAlias: c.RoleAlias, DataEndpoint: c.PublicHost, CredEndpoint: credentials,
		DataPlaneEndpoint: "iotdata", MQTTPort: mqttPort, DataPlanePort: devicePort, ClaimDir: c.ClaimCertDir,
	}
	if _, err := config.Builtin(settings, nil); err != nil {
		return config.Registry{}, fmt.Errorf("installer configuration: %w", err)
	}
	builtin, err := config.Builtin(settings, overlays)
	if err != nil {
		return config.Registry{}, fmt.Errorf("generator-overlays: %w", err)
	}
	all, err := generator.Registry(builtin, c.Generators)
	if err != nil {
		return config.Registry{}, fmt.Errorf("generators: %w", err)
	}
	return all, nil
}
