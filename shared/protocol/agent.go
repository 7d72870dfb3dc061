package protocol

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// AgentVersion is sent in every agent message. It only grows.
//
//	1  first release
const AgentVersion = 1

// MaxAgentMessage is the largest agent payload in bytes: the publish limit of
// AWS IoT Core (iot-api §22).
const MaxAgentMessage = 128 << 10

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

// Paths of the agent's calls on the device HTTPS listener. All but enrolment
// need the agent's client certificate.
const (
	PathEnroll          = "/agent/v1/enroll"           // POST EnrollRequest → EnrollResponse
	PathAgentCore       = "/agent/v1/core"             // GET → CoreAssignment
	PathCoreCertificate = "/agent/v1/core/certificate" // POST CSRRequest → CSRResponse
	PathCoreCerts       = "/agent/v1/core/certs.zip"   // GET → zip
	PathCoreConfig      = "/agent/v1/core/config"      // GET → installerConfig.yml
	PathDistributions   = "/agent/v1/distributions/"   // GET + hex SHA-256 → the archive; Range allowed
)

// EnrollRequest trades an activation for the agent's own certificate. Sent
// again with the same key it gives the same identity, so that a lost answer
// costs nothing.
type EnrollRequest struct {
	ActivationID string `json:"activationId"`
	Code         string `json:"code"`
	CSR          string `json:"csr"` // PEM; the key stays on the device
}

// EnrollResponse is the agent's identity.
type EnrollResponse struct {
	AgentThing     string `json:"agentThing"`
	Core           string `json:"core"`
	CertificatePEM string `json:"certificatePem"` // leaf, then intermediate
	CAPEM          string `json:"caPem"`          // the bundle to trust: root first
	MQTTAddress    string `json:"mqttAddress"`    // host:port
}

// CoreAssignment is what the agent is to make true on its core device.
type CoreAssignment struct {
	Core           string        `json:"core"`
	HasCertificate bool          `json:"hasCertificate"` // false: send a CSR for the core to PathCoreCertificate
	CertsZip       bool          `json:"certsZip"`       // true: fetch PathCoreCerts, the key was made by the server
	Config         bool          `json:"config"`         // true: PathCoreConfig has an installer configuration
	CAPEM          string        `json:"caPem"`
	Nucleus        *Distribution `json:"nucleus,omitempty"` // nil: the control plane offers none; leave what is there
}

// Distribution is a nucleus archive that the control plane offers.
type Distribution struct {
	Name    string `json:"name"`    // aws.greengrass.Nucleus, aws.greengrass.NucleusLite, ggfleet.SimulatedNucleus
	Version string `json:"version"` // semantic version
	Digest  string `json:"digest"`  // lower-case hex SHA-256 of the archive
	Size    int64  `json:"size"`    // bytes
	Format  string `json:"format"`  // tar.gz or zip
}

// CSRRequest asks for the core's certificate; CSRResponse carries it.
type CSRRequest struct {
	CSR string `json:"csr"`
}

// CSRResponse is the signed certificate, leaf first.
type CSRResponse struct {
	CertificatePEM string `json:"certificatePem"`
}

// AgentTopic returns ggfleet/v1/cores/<core>/agent/<kind>, where the agent of a
// core reports. Kinds are the Report… constants.
func AgentTopic(core, kind string) string { return "ggfleet/v1/cores/" + core + "/agent/" + kind }

// AgentThing returns the name of the agent's own thing beside its core's.
func AgentThing(core string) string { return core + ":agent" }

// Kinds of agent report.
const (
	ReportConnection = "connection" // ConnectionReport; also the agent's last will
	ReportHealth     = "health"     // HealthReport
	ReportNucleus    = "nucleus"    // NucleusReport
	ReportComponents = "components" // ComponentsReport
)

// ReportHeader begins every report.
type ReportHeader struct {
	V        int       `json:"v"` // AgentVersion of the sender
	Core     string    `json:"core"`
	Sequence uint64    `json:"sequence"` // +1 per report, persisted; a gap means dropped reports
	Time     time.Time `json:"time"`     // when it was true, by the device's clock
}

// ConnectionReport says that the agent came or went.
type ConnectionReport struct {
	ReportHeader
	Connected    bool   `json:"connected"`
	AgentVersion string `json:"agentVersion,omitempty"`
}

// HealthReport is the host's condition. Absent members are unknown.
type HealthReport struct {
	ReportHeader
	AgentVersion    string   `json:"agentVersion"`
	UptimeSeconds   int64    `json:"uptimeSeconds"`
	Load1           *float64 `json:"load1,omitempty"`
	MemoryUsedBytes *uint64  `json:"memoryUsedBytes,omitempty"`
	MemoryBytes     *uint64  `json:"memoryBytes,omitempty"`
	DiskFreeBytes   *uint64  `json:"diskFreeBytes,omitempty"`
	DiskBytes       *uint64  `json:"diskBytes,omitempty"`
	DroppedReports  uint64   `json:"droppedReports,omitempty"`
}

// NucleusState is what the agent knows of the nucleus process.
type NucleusState string

// The states of the nucleus under the agent's care.
const (
	NucleusAbsent     NucleusState = "absent"     // nothing installed yet
	NucleusInstalling NucleusState = "installing" // being fetched or unpacked
	NucleusStarting   NucleusState = "starting"   // started, not yet proven
	NucleusRunning    NucleusState = "running"    // up for the health gate's time
	NucleusFailed     NucleusState = "failed"     // ended by itself; will be started again
	NucleusStopped    NucleusState = "stopped"    // stopped on purpose
)

// NucleusReport is the state of the nucleus on the device.
type NucleusReport struct {
	ReportHeader
	State     NucleusState `json:"state"`
	Name      string       `json:"name,omitempty"`
	Version   string       `json:"version,omitempty"`
	PID       int          `json:"pid,omitempty"`
	Restarts  int          `json:"restarts"`
	LastError string       `json:"lastError,omitempty"`
}

// ComponentsReport lists what the local nucleus says it runs.
type ComponentsReport struct {
	ReportHeader
	Components []LocalComponent `json:"components"`
}

// LocalComponent is one component as seen on the device.
type LocalComponent struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	State   string `json:"state,omitempty"` // empty: the runtime does not tell
}
