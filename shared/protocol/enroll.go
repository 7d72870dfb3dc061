package protocol

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"regexp"
	"strings"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// enrollPrefix marks an enrolment string and its version.
const enrollPrefix = "ggf1."

// Enrollment is all that a device needs to enrol, handed over as one string:
// where to go, whom to trust there, and a one-time secret.
type Enrollment struct {
	URL           string `json:"u"` // https://host:port of the device HTTPS listener
	CAFingerprint string `json:"f"` // lower-case hex SHA-256 of the root CA certificate (DER)
	ActivationID  string `json:"i"`
	Code          string `json:"c"`
}

// String encodes e. It holds the activation code: treat it as a secret.
func (e Enrollment) String() string {
	b, _ := json.Marshal(e) //nolint:errchkjson // four strings always encode
	return enrollPrefix + base64.RawURLEncoding.EncodeToString(b)
}

var fingerprintPattern = regexp.MustCompile(`^[0-9a-f]{64}$`)

// ParseEnrollment reads the string that Enrollment.String made.
func ParseEnrollment(s string) (Enrollment, error) {
	var e Enrollment
	rest, ok := strings.CutPrefix(strings.TrimSpace(s), enrollPrefix)
	if !ok || len(rest) > 4096 {
		return e, fault.New(fault.Invalid, "the enrolment string must begin with %q; copy it whole from the activation", enrollPrefix)
	}
	b, err := base64.RawURLEncoding.DecodeString(rest)
	if err != nil || json.Unmarshal(b, &e) != nil {
		return Enrollment{}, fault.New(fault.Invalid, "the enrolment string is damaged; copy it whole from the activation")
	}
	u, err := url.Parse(e.URL)
	if err != nil || u.Scheme != "https" || u.Host == "" || !fingerprintPattern.MatchString(e.CAFingerprint) || e.ActivationID == "" || e.Code == "" {
		return Enrollment{}, fault.New(fault.Invalid, "the enrolment string lacks an address, CA fingerprint, activation id or code")
	}
	return e, nil
}

// Role says what an agent looks after.
type Role string

// The roles of an agent.
const (
	RoleCore   Role = "core"   // a core device with a nucleus; what an empty role means
	RoleClient Role = "client" // a client device, which talks to a core near it
)

// Subject is the device that an agent looks after. A core and a client device
// never have the same name: both are things.
type Subject struct {
	Role Role   `json:"role"`
	Name string `json:"name"`
}

// Topic returns ggfleet/v1/cores/NAME/REST, or ggfleet/v1/devices/NAME/REST for
// a client device.
func (s Subject) Topic(rest string) string {
	if s.Role == RoleClient {
		return "ggfleet/v1/devices/" + s.Name + "/" + rest
	}
	return "ggfleet/v1/cores/" + s.Name + "/" + rest
}

// Attributes of an agent's thing; one of them names its device, and its policy
// refers to it.
const (
	AttributeCore   = "core"
	AttributeDevice = "device"
)

// AgentSubject returns the device whose agent the thing is, and false for a thing
// that is no agent.
func AgentSubject(thing string, attributes map[string]string) (Subject, bool) {
	for _, s := range []Subject{{RoleCore, attributes[AttributeCore]}, {RoleClient, attributes[AttributeDevice]}} {
		if s.Name != "" && thing == AgentThing(s.Name) {
			return s, true
		}
	}
	return Subject{}, false
}

// EnrollRequest asks for an agent's own certificate. Who asks is known by one
// of: an activation; the client certificate of the call, that of a thing (the
// agent becomes the one of that thing) or a claim; or nothing, and then somebody
// must approve. Sent again with the same key it gives the same identity, so that
// a lost answer costs nothing and a waiting device asks until it is let in.
type EnrollRequest struct {
	ActivationID string `json:"activationId,omitempty"`
	Code         string `json:"code,omitempty"`
	CSR          string `json:"csr"` // PEM; the key stays on the device

	// What the device says of itself; rules and operators look at it. An
	// activation and a thing's certificate fix role and name.
	Role     Role   `json:"role,omitempty"`
	Name     string `json:"name,omitempty"`     // the thing that it wants to be
	Serial   string `json:"serial,omitempty"`   // of the hardware
	Platform string `json:"platform,omitempty"` // GOOS/GOARCH
}

// EnrollResponse is the agent's identity.
type EnrollResponse struct {
	AgentThing     string `json:"agentThing"`
	Core           string `json:"core,omitempty"`   // the subject when it is a core
	Device         string `json:"device,omitempty"` // the subject when it is a client device
	CertificatePEM string `json:"certificatePem"`   // leaf, then intermediate
	CAPEM          string `json:"caPem"`            // the bundle to trust: root first
	MQTTAddress    string `json:"mqttAddress"`      // host:port
}

// EnrollPending says that the device is to wait until somebody lets it in.
type EnrollPending struct {
	RequestID         string `json:"requestId"`
	KeyFingerprint    string `json:"keyFingerprint"`    // lower-case hex SHA-256 of the public key (SPKI): what both sides compare
	RetryAfterSeconds int    `json:"retryAfterSeconds"` // when to ask again
}
