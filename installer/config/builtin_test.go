package config_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/ggfleet/ggfleet/installer/config"
	"github.com/ggfleet/ggfleet/shared/fault"
)

func builtin(t *testing.T, s config.Settings, alias string) config.Generator {
	t.Helper()
	all, err := config.Builtin(s, nil)
	require.NoError(t, err)
	require.Contains(t, all, alias)
	return all[alias]
}

// selfHosted are the settings of a control plane that answers the devices itself.
func selfHosted() config.Settings {
	return config.Settings{
		AWSRegion: "us-east-1", RoleAlias: "local", DataEndpoint: "fleet.plant.example", CredEndpoint: "fleet.plant.example:8444",
		DataPlaneEndpoint: "iotdata", MQTTPort: 8883, DataPlanePort: 8444,
	}
}

// The documents that clients and devices see, byte for byte. classic-fleet.yaml
// is the document of cdf-services §5.3.
func TestDocumentsByteForByte(t *testing.T) {
	in := config.Input{Version: "2.4.0", CoreDeviceName: "gw-0001", ProvisioningTemplate: "core-template", TemplateParameters: map[string]string{"ThingName": "gw-0001"}}
	several, none := in, in
	several.TemplateParameters = map[string]string{"ThingName": "gw-0001", "Serial: number": "0017", "Ort": "Zürich"}
	none.TemplateParameters = nil
	tests := map[string]struct {
		golden, alias string
		s             config.Settings
		in            config.Input
	}{
		"W-94: classic by claim has endpoint addresses, in the plug-in's spelling and in the nucleus'": {"classic-fleet.yaml", config.FleetProvisioning, settings(), in},
		"template parameters are absent when there are none":                                           {"classic-fleet-no-parameters.yaml", config.FleetProvisioning, settings(), none},
		"W-92: ports of a self-hosted cloud are numbers":                                               {"classic-fleet-self-hosted.yaml", config.FleetProvisioning, selfHosted(), several},
		"U-13: ports are configurable":                                                                 {"classic-manual-self-hosted.yaml", config.ManualInstall, selfHosted(), in},
		"lite":                                                                                         {"lite-manual.yaml", config.ManualInstallLite, selfHosted(), in},
		"lite by claim":                                                                                {"lite-fleet.yaml", config.FleetProvisioningLite, selfHosted(), several},
		"lite by claim, no parameters":                                                                 {"lite-fleet-no-parameters.yaml", config.FleetProvisioningLite, selfHosted(), none},
		"lite without a port gets 8443":                                                                {"lite-manual-aws.yaml", config.ManualInstallLite, settings(), in},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := builtin(t, tc.s, tc.alias).Generate(t.Context(), tc.in)
			require.NoError(t, err)
			want, err := os.ReadFile(filepath.Join("testdata", tc.golden))
			require.NoError(t, err)
			assert.Equal(t, string(want), string(got))
			_, err = config.ReadSystem(got)
			require.NoError(t, err)
		})
	}
}

func TestByClaimNeedsATemplate(t *testing.T) {
	for _, alias := range []string{config.FleetProvisioning, config.FleetProvisioningLite} {
		_, err := builtin(t, settings(), alias).Generate(t.Context(), config.Input{Version: "2.4.0", CoreDeviceName: "gw"})
		require.ErrorIs(t, err, fault.Invalid)
		assert.Equal(t, "provisioningTemplate", fault.FieldOf(err))
	}
}

func TestOverlay(t *testing.T) {
	tests := map[string]struct{ overlay, core, want string }{
		"W-93: proxy, paths and platform of one core": {
			core: `{"system": {"rootpath": "/opt/gg"}, "services": {"aws.greengrass.Nucleus": {"configuration": {
				"networkProxy": {"proxy": {"url": "http://proxy:3128"}, "noProxyAddresses": "10.0.0.1,host"}, "platformOverride": {"arm": true}}}}}`,
			want: strings.Replace(golden, "  rootpath: /greengrass/v2\n", "  rootpath: /opt/gg\n", 1) +
				"      networkProxy:\n        noProxyAddresses: \"10.0.0.1,host\"\n        proxy:\n          url: http://proxy:3128\n      platformOverride:\n        arm: true\n",
		},
		"that of a core comes after that of the alias": {
			overlay: `{"services": {"aws.greengrass.Nucleus": {"configuration": {"jvmOptions": "-Xmx64m", "awsRegion": "eu-west-3"}}}}`,
			core:    `{"services": {"aws.greengrass.Nucleus": {"configuration": {"awsRegion": "eu-west-2"}}}}`,
			want:    strings.Replace(golden, "awsRegion: eu-west-1", "awsRegion: eu-west-2", 1) + "      jvmOptions: \"-Xmx64m\"\n",
		},
		"null removes, numbers stay numbers, text stays text": {
			overlay: `{"services": {"aws.greengrass.Nucleus": {"version": null, "configuration": {"mqtt": {"port": 443, "keepAliveTimeoutMs": 6e4}, "x": ["1", 1, null, {"a": "no"}], "e": {}}}}}`,
			want: strings.Replace(golden, "    version: 2.4.0\n", "", 1) +
				"      e: {}\n      mqtt:\n        keepAliveTimeoutMs: 60000\n        port: 443\n      x: [\"1\", 1, null, {a: \"no\"}]\n",
		},
		"null for what is not there is nothing": {overlay: `{"x": null, "system": {"y": null}}`, want: golden},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			s := settings()
			s.Overlay = json.RawMessage(tc.overlay)
			got, err := builtin(t, s, config.ManualInstall).Generate(t.Context(), config.Input{
				Version: "2.4.0", CoreDeviceName: "gw-0001", Overlay: json.RawMessage(tc.core),
			})
			require.NoError(t, err)
			assert.Equal(t, tc.want, string(got))
		})
	}
}

