package client

import (
	"encoding/json"
	"net"
	"strconv"
	"strings"
	"unicode"

	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// ConfigVersion is the version of Config. It only grows, and members are only
// added.
const ConfigVersion = 1

// Config is the content of client.json.
type Config struct {
	Version             int    `json:"version"`
	ThingName           string `json:"thingName"`
	CertificateFilePath string `json:"certificateFilePath"`
	PrivateKeyPath      string `json:"privateKeyPath"`
	Cloud               Cloud  `json:"cloud"`
	Cores               []Core `json:"cores"` // that the device may connect to; the first one is its own
}

// Cloud is the control plane, as a device of its own may reach it.
type Cloud struct {
	MQTTAddress string `json:"mqttAddress"` // host:port
	HTTPSURL    string `json:"httpsUrl"`
	CAFilePath  string `json:"caFilePath"`
}

// Core is a core device that the client device may connect to.
type Core struct {
	ThingName  string     `json:"thingName"`
	ThingARN   string     `json:"thingArn"`
	CAFilePath string     `json:"caFilePath"`
	Endpoints  []Endpoint `json:"endpoints"` // in the order to be tried
}

// Endpoint is one address of a core's broker.
type Endpoint struct {
	Host     string `json:"host"`
	Port     int    `json:"port"`
	Metadata string `json:"metadata,omitempty"`
}

func (c Config) encode() ([]byte, error) {
	b, err := json.MarshalIndent(c, "", "  ")
	return append(b, '\n'), err
}

// Bounds of what a discovery may hold.
const (
	maxCores     = 100
	maxEndpoints = 32
	maxCAs       = 16
	maxText      = 256
)

// found is a core with the CAs to trust there.
type found struct {
	core Core
	cas  string
}

// read turns an answer of the control plane into cores. It is outside input:
// names become files. Errors are of kind fault.Invalid.
func read(d protocol.Discovery) ([]found, error) {
	var out []found
	for _, g := range d.Groups {
		if len(g.CAs) > maxCAs {
			return nil, fault.Field("GGGroups", "group %q has %d CAs, at most %d are read", fault.Brief(g.ID), len(g.CAs), maxCAs)
		}
		for _, c := range g.Cores {
			_, name, ok := strings.Cut(c.ThingARN, ":thing/")
			if !ok || names.CheckThing(name) != nil || name == "." || name == ".." {
				return nil, fault.Field("thingArn", "%q is not the ARN of a thing", fault.Brief(c.ThingARN))
			}
			core := Core{ThingName: name, ThingARN: c.ThingARN, Endpoints: []Endpoint{}}
			if len(c.Connectivity) > maxEndpoints {
				return nil, fault.Field("Connectivity", "core %s has %d addresses, at most %d are read", name, len(c.Connectivity), maxEndpoints)
			}
			for _, e := range c.Connectivity {
				if err := checkEndpoint(e); err != nil {
					return nil, err
				}
				core.Endpoints = append(core.Endpoints, Endpoint{Host: e.Host, Port: int(e.Port), Metadata: e.Metadata})
			}
			if out = append(out, found{core, strings.Join(g.CAs, "")}); len(out) > maxCores {
				return nil, fault.Field("GGGroups", "has more than %d cores", maxCores)
			}
		}
	}
	return out, nil
}

func checkEndpoint(e protocol.DiscoveredEndpoint) error {
	if e.Port < 0 || e.Port > 65535 {
		return fault.Field("PortNumber", "%s is no port", strconv.Itoa(int(e.Port)))
	}
	host := strings.Trim(e.Host, "[]")
	if host == "" || len(host) > maxText || net.ParseIP(host) == nil && strings.ContainsFunc(host, notOfName) {
		return fault.Field("HostAddress", "%q is no host", fault.Brief(e.Host))
	}
	if len(e.Metadata) > maxText || strings.ContainsFunc(e.Metadata, unicode.IsControl) {
		return fault.Field("Metadata", "is longer than %d bytes or holds control characters", maxText)
	}
	return nil
}

// notOfName reports whether r cannot be part of a host name.
func notOfName(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '.' && r != '_'
}
