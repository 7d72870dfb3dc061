package greengrass

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Status of a deployment (greengrassv2-api §7).
type Status string

// The statuses. All but ACTIVE are final. COMPLETED and FAILED are those of a
// thing's deployment: its one execution ended.
const (
	StatusActive    Status = "ACTIVE"    // current, rolling out or waiting for cores
	StatusInactive  Status = "INACTIVE"  // a newer revision took over
	StatusCanceled  Status = "CANCELED"  // stopped by an operator or an abort criterion
	StatusCompleted Status = "COMPLETED" // the core reported success
	StatusFailed    Status = "FAILED"    // the core failed, refused, or took too long
)

// Deployment is one revision of a target's deployment.
type Deployment struct {
	ID         string               `json:"id"`
	Name       string               `json:"name,omitempty"`
	Kind       names.TargetKind     `json:"targetKind"`
	Target     string               `json:"target"`
	Revision   int                  `json:"revision"`
	JobID      string               `json:"jobId"`
	Status     Status               `json:"status"`
	Components map[string]Component `json:"components"`
	Policies   Policies             `json:"deploymentPolicies"`
	JobConfig  JobConfig            `json:"iotJobConfiguration"`
	Tags       map[string]string    `json:"tags,omitempty"`
	Token      string               `json:"token,omitempty"` // see NewDeployment
	// Parent is the thing group on whose behalf this sub-deployment is; "" for
	// all others (greengrassv2-api §8).
	Parent    string    `json:"parent,omitempty"`
	CreatedAt time.Time `json:"createdAt"`
}

// Component is one root component of a deployment, as the API has it.
type Component struct {
	Version string               `json:"componentVersion"` // exact
	Update  *ConfigurationUpdate `json:"configurationUpdate,omitempty"`
	RunWith *RunWith             `json:"runWith,omitempty"`
}

// UnmarshalJSON also reads what the version before stored: merge and reset beside the
// version.
func (c *Component) UnmarshalJSON(raw []byte) error {
	type plain Component
	var in struct {
		plain
		ConfigurationUpdate
	}
	if err := json.Unmarshal(raw, &in); err != nil {
		return err
	}
	*c = Component(in.plain)
	if former := in.ConfigurationUpdate; c.Update == nil && (former.Merge != nil || len(former.Reset) > 0) {
		c.Update = &former
	}
	return nil
}

// ConfigurationUpdate changes a component's configuration, reset first.
type ConfigurationUpdate struct {
	Merge *string  `json:"merge,omitempty"` // text that holds a JSON object; an object in the document
	Reset []string `json:"reset,omitzero"`  // JSON pointers
}

// RunWith says as whom and within which limits a component runs.
type RunWith struct {
	PosixUser   *string                  `json:"posixUser,omitempty"`
	WindowsUser *string                  `json:"windowsUser,omitempty"`
	Limits      *protocol.DocumentLimits `json:"systemResourceLimits,omitempty"`
}

// Policies of a deployment, defaults filled in (greengrassv2-api §10).
type Policies struct {
	FailureHandling   string `json:"failureHandlingPolicy"`
	UpdateAction      string `json:"updateAction"`
	UpdateTimeout     int    `json:"updateTimeoutInSeconds"`
	ValidationTimeout int    `json:"validationTimeoutInSeconds"`
}

// DefaultPolicies are what a deployment has where it names none.
func DefaultPolicies() Policies {
	return Policies{FailureHandling: "ROLLBACK", UpdateAction: "NOTIFY_COMPONENTS", UpdateTimeout: 60, ValidationTimeout: 30}
}

// target is what is known of a thing or group that deployments were aimed at. It
// outlives all of them, since revisions never go back.
type target struct {
	Revision int `json:"revision"` // of the newest deployment ever made
	// The latest deployment that remains; empty when all were deleted.
	DeploymentID string `json:"deploymentId,omitempty"`
	JobID        string `json:"jobId,omitempty"`
	Status       Status `json:"status,omitempty"`
	// Parent is the one group on whose behalf this one had sub-deployments.
	Parent string `json:"parent,omitempty"`
}

// CoreDevice is what a core device last reported, merged.
type CoreDevice struct {
	Thing        string               `json:"thing"`
	Status       string               `json:"status"` // HEALTHY, UNHEALTHY
	Version      string               `json:"version"`
	Platform     string               `json:"platform"`
	Architecture string               `json:"architecture"`
	Runtime      string               `json:"runtime,omitempty"`
	Components   []InstalledComponent `json:"components"`
	LastStatusAt time.Time            `json:"lastStatusAt"`
	CreatedAt    time.Time            `json:"createdAt"`
	// Results is what fleet status messages said of deployments, by deployment
	// id: the detail that lite's job update lacks. Bounded by maxResults.
	Results []Result `json:"results,omitempty"`
}

// InstalledComponent is one component on a core.
type InstalledComponent struct {
	Name           string    `json:"name"`
	Version        string    `json:"version"`
	State          string    `json:"state"`
	Reason         string    `json:"reason,omitempty"`
	Codes          []string  `json:"codes,omitempty"`
	IsRoot         bool      `json:"isRoot"`
	ARNs           []string  `json:"arns,omitempty"` // of the configurations it belongs to
	LastReportedAt time.Time `json:"lastReportedAt"`
	ChangedAt      time.Time `json:"changedAt,omitzero"` // when it got this state in this version
	// Source is the id of the deployment that installed it last, or SourceLocal; ""
	// when the messages do not tell.
	Source string `json:"source,omitempty"`
}

// SourceLocal is the source of a component that a deployment on the device itself
// installed (greengrassv2-api §4, InstalledComponent).
const SourceLocal = "LOCAL"

// Result is how a deployment ended, as the device's status message says.
type Result struct {
	DeploymentID string   `json:"deploymentId"`
	Status       string   `json:"status"`
	Detailed     string   `json:"detailed,omitempty"`
	Cause        string   `json:"cause,omitempty"`
	ErrorStack   []string `json:"errorStack,omitempty"`
	ErrorTypes   []string `json:"errorTypes,omitempty"`
}

const (
	prefix           = state.Root + "greengrass/"
	maxResults       = 10
	maxComponents    = 1000
	maxReasonLength  = 1000 // characters, as the API shows them
	maxCode          = 255  // characters of a code
	maxListed        = 50   // codes, or configurations, of one component or result
	deploymentPrefix = prefix + "deployment/"
	corePrefix       = prefix + "core/"
	statusPrefix     = prefix + "status/"   // one small record for each change of a core's status
	assocPrefix      = prefix + "assoc/"    // <core>/<device>
	coresOfPrefix    = prefix + "assoc-of/" // <device>/<core>: the same facts by device
	deployedPrefix   = prefix + "deployed/" // <group>/<core>
)

func deploymentKey(id string) string { return deploymentPrefix + id }
func coreKey(thing string) string    { return corePrefix + thing }
func targetKey(k names.TargetKind, name string) string {
	return prefix + "target/" + string(k) + "/" + name
}

// revisionKey holds the id of one revision: the target's history in order.
func revisionKey(k names.TargetKind, name string, revision int) string {
	return fmt.Sprintf("%s%010d", revisionPrefix(k, name), revision)
}

func revisionPrefix(k names.TargetKind, name string) string {
	return prefix + "revision/" + string(k) + "/" + name + "/"
}

// subKey marks a group whose ACTIVE deployment is on behalf of parent.
func subKey(parent, group string) string { return prefix + "sub/" + parent + "/" + group }
