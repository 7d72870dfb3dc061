package fleet

import (
	"encoding/json"
	"time"
)

// NewCoreTask is the input of CreateCoreTask (cdf-services §2.2 E8).
type NewCoreTask struct {
	Type        string // CoreTaskCreate
	CoreVersion string
	Cores       []NewCore
	Options     json.RawMessage // of Delete: DeleteOptions
}

// DeleteOptions of a task of type Delete (cdf-services §2.2, §2.4).
type DeleteOptions struct {
	DeprovisionCores         bool `json:"deprovisionCores"`
	DeprovisionClientDevices bool `json:"deprovisionClientDevices"`
}

// Types of core and device task.
const (
	CoreTaskCreate = "Create"
	CoreTaskDelete = "Delete"
)

// NewCore is one core to create.
type NewCore struct {
	Name                      string            `json:"name"`
	ProvisioningTemplate      string            `json:"provisioningTemplate"`
	ProvisioningParameters    map[string]string `json:"provisioningParameters,omitempty"`
	CDFProvisioningParameters json.RawMessage   `json:"cdfProvisioningParameters,omitempty"`
	ConfigFileGenerator       string            `json:"configFileGenerator,omitempty"`
	// ConfigOverlay is merged into what the generator makes (docs/generators.md).
	ConfigOverlay json.RawMessage `json:"configOverlay,omitempty"`
	// Claim leaves the thing to the device, which claims it by its own fleet
	// provisioning: only the record and the installer configuration are made.
	Claim bool `json:"claim,omitempty"`
}

// TaskStatus is the status of a task and of its items.
type TaskStatus string

// The statuses (cdf-services §3.2).
const (
	TaskWaiting    TaskStatus = "Waiting"
	TaskInProgress TaskStatus = "InProgress"
	TaskSuccess    TaskStatus = "Success"
	TaskFailure    TaskStatus = "Failure"
)

// TaskItem is the state of one core in a task.
type TaskItem struct {
	Name          string
	Status        TaskStatus
	StatusMessage string
	CreatedAt     time.Time
	UpdatedAt     time.Time
}

// TaskState is what every task shows.
type TaskState struct {
	ID              string
	Status          TaskStatus
	StatusMessage   string
	CreatedAt       time.Time
	UpdatedAt       time.Time // zero while Waiting
	BatchesComplete *int      // nil until the items are known
	BatchesTotal    *int
	Items           int // 0 until they are known
	Succeeded       int // items of ended batches, like Failed
	Failed          int
	Next            string // After of the next page of the items that are shown; empty: none follows
}

// CoreTask is a core task with its items.
type CoreTask struct {
	TaskState
	Type        string
	CoreVersion string
	Options     json.RawMessage
	Cores       []TaskItem
}

// NewDeploymentTask is the input of CreateDeploymentTask (cdf-services §2.5 E19).
type NewDeploymentTask struct {
	TemplateName    string
	TemplateVersion int // 0: the latest at this moment
	Targets         Targets
	IoTJobConfig    json.RawMessage
	// Force delivers the deployment anew to cores that have it already.
	Force bool
	// PreStage lets cores wait in the group that never reported to the cloud; nil:
	// as the service is set.
	PreStage *bool
}

// Targets names what a deployment task is aimed at. Raw keeps the members as
// submitted, unknown ones included, because the answer repeats them.
type Targets struct {
	ThingNames      []string        `json:"thingNames,omitempty"`
	ThingGroupNames []string        `json:"thingGroupNames,omitempty"`
	DeviceIDs       []string        `json:"assetLibraryDeviceIds,omitempty"`
	GroupPaths      []string        `json:"assetLibraryGroupPaths,omitempty"`
	Query           json.RawMessage `json:"assetLibraryQuery,omitempty"`
	Raw             json.RawMessage `json:"-"`
}

// DeploymentTask is a deployment task with its items.
type DeploymentTask struct {
	TaskState
	Template     TemplateRef
	Targets      json.RawMessage // as submitted
	IoTJobConfig json.RawMessage
	Deployments  []Deployment
	Force        bool
	PreStage     bool
	RetryOf      string        // the task whose failed cores this one does again
	Rollout      *RolloutState // nil: no pace, no abort criteria, not stopped
}

// RolloutState is how far a deployment task with a pace is.
type RolloutState struct {
	RatePerMinute float64 // of joins now; 0: no limit
	Notified      int     // cores that joined
	TakenUp       int     // of those, executions that the core took up
	Succeeded     int
	Failed        int
	Rejected      int
	TimedOut      int
	NextAt        time.Time // no join before; zero: at once
	Stopped       string    // why no further core joins: "" while it goes on
	StoppedAt     time.Time
}

// Deployment is one core of a deployment task.
type Deployment struct {
	TaskItem
	TaskID            string
	Template          TemplateRef
	DeploymentStatus  DeploymentStatus // what the device made of it, as far as known
	DeploymentMessage string           // why that is Failure
	// Waiting says what an item or a core waits for, in words; empty: for nothing.
	Waiting string
}

// Summary counts cores by template version (cdf-services §2.6, §3.10).
type Summary struct {
	Templates map[string]TemplateSummary `json:"templates"`
	Agents    AgentCounts                `json:"-"`
}

// TemplateSummary counts the cores of one template.
type TemplateSummary struct {
	LatestVersion int             `json:"latestVersion"`
	Versions      map[int]Counter `json:"versions"`
}

// Counter counts the cores of one template version.
type Counter struct {
	DesiredInUse             int `json:"desiredInUse"`
	ReportedInUse            int `json:"reportedInUse"`
	LastDeploymentSuccess    int `json:"lastDeploymentSuccess"`
	LastDeploymentFailed     int `json:"lastDeploymentFailed"`
	LastDeploymentInProgress int `json:"lastDeploymentInProgress"`
}

// NewDeviceTask is the input of CreateDeviceTask (cdf-services §2.4 E15).
type NewDeviceTask struct {
	Core    string
	Type    string // CoreTaskCreate or CoreTaskDelete
	Devices []NewDevice
	Options json.RawMessage // of Delete: DeleteOptions
}

// NewDevice is one client device to create or delete.
type NewDevice struct {
	Name                      string            `json:"name"`
	ProvisioningTemplate      string            `json:"provisioningTemplate,omitempty"`
	ProvisioningParameters    map[string]string `json:"provisioningParameters,omitempty"`
	CDFProvisioningParameters json.RawMessage   `json:"cdfProvisioningParameters,omitempty"`
}

// DeviceTask is a device task with its items.
type DeviceTask struct {
	TaskState
	Core    string
	Type    string
	Options json.RawMessage
	Devices []TaskItem
}
