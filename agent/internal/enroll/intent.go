package enroll

import (
	"crypto/tls"
	"encoding/json"
	"net/url"
	"regexp"
	"strings"

	"github.com/ggfleet/ggfleet/agent/internal/identity"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Intent is how to enrol: with the string of an activation; with the certificate
// of a thing or a claim; or with nothing but where to go and whom to trust there,
// and then somebody has to approve. It is also the form of the file that a
// technician or the maker of an image hands over.
type Intent struct {
	String string `json:"string,omitempty"` // of an activation: address, CA and code in one

	URL           string `json:"url,omitempty"`           // https://host:port
	CAPEM         string `json:"caPem,omitempty"`         // the root, or a bundle with it
	CAFingerprint string `json:"caFingerprint,omitempty"` // hex SHA-256 of the root, instead of CAPEM

	CertificatePEM string `json:"certificatePem,omitempty"` // of a thing, or a claim
	PrivateKeyPEM  string `json:"privateKeyPem,omitempty"`

	Name   string        `json:"name,omitempty"` // the thing that the device wants to be
	Role   protocol.Role `json:"role,omitempty"`
	Serial string        `json:"serial,omitempty"`
	Keys   string        `json:"key,omitempty"` // where the agent's key is to be (package keystore)
}

// maxIntent bounds the file.
const maxIntent = 256 << 10

// ParseIntent reads the file form. A member that is not known is an error: a
// misspelt one would be a device that nobody can enrol.
func ParseIntent(b []byte) (Intent, error) {
	var i Intent
	if len(b) > maxIntent {
		return i, fault.New(fault.TooLarge, "the file has %d bytes, over the limit of %d", len(b), maxIntent)
	}
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.DisallowUnknownFields()
	if err := d.Decode(&i); err != nil {
		return i, fault.New(fault.Invalid, "the file does not say how to enrol: %v", err)
	}
	return i, i.check()
}

// Empty reports whether i says nothing.
func (i Intent) Empty() bool { return i.String == "" && i.URL == "" }

var fingerprints = regexp.MustCompile(`^[0-9a-f]{64}$`)

// check reports what is missing or wrong.
func (i Intent) check() error {
	if _, err := i.target(); err != nil {
		return err
	}
	if i.Role != "" && i.Role != protocol.RoleCore && i.Role != protocol.RoleClient {
		return fault.Field("role", "%q is no role; use core or client", i.Role)
	}
	if i.Name != "" {
		if err := names.CheckThing(i.Name); err != nil {
			return fault.Field("name", "%s", fault.Message(err))
		}
	}
	if len(i.Serial) > 128 {
		return fault.Field("serial", "has %d characters, at most 128 are allowed", len(i.Serial))
	}
	_, err := i.certificate()
	return err
}

// target is where to go, whom to trust there, and the activation if there is one.
func (i Intent) target() (protocol.Enrollment, error) {
	if i.String != "" {
		if i.URL != "" || i.CertificatePEM != "" {
			return protocol.Enrollment{}, fault.New(fault.Invalid, "the string of an activation says where to go by itself; give either it, or an address and a CA")
		}
		return protocol.ParseEnrollment(i.String)
	}
	e := protocol.Enrollment{URL: i.URL, CAFingerprint: strings.ToLower(strings.ReplaceAll(i.CAFingerprint, ":", ""))}
	if u, err := url.Parse(i.URL); err != nil || u.Scheme != "https" || u.Hostname() == "" {
		return e, fault.Field("url", "%q is not an address such as https://fleet.example:8443", i.URL)
	}
	if i.CAPEM != "" {
		var err error
		if e.CAFingerprint, err = identity.RootFingerprint(i.CAPEM); err != nil {
			return e, err
		}
	}
	if !fingerprints.MatchString(e.CAFingerprint) {
		return e, fault.Field("caFingerprint", "%q is not the SHA-256 of a CA certificate in hex; without it, or the certificate itself, a false server could not be told from the true one", i.CAFingerprint)
	}
	return e, nil
}

// certificate is what to show; nil: nothing.
func (i Intent) certificate() (*tls.Certificate, error) {
	if i.CertificatePEM == "" && i.PrivateKeyPEM == "" {
		return nil, nil //nolint:nilnil // it is one of four ways
	}
	pair, err := tls.X509KeyPair([]byte(i.CertificatePEM), []byte(i.PrivateKeyPEM))
	if err != nil {
		return nil, fault.New(fault.Invalid, "certificate and key of the enrolment do not fit: %v", err)
	}
	return &pair, nil
}

// gave reports whether id is what enrolling with i gives.
func (i Intent) gave(id identity.Identity) bool {
	e, err := i.target()
	switch {
	case err != nil || e.CAFingerprint != id.CAFingerprint:
		return false
	case e.ActivationID != "":
		return e.ActivationID == id.ActivationID
	}
	return (i.Name == "" || i.Name == id.Subject().Name) && (i.Role == "" || i.Role == id.Subject().Role)
}

// way says in words how i enrols.
func (i Intent) way() string {
	switch {
	case i.String != "":
		return "activation"
	case i.CertificatePEM != "":
		return "certificate"
	}
	return "approval"
}
