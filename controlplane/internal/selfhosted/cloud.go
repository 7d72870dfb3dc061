package selfhosted

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/greengrass"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/iot"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/jobs"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Presence tells who is connected; the MQTT gateway does.
type Presence interface {
	// Presence reports whether the thing has a live session and when it was last
	// heard of; the zero time means never since the start.
	Presence(thing string) (connected bool, lastSeen time.Time)
}

// Cloud implements the ports of the fleet service. Safe for concurrent use.
type Cloud struct {
	Registry   *iot.Registry
	Jobs       *jobs.Service
	Greengrass *greengrass.Service
	Components cloud.Components
	Presence   Presence
}

var (
	_ cloud.Things       = (*Cloud)(nil)
	_ cloud.Components   = (*Cloud)(nil)
	_ cloud.Deployments  = (*Cloud)(nil)
	_ cloud.CoreDevices  = (*Cloud)(nil)
	_ cloud.Associations = (*Cloud)(nil)
	_ cloud.PrivateCA    = (*Cloud)(nil)
)

// Thing implements cloud.Things.
func (c *Cloud) Thing(ctx context.Context, name string) (cloud.Thing, error) {
	t, err := c.Registry.Thing(ctx, name)
	return cloud.Thing{Name: t.Value.Name, Certificates: t.Value.Principals, Groups: t.Value.Groups}, err
}

// Issue implements cloud.Things.
func (c *Cloud) Issue(_ context.Context, r cloud.IssueRequest) (cloud.Issued, error) {
	return c.Registry.Issue(r)
}

// Import implements cloud.Things.
func (c *Cloud) Import(ctx context.Context, r cloud.ImportRequest) (cloud.Issued, error) {
	return c.Registry.Import(ctx, r)
}

// IssuePrivate implements cloud.PrivateCA.
func (c *Cloud) IssuePrivate(ctx context.Context, ca string, r cloud.PrivateRequest) (cloud.PrivateCertificate, error) {
	return c.Registry.IssuePrivate(ctx, ca, r)
}

// Register implements cloud.Things: everything is in the batch that commit gets.
func (c *Cloud) Register(ctx context.Context, r cloud.Registration, commit func(*state.Batch) error) error {
	b := state.NewBatch(state.StepCoreRegister)
	if _, err := c.Registry.RegisterBatch(ctx, b, r); err != nil {
		return err
	}
	if r.ClientOf != "" {
		if err := c.Greengrass.AssociateNewBatch(ctx, b, r.ClientOf, r.Thing); err != nil {
			return err
		}
	}
	return commit(b)
}

// SetCertificates implements cloud.Things.
func (c *Cloud) SetCertificates(ctx context.Context, thing string, s cloud.CertificateStatus) error {
	return c.Registry.SetThingCertificates(ctx, thing, s)
}

// Deprovision implements cloud.Things.
func (c *Cloud) Deprovision(ctx context.Context, thing string, o cloud.Deprovision, commit func(*state.Batch) error) error {
	b, err := c.Greengrass.DeleteThing(ctx, thing, o)
	if err != nil {
		return err
	}
	return commit(b)
}

// Deployable implements cloud.Components.
func (c *Cloud) Deployable(ctx context.Context, name, version string) error {
	return c.Components.Deployable(ctx, name, version)
}

