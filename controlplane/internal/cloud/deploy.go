package cloud

import (
	"context"
	"encoding/json"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
)

// Components is what a template asks of the component store.
type Components interface {
	// Deployable returns nil if the version exists and can be deployed, else an
	// error of kind fault.NotFound or fault.Invalid that names it.
	Deployable(ctx context.Context, name, version string) error
}

// Deployments aims deployments at thing groups and moves cores between them.
type Deployments interface {
	// Ensure makes the group and its deployment, once for each token: the same
	// token again gives the same deployment as long as it is active.
	Ensure(ctx context.Context, d GroupDeployment, token string) (DeploymentRef, error)
	// Move puts the core into group join and out of every other group that leave
	// names, as ONE change, and calls commit once with what belongs to it. The
	// execution is the core's for join's deployment. A core that is there
	// already keeps its execution unless again is set.
	Move(ctx context.Context, core string, leave func(group string) bool, join string, again bool, commit func(*state.Batch, Execution) error) error
	// Members calls each for every thing of the group, in name order; an unknown
	// group is fault.NotFound.
	Members(ctx context.Context, group string, each func(thing string) error) error
	// Results calls handle with executions that ended, in order per core, each
	// at least once, until ctx is done. from is the cursor of a former call, or
	// "" for everything that is still known.
	Results(ctx context.Context, from string, handle func(results []Execution, cursor string) error) error
}

// GroupDeployment is a deployment to be aimed at a group.
type GroupDeployment struct {
	Group       string
	Name        string
	Description string
	Components  []DeployComponent
	JobConfig   json.RawMessage   // iotJobConfiguration as the API has it
	Policies    json.RawMessage   // deploymentPolicies as the API has it
	Tags        map[string]string // of group and deployment
}

// DeployComponent is one root component.
type DeployComponent struct {
	Name      string
	Version   string
	Merge     string
	Reset     []string
	PosixUser string
}

// DeploymentRef names a deployment.
type DeploymentRef struct {
	ID    string
	JobID string
}

// Execution is a deployment on one core.
type Execution struct {
	Core     string
	Group    string // empty: the deployment is aimed at the thing itself
	JobID    string
	Number   int64 // counts the executions of one job on one core
	Status   string
	Detailed string // detailed-deployment-status, as the device said
	Cause    string
	Ended    bool
}

// CoreDevices tells what the cloud knows of running core devices.
type CoreDevices interface {
	// HasCore reports whether the device ever reported.
	HasCore(ctx context.Context, name string) (bool, error)
	// Core returns fault.NotFound if the device never reported.
	Core(ctx context.Context, name string) (CoreDevice, error)
}

// CoreDevice is what the cloud knows of the running device.
type CoreDevice struct {
	Status               string // HEALTHY, UNHEALTHY, UNKNOWN
	CoreVersion          string
	Platform             string
	Architecture         string
	Runtime              string
	LastStatusUpdate     time.Time
	Connected            bool
	LastSeen             time.Time
	Installed            []InstalledComponent
	EffectiveDeployments []EffectiveDeployment
	Tags                 map[string]string
}

// InstalledComponent is a component that the device reported.
type InstalledComponent struct {
	Name    string
	Version string
	State   string // lifecycle state
	Reason  string
	IsRoot  bool
}

// EffectiveDeployment is a deployment as it stands on one core.
type EffectiveDeployment struct {
	DeploymentID   string
	DeploymentName string
	JobID          string
	JobARN         string
	Description    string
	TargetARN      string
	Status         string
	Reason         string
	CreatedAt      time.Time
	UpdatedAt      time.Time
}
