package provisioning

import (
	"slices"
	"strconv"
	"strings"

	"github.com/ggfleet/ggfleet/shared/pki"
)

func index(i int) string { return "[" + strconv.Itoa(i) + "]" }

// Parse reads a template document. Errors are of kind Invalid (TooLarge over
// MaxTemplate) and name the member at fault by its path, for example
// Resources.thing.Properties.ThingName.
func Parse(b []byte) (*Template, error) {
	doc, err := document("", "the template", b)
	if err != nil {
		return nil, err
	}
	top, err := doc.members()
	if err != nil {
		return nil, err
	}
	p := parser{t: &Template{parameters: map[string]parameter{}}}
	var resources *member
	for _, m := range top {
		switch m.name {
		case "Parameters":
			err = p.parameters(m.node)
		case "Resources":
			resources = &m
		case "CDF":
			p.t.extended = true
			err = p.cdf(m.node)
		case "Mappings", "DeviceConfiguration":
			err = m.fail("belongs to fleet provisioning templates; a provisioning template has Parameters, Resources and CDF")
		default:
			err = m.fail("is not known; a provisioning template has Parameters, Resources and CDF")
		}
		if err != nil {
			return nil, err
		}
	}
	if resources == nil {
		return nil, node{path: "Resources"}.fail("is missing")
	}
	if err := p.resources(resources.node); err != nil {
		return nil, err
	}
	if err := p.checkRefs(); err != nil {
		return nil, err
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	return p.t, nil
}

// check looks at what the sections must agree on.
func (p *parser) check() error {
	t := p.t
	option := node{path: t.cdf.option}
	switch {
	case t.cdf.source == SourceCreate && (t.cert == nil || t.cert.pem.ref != paramCertificate || t.cert.ca.set() && t.cert.ca.ref != paramCA):
		return option.fail("needs a resource of type AWS::IoT::Certificate whose CertificatePem and CACertificatePem refer to the parameters %s and %s", paramCertificate, paramCA)
	case t.cdf.fillsID() && (t.cert == nil || t.cert.id.ref != paramID):
		return option.fail("needs a resource of type AWS::IoT::Certificate whose CertificateId refers to the parameter %s", paramID)
	case t.cert == nil && (len(t.policies) > 0 || len(t.cdf.additional) > 0 || t.cdf.clientIDMustMatch):
		return node{path: "Resources"}.fail("have no AWS::IoT::Certificate that the policies could be attached to")
	}
	if t.cdf.fillsID() {
		t.late = slices.ContainsFunc(p.refs, func(r text) bool {
			return (r.ref == paramID || r.ref == paramARN) && r.path != t.cert.id.path
		})
	}
	return nil
}

// parser fills in a template.
type parser struct {
	t    *Template
	refs []text // every Ref that was read
}

func (p *parser) parameters(n node) error {
	list, err := n.members()
	if err != nil {
		return err
	}
	for _, m := range list {
		var par parameter
		typed := false
		inner, err := m.members()
		if err != nil {
			return err
		}
		for _, f := range inner {
			s, err := f.str()
			switch {
			case err != nil:
				return err
			case f.name == "Type" && s == "String":
				typed = true
			case f.name == "Type":
				return f.fail("%q is not a type; only String is", s)
			case f.name == "Default" && tooLong(s):
				return f.fail("has more than %d characters", MaxParameter)
			case f.name == "Default":
				par = parameter{fallback: s, has: true}
			default:
				return f.fail("is not known; a parameter has Type and Default")
			}
		}
		if m.name == "" || !typed {
			return m.fail("needs a name and Type String")
		}
		p.t.parameters[m.name] = par
	}
	return nil
}

// text reads a literal or {"Ref": "parameter"}.
func (p *parser) text(n node) (text, error) {
	if n.is('"') {
		s, err := n.str()
		return text{literal: s, path: n.path}, err
	}
	if !n.is('{') {
		return text{}, n.fail(`must be text or {"Ref": "<parameter>"}`)
	}
	list, err := n.members()
	if err != nil {
		return text{}, err
	}
	if len(list) == 1 && strings.HasPrefix(list[0].name, "Fn::") {
		return text{}, n.fail("%s belongs to fleet provisioning templates; here only Ref can be used", list[0].name)
	}
	if len(list) != 1 || list[0].name != "Ref" {
		return text{}, n.fail(`must be text or {"Ref": "<parameter>"}`)
	}
	ref, err := list[0].str()
	if err != nil {
		return text{}, err
	}
	if ref == "" {
		return text{}, list[0].fail("names no parameter")
	}
	t := text{ref: ref, path: n.path}
	p.refs = append(p.refs, t)
	return t, nil
}

func (p *parser) checkRefs() error {
	for _, r := range p.refs {
		if _, ok := p.t.parameters[r.ref]; !ok {
			return node{path: r.path + ".Ref"}.fail("%q is not declared in Parameters", r.ref)
		}
	}
	return nil
}

func (p *parser) cdf(n node) error {
	list, err := n.members()
	if err != nil {
		return err
	}
	o := &p.t.cdf
	for _, m := range list {
		on := false
		switch m.name {
		case "createDeviceCertificate", "createDeviceAWSCertificate", "registerDeviceCertificateWithoutCA":
			on, err = m.flag()
		case "acmpca", "useACMPCA":
			on = true
			o.mode, err = acmpca(m)
		case "clientIdMustMatchThingName", "clientIdMustEqualThingName":
			on, err = m.flag()
			o.clientIDMustMatch = o.clientIDMustMatch || on
			on = false
		case "attachAdditionalPolicies":
			o.additional, err = p.additional(m.node)
		case "keyAlgorithm":
			o.keyAlgorithm, err = keyAlgorithm(m.node)
		default:
			err = m.fail("is not an option of the CDF section")
		}
		if err != nil {
			return err
		}
		if on {
			o.choose(m)
		}
	}
	return nil
}

// choose takes the option unless one was taken that comes before it
// (cdf-services §4.4).
func (o *options) choose(m member) {
	order := []Source{SourceCreate, SourceAWS, SourceExternal, SourcePrivate}
	s := SourcePrivate
	switch m.name {
	case "createDeviceCertificate":
		s = SourceCreate
	case "createDeviceAWSCertificate":
		s = SourceAWS
	case "registerDeviceCertificateWithoutCA":
		s = SourceExternal
	}
	if o.source == "" || slices.Index(order, s) < slices.Index(order, o.source) {
		o.source, o.option = s, m.path
	}
}

// acmpca reads {"mode": …}, and the synonym useACMPCA, which is the mode alone.
func acmpca(m member) (Mode, error) {
	n := m.node
	if m.name == "acmpca" {
		list, err := m.members()
		if err != nil {
			return "", err
		}
		if len(list) != 1 || list[0].name != "mode" {
			return "", m.fail("must have the one member mode")
		}
		n = list[0].node
	}
	s, err := n.str()
	if err != nil {
		return "", err
	}
	if mode := Mode(s); mode == WithCA || mode == WithoutCA {
		return mode, nil
	}
	return "", n.fail("%q is neither %s nor %s", s, WithCA, WithoutCA)
}

func keyAlgorithm(n node) (pki.KeyAlgorithm, error) {
	s, err := n.str()
	if err != nil {
		return "", err
	}
	switch a := pki.KeyAlgorithm(s); a {
	case pki.P256, pki.RSA2048:
		return a, nil
	}
	return "", n.fail("%q is neither %s nor %s", s, pki.P256, pki.RSA2048)
}

// additional reads the array of policies, or an object that wraps it in
// policies (cdf-services D-13).
func (p *parser) additional(n node) ([]policy, error) {
	if n.is('{') {
		list, err := n.members()
		if err != nil {
			return nil, err
		}
		if len(list) != 1 || list[0].name != "policies" {
			return nil, n.fail("must be an array of policies or have the one member policies")
		}
		n = list[0].node
	}
	list, err := n.elements()
	if err != nil {
		return nil, err
	}
	var all []policy
	for _, e := range list {
		inner, err := e.members()
		if err != nil {
			return nil, err
		}
		pol := policy{}
		for _, m := range inner {
			s, err := m.str()
			switch {
			case err != nil:
				return nil, err
			case m.name == "name":
				pol.name = text{literal: s, path: m.path}
			case m.name == "document":
				pol.document = text{literal: s, path: m.path}
			default:
				return nil, m.fail("is not known; an additional policy has name and document")
			}
		}
		if !pol.name.set() {
			return nil, node{path: e.child("name")}.fail("is missing")
		}
		all = append(all, pol)
	}
	return all, nil
}
