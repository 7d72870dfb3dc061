package config_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/ggfleet/ggfleet/installer/config"
	"github.com/ggfleet/ggfleet/shared/fault"
)

const golden = `---
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
      iotRoleAlias: greengrass2-role-alias-prod
      iotDataEndpoint: <id>-ats.iot.eu-west-1.amazonaws.com
      iotCredEndpoint: <id>.credentials.iot.eu-west-1.amazonaws.com
`

const goldenPorts = `      mqtt:
        port: 8883
      greengrassDataPlanePort: 8443
`

func settings() config.Settings {
	return config.Settings{
		AWSRegion: "eu-west-1", RoleAlias: "greengrass2-role-alias-prod",
		DataEndpoint: "<id>-ats.iot.eu-west-1.amazonaws.com", CredEndpoint: "<id>.credentials.iot.eu-west-1.amazonaws.com",
	}
}

func generate(t *testing.T, s config.Settings, in config.Input) string {
	t.Helper()
	g, err := config.NewManual(s)
	require.NoError(t, err)
	b, err := g.Generate(t.Context(), in)
	require.NoError(t, err)
	return string(b)
}

func TestManualInstallByteForByte(t *testing.T) {
	ports := settings()
	ports.MQTTPort, ports.DataPlanePort = 8883, 8443
	classic := ports
	classic.DataPlaneEndpoint = "iotdata"
	in := config.Input{Version: "2.4.0", CoreDeviceName: "gw-0001"}
	tests := map[string]struct {
		s    config.Settings
		want string
	}{
		"no ports configured":                    {settings(), golden},
		"ports are numbers":                      {ports, golden + goldenPorts},
		"data plane endpoint for classic":        {classic, golden + "      greengrassDataPlaneEndpoint: iotdata\n" + goldenPorts},
		"only the port of the data plane is set": {func() config.Settings { s := settings(); s.DataPlanePort = 443; return s }(), golden + "      greengrassDataPlanePort: 443\n"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) { assert.Equal(t, tc.want, generate(t, tc.s, in)) })
	}
}

func TestTextThatYAMLWouldReadAsSomethingElseIsQuoted(t *testing.T) {
	tests := map[string]string{
		"2.4.0": "2.4.0", "2.10": `"2.10"`, "2": `"2"`, "1e3": `"1e3"`, "yes": `"yes"`, "NULL": `"NULL"`, "0x1f": `"0x1f"`,
		"12:30:45": `"12:30:45"`, "2024-05-01": `"2024-05-01"`, "1_000": `"1_000"`, "a: b": `"a: b"`, "a #b": `"a #b"`, "- x": `"- x"`,
		"x\nservices: {}": `"x\x0Aservices: {}"`, `say "hi"`: `say "hi"`, "a:b": "a:b", "2.4.0-rc.1": "2.4.0-rc.1", "{a}": `"{a}"`, "\u2028": `"\u2028"`,
	}
	for value, want := range tests {
		t.Run(value, func(t *testing.T) {
			doc := generate(t, settings(), config.Input{Version: value, CoreDeviceName: "gw"})
			assert.Contains(t, doc, "    version: "+want+"\n")
		})
	}
}

func TestMissingInputNamesTheField(t *testing.T) {
	g, err := config.NewManual(settings())
	require.NoError(t, err)
	_, err = g.Generate(t.Context(), config.Input{CoreDeviceName: "gw"})
	require.ErrorIs(t, err, fault.Invalid)
	assert.Equal(t, "version", fault.FieldOf(err))
	_, err = g.Generate(t.Context(), config.Input{Version: "2.4.0"})
	assert.Equal(t, "coreDeviceName", fault.FieldOf(err))
	_, err = config.NewManual(config.Settings{})
	assert.Equal(t, "awsRegion", fault.FieldOf(err))
	bad := settings()
	bad.MQTTPort = 70000
	_, err = config.NewManual(bad)
	assert.Equal(t, "mqtt.port", fault.FieldOf(err))
}

func TestAliasesAreCaseSensitive(t *testing.T) {
	g, err := config.NewManual(settings())
	require.NoError(t, err)
	r := config.NewRegistry(map[string]config.Generator{config.ManualInstall: g})
	assert.Equal(t, []string{"MANUAL_INSTALL"}, r.Aliases())
	_, err = r.For("MANUAL_INSTALL")
	require.NoError(t, err)
	_, err = r.For("manual_install")
	require.ErrorIs(t, err, fault.Invalid)
	assert.ErrorContains(t, err, "MANUAL_INSTALL")
}