func TestOverlayThatCannotBe(t *testing.T) {
	tests := map[string]struct{ overlay, field string }{
		"a list":                         {`[]`, "overlay"},
		"no JSON":                        {`{`, "overlay"},
		"two values":                     {`{} {}`, "overlay"},
		"text where an object is":        {`{"services": {"aws.greengrass.Nucleus": "x"}}`, "overlay.services.aws.greengrass.Nucleus"},
		"too large":                      {`{"a": "` + strings.Repeat("x", 64<<10) + `"}`, "overlay"},
		"a member without a name":        {`{"system": {"": 1}}`, "overlay.system"},
		"a number that is none in YAML":  {`{"system": {"a": 1e999}}`, "overlay.system.a"},
		"nested without end":             {strings.Repeat(`{"a":`, 30) + "1" + strings.Repeat("}", 30), "overlay" + strings.Repeat(".a", 21)},
		"bytes that are no text at all ": {"{\"a\": \"\xff\"}", "overlay"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			s := settings()
			s.Overlay = json.RawMessage(tc.overlay)
			_, err := config.NewManual(s)
			require.ErrorIs(t, err, fault.Invalid)
			assert.Equal(t, tc.field, fault.FieldOf(err))
			_, err = builtin(t, settings(), config.ManualInstall).Generate(t.Context(), config.Input{Version: "2", CoreDeviceName: "gw", Overlay: s.Overlay})
			require.ErrorIs(t, err, fault.Invalid)
			assert.Equal(t, "configO"+tc.field[1:], fault.FieldOf(err))
		})
	}
}

func TestOverlaysByAlias(t *testing.T) {
	all, err := config.Builtin(settings(), map[string]json.RawMessage{config.ManualInstallLite: json.RawMessage(`{"services": {"aws.greengrass.NucleusLite": {"configuration": {"telemetry": {"enabled": false}}}}}`)})
	require.NoError(t, err)
	in := config.Input{Version: "2.4.0", CoreDeviceName: "gw-0001"}
	lite, err := all[config.ManualInstallLite].Generate(t.Context(), in)
	require.NoError(t, err)
	assert.Contains(t, string(lite), "      telemetry:\n        enabled: false\n")
	classic, err := all[config.ManualInstall].Generate(t.Context(), in)
	require.NoError(t, err)
	assert.Equal(t, golden, string(classic))

	_, err = config.Builtin(settings(), map[string]json.RawMessage{"MANUAL": json.RawMessage(`{}`)})
	require.ErrorIs(t, err, fault.Invalid)
	assert.ErrorContains(t, err, "MANUAL_INSTALL_LITE")
}

func TestW90NamesInOtherScriptsAreUTF8(t *testing.T) {
	for _, alias := range []string{config.ManualInstall, config.ManualInstallLite, config.FleetProvisioning, config.FleetProvisioningLite} {
		b, err := builtin(t, settings(), alias).Generate(t.Context(), config.Input{
			Version: "2.4.0", CoreDeviceName: "Lüfter-東京", ProvisioningTemplate: "t", TemplateParameters: map[string]string{"ThingName": "Lüfter-東京"},
		})
		require.NoError(t, err)
		assert.Contains(t, string(b), "Lüfter-東京")
	}
	_, err := builtin(t, settings(), config.ManualInstall).Generate(t.Context(), config.Input{Version: "2", CoreDeviceName: "gw", TemplateParameters: map[string]string{"a": "\xff"}})
	require.ErrorIs(t, err, fault.Invalid)
	assert.Equal(t, "templateParameters.a", fault.FieldOf(err))
}

func TestADocumentThatTheAgentCouldNotReadIsRefused(t *testing.T) {
	parameters := map[string]string{}
	for i := range 10 {
		parameters[strings.Repeat("p", i+1)] = strings.Repeat("x", 30<<10)
	}
	_, err := builtin(t, settings(), config.FleetProvisioning).Generate(t.Context(), config.Input{Version: "2", CoreDeviceName: "gw", ProvisioningTemplate: "t", TemplateParameters: parameters})
	require.ErrorIs(t, err, fault.TooLarge)
}

func FuzzOverlayIsMergedOrRefused(f *testing.F) {
	f.Add([]byte(`{"system": {"rootpath": "/x", "y": [1, "2"]}, "é": {"<<": {"a b": "c: d"}}}`), "ThingName", "gw: 1")
	f.Add([]byte(`{"a": 1e5, "b": -0.0, "c": "\u0085", "services": null}`), "<<", "~")
	f.Fuzz(func(t *testing.T, overlay []byte, name, value string) {
		g, err := config.NewFleet(settings())
		require.NoError(t, err)
		b, err := g.Generate(t.Context(), config.Input{
			Version: "2.4.0", CoreDeviceName: "gw", ProvisioningTemplate: "t", TemplateParameters: map[string]string{name: value}, Overlay: overlay,
		})
		if err != nil {
			require.Contains(t, []fault.Kind{fault.Invalid, fault.TooLarge}, fault.KindOf(err))
			return
		}
		var got map[string]any
		require.NoError(t, yaml.Unmarshal(b, &got), "%s", b)
		var patch map[string]any
		require.NoError(t, json.Unmarshal(overlay, &patch))
		for key, v := range patch {
			switch v := v.(type) {
			case nil:
				require.NotContains(t, got, key)
			case string:
				require.Equal(t, v, got[key])
			}
		}
	})
}
