package app

import (
	"context"

	"github.com/ggfleet/ggfleet/controlplane/internal/enrollment"
	"github.com/ggfleet/ggfleet/controlplane/internal/fleet"
	"github.com/ggfleet/ggfleet/controlplane/internal/provisioning"
	"github.com/ggfleet/ggfleet/controlplane/internal/task"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// coresOfFleet is the fleet service as the enrolment asks it.
type coresOfFleet struct{ *fleet.Service }

// EnrollCore implements enrollment.Cores.
func (c coresOfFleet) EnrollCore(ctx context.Context, name string) (enrollment.Core, error) {
	pending, certs, conf, err := c.Service.EnrollCore(ctx, name)
	return enrollment.Core{Name: name, CertificatePending: pending, CertsKey: certs, ConfigKey: conf}, err
}

// devicesOfFleet is the same for client devices.
type devicesOfFleet struct{ *fleet.Service }

// EnrollDevice implements enrollment.Devices.
func (d devicesOfFleet) EnrollDevice(ctx context.Context, name string) (enrollment.Device, error) {
	core, pending, certs, err := d.Service.EnrollDevice(ctx, name)
	return enrollment.Device{Name: name, Core: core, CertificatePending: pending, CertsKey: certs}, err
}

// creatorOfFleet creates what was let in before it existed, by the tasks that POST
// /coreTasks and /deviceTasks make.
type creatorOfFleet struct{ a *App }

// unknownVersion is the nucleus version of a core whose device brings its own.
const unknownVersion = "unknown"

// CreateSubject implements enrollment.Creator.
func (c creatorOfFleet) CreateSubject(ctx context.Context, s protocol.Subject, how enrollment.Creation, key string) (string, error) {
	template := how.ProvisioningTemplate
	switch {
	case template != "":
	case s.Role == protocol.RoleClient:
		template = provisioning.ClientKeyID
	default:
		template = provisioning.DeviceKeyID
	}
	parameters := map[string]string{"ThingName": s.Name}
	for name, value := range how.Parameters {
		parameters[name] = value
	}
	if s.Role == protocol.RoleClient {
		if how.Core == "" {
			return "", fault.Field("coreName", "is missing: say which core the client device %s belongs to", s.Name)
		}
		return c.a.fleet.CreateDeviceTask(ctx, fleet.NewDeviceTask{Core: how.Core, Type: fleet.CoreTaskCreate, Devices: []fleet.NewDevice{
			{Name: s.Name, ProvisioningTemplate: template, ProvisioningParameters: parameters},
		}}, key)
	}
	version, err := c.version(ctx, s.Name, how)
	if err != nil {
		return "", err
	}
	return c.a.fleet.CreateCoreTask(ctx, fleet.NewCoreTask{Type: fleet.CoreTaskCreate, CoreVersion: version, Cores: []fleet.NewCore{{
		Name: s.Name, ProvisioningTemplate: template, ProvisioningParameters: parameters,
		ConfigFileGenerator: how.ConfigFileGenerator, ConfigOverlay: how.ConfigOverlay,
	}}}, key)
}

// version is the nucleus version that the core is made for.
func (c creatorOfFleet) version(ctx context.Context, core string, how enrollment.Creation) (string, error) {
	if how.CoreVersion != "" {
		return how.CoreVersion, nil
	}
	d, err := c.a.dist.Offer(ctx, core, protocol.AssignmentQuery{})
	switch {
	case err != nil:
		return "", err
	case d != nil:
		return d.Version, nil
	case how.ConfigFileGenerator != "":
		return "", fault.Field("coreVersion", "is missing: the installer configuration needs it, and agents are offered no nucleus whose version it could be")
	}
	return unknownVersion, nil
}

// SubjectCreated implements enrollment.Creator.
func (c creatorOfFleet) SubjectCreated(ctx context.Context, s protocol.Subject, id string) (ended bool, failure string, err error) {
	i, err := c.a.tasks.Item(ctx, id, s.Name)
	if err != nil {
		return false, "", err
	}
	switch i.Status {
	case task.Success:
		return true, "", nil
	case task.Failure:
		return true, i.Message, nil
	case task.Waiting, task.InProgress:
	}
	return false, "", nil
}
