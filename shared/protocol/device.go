package protocol

// Paths of the calls of a client device's agent.
const (
	PathAgentDevice       = "/agent/v1/device"             // GET → DeviceAssignment
	PathDeviceCertificate = "/agent/v1/device/certificate" // POST CSRRequest → CSRResponse
	PathDeviceCerts       = "/agent/v1/device/certs.zip"   // GET → zip
)

// PathDiscover + a thing's name tells a client device, by its own certificate,
// where its cores are: GET → Discovery. 404: it has none.
const PathDiscover = "/greengrass/discover/thing/"

// DeviceAssignment is what the agent is to make true on its client device.
type DeviceAssignment struct {
	Device         string        `json:"device"`
	HasCertificate bool          `json:"hasCertificate"` // false: send a CSR for the device to PathDeviceCertificate
	CertsZip       bool          `json:"certsZip"`       // true: fetch PathDeviceCerts, the key was made by the server
	CAPEM          string        `json:"caPem"`
	MQTTAddress    string        `json:"mqttAddress"`     // host:port of the control plane
	HTTPSURL       string        `json:"httpsUrl"`        // of the device HTTPS listener, where PathDiscover is
	Core           string        `json:"core,omitempty"`  // that it is a client device of; empty: of none now
	Agent          *AgentRelease `json:"agent,omitempty"` // nil: the control plane offers no release of the agent
}

// Discovery is the answer to PathDiscover, with the capitals of the first
// Greengrass (nucleus-contract §4.4).
type Discovery struct {
	Groups []DiscoveredGroup `json:"GGGroups"`
}

// DiscoveredGroup is a core with what it takes to connect to it.
type DiscoveredGroup struct {
	ID    string           `json:"GGGroupId"`
	Cores []DiscoveredCore `json:"Cores"`
	CAs   []string         `json:"CAs"` // PEM, one certificate each
}

// DiscoveredCore is where a core can be reached.
type DiscoveredCore struct {
	ThingARN     string               `json:"thingArn"`
	Connectivity []DiscoveredEndpoint `json:"Connectivity"`
}

// DiscoveredEndpoint is one address of a core.
type DiscoveredEndpoint struct {
	ID       string `json:"Id"`
	Host     string `json:"HostAddress"`
	Port     int32  `json:"PortNumber"`
	Metadata string `json:"Metadata"`
}