func TestRewriteChangesNothingButTheSystemPaths(t *testing.T) {
	tests := map[string]struct{ doc, want string }{
		"a generated document": {golden, strings.ReplaceAll(golden, "/greengrass/v2", "/srv/gg agent")},
		"comments, order and quotes stay": {
			"# mine\nservices: {a: {rootpath: /greengrass/v2}}\nsystem: # who\n  thingName: \"gw\"\n  rootpath: '/greengrass/v2' # here\n  certificateFilePath: \"/greengrass/v2/sub/c.pem\"\n",
			"# mine\nservices: {a: {rootpath: /greengrass/v2}}\nsystem: # who\n  thingName: \"gw\"\n  rootpath: /srv/gg agent # here\n  certificateFilePath: /srv/gg agent/sub/c.pem\n",
		},
		"a path outside the root keeps its name": {
			"system:\n  privateKeyPath: /etc/keys/../device.key\n  rootpath: /greengrass/v2\n",
			"system:\n  privateKeyPath: /srv/gg agent/device.key\n  rootpath: /srv/gg agent\n",
		},
		"flow style, CRLF and other scripts": {
			"é: ü\r\nsystem: {thingName: gw, rootpath: /a, rootCaPath: /a/ca.pem}\r\n",
			"é: ü\r\nsystem: {thingName: gw, rootpath: /srv/gg agent, rootCaPath: /srv/gg agent/ca.pem}\r\n",
		},
		"lite": {
			"system: {thingName: gw, rootPath: /var/lib/greengrass, rootCaPath: /var/lib/greengrass/ca.pem}\n",
			"system: {thingName: gw, rootPath: /srv/gg agent, rootCaPath: /srv/gg agent/ca.pem}\n",
		},
		"no system block": {"services: {}\n", "services: {}\n"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := config.RewriteSystemPaths([]byte(tc.doc), "/srv/gg agent")
			require.NoError(t, err)
			assert.Equal(t, tc.want, string(got))
		})
	}
}

func TestRewriteRefusesWhatItCannotChangeInPlace(t *testing.T) {
	tests := map[string]string{
		"not a mapping":           "- a\n",
		"twice the same key":      "system: {rootpath: /a, rootpath: /b}\n",
		"a path that spans lines": "system:\n  rootpath: >\n    /a\n    /b\n",
		"an anchor":               "system:\n  rootpath: &r /a\n  rootCaPath: *r\n",
		"two documents":           "system: {}\n---\nsystem: {}\n",
		"a list as path":          "system: {rootpath: [a]}\n",
	}
	for name, doc := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := config.RewriteSystemPaths([]byte(doc), "/srv")
			require.ErrorIs(t, err, fault.Invalid)
		})
	}
	_, err := config.RewriteSystemPaths([]byte(golden), "relative")
	require.ErrorIs(t, err, fault.Invalid)
}

func TestReadSystem(t *testing.T) {
	got, err := config.ReadSystem([]byte(golden))
	require.NoError(t, err)
	assert.Equal(t, config.System{
		CertificateFilePath: "/greengrass/v2/cert.pem", PrivateKeyPath: "/greengrass/v2/private.key",
		RootCAPath: "/greengrass/v2/AmazonRootCA1.pem", RootPath: "/greengrass/v2", ThingName: "gw-0001",
	}, got)
}

func FuzzGenerateIsWhatWasAsked(f *testing.F) {
	f.Add("2.4.0", "gw-0001")
	f.Add("2.10", "yes\nservices:")
	f.Add(".inf", "\ufeff\u0085")
	f.Fuzz(func(t *testing.T, version, name string) {
		g, err := config.NewManual(settings())
		require.NoError(t, err)
		b, err := g.Generate(t.Context(), config.Input{Version: version, CoreDeviceName: name})
		if err != nil {
			require.ErrorIs(t, err, fault.Invalid)
			return
		}
		var doc struct {
			System   map[string]any            `yaml:"system"`
			Services map[string]map[string]any `yaml:"services"`
		}
		require.NoError(t, yaml.Unmarshal(b, &doc))
		require.Equal(t, name, doc.System["thingName"])
		require.Len(t, doc.System, 5)
		require.Len(t, doc.Services, 1)
		require.Equal(t, version, doc.Services["aws.greengrass.Nucleus"]["version"])
	})
}

func FuzzRewriteSystemPaths(f *testing.F) {
	f.Add([]byte(golden))
	f.Add([]byte("system: {rootpath: '/a', privateKeyPath: \"/a/k\"}"))
	f.Fuzz(func(t *testing.T, doc []byte) {
		out, err := config.RewriteSystemPaths(doc, "/srv/x")
		if err != nil {
			require.ErrorIs(t, err, fault.Invalid)
			return
		}
		s, err := config.ReadSystem(out)
		require.NoError(t, err)
		for _, p := range []string{s.CertificateFilePath, s.PrivateKeyPath, s.RootCAPath, s.RootPath} {
			require.True(t, p == "" || p == "/srv/x" || strings.HasPrefix(p, "/srv/x/"), p)
			require.NotContains(t, p, "..")
		}
		again, err := config.RewriteSystemPaths(out, "/srv/x")
		require.NoError(t, err)
		require.Equal(t, string(out), string(again))
	})
}