// Ensure implements cloud.Deployments.
func (c *Cloud) Ensure(ctx context.Context, d cloud.GroupDeployment, token string) (cloud.DeploymentRef, error) {
	n := greengrass.NewDeployment{
		Name: d.Name, Kind: names.TargetThingGroup, Target: d.Group, Components: map[string]greengrass.Component{},
		Tags: d.Tags, Token: token,
	}
	var err error
	if n.Policies, err = policies(d.Policies); err != nil {
		return cloud.DeploymentRef{}, err
	}
	if n.JobConfig.Timeout, err = timeout(d.JobConfig); err != nil {
		return cloud.DeploymentRef{}, err
	}
	for _, x := range d.Components {
		g := greengrass.Component{Version: x.Version}
		if x.Merge != "" || len(x.Reset) > 0 {
			g.Update = &greengrass.ConfigurationUpdate{Reset: x.Reset}
		}
		if x.Merge != "" {
			g.Update.Merge = &x.Merge
		}
		if x.PosixUser != "" {
			g.RunWith = &greengrass.RunWith{PosixUser: &x.PosixUser}
		}
		n.Components[x.Name] = g
	}
	// The components are checked before the group is made: a template with an
	// unknown component leaves nothing behind.
	for name, x := range n.Components {
		if err := c.Components.Deployable(ctx, name, x.Version); err != nil {
			return cloud.DeploymentRef{}, err
		}
	}
	if _, err := c.Registry.EnsureGroup(ctx, d.Group, d.Description, d.Tags); err != nil {
		return cloud.DeploymentRef{}, err
	}
	out, err := c.Greengrass.Create(ctx, n)
	return cloud.DeploymentRef{ID: out.ID, JobID: out.JobID}, err
}

// policies reads deploymentPolicies as the API has them over the defaults.
func policies(raw json.RawMessage) (greengrass.Policies, error) {
	p := greengrass.DefaultPolicies()
	if len(raw) == 0 {
		return p, nil
	}
	var in struct {
		FailureHandlingPolicy *string `json:"failureHandlingPolicy"`
		ComponentUpdatePolicy *struct {
			Timeout *int    `json:"timeoutInSeconds"`
			Action  *string `json:"action"`
		} `json:"componentUpdatePolicy"`
		ConfigurationValidationPolicy *struct {
			Timeout *int `json:"timeoutInSeconds"`
		} `json:"configurationValidationPolicy"`
	}
	if err := json.Unmarshal(raw, &in); err != nil {
		return p, fault.Field("deploymentPolicies", "does not have the form of the Greengrass API: %s", err)
	}
	set(&p.FailureHandling, in.FailureHandlingPolicy)
	if u := in.ComponentUpdatePolicy; u != nil {
		set(&p.UpdateTimeout, u.Timeout)
		set(&p.UpdateAction, u.Action)
	}
	if v := in.ConfigurationValidationPolicy; v != nil {
		set(&p.ValidationTimeout, v.Timeout)
	}
	if p.FailureHandling != "ROLLBACK" && p.FailureHandling != "DO_NOTHING" {
		return p, fault.Field("deploymentPolicies.failureHandlingPolicy", "is %q, want ROLLBACK or DO_NOTHING", p.FailureHandling)
	}
	if p.UpdateAction != "NOTIFY_COMPONENTS" && p.UpdateAction != "SKIP_NOTIFY_COMPONENTS" {
		return p, fault.Field("deploymentPolicies.componentUpdatePolicy.action", "is %q, want NOTIFY_COMPONENTS or SKIP_NOTIFY_COMPONENTS", p.UpdateAction)
	}
	if p.UpdateTimeout < 0 || p.ValidationTimeout < 0 {
		return p, fault.Field("deploymentPolicies", "a timeout must not be negative")
	}
	return p, nil
}

func set[T any](to, v *T) {
	if v != nil {
		*to = *v
	}
}

// timeout reads the in-progress timeout of an iotJobConfiguration. Pace and abort
// criteria are the fleet service's own.
func timeout(raw json.RawMessage) (*greengrass.TimeoutConfig, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	var in greengrass.JobConfig
	if err := json.Unmarshal(raw, &in); err != nil {
		return nil, fault.Field("jobConfig", "does not have the form of the Greengrass API: %s", err)
	}
	if in.Timeout == nil || in.Timeout.Minutes == nil {
		return nil, nil
	}
	if m := *in.Timeout.Minutes; m < 1 || m > 10080 {
		return nil, fault.Field("jobConfig.timeoutConfig.inProgressTimeoutInMinutes", "is %d, want 1 to 10080", m)
	}
	return in.Timeout, nil
}

// Move implements cloud.Deployments.
func (c *Cloud) Move(ctx context.Context, m cloud.Move, commit func(*state.Batch, cloud.Execution) error) error {
	return c.Greengrass.Move(ctx, m.Core, m.Leave, m.Join, jobs.Start{Again: m.Again, TimeoutMinutes: m.TimeoutMinutes}, func(b *state.Batch, e jobs.Execution) error {
		return commit(b, execution(e))
	})
}

