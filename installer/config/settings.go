package config

import (
	"encoding/json"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// Settings are the parts of the documents that are the same for every core of a
// control plane (cdf-services §5.2, §5.3). Empty paths get the defaults of the
// nucleus: below /greengrass/v2 for classic, below /var/lib/greengrass for lite.
type Settings struct {
	RootPath            string
	CertificateFilePath string // default ROOT/cert.pem
	PrivateKeyPath      string // default ROOT/private.key
	RootCAPath          string // default ROOT/AmazonRootCA1.pem
	ClaimDir            string // default ROOT/claim-certs; holds claim.pem.crt and claim.private.pem.key

	AWSRegion    string // required
	RoleAlias    string // required
	DataEndpoint string // required: host of the MQTT broker, no scheme, no port
	CredEndpoint string // required: host[:port] of the credentials endpoint

	// DataPlaneEndpoint is written after the other endpoints when set. The word
	// "iotdata" makes classic use DataEndpoint's host for its data plane, where
	// it would otherwise call AWS (nucleus-contract §1.1). Lite always does, and
	// has no such setting.
	DataPlaneEndpoint string

	MQTTPort      int // 0: left out; lite connects to 8883 whatever is said
	DataPlanePort int // 0: left out for classic; lite needs one and gets 8443

	// Overlay is a JSON merge patch (RFC 7396) of the document: members of its
	// objects are added or take the place of what was there, null removes. An
	// object of the document is replaced by an object or null only. At most 64
	// KiB.
	Overlay json.RawMessage
}

// withDefaults returns s complete, or an error that names the field. root is
// the default of RootPath.
func (s Settings) withDefaults(root string) (Settings, error) {
	if s.RootPath == "" {
		s.RootPath = root
	}
	fields := []struct {
		name  string
		value *string
		dflt  string
		opt   bool
	}{
		{"rootpath", &s.RootPath, "", false},
		{"certificateFilePath", &s.CertificateFilePath, s.RootPath + "/cert.pem", false},
		{"privateKeyPath", &s.PrivateKeyPath, s.RootPath + "/private.key", false},
		{"rootCaPath", &s.RootCAPath, s.RootPath + "/AmazonRootCA1.pem", false},
		{"claimCertificatePath", &s.ClaimDir, s.RootPath + "/claim-certs", false},
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
		if err := checkUTF8(f.name, *f.value); err != nil {
			return s, err
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
