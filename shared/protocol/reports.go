package protocol

import "time"

// AgentTopic returns ggfleet/v1/cores/<core>/agent/<kind>, where the agent of a
// core reports. Kinds are the Report… constants.
func AgentTopic(core, kind string) string {
	return Subject{Role: RoleCore, Name: core}.ReportTopic(kind)
}

// ReportTopic is where the agent of s publishes reports of a kind.
func (s Subject) ReportTopic(kind string) string { return s.Topic("agent/" + kind) }

// AssignmentTopic is where the agent of s is told that it should ask for its
// assignment again. What the message holds means nothing.
func (s Subject) AssignmentTopic() string { return s.Topic("assignment") }

// Header begins a report of s with the given sequence that is true at the moment t.
func (s Subject) Header(sequence uint64, t time.Time) ReportHeader {
	h := ReportHeader{V: AgentVersion, Sequence: sequence, Time: t.UTC()}
	if s.Role == RoleClient {
		h.Device = s.Name
	} else {
		h.Core = s.Name
	}
	return h
}

// AgentThing returns the name of the agent's own thing beside its device's.
func AgentThing(device string) string { return device + ":agent" }

// Kinds of agent report. An agent of version 1 knows no host report, and none
// of the members that are marked with 2.
const (
	ReportConnection = "connection" // ConnectionReport; also the agent's last will
	ReportHost       = "host"       // HostReport
	ReportHealth     = "health"     // HealthReport
	ReportNucleus    = "nucleus"    // NucleusReport
	ReportComponents = "components" // ComponentsReport
)

// MaxComponents is how many components a report names at most.
const MaxComponents = 1000

// ReportHeader begins every report.
type ReportHeader struct {
	V        int       `json:"v"`                // AgentVersion of the sender
	Core     string    `json:"core,omitempty"`   // the subject when it is a core
	Device   string    `json:"device,omitempty"` // the subject when it is a client device
	Sequence uint64    `json:"sequence"`         // +1 per report, persisted; a gap means dropped reports
	Time     time.Time `json:"time"`             // when it was true, by the device's clock
}

// ConnectionReport says that the agent came or went.
type ConnectionReport struct {
	ReportHeader
	Connected    bool   `json:"connected"`
	AgentVersion string `json:"agentVersion,omitempty"`
	// TakenOverAt is when another agent with the same identity last took the session;
	// nil: that never happened. Two of them mean that a device was copied.
	TakenOverAt *time.Time `json:"takenOverAt,omitempty"`
}

// HostReport is what the machine is: facts that rarely change. Empty members
// are unknown.
type HostReport struct {
	ReportHeader
	HostFacts
}

// HostFacts are the members of a HostReport.
type HostFacts struct {
	OS           string         `json:"os,omitempty"`           // GOOS
	Distribution string         `json:"distribution,omitempty"` // PRETTY_NAME of os-release
	Kernel       string         `json:"kernel,omitempty"`
	Architecture string         `json:"architecture,omitempty"` // GOARCH
	Model        string         `json:"model,omitempty"`
	Serial       string         `json:"serial,omitempty"`
	BootID       string         `json:"bootId,omitempty"` // another one after each boot
	CPUs         int            `json:"cpus,omitempty"`
	Interfaces   []Interface    `json:"interfaces,omitempty"` // by name, without loopback
	Routes       []DefaultRoute `json:"defaultRoutes,omitempty"`

	AgentCertificateExpires *time.Time `json:"agentCertificateExpires,omitempty"`
	CoreCertificateExpires  *time.Time `json:"coreCertificateExpires,omitempty"` // of the device's own thing, core or client
}

// Interface is a network interface.
type Interface struct {
	Name      string   `json:"name"`
	Up        bool     `json:"up"`
	MAC       string   `json:"mac,omitempty"`
	Addresses []string `json:"addresses,omitempty"` // with prefix length
}

// DefaultRoute is where packets go that no other route takes.
type DefaultRoute struct {
	Interface string `json:"interface"`
	Gateway   string `json:"gateway,omitempty"`
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

	// Since version 2.
	InodesFree         *uint64  `json:"inodesFree,omitempty"` // of the file system that DiskBytes is of, as is the next two's
	Inodes             *uint64  `json:"inodes,omitempty"`
	DiskReadOnly       *bool    `json:"diskReadOnly,omitempty"`
	TemperatureCelsius *float64 `json:"temperatureCelsius,omitempty"` // the hottest sensor
	ClockSynchronized  *bool    `json:"clockSynchronized,omitempty"`  // by the kernel's word
	ClockOffsetSeconds *float64 `json:"clockOffsetSeconds,omitempty"` // device's clock less the control plane's, to about a second
	ReportsInMemory    bool     `json:"reportsInMemory,omitempty"`    // the disk takes none: they are lost with the process
	DamagedReports     uint64   `json:"damagedReports,omitempty"`     // pieces of the spool found damaged, since the agent's start
}

// DiskLow reports whether free of a disk's whole bytes are so few that somebody should
// look: less than a tenth of it and less than 5 GiB, or less than 100 MiB. A tenth of
// a large disk is room enough.
func DiskLow(free, whole uint64) bool {
	return free < 100<<20 || free < 5<<30 && free < whole/10
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

	// Since version 2.
	Runtime      string `json:"runtime,omitempty"`      // simulated, classic or lite
	Root         string `json:"root,omitempty"`         // its folder on the device
	Adopted      bool   `json:"adopted,omitempty"`      // it was there before the agent
	ConfigDigest string `json:"configDigest,omitempty"` // of its effective configuration, secrets left out: lower-case hex SHA-256
	LogBytes     int64  `json:"logBytes,omitempty"`     // of all its log files
	LogErrors    uint64 `json:"logErrors,omitempty"`    // lines that tell of errors, since the agent's start
}

// ComponentsReport lists what the local nucleus says it runs.
type ComponentsReport struct {
	ReportHeader
	Components []LocalComponent `json:"components"`

	// Since version 2.
	Source  string `json:"source,omitempty"`  // a ComponentsFrom… constant
	Omitted int    `json:"omitted,omitempty"` // components for which there was no room
}

// Where an agent knows components from.
const (
	ComponentsFromState         = "state"         // the nucleus's own state file
	ComponentsFromSystemd       = "systemd"       // the units of lite
	ComponentsFromCLI           = "cli"           // greengrass-cli component list
	ComponentsFromConfiguration = "configuration" // classic's effective configuration: versions without states
)

// LocalComponent is one component as seen on the device.
type LocalComponent struct {
	Name    string `json:"name"`
	Version string `json:"version"`         // empty: the runtime does not tell
	State   string `json:"state,omitempty"` // empty: the runtime does not tell
}
