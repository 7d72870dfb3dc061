package fleetapi

import (
	"context"
	"io"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/access"
	"github.com/ggfleet/ggfleet/controlplane/internal/fleet"
	"github.com/ggfleet/ggfleet/controlplane/internal/provisioning"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Errors of every port carry a kind of shared/fault; one without a kind is
// answered with 500.

// Templates is what the edge needs of the service of templates.
type Templates interface {
	// CreateTemplate returns fault.Exists if the name is taken.
	CreateTemplate(ctx context.Context, t fleet.NewTemplate) (fleet.Template, error)
	// UpdateTemplate writes the next version; fault.NotFound if there is none,
	// fault.Stale if t.IfVersion is set and not the latest.
	UpdateTemplate(ctx context.Context, name string, t fleet.NewTemplate) (fleet.Template, error)
	// Template returns the latest version.
	Template(ctx context.Context, name string) (fleet.Template, error)
	TemplateVersion(ctx context.Context, name string, version int) (fleet.Template, error)
	// Templates returns the latest version of each in name order; next is the
	// After of the following page, "" on the last.
	Templates(ctx context.Context, p fleet.Page) (_ []fleet.Template, next string, _ error)
	// TemplateVersions pages by version number, written as text in After and next.
	TemplateVersions(ctx context.Context, name string, p fleet.Page) (_ []fleet.Template, next string, _ error)
	// DeleteTemplate treats ifVersion like UpdateTemplate.
	DeleteTemplate(ctx context.Context, name string, ifVersion int) error
}

// Cores is what the edge needs of the service of core devices.
type Cores interface {
	// CreateCoreTask returns the task of an earlier call with the same
	// idempotencyKey, if that is not empty.
	CreateCoreTask(ctx context.Context, t fleet.NewCoreTask, idempotencyKey string) (id string, _ error)
	// CoreTask returns a task with the page of its items; the zero page has all.
	CoreTask(ctx context.Context, id string, p fleet.Page) (fleet.CoreTask, error)
	// CoreTasks returns tasks without their items.
	CoreTasks(ctx context.Context, p fleet.Page) (_ []fleet.CoreTask, next string, _ error)
	Core(ctx context.Context, name string) (fleet.CoreView, error)
	Cores(ctx context.Context, f fleet.CoreFilter, p fleet.Page) (_ []fleet.Core, next string, _ error)
	// Agent returns what the agent of a core said last; nil when none ever did.
	Agent(name string) *fleet.AgentReport
}

// Devices is what the edge needs of the service of client devices.
type Devices interface {
	// CreateDeviceTask treats idempotencyKey like Cores.CreateCoreTask.
	CreateDeviceTask(ctx context.Context, t fleet.NewDeviceTask, idempotencyKey string) (id string, _ error)
	// DeviceTask treats the page like Cores.CoreTask.
	DeviceTask(ctx context.Context, id string, p fleet.Page) (fleet.DeviceTask, error)
	// DeviceTasks returns tasks without their items: of one core, or of all when
	// core is empty.
	DeviceTasks(ctx context.Context, core string, p fleet.Page) (_ []fleet.DeviceTask, next string, _ error)
	Device(ctx context.Context, name string) (fleet.Device, error)
	// Agent returns what the agent of a client device said last; nil when none ever did.
	Agent(name string) *fleet.AgentReport
	Devices(ctx context.Context, f fleet.DeviceFilter, p fleet.Page) (_ []fleet.Device, next string, _ error)
	DeleteDevice(ctx context.Context, name string, d fleet.DeleteDevice) error
}

// Deployments is what the edge needs of the service of deployment tasks.
type Deployments interface {
	// CreateDeploymentTask treats idempotencyKey like Cores.CreateCoreTask.
	CreateDeploymentTask(ctx context.Context, t fleet.NewDeploymentTask, idempotencyKey string) (id string, _ error)
	// DeploymentTask treats the page like Cores.CoreTask.
	DeploymentTask(ctx context.Context, id string, p fleet.Page) (fleet.DeploymentTask, error)
	// CancelDeploymentTask returns fault.Conflict for a task that has ended.
	CancelDeploymentTask(ctx context.Context, id string) error
	// RetryDeploymentTask makes a task for the failed cores of another one;
	// fault.Conflict if none failed.
	RetryDeploymentTask(ctx context.Context, id, idempotencyKey string) (newID string, _ error)
	// DeleteDeploymentTask returns fault.Conflict for a task that has not ended.
	DeleteDeploymentTask(ctx context.Context, id string) error
	// DeploymentTasks returns tasks without their items.
	DeploymentTasks(ctx context.Context, p fleet.Page) (_ []fleet.DeploymentTask, next string, _ error)
	DeploymentTaskCores(ctx context.Context, id string, p fleet.Page) (_ []fleet.Deployment, next string, _ error)
	DeploymentTaskCore(ctx context.Context, id, core string) (fleet.Deployment, error)
	// CoreDeployments returns the newest first.
	CoreDeployments(ctx context.Context, core string, p fleet.Page) (_ []fleet.Deployment, next string, _ error)
	Summary(ctx context.Context) (fleet.Summary, error)
}

// Components is the component store, behind which the Greengrass V2 API stands
// too.
type Components interface {
	// CreateComponentVersion stores a recipe, JSON or YAML, in the place
	// of a stub or of a version whose artifacts never came; fault.Exists if that
	// version is complete.
	CreateComponentVersion(ctx context.Context, recipe []byte) (ComponentVersion, error)
	// PutArtifact stores what r yields under the recipe's artifact name. size is
	// in bytes, -1 when the caller did not say.
	PutArtifact(ctx context.Context, name, version, artifact string, r io.Reader, size int64) (ComponentVersion, error)
	// Components returns the latest version of each, in name order.
	Components(ctx context.Context, p fleet.Page) (_ []ComponentVersion, next string, _ error)
	ComponentVersions(ctx context.Context, name string, p fleet.Page) (_ []ComponentVersion, next string, _ error)
	ComponentVersion(ctx context.Context, name, version string) (ComponentVersion, error)
	DeleteComponentVersion(ctx context.Context, name, version string) error
}

// ComponentVersion is one version of a component.
type ComponentVersion struct {
	ARN              string
	Name             string
	Version          string
	State            string
	Stub             bool // a name and a version without a real recipe
	Publisher        string
	Description      string
	MissingArtifacts []string
	CreatedAt        time.Time
}

// ProvisioningTemplates keeps provisioning templates as they were written.
type ProvisioningTemplates interface {
	// PutProvisioningTemplate creates or replaces; fault.Invalid if document is
	// no provisioning template, fault.Stale if m does not hold.
	PutProvisioningTemplate(ctx context.Context, id string, document []byte, m provisioning.Match) (etag string, _ error)
	ProvisioningTemplate(ctx context.Context, id string) (document []byte, etag string, _ error)
	ProvisioningTemplates(ctx context.Context) ([]ProvisioningTemplateInfo, error)
	// DeleteProvisioningTemplate returns fault.NotFound for an unknown one, and
	// fault.Stale if m does not hold.
	DeleteProvisioningTemplate(ctx context.Context, id string, m provisioning.Match) error
}

// ProvisioningTemplateInfo describes a provisioning template.
type ProvisioningTemplateInfo struct {
	ID        string
	Size      int64 // bytes
	UpdatedAt time.Time
}

// Activations lets devices enrol (spec cdf-services §6.2).
type Activations interface {
	// CreateActivation replaces an activation that the device has.
	CreateActivation(ctx context.Context, a NewActivation) (IssuedActivation, error)
	Activation(ctx context.Context, id string) (Activation, error)
	// DeleteActivation may return fault.NotFound; the edge answers 204 to that.
	DeleteActivation(ctx context.Context, id string) error
}

// NewActivation is the input of CreateActivation.
type NewActivation struct {
	DeviceID      string
	ValidFor      time.Duration
	Registrations int           // how often it can be used, 1 or more
	Role          protocol.Role // that the device must have; empty: either
}

// IssuedActivation is an activation with its code, which nobody can read again.
type IssuedActivation struct {
	ID         string
	Code       string
	Region     string
	Enrollment string // protocol.Enrollment as text; a secret
}

// Activation is an activation as it stands.
type Activation struct {
	ID                string
	DeviceID          string
	CreatedAt         time.Time
	UpdatedAt         time.Time // zero until the first use
	ExpiresAt         time.Time
	RegistrationLimit int
	Registrations     int
	Role              protocol.Role // of the device; empty: there is none yet
}

// Authenticator says who holds a token of this API.
type Authenticator interface {
	// Authenticate returns fault.Unauthenticated for a token that it does not
	// know. It compares in constant time.
	Authenticate(ctx context.Context, token string) (access.Principal, error)
}

// Tokens manages the tokens of this API.
type Tokens interface {
	// Create returns the token's text, which nobody can read again;
	// fault.Exists if the name is taken.
	Create(ctx context.Context, name string, role access.Role) (logx.Secret, error)
	List(ctx context.Context) ([]access.Token, error)
	Revoke(ctx context.Context, name string) error
}

// AccessKeys manages the access keys of the AWS endpoint.
type AccessKeys interface {
	// Create returns the key with its secret, which the edge shows once. No
	// role means access.Admin.
	Create(ctx context.Context, description string, role access.Role) (access.Key, error)
	List(ctx context.Context) ([]access.Key, error)
	Revoke(ctx context.Context, id string) error
}

// System is the server as its callers see it.
type System interface {
	Info(ctx context.Context) (Info, error)
	CA(ctx context.Context) (CA, error)
	// Ready returns nil when everything that the server needs is there.
	Ready(ctx context.Context) error
}

// Info describes the server.
type Info struct {
	Version     string
	Commit      string // may be empty
	Region      string
	Account     string
	Bucket      string
	PrivateCA   string // ARN; may be empty
	PrivateCAID string
	Addresses   map[string]string // by Address…; URLs, host:port for MQTT
}

// Keys of Info.Addresses.
const (
	AddressAPI       = "api"
	AddressAWS       = "aws"
	AddressMQTT      = "mqtt"
	AddressDevice    = "device"
	AddressArtifacts = "artifacts"
)

// CA describes the certificate authority of devices and servers.
type CA struct {
	ID                string
	RootFingerprint   string // lower-case hex SHA-256 of the certificate
	IssuerFingerprint string
	BundlePEM         []byte // root first
}
