package fleet

import (
	"encoding/json"
	"time"
)

// Template is one immutable version of a named list of components
// (cdf-services §2.1).
type Template struct {
	Name       string              `json:"name"`
	Version    int                 `json:"version"`
	Components []TemplateComponent `json:"components"`
	// JobConfig and Policies are handed to the deployment as they were given.
	JobConfig json.RawMessage     `json:"jobConfig,omitempty"`
	Policies  json.RawMessage     `json:"deploymentPolicies,omitempty"`
	Deployed  *TemplateDeployment `json:"deployment,omitempty"`
	CreatedAt time.Time           `json:"createdAt"` // of version 1
	UpdatedAt time.Time           `json:"updatedAt"` // zero for version 1
}

// TemplateComponent is one component of a template, in the order submitted.
type TemplateComponent struct {
	Key     string                 `json:"key"`
	Version string                 `json:"version"`
	Config  *TemplateConfiguration `json:"configurationUpdate,omitempty"`
	RunWith *TemplateRunWith       `json:"runWith,omitempty"`
}

// TemplateConfiguration changes a component's configuration.
type TemplateConfiguration struct {
	Merge string   `json:"merge,omitempty"` // text holding a JSON object
	Reset []string `json:"reset,omitempty"` // JSON pointers
}

// TemplateRunWith says as whom a component runs.
type TemplateRunWith struct {
	PosixUser string `json:"posixUser,omitempty"`
}

// TemplateDeployment is where a template version was made a deployment: once,
// at the first core that was sent there.
type TemplateDeployment struct {
	ID         string `json:"id"`
	ThingGroup string `json:"thingGroupName"`
	JobID      string `json:"jobId"`
}

// NewTemplate is the input of CreateTemplate and UpdateTemplate.
type NewTemplate struct {
	Name       string
	Components []TemplateComponent
	JobConfig  json.RawMessage
	Policies   json.RawMessage
	// IfVersion, if set, makes UpdateTemplate fail with fault.Stale unless it is
	// the latest version.
	IfVersion int
}