// Leave implements cloud.Deployments.
func (c *Cloud) Leave(ctx context.Context, core string, leave func(group string) bool) error {
	return c.Greengrass.Leave(ctx, core, leave)
}

// Withdraw implements cloud.Deployments.
func (c *Cloud) Withdraw(ctx context.Context, e cloud.Execution, commit func(*state.Batch, bool) error) error {
	b := state.NewBatch(state.StepRollout)
	withdrawn, err := c.Jobs.RemoveBatch(ctx, b, e.Core, e.JobID, e.Number, protocol.JobCanceled)
	if err != nil {
		return err
	}
	return commit(b, withdrawn)
}

// Retire implements cloud.Deployments.
func (c *Cloud) Retire(ctx context.Context, group string) error {
	return c.Greengrass.Retire(ctx, group)
}

// Members implements cloud.Deployments.
func (c *Cloud) Members(ctx context.Context, group string, each func(string) error) error {
	if _, err := c.Registry.Group(ctx, group); err != nil {
		return err
	}
	return c.Registry.Members(ctx, group, each)
}

// Results implements cloud.Deployments. A cursor is a revision of the store.
func (c *Cloud) Results(ctx context.Context, from string, handle func([]cloud.Execution, string) error) error {
	rev, err := revision(from)
	if err != nil {
		return err
	}
	for {
		if rev == 0 {
			at, err := c.Jobs.AllResults(ctx, func(e jobs.Execution) error {
				x, err := c.result(ctx, e)
				if err != nil {
					return err
				}
				return handle([]cloud.Execution{x}, "")
			})
			if err != nil {
				return err
			}
			rev = at
			if err := handle(nil, cursorOf(at)); err != nil {
				return err
			}
		}
		err := c.Jobs.Results(ctx, rev, func(list []jobs.Execution, at state.Rev) error {
			out := make([]cloud.Execution, len(list))
			for i, e := range list {
				var err error
				if out[i], err = c.result(ctx, e); err != nil {
					return err
				}
			}
			return handle(out, cursorOf(at))
		})
		if !errors.Is(err, state.ErrCompacted) {
			return err
		}
		rev = 0 // that history is gone: begin with what is known
	}
}

// revision reads a cursor; the empty one is 0.
func revision(cursor string) (state.Rev, error) {
	if cursor == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(cursor, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("cursor %q: %w", cursor, err)
	}
	return state.Rev(n), nil
}

func cursorOf(r state.Rev) string { return strconv.FormatInt(int64(r), 10) }

// result is an execution that was taken up or ended. Lite's job update says no more than FAILED;
// its fleet status, which comes first, has the detail (nucleus-contract §2.4).
func (c *Cloud) result(ctx context.Context, e jobs.Execution) (cloud.Execution, error) {
	x := execution(e)
	if e.Status != protocol.JobFailed || x.Detailed != "" {
		return x, nil
	}
	core, err := c.Greengrass.Core(ctx, e.Thing)
	if errors.Is(err, fault.NotFound) {
		return x, nil
	}
	if err != nil {
		return x, err
	}
	for _, r := range core.Results {
		if r.DeploymentID == e.DeploymentID {
			x.Detailed, x.Cause = r.Detailed, r.Cause
		}
	}
	return x, nil
}

func execution(e jobs.Execution) cloud.Execution {
	x := cloud.Execution{
		Core: e.Thing, JobID: e.JobID, DeploymentID: e.DeploymentID, Number: e.Number, Order: e.Stamp, Status: string(e.Status), Ended: e.Status.Terminal(),
		Detailed: e.Details[protocol.DetailStatus], Cause: e.Details[protocol.DetailFailureCause],
	}
	if e.Kind == names.TargetThingGroup {
		x.Group = e.Target
	}
	return x
}

// Seen implements cloud.CoreDevices.
func (c *Cloud) Seen(_ context.Context, name string) (bool, time.Time, error) {
	connected, last := c.Presence.Presence(name)
	return connected, last, nil
}
