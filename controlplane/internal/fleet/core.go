package fleet

import (
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// NoTemplate is the template name of a core that was never deployed to.
const NoTemplate = "None"

// DeploymentStatus is how far the desired template is on a core
// (cdf-services §3.9).
type DeploymentStatus string

// The statuses.
const (
	DeploymentNone       DeploymentStatus = "None"       // never deployed to
	DeploymentInProgress DeploymentStatus = "InProgress" // started, the core has not reported yet
	DeploymentSuccess    DeploymentStatus = "Success"    // the core reported success
	DeploymentFailure    DeploymentStatus = "Failure"    // the core reported failure, or it could not be started
)

// Core is the fleet's record of a core device.
type Core struct {
	Name      string              `json:"name"`
	Artifacts map[string]Artifact `json:"artifacts,omitempty"` // by ArtifactCerts, ArtifactConfig
	Desired   TemplateRef         `json:"desired"`
	Reported  TemplateRef         `json:"reported"`
	// ReportedOrder is cloud.Execution.Order of the success that Reported is from:
	// what came before it is old news, however often it is read.
	ReportedOrder int64 `json:"reportedOrder,omitempty"`

	DeploymentStatus  DeploymentStatus `json:"deploymentStatus"`
	DeploymentMessage string           `json:"deploymentStatusMessage,omitempty"`
	DeploymentTask    string           `json:"deploymentTask,omitempty"` // the last task that named this core
	Execution         ExecutionRef     `json:"execution"`                // what the last task started
	// Paced is set if the last task counts, in its rollout, what becomes of Execution.
	Paced   bool             `json:"paced,omitempty"`
	TakenUp bool             `json:"takenUp,omitempty"` // the core began with Execution; not kept unless Paced
	Past    []PastDeployment `json:"past,omitempty"`    // of earlier tasks, newest first

	ProvisioningTemplate string `json:"provisioningTemplate,omitempty"`
	ConfigGenerator      string `json:"configFileGenerator,omitempty"`
	CoreVersion          string `json:"coreVersion,omitempty"`
	CertificatePending   bool   `json:"certificatePending,omitempty"` // completed by the CSR at enrolment
	Claim                bool   `json:"claim,omitempty"`              // there is no thing until the device claims it

	Pending   *PendingCertificate   `json:"pending,omitempty"`   // while CertificatePending
	Completed *CompletedCertificate `json:"completed,omitempty"` // after it

	CreatedAt time.Time `json:"createdAt"`
	UpdatedAt time.Time `json:"updatedAt"` // zero until the first update
}

// PastDeployment is how far a core was with an earlier task when the next one
// named it.
type PastDeployment struct {
	Task      string           `json:"task"`
	Status    DeploymentStatus `json:"status"`
	Message   string           `json:"message,omitempty"`  // why, its first 256 bytes
	Execution ExecutionRef     `json:"execution,omitzero"` // what the task started
}

// maxPast is how many earlier tasks a core's record keeps.
const maxPast = 5

// remember files the outcome of the task so far before the next one.
func (c *Core) remember() {
	if c.DeploymentTask == "" {
		return
	}
	past := make([]PastDeployment, 0, maxPast)
	past = append(past, PastDeployment{
		Task: c.DeploymentTask, Status: c.DeploymentStatus, Execution: c.Execution,
		Message: fault.Clip(c.DeploymentMessage, 256),
	})
	c.Past = append(past, c.Past[:min(len(c.Past), maxPast-1)]...)
}

// Kinds of artifact of a core.
const (
	ArtifactCerts  = "certs"
	ArtifactConfig = "config"
)

// Artifact says where an object of a core lies.
type Artifact struct {
	Bucket    string    `json:"bucket"`
	Key       string    `json:"key"`
	CreatedAt time.Time `json:"createdAt"`
}

// ExecutionRef names one delivery of a deployment to a core.
type ExecutionRef struct {
	JobID  string `json:"jobId,omitempty"`
	Number int64  `json:"number,omitempty"`
}

// TemplateRef names a template version; the zero value stands for none.
type TemplateRef struct {
	Name    string `json:"name"`
	Version int    `json:"version"`
}

// CoreDevice is what the cloud knows of a core's device, in the words of the ports.
type CoreDevice = cloud.CoreDevice

// InstalledComponent is a component that the device reported.
type InstalledComponent = cloud.InstalledComponent

// EffectiveDeployment is a deployment as it stands on one core.
type EffectiveDeployment = cloud.EffectiveDeployment

// CoreView is a core with what the cloud and its agent know of its device.
type CoreView struct {
	Core
	Device CoreDevice
	Agent  *AgentReport // nil: no agent ever reported
}

// CoreFilter selects cores.
type CoreFilter struct {
	TemplateName    string // desired template; empty: any
	TemplateVersion int    // with TemplateName; 0: any
	FailedOnly      bool
	Agent           string // AgentConnected, AgentOffline or one of telemetry.Warnings; empty: any, or none
}

// Page asks for one page of a list.
type Page struct {
	After string // the last key of the page before
	Count int    // 0: the service's own limit of 1,000
}

// MaxPage is the largest page, and the page of callers that name no count.
const MaxPage = 1000
