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
	// Move puts the core into group m.Join and out of every other group that
	// m.Leave names, as ONE change, and calls commit once with what belongs to it.
	// The execution is the core's for the deployment of m.Join then; the zero
	// value if the group has no active one.
	Move(ctx context.Context, m Move, commit func(*state.Batch, Execution) error) error
	// Leave takes the core out of every group that leave names; its queued
	// executions there end REMOVED. A core that is gone has left.
	Leave(ctx context.Context, core string, leave func(group string) bool) error
	// Withdraw ends the core's execution as CANCELED if it is still queued and
	// the one that e names, and calls commit once with what belongs to that and
	// whether it did.
	Withdraw(ctx context.Context, e Execution, commit func(b *state.Batch, withdrawn bool) error) error
	// Retire cancels the group's deployment and removes the group, which must be
	// empty (else fault.Conflict). An unknown group is no error.
	Retire(ctx context.Context, group string) error
	// Members calls each for every thing of the group, in name order; an unknown
	// group is fault.NotFound.
	Members(ctx context.Context, group string, each func(thing string) error) error
	// Results calls handle with executions that a core took up (IN_PROGRESS) or
	// that ended, in order per core, each end at least once, until ctx is done. from is the cursor of a former call, or
	// "" for everything that is still known.
	Results(ctx context.Context, from string, handle func(results []Execution, cursor string) error) error
}

// Move is a change of groups.
type Move struct {
	Core  string
	Leave func(group string) bool
	Join  string
	// Again delivers the deployment of Join anew to a core that has it already.
	Again bool
	// TimeoutMinutes bounds this execution from its IN_PROGRESS on, instead of
	// what the deployment says; 0: as the deployment says. A cloud that cannot do it
	// refuses another limit than the deployment's with fault.Unsupported.
	TimeoutMinutes int
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
	Core  string
	Group string // empty: the deployment is aimed at the thing itself
	JobID string
	// DeploymentID is the deployment that the job delivers.
	DeploymentID string
	Number       int64 // counts the executions of one job on one core
	Order        int64 // grows with every execution that the core gets, of whatever job
	Status       string
	Detailed     string // detailed-deployment-status, as the device said
	Cause        string
	Ended        bool
}

// CoreDevices tells what the cloud knows of running core devices.
type CoreDevices interface {
	// HasCore reports whether the device ever reported.
	HasCore(ctx context.Context, name string) (bool, error)
	// Core returns fault.NotFound if the device never reported.
	Core(ctx context.Context, name string) (CoreDevice, error)
	// Seen reports whether the device is connected now and when it was last heard
	// of; the zero time means not since the cloud began to watch.
	Seen(ctx context.Context, name string) (connected bool, last time.Time, err error)
	// ForgetCore removes what the cloud knows of the running device; one that it
	// does not know is no error. The device comes back with its next report.
	ForgetCore(ctx context.Context, name string) error
	// Statuses calls handle with changes of devices' status, in order per core,
	// each at least once, until ctx is done. from is the cursor of a former call,
	// or "" for those from now on; of a cursor whose history is gone, the last change
	// of each core is told.
	Statuses(ctx context.Context, from string, handle func(changes []StatusChange, cursor string) error) error
}

// StatusChange is a core device whose status is another than before.
type StatusChange struct {
	Core   string
	Status string // HEALTHY, UNHEALTHY
	At     time.Time
}

// Associations says which client devices belong to which core device.
type Associations interface {
	// Associate calls commit once with what makes the device the core's. A
	// device that is no thing is fault.NotFound. Again is no error.
	Associate(ctx context.Context, core, device string, commit func(*state.Batch) error) error
	// Disassociate calls commit once with what ends it; one that does not exist is
	// no error.
	Disassociate(ctx context.Context, core, device string, commit func(*state.Batch) error) error
	// Associated calls each for every device of the core, in name order. A core
	// that never was one has none (cdf-services Q-02).
	Associated(ctx context.Context, core string, each func(device string) error) error
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
