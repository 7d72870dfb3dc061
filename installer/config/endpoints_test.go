package config_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/installer/config"
	"github.com/ggfleet/ggfleet/shared/fault"
)

func TestWhatANucleusConnectsTo(t *testing.T) {
	for name, c := range map[string]struct {
		doc  string
		want config.Endpoints
	}{
		"classic with the data plane on the broker's host": {
			"services: {aws.greengrass.Nucleus: {configuration: {iotDataEndpoint: a.example, iotCredEndpoint: 'a.example:8444', iotRoleAlias: r, greengrassDataPlaneEndpoint: iotdata, mqtt: {port: 443}}}}",
			config.Endpoints{Service: config.ServiceClassic, Data: "a.example:443", Credentials: "a.example:8444", DataPlane: "a.example:8443", RoleAlias: "r"},
		},
		"classic on AWS": {
			"services: {aws.greengrass.Nucleus: {configuration: {iotDataEndpoint: a.example, iotCredEndpoint: c.example}}}",
			config.Endpoints{Service: config.ServiceClassic, Data: "a.example:8883", Credentials: "c.example:443"},
		},
		"classic with an address for the data plane": {
			"services: {aws.greengrass.Nucleus: {configuration: {iotDataEndpoint: a, iotCredEndpoint: c, greengrassDataPlaneEndpoint: 'https://[::1]:9', greengrassDataPlanePort: 7}}}",
			config.Endpoints{Service: config.ServiceClassic, Data: "a:8883", Credentials: "c:443", DataPlane: "[::1]:9"},
		},
		"lite, whose MQTT port cannot be changed": {
			"services: {aws.greengrass.NucleusLite: {configuration: {iotDataEndpoint: a, iotCredEndpoint: c, greengrassDataPlanePort: '8444', mqtt: {port: 9}}}}",
			config.Endpoints{Service: config.ServiceLite, Data: "a:8883", Credentials: "c:443", DataPlane: "a:8444"},
		},
		"one without endpoints": {"services: {aws.greengrass.NucleusLite: {}}", config.Endpoints{Service: config.ServiceLite}},
	} {
		got, err := config.ReadEndpoints([]byte(c.doc))
		require.NoError(t, err, name)
		assert.Equal(t, c.want, got, name)
	}
	for doc, says := range map[string]string{
		"": "services", "services: 1": "YAML", "services: {aws.greengrass.Nucleus: {configuration: {iotDataEndpoint: [a]}}}": "line 1",
		"services: {aws.greengrass.Nucleus: {configuration: {iotDataEndpoint: 'https://a'}}}":        "iotDataEndpoint",
		"services: {aws.greengrass.Nucleus: {configuration: {iotCredEndpoint: 'a:99999'}}}":          "99999",
		"services: {aws.greengrass.Nucleus: {configuration: {iotDataEndpoint: a, mqtt: {port: x}}}}": `"x" is no port`,
		strings.Repeat("#", config.MaxDocument+1):                                                    "at most",
	} {
		_, err := config.ReadEndpoints([]byte(doc))
		require.Error(t, err, doc)
		assert.ErrorContains(t, err, says)
	}
	_, err := config.ReadEndpoints([]byte("services: {}"))
	require.ErrorIs(t, err, fault.Invalid)
}

func FuzzReadEndpoints(f *testing.F) {
	f.Add([]byte("services: {aws.greengrass.Nucleus: {configuration: {iotDataEndpoint: a, iotCredEndpoint: c, mqtt: {port: 1}}}}"))
	f.Fuzz(func(t *testing.T, doc []byte) {
		e, err := config.ReadEndpoints(doc)
		if err == nil {
			assert.NotEmpty(t, e.Service)
		}
	})
}
