package protocol

// AgentVersion is sent in every agent message. It only grows.
//
//	1  first release
//	2  host reports; more members of health, nucleus and components reports
const AgentVersion = 2

// MaxAgentMessage is the largest agent payload in bytes: the publish limit of
// AWS IoT Core (iot-api §22).
const MaxAgentMessage = 128 << 10

// Paths of the agent's calls on the device HTTPS listener. All but enrolment
// and grace renewal need the agent's client certificate.
const (
	PathEnroll          = "/agent/v1/enroll"           // POST EnrollRequest → 200 EnrollResponse, or 202 EnrollPending
	PathAgentCore       = "/agent/v1/core"             // GET → CoreAssignment
	PathCoreCertificate = "/agent/v1/core/certificate" // POST CSRRequest → CSRResponse
	PathCoreCerts       = "/agent/v1/core/certs.zip"   // GET → zip
	PathCoreConfig      = "/agent/v1/core/config"      // GET → installerConfig.yml
	PathDistributions   = "/agent/v1/distributions/"   // GET + hex SHA-256 → the archive; Range allowed
)

// CoreAssignment is what the agent is to make true on its core device.
type CoreAssignment struct {
	Core           string        `json:"core"`
	HasCertificate bool          `json:"hasCertificate"` // false: send a CSR for the core to PathCoreCertificate
	CertsZip       bool          `json:"certsZip"`       // true: fetch PathCoreCerts, the key was made by the server
	Config         bool          `json:"config"`         // true: PathCoreConfig has an installer configuration
	CAPEM          string        `json:"caPem"`
	Nucleus        *Distribution `json:"nucleus,omitempty"` // nil: the control plane offers none; leave what is there
	Agent          *AgentRelease `json:"agent,omitempty"`   // nil: the control plane offers no release of the agent
}

// Distribution is a nucleus archive that the control plane offers.
type Distribution struct {
	Name    string `json:"name"`    // aws.greengrass.Nucleus, aws.greengrass.NucleusLite, ggfleet.SimulatedNucleus
	Version string `json:"version"` // semantic version
	Digest  string `json:"digest"`  // lower-case hex SHA-256 of the archive
	Size    int64  `json:"size"`    // bytes
	Format  string `json:"format"`  // tar.gz, zip, deb or rpm

	Runtime  string `json:"runtime,omitempty"`  // classic, lite or simulated
	Platform string `json:"platform,omitempty"` // GOOS/GOARCH that it is built for; empty: any
}

// CSRRequest asks for the core's certificate; CSRResponse carries it.
type CSRRequest struct {
	CSR string `json:"csr"`
}

// CSRResponse is the signed certificate, leaf first.
type CSRResponse struct {
	CertificatePEM string `json:"certificatePem"`
}
