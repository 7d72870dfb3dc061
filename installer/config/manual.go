package config

import (
	"bytes"
	"strconv"
	"unicode/utf8"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// Settings are the parts of the document that are the same for every core of a
// control plane (cdf-services §5.2). Empty paths get their defaults.
type Settings struct {
	CertificateFilePath string // default /greengrass/v2/cert.pem
	PrivateKeyPath      string // default /greengrass/v2/private.key
	RootCAPath          string // default /greengrass/v2/AmazonRootCA1.pem
	RootPath            string // default /greengrass/v2

	AWSRegion    string // required
	RoleAlias    string // required
	DataEndpoint string // required: host of the MQTT broker, no scheme, no port
	CredEndpoint string // required: host[:port] of the credentials endpoint

	// DataPlaneEndpoint is written after the other endpoints when set. The word
	// "iotdata" makes classic use DataEndpoint's host for its data plane, where
	// it would otherwise call AWS (nucleus-contract §1.1).
	DataPlaneEndpoint string

	MQTTPort      int // 0: left out
	DataPlanePort int // 0: left out
}

// withDefaults returns s complete, or an error that names the field.
func (s Settings) withDefaults() (Settings, error) {
	fields := []struct {
		name  string
		value *string
		dflt  string
		opt   bool
	}{
		{"certificateFilePath", &s.CertificateFilePath, "/greengrass/v2/cert.pem", false},
		{"privateKeyPath", &s.PrivateKeyPath, "/greengrass/v2/private.key", false},
		{"rootCaPath", &s.RootCAPath, "/greengrass/v2/AmazonRootCA1.pem", false},
		{"rootpath", &s.RootPath, "/greengrass/v2", false},
		{"awsRegion", &s.AWSRegion, "", false},
		{"iotRoleAlias", &s.RoleAlias, "", false},
		{"iotDataEndpoint", &s.DataEndpoint, "", false},
		{"iotCredEndpoint", &s.CredEndpoint, "", false},
		{"greengrassDataPlaneEndpoint", &s.DataPlaneEndpoint, "", true},
	}
	for _, f := range fields {
		if *f.value == "" {
			*f.value = f.dflt
		}
		if *f.value == "" && !f.opt {
			return s, fault.Field(f.name, "is missing; the nucleus does not connect without it")
		}
		if !utf8.ValidString(*f.value) {
			return s, fault.Field(f.name, "%s is not UTF-8", strconv.QuoteToASCII(*f.value))
		}
	}
	for _, p := range []struct {
		name  string
		value int
	}{{"mqtt.port", s.MQTTPort}, {"greengrassDataPlanePort", s.DataPlanePort}} {
		if p.value < 0 || p.value > 65535 {
			return s, fault.Field(p.name, "%d is not a port; want 1 to 65535, or 0 to leave it out", p.value)
		}
	}
	return s, nil
}

type manual struct{ s Settings }

// NewManual returns the generator of ManualInstall documents. It fails with an
// error that names the setting when a required one is missing.
func NewManual(s Settings) (Generator, error) {
	s, err := s.withDefaults()
	if err != nil {
		return nil, err
	}
	return manual{s}, nil
}

// Generate writes the document of cdf-services §5.2. It is written line by line
// because existing clients compare it byte by byte: order, indent and quoting
// must not depend on a YAML library.
func (m manual) Generate(in Input) ([]byte, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	line := func(indent int, key, value string) {
		for range indent {
			b.WriteString("  ")
		}
		b.WriteString(key)
		b.WriteByte(':')
		if value != "" {
			b.WriteByte(' ')
			b.WriteString(value)
		}
		b.WriteByte('\n')
	}
	b.WriteString("---\n")
	line(0, "system", "")
	line(1, "certificateFilePath", scalar(m.s.CertificateFilePath))
	line(1, "privateKeyPath", scalar(m.s.PrivateKeyPath))
	line(1, "rootCaPath", scalar(m.s.RootCAPath))
	line(1, "rootpath", scalar(m.s.RootPath))
	line(1, "thingName", scalar(in.CoreDeviceName))
	line(0, "services", "")
	line(1, "aws.greengrass.Nucleus", "")
	line(2, "componentType", "NUCLEUS")
	line(2, "version", scalar(in.Version))
	line(2, "configuration", "")
	line(3, "awsRegion", scalar(m.s.AWSRegion))
	line(3, "iotRoleAlias", scalar(m.s.RoleAlias))
	line(3, "iotDataEndpoint", scalar(m.s.DataEndpoint))
	line(3, "iotCredEndpoint", scalar(m.s.CredEndpoint))
	if m.s.DataPlaneEndpoint != "" {
		line(3, "greengrassDataPlaneEndpoint", scalar(m.s.DataPlaneEndpoint))
	}
	if m.s.MQTTPort != 0 {
		line(3, "mqtt", "")
		line(4, "port", strconv.Itoa(m.s.MQTTPort))
	}
	if m.s.DataPlanePort != 0 {
		line(3, "greengrassDataPlanePort", strconv.Itoa(m.s.DataPlanePort))
	}
	return b.Bytes(), nil
}
