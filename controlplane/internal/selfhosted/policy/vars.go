package policy

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net/netip"
	"strconv"
	"strings"
)

// Vars is what the variables of a policy stand for on one connection
// (iot-api §16). It must not change while requests are decided by it.
type Vars struct {
	ClientID      string     // iot:ClientId; empty on HTTPS
	SourceIP      netip.Addr // aws:SourceIp
	CertificateID string     // iot:CertificateId: hex SHA-256 of the certificate
	Certificate   *x509.Certificate

	// MQTT tells that the connection speaks MQTT. Only there IsAttached resolves.
	MQTT bool
	// Thing is what the certificate is attached to, and nil unless the client id
	// belongs to that thing: iot:Connection.Thing.* then does not resolve.
	Thing *Thing
}

// Thing is the registry's side of iot:Connection.Thing.*.
type Thing struct {
	Name       string
	Type       string // empty: ThingTypeName does not resolve
	Attributes map[string]string
}

// maxValue is the longest value that is put in place of a variable, in
// characters (iot-api §16).
const maxValue = 1024

// substitute returns the value that may stand in a resource. Values that would
// look like wildcards of policies or topics are never put in.
func (v *Vars) substitute(name variable) (string, bool) {
	s, ok := v.value(name)
	if !ok || len(s) > maxValue || strings.ContainsAny(s, "*$+?#") {
		return "", false
	}
	return s, true
}

// variable is a parsed variable name.
type variable struct {
	kind  varKind
	arg   string // attribute name, or the field of a certificate name
	index int    // which of many values
}

type varKind uint8

const (
	varUnknown varKind = iota
	varClientID
	varSourceIP
	varCertificateID
	varThingName
	varThingType
	varThingAttribute
	varAttached
	varSubject
	varIssuer
	varAlternative
	varSerial
)

func parseVariable(name string) variable {
	switch name {
	case "iot:ClientId":
		return variable{kind: varClientID}
	case "aws:SourceIp":
		return variable{kind: varSourceIP}
	case "iot:CertificateId":
		return variable{kind: varCertificateID}
	case "iot:Connection.Thing.ThingName":
		return variable{kind: varThingName}
	case "iot:Connection.Thing.ThingTypeName":
		return variable{kind: varThingType}
	case "iot:Connection.Thing.IsAttached":
		return variable{kind: varAttached}
	case "iot:Certificate.SerialNumber":
		return variable{kind: varSerial}
	}
	if rest, ok := strings.CutPrefix(name, "iot:Connection.Thing.Attributes["); ok && strings.HasSuffix(rest, "]") {
		return variable{kind: varThingAttribute, arg: strings.TrimSuffix(rest, "]")}
	}
	if rest, ok := strings.CutPrefix(name, "iot:Certificate.Subject.AlternativeName."); ok {
		return indexed(varAlternative, rest, alternativeFields)
	}
	if rest, ok := strings.CutPrefix(name, "iot:Certificate.Subject."); ok {
		return indexed(varSubject, rest, nameFields)
	}
	if rest, ok := strings.CutPrefix(name, "iot:Certificate.Issuer."); ok {
		return indexed(varIssuer, rest, nameFields)
	}
	return variable{}
}

// indexed reads "CommonName" (the first value) and "CommonName.2" (the third).
func indexed[V any](kind varKind, s string, known map[string]V) variable {
	field, index, many := strings.Cut(s, ".")
	if _, ok := known[field]; !ok {
		return variable{}
	}
	n := 0
	if many {
		var err error
		if n, err = strconv.Atoi(index); err != nil || n < 1 || n > 4 {
			return variable{}
		}
	}
	return variable{kind: kind, arg: field, index: n}
}

// value returns what the variable stands for, as it is.
func (v *Vars) value(name variable) (string, bool) {
	if v == nil {
		return "", false
	}
	switch name.kind {
	case varClientID:
		return v.ClientID, v.ClientID != ""
	case varSourceIP:
		return v.SourceIP.String(), v.SourceIP.IsValid()
	case varCertificateID:
		return v.CertificateID, v.CertificateID != ""
	case varAttached:
		return strconv.FormatBool(v.Thing != nil), v.MQTT
	case varThingName:
		if t := v.Thing; t != nil {
			return t.Name, t.Name != ""
		}
	case varThingType:
		if t := v.Thing; t != nil {
			return t.Type, t.Type != ""
		}
	case varThingAttribute:
		if t := v.Thing; t != nil {
			return t.Attributes[name.arg], t.Attributes[name.arg] != ""
		}
	case varSubject:
		if c := v.Certificate; c != nil {
			return nameValue(c.Subject, name)
		}
	case varIssuer:
		if c := v.Certificate; c != nil {
			return nameValue(c.Issuer, name)
		}
	case varSerial:
		if c := v.Certificate; c != nil && c.SerialNumber != nil {
			return c.SerialNumber.Text(16), true
		}
	case varAlternative:
		if c := v.Certificate; c != nil {
			return pick(alternativeFields[name.arg](c), name.index)
		}
	case varUnknown:
	}
	return "", false
}

// nameFields maps the field names of iot-api §16 to the object identifiers of X.520.
var nameFields = map[string]asn1.ObjectIdentifier{ //nolint:gochecknoglobals // a table that never changes
	"CommonName":                 {2, 5, 4, 3},
	"Surname":                    {2, 5, 4, 4},
	"SerialNumber":               {2, 5, 4, 5},
	"Country":                    {2, 5, 4, 6},
	"State":                      {2, 5, 4, 8},
	"Organization":               {2, 5, 4, 10},
	"OrganizationalUnit":         {2, 5, 4, 11},
	"Title":                      {2, 5, 4, 12},
	"GivenName":                  {2, 5, 4, 42},
	"Initials":                   {2, 5, 4, 43},
	"GenerationQualifier":        {2, 5, 4, 44},
	"DistinguishedNameQualifier": {2, 5, 4, 46},
	"Pseudonym":                  {2, 5, 4, 65},
}

var alternativeFields = map[string]func(*x509.Certificate) []string{ //nolint:gochecknoglobals // a table that never changes
	"RFC822Name": func(c *x509.Certificate) []string { return c.EmailAddresses },
	"DNSName":    func(c *x509.Certificate) []string { return c.DNSNames },
	"UniformResourceIdentifier": func(c *x509.Certificate) []string {
		var out []string
		for _, u := range c.URIs {
			out = append(out, u.String())
		}
		return out
	},
	"IPAddress": func(c *x509.Certificate) []string {
		var out []string
		for _, ip := range c.IPAddresses {
			out = append(out, ip.String())
		}
		return out
	},
}

func nameValue(n pkix.Name, name variable) (string, bool) {
	oid := nameFields[name.arg]
	skip := name.index
	for _, a := range n.Names {
		if !a.Type.Equal(oid) {
			continue
		}
		if skip > 0 {
			skip--
			continue
		}
		s, ok := a.Value.(string)
		return s, ok && s != ""
	}
	return "", false
}

func pick(values []string, i int) (string, bool) {
	if i >= len(values) || values[i] == "" {
		return "", false
	}
	return values[i], true
}
