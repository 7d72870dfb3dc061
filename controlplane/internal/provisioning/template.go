package provisioning

import (
	_ "embed"

	"github.com/ggfleet/ggfleet/shared/pki"
)

// DefaultTemplate is the document of the template [DefaultID], which exists from
// the first start on: a thing, a certificate made by the server, two policies.
//
//go:embed default.json
var DefaultTemplate []byte

// DeviceKeyTemplate is the document of the template [DeviceKeyID], which exists
// from the first start on too: the same, but the key is made on the device and
// never leaves it. Without parameter CSR the core is completed by the CSR of its
// agent at enrolment.
//
//go:embed device-key.json
var DeviceKeyTemplate []byte

// DeviceKeyID is the id of the template for keys made on the device.
const DeviceKeyID = "device-key"

// ClientKeyTemplate is the document of the template [ClientKeyID], which exists
// from the first start on as well: like [DeviceKeyTemplate] for client devices,
// with a policy that lets them find their core and use topics of their own.
//
//go:embed client-key.json
var ClientKeyTemplate []byte

// ClientKeyID is the id of the template for client devices whose key is made on
// the device.
const ClientKeyID = "client-key"

// DefaultID is the id of the template that exists from the first start on.
const DefaultID = "default"

// Limits (cdf-services §4.3).
const (
	MaxTemplate  = 10240 // characters of a template document
	MaxParameter = 4096  // characters of a parameter's value
)

// Override says what happens to a part of a resource that exists already.
type Override string

// The overrides.
const (
	DoNothing Override = "DO_NOTHING" // leave it as it is; the default
	Replace   Override = "REPLACE"    // put the template's value in its place
	Fail      Override = "FAIL"       // the provisioning fails
	Merge     Override = "MERGE"      // add to it: attributes and groups only
)

// Status is the status a certificate gets.
type Status string

// The statuses.
const (
	Active            Status = "ACTIVE"
	Inactive          Status = "INACTIVE"
	PendingActivation Status = "PENDING_ACTIVATION"
)

// Template is a template that was read without error. It does not change.
type Template struct {
	parameters map[string]parameter
	thing      thing
	cert       *certificate
	policies   []policy
	cdf        options
	extended   bool // there is a CDF section
	// late: the thing or a policy refers to a parameter that is filled when the
	// certificate is made.
	late bool
}

type parameter struct {
	fallback string
	has      bool // there is a Default
}

// text is a literal, or the value of a parameter.
type text struct {
	literal string
	ref     string // not empty: the parameter's name
	path    string // where it stands; empty: it is absent
}

func (t text) set() bool { return t.path != "" }

type thing struct {
	logical    string
	name       text
	typeName   text
	attributes []attribute
	groups     []text
	overrides  ThingOverrides
}

type attribute struct {
	name  string
	value text
}

// ThingOverrides are the override settings of the thing.
type ThingOverrides struct {
	Type       Override
	Attributes Override
	Groups     Override
}

type certificate struct {
	logical  string
	csr      text
	id       text
	pem, ca  text
	status   text
	override Override
}

type policy struct {
	logical  string
	name     text
	document text
}

// options is the CDF section.
type options struct {
	source            Source // of the first option that makes a certificate; empty: none
	option            string // its path
	mode              Mode   // for SourcePrivate
	clientIDMustMatch bool
	additional        []policy
	keyAlgorithm      pki.KeyAlgorithm // empty: as the option says
}

// fillsID reports whether the certificate's id is not known before it is made.
func (o options) fillsID() bool {
	return o.source == SourceAWS || o.source == SourceExternal || o.source == SourcePrivate
}

// key is the algorithm of keys that the server makes.
func (o options) key() pki.KeyAlgorithm {
	switch {
	case o.keyAlgorithm != "":
		return o.keyAlgorithm
	case o.source == SourceAWS:
		return pki.RSA2048 // as AWS IoT makes them
	}
	return pki.P256
}

// ThingLogicalName is the name of the thing resource in the template, by which
// answers name its ARN.
func (t *Template) ThingLogicalName() string { return t.thing.logical }

// CertificateLogicalName is the name of the certificate resource, or "" if the
// template has none.
func (t *Template) CertificateLogicalName() string {
	if t.cert == nil {
		return ""
	}
	return t.cert.logical
}

// Declares reports whether the template has the parameter.
func (t *Template) Declares(parameter string) bool {
	_, ok := t.parameters[parameter]
	return ok
}
