package patching

import (
	"encoding/json"
	"time"
)

// AgentBased is the only patch type: the agent on the device runs the playbook.
const AgentBased = "agentbased"

// Status is how far a patch is (cdf-services §6.1).
type Status string

// The states of a patch. Success and Failed are final until a retry.
const (
	Created Status = "created" // waits for the device to take it
	Pending Status = "pending" // the device has taken it
	Success Status = "success"
	Failed  Status = "failed"
)

// Codes that a statusMessage begins with.
const (
	TemplateNotFound   = "TEMPLATE_NOT_FOUND"          // failed: the template does not exist (any more)
	TemplateDisabled   = "TEMPLATE_DISABLED"           // failed: the template was disabled before the device took the patch
	ActivationNotFound = "DEVICE_ACTIVATION_NOT_FOUND" // failed: the device was never activated
	InstanceNotFound   = "TARGET_INSTANCE_NOT_FOUND"   // created: activated, but its agent has not enrolled yet
	Expired            = "EXPIRED"                     // failed: not taken, or not reported, in time
	DeviceDeleted      = "DEVICE_DELETED"              // failed: the device was deleted meanwhile
	Interrupted        = "INTERRUPTED"                 // failed: the device cannot tell how the run ended
	InvalidVariables   = "INVALID_EXTRA_VARS"          // failed: an expression could not be evaluated
)

// Template is the current version of a patch template.
type Template struct {
	ID           string            `json:"id"` // of this template, never used again
	Name         string            `json:"name"`
	Version      int               `json:"versionNo"`
	PatchType    string            `json:"patchType"`
	PlaybookName string            `json:"playbookName"`
	Playbook     Playbook          `json:"playbook"`
	Description  string            `json:"description,omitempty"`
	Enabled      bool              `json:"enabled"`
	ExtraVars    map[string]string `json:"extraVars,omitempty"`
	Options      json.RawMessage   `json:"options,omitempty"` // array, kept and shown only
	CreatedAt    time.Time         `json:"createdAt"`
	UpdatedAt    time.Time         `json:"updatedAt"` // equal to CreatedAt for version 1
}

// Playbook is where the contents of a playbook are.
type Playbook struct {
	Bucket string `json:"bucket"`
	Key    string `json:"key"`
	Digest string `json:"digest"` // lower-case hex SHA-256
	Size   int64  `json:"size"`   // bytes
}

// NewTemplate is the input of CreateTemplate.
type NewTemplate struct {
	Name                 string
	PatchType            string
	PlaybookName         string // empty: Name
	PlaybookFileContents string // base64, at most MaxPlaybook bytes decoded
	Description          string
	Enabled              *bool // nil: true
	ExtraVars            map[string]string
	Options              json.RawMessage // array; nil: none
}

// TemplateChange is the input of UpdateTemplate; nil members stay as they are.
type TemplateChange struct {
	PatchType            *string
	PlaybookName         *string
	PlaybookFileContents *string // base64
	Description          *string
	Enabled              *bool
	ExtraVars            map[string]*string // merged key by key; a nil value removes the key
	Options              json.RawMessage
}

// NewTask is the input of CreateTask.
type NewTask struct {
	Patches []NewPatch // 1 to MaxPatches
}

// NewPatch asks for one run on one device.
type NewPatch struct {
	DeviceID          string            `json:"deviceId"`
	PatchTemplateName string            `json:"patchTemplateName"`
	PatchType         string            `json:"patchType,omitempty"` // empty: the template's
	ExtraVars         map[string]string `json:"extraVars,omitempty"`
}

// Task is a patch task. It has no status of its own.
type Task struct {
	ID        string    `json:"taskId"` // UUID
	Patches   int       `json:"patches"`
	CreatedAt time.Time `json:"createdAt"`
	UpdatedAt time.Time `json:"updatedAt"`
}

// Patch is one run of a playbook on one device.
type Patch struct {
	ID                string            `json:"patchId"` // UUID
	TaskID            string            `json:"taskId"`
	Seq               int               `json:"seq"` // position in the task, from 0
	DeviceID          string            `json:"deviceId"`
	PatchTemplateName string            `json:"patchTemplateName"`
	PatchType         string            `json:"patchType"`
	Status            Status            `json:"patchStatus"`
	StatusMessage     string            `json:"statusMessage,omitempty"` // begins with a code, or with how the run ended
	ExtraVars         map[string]string `json:"extraVars,omitempty"`     // as submitted
	AssociationID     string            `json:"associationId,omitempty"` // UUID of the run that the device took; empty: none (null in the API)
	CreatedAt         time.Time         `json:"createdAt"`
	UpdatedAt         time.Time         `json:"updatedAt"`

	Attempt         int       `json:"attempt"`            // from 1; each retry adds one
	Earlier         []Run     `json:"earlier,omitempty"`  // how former attempts ended, newest last, at most maxEarlier
	ExpiresAt       time.Time `json:"expiresAt,omitzero"` // of the attempt; zero once ended
	TemplateID      string    `json:"templateId,omitempty"`
	TemplateVersion int       `json:"templateVersion,omitempty"` // that this attempt runs
}

// Run is how one attempt of a patch ended.
type Run struct {
	Attempt       int       `json:"attempt"`
	Status        Status    `json:"patchStatus"`
	StatusMessage string    `json:"statusMessage,omitempty"`
	EndedAt       time.Time `json:"endedAt"`
}

// Ended reports whether the attempt is over.
func (p Patch) Ended() bool { return p.Status == Success || p.Status == Failed }

// Retry is the input of RetryPatch; empty members stay as they are.
type Retry struct {
	PatchTemplateName string
	ExtraVars         map[string]string // nil: as before
}

// Filter narrows a listing of patches.
type Filter struct {
	Status Status // empty: every one
}

// Page asks for a part of a listing.
type Page struct {
	After string // what the page before gave as next
	Count int    // 0: MaxPage
}

// Limits.
const (
	MaxPage     = 1000
	MaxPatches  = 10_000  // of one task
	MaxPlaybook = 1 << 20 // bytes
)
