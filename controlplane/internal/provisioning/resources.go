package provisioning

import (
	"regexp"
	"slices"
	"strings"
)

var attributeName = regexp.MustCompile(`^[a-zA-Z0-9_.,@/:#-]{1,128}$`)

// resources reads the Resources section: one thing, at most one certificate,
// any number of policies.
func (p *parser) resources(n node) error {
	list, err := n.members()
	if err != nil {
		return err
	}
	things := 0
	for _, m := range list {
		r, err := resourceOf(m)
		if err != nil {
			return err
		}
		switch r.kind {
		case "AWS::IoT::Thing":
			if things++; things > 1 {
				return m.fail("is a second AWS::IoT::Thing; a template describes one")
			}
			err = p.thing(r)
		case "AWS::IoT::Certificate":
			if p.t.cert != nil {
				return m.fail("is a second AWS::IoT::Certificate; a template describes at most one")
			}
			err = p.certificate(r)
		case "AWS::IoT::Policy":
			err = p.policy(r)
		default:
			err = node{path: m.child("Type")}.fail("%q is not one of AWS::IoT::Thing, AWS::IoT::Certificate, AWS::IoT::Policy", r.kind)
		}
		if err != nil {
			return err
		}
	}
	if things == 0 {
		return n.fail("need one resource of type AWS::IoT::Thing")
	}
	return nil
}

type resource struct {
	node
	logical    string
	kind       string
	properties []member
	overrides  []member
}

func resourceOf(m member) (resource, error) {
	r := resource{node: m.node, logical: m.name}
	list, err := m.members()
	if err != nil {
		return r, err
	}
	for _, f := range list {
		switch f.name {
		case "Type":
			r.kind, err = f.str()
		case "Properties":
			r.properties, err = f.members()
		case "OverrideSettings":
			r.overrides, err = f.members()
		default:
			err = f.fail("is not known; a resource has Type, Properties and OverrideSettings")
		}
		if err != nil {
			return r, err
		}
	}
	if r.kind == "" {
		return r, node{path: r.child("Type")}.fail("is missing")
	}
	return r, nil
}

func (p *parser) thing(r resource) (err error) {
	t := &p.t.thing
	t.logical = r.logical
	for _, m := range r.properties {
		switch m.name {
		case "ThingName":
			t.name, err = p.text(m.node)
		case "ThingTypeName":
			t.typeName, err = p.text(m.node)
		case "AttributePayload":
			t.attributes, err = p.attributes(m.node)
		case "ThingGroups":
			t.groups, err = p.texts(m.node)
		default:
			err = m.fail("is not a property of AWS::IoT::Thing that this server knows; it knows ThingName, ThingTypeName, AttributePayload, ThingGroups")
		}
		if err != nil {
			return err
		}
	}
	if !t.name.set() {
		return node{path: r.child("Properties.ThingName")}.fail("is missing")
	}
	t.overrides = ThingOverrides{Type: DoNothing, Attributes: DoNothing, Groups: DoNothing}
	for _, m := range r.overrides {
		switch m.name {
		case "ThingTypeName", "THING_TYPE_NAME":
			t.overrides.Type, err = override(m, DoNothing, Replace, Fail)
		case "AttributePayload", "ATTRIBUTE_PAYLOAD":
			t.overrides.Attributes, err = override(m, DoNothing, Replace, Fail, Merge)
		case "ThingGroups", "THING_GROUPS":
			t.overrides.Groups, err = override(m, DoNothing, Replace, Fail, Merge)
		default:
			err = m.fail("is not known; a thing has the settings AttributePayload, ThingTypeName, ThingGroups")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *parser) attributes(n node) ([]attribute, error) {
	list, err := n.members()
	if err != nil {
		return nil, err
	}
	var all []attribute
	for _, m := range list {
		v, err := p.text(m.node)
		if err != nil {
			return nil, err
		}
		if !attributeName.MatchString(m.name) {
			return nil, m.fail("is not a valid attribute name: want 1 to 128 characters of a-z A-Z 0-9 _ . , @ / : # -")
		}
		all = append(all, attribute{name: m.name, value: v})
	}
	return all, nil
}

func (p *parser) texts(n node) ([]text, error) {
	list, err := n.elements()
	if err != nil {
		return nil, err
	}
	var all []text
	for _, e := range list {
		t, err := p.text(e)
		if err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	return all, nil
}

func override(m member, allowed ...Override) (Override, error) {
	s, err := m.str()
	if err != nil {
		return "", err
	}
	if o := Override(s); slices.Contains(allowed, o) {
		return o, nil
	}
	return "", m.fail("%q is not one of %v", s, allowed)
}

func (p *parser) certificate(r resource) (err error) {
	c := &certificate{logical: r.logical, override: DoNothing}
	p.t.cert = c
	for _, m := range r.properties {
		switch m.name {
		case "CertificateSigningRequest":
			c.csr, err = p.text(m.node)
		case "CertificateId":
			c.id, err = p.text(m.node)
		case "CertificatePem":
			c.pem, err = p.text(m.node)
		case "CACertificatePem":
			c.ca, err = p.text(m.node)
		case "Status":
			c.status, err = p.text(m.node)
		default:
			err = m.fail("is not a property of AWS::IoT::Certificate")
		}
		if err != nil {
			return err
		}
	}
	sources := 0
	for _, t := range []text{c.csr, c.id, c.pem} {
		if t.set() {
			sources++
		}
	}
	props := node{path: r.child("Properties")}
	if sources != 1 {
		return props.fail("must have exactly one of CertificateSigningRequest, CertificateId, CertificatePem")
	}
	if c.ca.set() && !c.pem.set() {
		return props.fail("CACertificatePem stands without CertificatePem")
	}
	if s := c.status; s.set() && s.ref == "" {
		if _, err := statusOf(s.path, s.literal); err != nil {
			return err
		}
	}
	for _, m := range r.overrides {
		if m.name != "Status" && m.name != "STATUS" {
			return m.fail("is not known; a certificate has the setting Status")
		}
		if c.override, err = override(m, DoNothing, Replace, Fail); err != nil {
			return err
		}
	}
	return nil
}

func statusOf(path, s string) (Status, error) {
	switch st := Status(strings.ToUpper(s)); st { // templates everywhere say Active
	case Active, Inactive, PendingActivation:
		return st, nil
	}
	return "", node{path: path}.fail("%q is not one of %s, %s, %s", s, Active, Inactive, PendingActivation)
}

func (p *parser) policy(r resource) (err error) {
	pol := policy{logical: r.logical}
	for _, m := range r.properties {
		switch m.name {
		case "PolicyName":
			pol.name, err = p.text(m.node)
		case "PolicyDocument":
			pol.document, err = p.text(m.node)
		default:
			err = m.fail("is not a property of AWS::IoT::Policy")
		}
		if err != nil {
			return err
		}
	}
	if !pol.name.set() && !pol.document.set() {
		return node{path: r.child("Properties")}.fail("must have PolicyName or PolicyDocument")
	}
	if len(r.overrides) > 0 {
		return node{path: r.child("OverrideSettings")}.fail("does not exist for a policy")
	}
	p.t.policies = append(p.t.policies, pol)
	return nil
}
