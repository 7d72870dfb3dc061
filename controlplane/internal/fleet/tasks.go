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
	Options     json.RawMessage
}

// Types of core task. Delete comes with the whole fleet service.
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
}

// Targets names what a deployment task is aimed at. Raw keeps the members as
// submitted, unknown ones included, because the answer repeats them.
type Targets struct {
	ThingNames      []string        `json:"thingNames,omitempty"`
	ThingGroupNames []string        `json:"thingGroupNames,omitempty"`
	Raw             json.RawMessage `json:"raw"`
}

// DeploymentTask is a deployment task with its items.
type DeploymentTask struct {
	TaskState
	Template     TemplateRef
	Targets      json.RawMessage // as submitted
	IoTJobConfig json.RawMessage
	Deployments  []Deployment
}

// Deployment is one core of a deployment task.
type Deployment struct {
	TaskItem
	TaskID           string
	Template         TemplateRef
	DeploymentStatus DeploymentStatus // what the device made of it, as far as known
}

// Summary counts cores by template version (cdf-services §2.6, §3.10).
type Summary struct {
	Templates map[string]TemplateSummary `json:"templates"`
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
