package protocol

import "time"

// AgentTopic returns ggfleet/v1/cores/<core>/agent/<kind>, where the agent of a
// core reports. Kinds are the Report… constants.
func AgentTopic(core, kind string) string {
	return Subject{Role: RoleCore, Name: core}.Topic("agent/" + kind)
}

// AgentThing returns the name of the agent's own thing beside its device's.
func AgentThing(device string) string { return device + ":agent" }

// Kinds of agent report.
const (
	ReportConnection = "connection" // ConnectionReport; also the agent's last will
	ReportHealth     = "health"     // HealthReport
	ReportNucleus    = "nucleus"    // NucleusReport
	ReportComponents = "components" // ComponentsReport
)

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
