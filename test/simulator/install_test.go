package simulator_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/test/simulator"
)

const manualInstall = `---
system:
  certificateFilePath: /greengrass/v2/cert.pem
  privateKeyPath: /greengrass/v2/private.key
  rootCaPath: /greengrass/v2/AmazonRootCA1.pem
  rootpath: /greengrass/v2
  thingName: gw-0001
services:
  aws.greengrass.Nucleus:
    componentType: NUCLEUS
    version: 2.4.0
    configuration:
      awsRegion: eu-west-1
      iotRoleAlias: alias
      iotDataEndpoint: fleet.example
      iotCredEndpoint: fleet.example
`

func TestInstallerConfigIsReadInEveryForm(t *testing.T) {
	tests := map[string]struct {
		change                 func(string) string
		mqtt, plane, cred, ver string
	}{
		"as generated without ports": {func(s string) string { return s }, "fleet.example:8883", "fleet.example:8443", "fleet.example:443", "2.4.0"},
		"with ports as numbers": {
			func(s string) string {
				return s + "      mqtt:\n        port: 9883\n      greengrassDataPlanePort: 9443\n"
			},
			"fleet.example:9883", "fleet.example:9443", "fleet.example:443", "2.4.0",
		},
		"with the data plane port as text": {func(s string) string { return s + "      greengrassDataPlanePort: \"9443\"\n" }, "fleet.example:8883", "fleet.example:9443", "fleet.example:443", "2.4.0"},
		"a credentials endpoint with port": {func(s string) string {
			return strings.Replace(s, "iotCredEndpoint: fleet.example", "iotCredEndpoint: fleet.example:8444", 1)
		}, "fleet.example:8883", "fleet.example:8443", "fleet.example:8444", "2.4.0"},
		"a data plane of its own":             {func(s string) string { return s + "      greengrassDataPlaneEndpoint: https://plane.example\n" }, "fleet.example:8883", "plane.example:8443", "fleet.example:443", "2.4.0"},
		"the data plane on the broker's host": {func(s string) string { return s + "      greengrassDataPlaneEndpoint: iotdata\n" }, "fleet.example:8883", "fleet.example:8443", "fleet.example:443", "2.4.0"},
		"nucleus lite": {func(s string) string {
			return strings.NewReplacer("aws.greengrass.Nucleus:", "aws.greengrass.NucleusLite:", "    version: 2.4.0\n", "", "rootpath", "rootPath").Replace(s)
		}, "fleet.example:8883", "fleet.example:8443", "fleet.example:443", ""},
		"a version that YAML takes for a number": {func(s string) string { return strings.Replace(s, "2.4.0", "2.10", 1) }, "fleet.example:8883", "fleet.example:8443", "fleet.example:443", "2.10"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			cfg, files, err := simulator.ParseInstallerConfig([]byte(tc.change(manualInstall)))
			require.NoError(t, err)
			assert.Equal(t, []string{"gw-0001", "eu-west-1", "alias", tc.mqtt, tc.plane, tc.cred, tc.ver}, []string{cfg.Thing, cfg.Region, cfg.RoleAlias, cfg.MQTT, cfg.DataPlane, cfg.Credentials, cfg.Version})
			assert.Equal(t, simulator.Files{Certificate: "/greengrass/v2/cert.pem", Key: "/greengrass/v2/private.key", RootCA: "/greengrass/v2/AmazonRootCA1.pem"}, files)
		})
	}
}

func TestInstallerConfigThatLeavesANucleusOfflineIsRefused(t *testing.T) {
	tests := map[string]string{
		"no YAML":           "\t",
		"no nucleus":        "services: {}",
		"no endpoint":       strings.Replace(manualInstall, "iotDataEndpoint: fleet.example", "", 1),
		"no thing":          strings.Replace(manualInstall, "gw-0001", "", 1),
		"an interval of 0":  manualInstall + "      fleetStatus:\n        periodicStatusPublishIntervalSeconds: 0\n",
		"a list for a port": manualInstall + "      greengrassDataPlanePort: [1]\n",
	}
	for name, text := range tests {
		t.Run(name, func(t *testing.T) {
			_, _, err := simulator.ParseInstallerConfig([]byte(text))
			require.ErrorIs(t, err, fault.Invalid)
		})
	}
	cfg, _, err := simulator.ParseInstallerConfig([]byte(manualInstall + "      fleetStatus:\n        periodicStatusPublishIntervalSeconds: 30\n"))
	require.NoError(t, err)
	assert.Equal(t, 30*time.Second, cfg.StatusInterval)
}

func TestARootWithoutConfigurationIsNamed(t *testing.T) {
	_, err := simulator.FromRoot(t.TempDir())
	require.ErrorIs(t, err, fault.NotFound)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "installerConfig.yml"), []byte(manualInstall), 0o600))
	_, err = simulator.FromIdentity(dir, "")
	require.ErrorContains(t, err, "certificate")
}

func FuzzParseInstallerConfig(f *testing.F) {
	f.Add([]byte(manualInstall))
	f.Add([]byte("services: {aws.greengrass.Nucleus: {configuration: {mqtt: {port: [1]}}}}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		cfg, _, err := simulator.ParseInstallerConfig(b)
		if err != nil {
			require.NotEmpty(t, fault.KindOf(err))
			return
		}
		require.NotEmpty(t, cfg.Thing)
		require.Contains(t, cfg.MQTT, ":")
	})
}
