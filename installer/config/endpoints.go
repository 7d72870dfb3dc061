package config

import (
	"net"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// Names of the nucleus components, which are keys of a document's services.
const (
	ServiceClassic = "aws.greengrass.Nucleus"
	ServiceLite    = "aws.greengrass.NucleusLite"
)

// Endpoints is what a nucleus connects to, each as host:port
// (nucleus-contract §1.1, §1.2).
type Endpoints struct {
	Service     string // ServiceClassic or ServiceLite
	Data        string // MQTT
	Credentials string // HTTPS
	DataPlane   string // HTTPS; empty: AWS's own, which the region gives
	RoleAlias   string
	Proxied     bool // HTTPS goes through a proxy of the nucleus's own
}

// anyText is a scalar as it is written, be it text or number.
type anyText string

// UnmarshalYAML takes any scalar.
func (t *anyText) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind != yaml.ScalarNode {
		return fault.New(fault.Invalid, "line %d is no plain value", n.Line)
	}
	if n.Tag != "!!null" {
		*t = anyText(n.Value)
	}
	return nil
}

type nucleusService struct {
	Configuration struct {
		RoleAlias         anyText `yaml:"iotRoleAlias"`
		DataEndpoint      anyText `yaml:"iotDataEndpoint"`
		CredEndpoint      anyText `yaml:"iotCredEndpoint"`
		DataPlaneEndpoint anyText `yaml:"greengrassDataPlaneEndpoint"`
		DataPlanePort     anyText `yaml:"greengrassDataPlanePort"`
		MQTT              struct {
			Port anyText `yaml:"port"`
		} `yaml:"mqtt"`
		NetworkProxy yaml.Node `yaml:"networkProxy"`
	} `yaml:"configuration"`
}

// ReadEndpoints returns where the nucleus of an installer configuration
// connects to. Errors are of kind fault.Invalid and name the member.
func ReadEndpoints(doc []byte) (Endpoints, error) {
	if len(doc) > MaxDocument {
		return Endpoints{}, fault.New(fault.TooLarge, "the document has %d bytes, at most %d are read", len(doc), MaxDocument)
	}
	var in struct {
		Services map[string]yaml.Node `yaml:"services"`
	}
	if err := yaml.Unmarshal(doc, &in); err != nil {
		return Endpoints{}, fault.New(fault.Invalid, "the document is not YAML of the known form: %v", err)
	}
	out := Endpoints{Service: ServiceClassic}
	node, ok := in.Services[ServiceClassic]
	if !ok {
		out.Service = ServiceLite
		if node, ok = in.Services[ServiceLite]; !ok {
			return Endpoints{}, fault.Field("services", "has neither %s nor %s", ServiceClassic, ServiceLite)
		}
	}
	var s nucleusService
	if err := node.Decode(&s); err != nil {
		return Endpoints{}, fault.Field("services."+out.Service, "%v", err)
	}
	return out.fill(s)
}

// fill joins hosts and ports as the runtimes do.
func (e Endpoints) fill(s nucleusService) (Endpoints, error) {
	c := s.Configuration
	e.RoleAlias = string(c.RoleAlias)
	var own struct {
		Proxy struct {
			URL anyText `yaml:"url"`
		} `yaml:"proxy"`
	}
	e.Proxied = c.NetworkProxy.Decode(&own) == nil && own.Proxy.URL != ""
	planeHost := strings.TrimPrefix(string(c.DataPlaneEndpoint), "https://")
	if e.Service == ServiceLite || planeHost == "iotdata" {
		planeHost = string(c.DataEndpoint)
	}
	mqttPort := string(c.MQTT.Port)
	if e.Service == ServiceLite {
		mqttPort = "" // hard-coded in lite
	}
	for _, f := range []struct {
		name, host, port, dflt string
		at                     *string
	}{
		{"iotDataEndpoint", string(c.DataEndpoint), mqttPort, "8883", &e.Data},
		{"iotCredEndpoint", string(c.CredEndpoint), "", "443", &e.Credentials},
		{"greengrassDataPlaneEndpoint", planeHost, string(c.DataPlanePort), "8443", &e.DataPlane},
	} {
		if f.host == "" {
			continue
		}
		address, err := hostPort(f.host, f.port, f.dflt)
		if err != nil {
			return Endpoints{}, fault.Field("services."+e.Service+".configuration."+f.name, "%s", fault.Message(err))
		}
		*f.at = address
	}
	return e, nil
}

// hostPort joins host and port; a port in host wins.
func hostPort(host, port, dflt string) (string, error) {
	if h, p, err := net.SplitHostPort(host); err == nil {
		host, port = h, p
	}
	if port == "" {
		port = dflt
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", fault.New(fault.Invalid, "%q is no port", port)
	}
	host = strings.Trim(host, "[]")
	if host == "" || strings.ContainsAny(host, "/ \t\n@") {
		return "", fault.New(fault.Invalid, "%q is no host", host)
	}
	return net.JoinHostPort(host, port), nil
}
