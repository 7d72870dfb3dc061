package provisioning

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// MaxDays is the largest certInfo.daysExpiry.
const MaxDays = 36500

const (
	cdfMember = "cdfProvisioningParameters"
	inCDF     = cdfMember + "."
)

// CDFParameters are the cdfProvisioningParameters of a request (cdf-services
// §4.5).
type CDFParameters struct {
	Given   bool   // the request has them, perhaps empty
	CAID    string // empty: the cloud's own CA
	HasInfo bool   // certInfo is there and not empty
	Subject pkix.Name
	Days    int // validity of the certificate, 1 to MaxDays; 0: not said

	CertificatePEM    string
	CertificateStatus cloud.CertificateStatus // as given

	PrivateCA, RegisteredCA CAName
	CSR                     string // PEM
}

// CAName names a CA by alias or ARN; the alias wins.
type CAName struct{ Alias, ARN string }

// infoField is a text of certInfo: its longest length (RFC 5280 upper bounds) and
// where it goes.
type infoField struct {
	max int
	set func(*pkix.Name, string)
}

var infoFields = map[string]infoField{ //nolint:gochecknoglobals // a table that never changes
	"commonName":         {64, func(n *pkix.Name, s string) { n.CommonName = s }},
	"organization":       {64, func(n *pkix.Name, s string) { n.Organization = []string{s} }},
	"organizationalUnit": {64, func(n *pkix.Name, s string) { n.OrganizationalUnit = []string{s} }},
	"locality":           {128, func(n *pkix.Name, s string) { n.Locality = []string{s} }},
	"stateName":          {128, func(n *pkix.Name, s string) { n.Province = []string{s} }},
	"country":            {2, func(n *pkix.Name, s string) { n.Country = []string{s} }},
	"emailAddress":       {255, setEmail},
}

// ParseCDFParameters reads cdfProvisioningParameters; nothing or null gives the
// zero value. Errors name the member (cdfProvisioningParameters.certInfo.country).
// What an option needs is looked at when it is carried out.
func ParseCDFParameters(raw []byte) (CDFParameters, error) {
	var c CDFParameters
	if len(raw) == 0 || string(raw) == "null" {
		return c, nil
	}
	n, err := document(cdfMember, "the value", raw)
	if err != nil {
		if fault.KindOf(err) == fault.Invalid {
			err = fault.Field(cdfMember, "%s", fault.Message(err))
		}
		return c, err
	}
	list, err := n.members()
	if err != nil {
		return c, err
	}
	c.Given = true
	texts := map[string]*string{
		"caId": &c.CAID, "certificatePem": &c.CertificatePEM, "certificateStatus": (*string)(&c.CertificateStatus), "csr": &c.CSR,
		"acmpcaCaArn": &c.PrivateCA.ARN, "acmpcaCaAlias": &c.PrivateCA.Alias, "awsiotCaArn": &c.RegisteredCA.ARN, "awsiotCaAlias": &c.RegisteredCA.Alias,
		"amcpcaCaArn": &c.PrivateCA.ARN, "amcpcaCaAlias": &c.PrivateCA.Alias, // the original's own document spells them so
	}
	for _, m := range list {
		if m.name == "certInfo" {
			if err := c.info(m.node); err != nil {
				return c, err
			}
			continue
		}
		to, ok := texts[m.name]
		if !ok {
			return c, m.fail("is not known")
		}
		s, err := m.str()
		switch {
		case err != nil:
			return c, err
		case m.name == "caId" && utf8.RuneCountInString(s) > 128:
			return c, m.fail("has more than 128 characters")
		case s != "": // a misspelt member that is empty does not undo the other
			*to = s
		}
	}
	return c, nil
}

func (c *CDFParameters) info(n node) error {
	list, err := n.members()
	if err != nil {
		return err
	}
	c.HasInfo = len(list) > 0
	for _, m := range list {
		if m.name == "daysExpiry" {
			if c.Days, err = days(m.node); err != nil {
				return err
			}
			continue
		}
		f, ok := infoFields[m.name]
		if !ok {
			return m.fail("is not known")
		}
		s, err := m.str()
		if err != nil {
			return err
		}
		if err := checkInfo(m, s, f.max); err != nil {
			return err
		}
		if s != "" {
			f.set(&c.Subject, s)
		}
	}
	return nil
}

func checkInfo(m member, s string, limit int) error {
	for _, r := range s {
		if r < 0x20 || r == 0x7f {
			return m.fail("must not have control characters")
		}
	}
	switch {
	case m.name == "country":
		letter := func(b byte) bool { return 'A' <= b && b <= 'Z' || 'a' <= b && b <= 'z' }
		if len(s) != 2 || !letter(s[0]) || !letter(s[1]) {
			return m.fail("%.20q is not a country code of two letters", s)
		}
	case utf8.RuneCountInString(s) > limit:
		return m.fail("has more than %d characters", limit)
	case m.name == "emailAddress" && len(s) != utf8.RuneCountInString(s):
		return m.fail("must be ASCII")
	}
	return nil
}

func days(n node) (int, error) {
	var f float64
	if n.is('"') || json.Unmarshal(n.raw, &f) != nil || f != math.Trunc(f) || f < 1 || f > MaxDays {
		return 0, n.fail("must be a whole number of days from 1 to %s", strconv.Itoa(MaxDays))
	}
	return int(f), nil
}

// setEmail adds the e-mail attribute of PKCS#9, an IA5String.
func setEmail(n *pkix.Name, s string) {
	n.ExtraNames = append(n.ExtraNames, pkix.AttributeTypeAndValue{
		Type:  asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1},
		Value: asn1.RawValue{Tag: asn1.TagIA5String, Class: asn1.ClassUniversal, Bytes: []byte(s)},
	})
}
