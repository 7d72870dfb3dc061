package provisioning

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/pki"
)

// The parameters that options of the CDF section fill.
const (
	paramCertificate = "CertificatePem"   // createDeviceCertificate
	paramCA          = "CaCertificatePem" // createDeviceCertificate
	paramID          = "CertificateId"    // the others
	paramARN         = "CertificateArn"   // the others
)

// unknownID stands for the id of a certificate that is not made yet.
const unknownID = "0000000000000000000000000000000000000000000000000000000000000000"

// maxAttribute is the longest value of a thing attribute (iot-api §15).
const maxAttribute = 800

// Source says where the certificate of a plan comes from.
type Source string

// The sources.
const (
	SourceNone     Source = "None"     // the template has no certificate
	SourceCreate   Source = "Create"   // createDeviceCertificate: the server makes the key and signs
	SourceAWS      Source = "AWS"      // createDeviceAWSCertificate: the same, always by the cloud's own CA
	SourceExternal Source = "External" // registerDeviceCertificateWithoutCA: comes with the request
	SourcePrivate  Source = "Private"  // acmpca: from a private CA
	SourceCSR      Source = "CSR"      // sign Plan.Certificate.CSR
	SourceDeferred Source = "Deferred" // a CSR comes later, at enrolment: create without certificate
	SourcePEM      Source = "PEM"      // register Plan.Certificate.PEM
	SourceID       Source = "ID"       // Plan.Certificate.ID is registered already
)

// Mode says how a certificate of a private CA is registered.
type Mode string

// The modes of CDF.acmpca.
const (
	WithCA    Mode = "REGISTER_WITH_CA"
	WithoutCA Mode = "REGISTER_WITHOUT_CA"
)

// Plan is what one device gets.
type Plan struct {
	ThingName  string
	ThingType  string // empty: none
	Attributes map[string]string
	Groups     []string // static thing groups, without repeats
	Overrides  ThingOverrides

	Certificate Certificate

	// Policies are those of the Resources section, AdditionalPolicies those of
	// the CDF section that are not among them; both in the template's order, to be
	// attached to the certificate.
	Policies           []PolicyRef
	AdditionalPolicies []PolicyRef
	// ClientIDMustMatchThingName asks for ClientIDPolicy on the certificate too.
	ClientIDMustMatchThingName bool
}

// Certificate is the certificate of a plan.
type Certificate struct {
	Source       Source
	CSR          string           // PEM, for SourceCSR
	Parameter    string           // for SourceDeferred: the one that the CSR would have come in
	Mode         Mode             // for SourcePrivate
	PEM          string           // for SourcePEM
	CAPEM        string           // for SourcePEM, the issuer; may be empty
	ID           string           // for SourceID
	Status       Status           // to give it
	Override     Override         // of the status, if it exists already
	KeyAlgorithm pki.KeyAlgorithm // of the key that the server makes, if it does
}

// PolicyRef names a policy.
type PolicyRef struct {
	Name     string
	Document string // JSON; create the policy with it if it does not exist. Empty: it must exist
	Logical  string // its name in the Resources section; empty for those of the CDF section
}

// Bind fills in the parameters of one device. Values for parameters that the
// template does not declare are dropped (cdf-services Q-03). Parameters that an
// option of the CDF section fills have a stand-in. Errors are of kind Invalid,
// naming the parameter (parameters.Site) or the place in the template.
func Bind(t *Template, parameters map[string]string) (*Plan, error) {
	return bind(t, parameters, map[string]string{paramID: unknownID, paramARN: unknownID})
}

