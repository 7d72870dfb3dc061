package protocol

import "encoding/json"

// SchemaDate is the document schema that both runtimes read.
const SchemaDate = "2021-05-17"

// DeploymentDocument is what a deployment job carries (nucleus-contract §3).
// Member names are case-sensitive on both runtimes.
type DeploymentDocument struct {
	SchemaDate        string `json:"schemaDate,omitempty"`
	DeploymentID      string `json:"deploymentId"`
	DeploymentName    string `json:"deploymentName,omitempty"`
	ConfigurationARN  string `json:"configurationArn"`
	CreationTimestamp int64  `json:"creationTimestamp"` // milliseconds; never older than the last delivered to this core (trap 47)

	RequiredCapabilities []string                     `json:"requiredCapabilities,omitempty"`
	Components           map[string]DocumentComponent `json:"components"`
	FailureHandling      string                       `json:"failureHandlingPolicy,omitempty"`
	ComponentUpdate      *DocumentUpdatePolicy        `json:"componentUpdatePolicy,omitempty"`
	ConfigValidation     *DocumentValidationPolicy    `json:"configurationValidationPolicy,omitempty"`
	ParentTargetARN      string                       `json:"parentTargetArn,omitempty"`
	OnBehalfOf           string                       `json:"onBehalfOf,omitempty"`
}

// DocumentComponent is one root component of a deployment.
type DocumentComponent struct {
	Version             string                 `json:"version"`
	ConfigurationUpdate *DocumentConfiguration `json:"configurationUpdate,omitempty"`
	RunWith             *DocumentRunWith       `json:"runWith,omitempty"`
}

// DocumentConfiguration changes a component's configuration. Merge is a JSON
// object here, where the API has it as text.
type DocumentConfiguration struct {
	Merge json.RawMessage `json:"merge,omitempty"`
	Reset []string        `json:"reset,omitempty"`
}

// DocumentRunWith says as whom and within which limits a component runs. A
// present empty user means the default user, an absent one means keep.
type DocumentRunWith struct {
	PosixUser            *string         `json:"posixUser,omitempty"`
	WindowsUser          *string         `json:"windowsUser,omitempty"`
	SystemResourceLimits *DocumentLimits `json:"systemResourceLimits,omitempty"`
}

// DocumentLimits are memory in kilobytes and a number of CPUs.
type DocumentLimits struct {
	Memory *int64   `json:"memory,omitempty"`
	CPUs   *float64 `json:"cpus,omitempty"`
}

// DocumentUpdatePolicy tells whether components are asked before they stop.
type DocumentUpdatePolicy struct {
	Timeout int    `json:"timeout"` // seconds
	Action  string `json:"action"`
}

// DocumentValidationPolicy is the time components have to refuse configuration.
type DocumentValidationPolicy struct {
	Timeout int `json:"timeout"` // seconds
}