// bind is Bind with what the option fills in.
func bind(t *Template, parameters, filled map[string]string) (*Plan, error) {
	b := binder{t: t, given: parameters}
	if t.cdf.fillsID() {
		b.filled = filled
	}
	for name, v := range parameters {
		if t.Declares(name) && tooLong(v) {
			return nil, fault.Field("parameters."+name, "has more than %d characters", MaxParameter)
		}
	}
	p := &Plan{Overrides: t.thing.overrides, ClientIDMustMatchThingName: t.cdf.clientIDMustMatch}
	for _, step := range []func(*Plan) error{b.thing, b.certificate, b.policies} {
		if err := step(p); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func tooLong(s string) bool { return utf8.RuneCountInString(s) > MaxParameter }

type binder struct {
	t      *Template
	given  map[string]string
	filled map[string]string // wins over given, as in the original
}

// value returns the text, and false if it refers to a parameter without value.
func (b binder) value(t text) (string, bool) {
	if t.ref == "" {
		return t.literal, true
	}
	if v, ok := b.filled[t.ref]; ok {
		return v, true
	}
	if v, ok := b.given[t.ref]; ok {
		return v, true
	}
	par := b.t.parameters[t.ref]
	return par.fallback, par.has
}

// need is value for what cannot be left open.
func (b binder) need(t text) (string, error) {
	v, ok := b.value(t)
	if !ok {
		return "", fault.Field("parameters."+t.ref, "has no value and no default, and %s refers to it", t.path)
	}
	return v, nil
}

// checked is need with a check of the value; a complaint names its place.
func (b binder) checked(t text, check func(string) error) (string, error) {
	v, err := b.need(t)
	if err != nil {
		return "", err
	}
	if err := check(v); err != nil {
		return "", fault.Field(t.path, "%s", err)
	}
	return v, nil
}

func (b binder) thing(p *Plan) (err error) {
	t := b.t.thing
	if p.ThingName, err = b.checked(t.name, names.CheckThing); err != nil {
		return err
	}
	if t.typeName.set() {
		if p.ThingType, err = b.checked(t.typeName, checkThingType); err != nil {
			return err
		}
	}
	for _, a := range t.attributes {
		v, err := b.checked(a.value, checkAttribute)
		if err != nil {
			return err
		}
		if p.Attributes == nil {
			p.Attributes = map[string]string{}
		}
		p.Attributes[a.name] = v
	}
	for _, g := range t.groups {
		v, err := b.checked(g, names.CheckThingGroup)
		if err != nil {
			return err
		}
		if !slices.Contains(p.Groups, v) {
			p.Groups = append(p.Groups, v)
		}
	}
	return nil
}

func checkThingType(s string) error {
	if names.CheckThing(s) != nil {
		return fmt.Errorf("thing type name %.160q is not valid: want 1 to 128 characters of a-z A-Z 0-9 : _ -", s)
	}
	return nil
}

func checkAttribute(s string) error {
	if utf8.RuneCountInString(s) > maxAttribute {
		return fmt.Errorf("an attribute has at most %d characters", maxAttribute)
	}
	return nil
}

func (b binder) certificate(p *Plan) (err error) {
	c := b.t.cert
	if c == nil {
		p.Certificate.Source = SourceNone
		return nil
	}
	out := &p.Certificate
	out.Status, out.Override = Active, c.override
	if c.status.set() {
		s, err := b.need(c.status)
		if err != nil {
			return err
		}
		if out.Status, err = statusOf(c.status.path, s); err != nil {
			return err
		}
	}
	if out.Source = b.t.cdf.source; out.Source != "" {
		out.Mode, out.KeyAlgorithm = b.t.cdf.mode, b.t.cdf.key()
		return b.notGiven(out.Source)
	}
	switch {
	case c.csr.set():
		out.Source, out.Parameter = SourceDeferred, c.csr.ref
		if csr, _ := b.value(c.csr); csr != "" {
			out.Source, out.CSR, out.Parameter = SourceCSR, csr, ""
		}
	case c.id.set():
		out.Source = SourceID
		out.ID, err = b.checked(c.id, checkID)
	default:
		out.Source = SourcePEM
		if out.PEM, err = b.checked(c.pem, checkPEM); err == nil && c.ca.set() {
			out.CAPEM, _ = b.value(c.ca) // may be left open: the certificate may be registered already
		}
	}
	return err
}

// notGiven refuses values for what createDeviceCertificate fills.
func (b binder) notGiven(s Source) error {
	if s != SourceCreate {
		return nil
	}
	for _, name := range []string{paramCertificate, paramCA} {
		if b.given[name] != "" {
			return fault.Field("parameters."+name, "must not be given: CDF.createDeviceCertificate fills it")
		}
	}
	return nil
}

// checkID accepts a certificate id: 64 hexadecimal digits.
func checkID(s string) error {
	if raw, err := hex.DecodeString(s); err != nil || len(raw) != sha256.Size {
		return fmt.Errorf("%.80q is not a certificate id: want 64 hexadecimal digits", s)
	}
	return nil
}

func checkPEM(s string) error {
	_, err := pki.ParseCerts([]byte(s))
	return err
}

func (b binder) policies(p *Plan) error {
	at := map[string]string{} // name → document
	for _, pol := range b.t.policies {
		ref, err := b.policy(pol)
		if err != nil {
			return err
		}
		if doc, had := at[ref.Name]; !had {
			p.Policies = append(p.Policies, ref)
		} else if doc != ref.Document {
			return fault.Field("Resources."+pol.logical, "policy %q stands twice with different documents", ref.Name)
		}
		at[ref.Name] = ref.Document
	}
	for _, pol := range b.t.cdf.additional {
		ref, err := b.policy(pol)
		if err != nil {
			return err
		}
		if pol.document.set() {
			// A name of its own for each content, so that repeats find the policy.
			ref.Name += "_" + hashOf(ref.Document)[:12]
			if err := names.CheckPolicy(ref.Name); err != nil {
				return fault.Field(pol.name.path, "%s", err)
			}
		}
		if _, had := at[ref.Name]; !had {
			p.AdditionalPolicies = append(p.AdditionalPolicies, ref)
		}
		at[ref.Name] = ref.Document
	}
	return nil
}

func (b binder) policy(pol policy) (ref PolicyRef, err error) {
	ref.Logical = pol.logical
	if pol.document.set() {
		if ref.Document, err = b.checked(pol.document, checkDocument); err != nil {
			return ref, err
		}
	}
	if !pol.name.set() {
		ref.Name = hashOf(ref.Document)
		return ref, nil
	}
	ref.Name, err = b.checked(pol.name, names.CheckPolicy)
	return ref, err
}

func checkDocument(s string) error {
	var doc map[string]json.RawMessage
	if err := json.Unmarshal([]byte(s), &doc); err != nil || doc["Statement"] == nil {
		return fmt.Errorf("a policy document is JSON with Version and Statement")
	}
	return nil
}

func hashOf(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// ClientIDPolicy is the policy of CDF.clientIdMustMatchThingName for the plan's
// thing (cdf-services §4.4): connect only as the thing, only with a certificate
// attached to it.
func (p *Plan) ClientIDPolicy(region, account string) PolicyRef {
	doc, _ := json.Marshal(map[string]any{ // strings and maps only: cannot fail
		"Version": "2012-10-17",
		"Statement": []any{map[string]any{
			"Effect": "Allow", "Action": "iot:Connect",
			"Resource":  fmt.Sprintf("arn:aws:iot:%s:%s:client/%s", region, account, p.ThingName),
			"Condition": map[string]any{"Bool": map[string]any{"iot:Connection.Thing.IsAttached": []string{"true"}}},
		}},
	})
	return PolicyRef{Name: "clientIdEnforcementPolicy_" + p.ThingName, Document: string(doc)}
}
