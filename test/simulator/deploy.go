package simulator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// liteMaxLeaf is the largest configuration value in bytes of JSON (trap 37).
const liteMaxLeaf = 1024

// How a deployment can end, as both runtimes word it.
const (
	detailSuccessful  = "SUCCESSFUL"
	detailNoRollback  = "FAILED_ROLLBACK_NOT_REQUESTED"
	detailRolledBack  = "FAILED_ROLLBACK_COMPLETE"
	detailNoChange    = "FAILED_NO_STATE_CHANGE"
	detailRejected    = "REJECTED"
	maxDetail         = 1024 // characters of a job detail
	codeFailure       = "DEPLOYMENT_FAILURE"
	handlingDoNothing = "DO_NOTHING"
)

var errStale = errors.New("the document is older than the last one of its target (traps 14, 47)")

// outcome is how a deployment ended.
type outcome struct {
	status  protocol.JobStatus
	detail  string
	err     error
	stack   []string
	types   []string
	changed []string
	removed []*component
	same    []string // roots that did not change
}

// deployments carries out one job after the other.
func (c *Core) deployments(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case j := <-c.jobs:
			c.carryOut(ctx, j)
		}
	}
}

func (c *Core) carryOut(ctx context.Context, j job) {
	jobCtx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c.mu.Lock()
	c.active = &active{job: j.ID, cancel: cancel}
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.active = nil
		c.mu.Unlock()
	}()

	c.event(Event{Kind: EventJob, Job: j.ID, Deployment: j.Doc.DeploymentID})
	c.announce(jobCtx, j)
	o := c.deploy(jobCtx, j.Doc)
	switch {
	case errors.Is(context.Cause(jobCtx), errCanceled) && o.status != protocol.JobSucceeded:
		c.event(Event{Kind: EventCanceled, Job: j.ID, Deployment: j.Doc.DeploymentID})
		return
	case ctx.Err() != nil:
		return // the runtime stops; the cloud hands the job out again
	}
	c.finish(ctx, j, o)
}

// announce reports IN_PROGRESS. An answer that does not come is no reason to
// stop.
func (c *Core) announce(ctx context.Context, j job) {
	s := c.session()
	if s == nil {
		return
	}
	update := c.classicUpdate
	if c.lite() {
		update = c.liteUpdate
	}
	if _, err := update(ctx, s, pendingUpdate{Job: j.ID, Status: protocol.JobInProgress}); err != nil && ctx.Err() == nil {
		c.event(Event{Kind: EventRefused, Job: j.ID, Detail: "update IN_PROGRESS", Err: err})
	}
}

// finish tells the result over both ways: lite the fleet status first, classic
// the job first.
func (c *Core) finish(ctx context.Context, j job, o outcome) {
	c.event(Event{Kind: EventFinished, Job: j.ID, Deployment: j.Doc.DeploymentID, Detail: string(o.status), Err: o.err})
	u := pendingUpdate{Job: j.ID, Status: o.status}
	info := &protocol.DeploymentInformation{
		Status: string(o.status), FleetConfigurationARN: j.Doc.ConfigurationARN, DeploymentID: j.Doc.DeploymentID,
		StatusDetails: &protocol.DeploymentDetails{DetailedStatus: o.detail}, UnchangedRootComponents: o.same,
	}
	if !c.lite() {
		cause := ""
		if o.err != nil {
			cause = o.err.Error()
		}
		u.Details = map[string]string{protocol.DetailStatus: o.detail}
		if o.err != nil {
			u.Details[protocol.DetailFailureCause] = cause[:min(len(cause), maxDetail)]
			u.Details[protocol.DetailErrorStack] = string(compact(o.stack))
			u.Details[protocol.DetailErrorTypes] = string(compact(o.types))
		}
		info.StatusDetails.FailureCause, info.StatusDetails.ErrorStack, info.StatusDetails.ErrorTypes = cause, o.stack, o.types
	}
	c.mu.Lock()
	c.dev.Pending = append(c.dev.Pending, u)
	c.saveLogged()
	c.mu.Unlock()
	tell := func() {
		if s := c.session(); s != nil {
			_ = c.sendStatus(ctx, s, report{trigger: protocol.TriggerThingGroupDeployment, deployment: info, changed: o.changed, removed: o.removed})
		}
	}
	if c.lite() {
		tell()
		c.flush(ctx)
		return
	}
	c.flush(ctx)
	tell()
}

// deploy makes the device what doc says.
func (c *Core) deploy(ctx context.Context, doc protocol.DeploymentDocument) outcome {
	cl := c.cloud()
	defer cl.close()
	p, err := c.newPlan(ctx, cl, doc)
	if errors.Is(err, errStale) {
		return outcome{status: protocol.JobRejected, detail: detailRejected, err: err, stack: []string{"REJECTED_STALE_DEPLOYMENT"}, types: []string{"REQUEST_ERROR"}}
	}
	if err == nil {
		err = c.capabilities(doc)
	}
	if err == nil {
		err = c.fetch(ctx, cl, p)
	}
	if err == nil {
		err = c.checkConfiguration(doc)
	}
	if err != nil {
		return c.failedEarly(err)
	}
	c.pause(ctx, 15*time.Second)
	return c.apply(ctx, p)
}

func (c *Core) failedEarly(err error) outcome {
	o := outcome{status: protocol.JobFailed, detail: detailNoRollback, err: err}
	if !c.lite() {
		o.detail, o.stack, o.types = detailNoChange, []string{codeFailure, "DEPLOYMENT_INTERRUPTED"}, []string{"NUCLEUS_ERROR"}
		if status(err) == 404 {
			o.stack, o.types = []string{codeFailure, "NO_AVAILABLE_COMPONENT_VERSION"}, []string{"REQUEST_ERROR"}
		}
	}
	return o
}

// capabilities refuses what classic does not know (trap 18).
func (c *Core) capabilities(doc protocol.DeploymentDocument) error {
	if c.lite() {
		return nil
	}
	for _, name := range doc.RequiredCapabilities {
		if name != "LINUX_RESOURCE_LIMITS" && name != "SUB_DEPLOYMENTS" {
			return fault.New(fault.Unsupported, "required capability %s is not there (trap 18)", name)
		}
	}
	return nil
}

func (c *Core) checkConfiguration(doc protocol.DeploymentDocument) error {
	for _, name := range sortedKeys(doc.Components) {
		u := doc.Components[name].ConfigurationUpdate
		if u == nil {
			continue
		}
		m, err := decodeTree(u.Merge)
		if err != nil {
			return fmt.Errorf("configuration of %s: %w", name, err)
		}
		if path, size := largestLeaf(m); c.lite() && size > liteMaxLeaf {
			return fault.New(fault.TooLarge, "configuration %s of %s has %d bytes, lite takes %d (trap 37)", path, name, size, liteMaxLeaf)
		}
		for _, pointer := range u.Reset {
			if err := (&node{}).reset(pointer, 0); err != nil {
				return fmt.Errorf("configuration of %s: %w", name, err)
			}
		}
	}
	return nil
}

// apply changes the device. From here on a deployment cannot be canceled.
func (c *Core) apply(ctx context.Context, p *plan) outcome {
	c.mu.Lock()
	if ctx.Err() != nil {
		c.mu.Unlock()
		return outcome{status: protocol.JobFailed, err: ctx.Err()}
	}
	if c.active != nil {
		c.active.committed = true
	}
	before := c.dev.clone()
	o := outcome{status: protocol.JobSucceeded, detail: detailSuccessful}
	c.install(p, &o)
	c.configure(p)
	broken := c.start(p)
	c.dev.Targets, c.dev.Groups = p.targets, p.groups
	c.saveLogged()
	c.mu.Unlock()
	if len(broken) > 0 {
		c.fail(ctx, p, &o, broken, before)
	}
	return o
}

// install replaces the list of components; c.mu is held.
func (c *Core) install(p *plan, o *outcome) {
	var list []*component
	for _, comp := range c.dev.Components {
		if p.chosen[comp.Recipe.Name] != nil {
			list = append(list, comp)
			continue
		}
		o.removed = append(o.removed, comp)
		delete(c.dev.Config, comp.Recipe.Name)
	}
	for _, name := range sortedKeys(p.chosen) {
		i := slices.IndexFunc(list, func(x *component) bool { return x.Recipe.Name == name })
		if i < 0 {
			list = append(list, &component{})
			i = len(list) - 1
		}
		comp := list[i]
		old := comp.ARNs
		comp.Root = p.rootARNs[name] != nil
		switch {
		case comp.Root:
			comp.ARNs = p.rootARNs[name]
		case p.fresh[name] || len(old) == 0:
			comp.ARNs = []string{p.doc.ConfigurationARN}
		}
		_, inDoc := p.doc.Components[name]
		if p.fresh[name] || !slices.Equal(old, comp.ARNs) || inDoc && p.doc.Components[name].ConfigurationUpdate != nil {
			o.changed = append(o.changed, name)
		} else if inDoc && !c.lite() {
			o.same = append(o.same, name)
		}
		if p.fresh[name] {
			comp.Recipe, comp.State = *p.chosen[name], "NEW"
		}
	}
	c.dev.Components = list
}

// configure merges defaults, resets and merges, in the runtime's order; c.mu is
// held. Lite stamps changes with its own clock, classic with the document's.
func (c *Core) configure(p *plan) {
	stamp := p.doc.CreationTimestamp
	if c.lite() {
		stamp = time.Now().UnixMilli()
	}
	for name, r := range p.chosen {
		n := c.dev.Config[name]
		if n == nil {
			n = &node{}
			c.dev.Config[name] = n
		}
		if u := p.doc.Components[name].ConfigurationUpdate; u != nil {
			for _, pointer := range u.Reset {
				_ = n.reset(pointer, stamp) // checked before
			}
			merge, _ := decodeTree(u.Merge) // checked before
			if len(merge) > 0 {
				n.merge(merge, stamp, !c.lite())
			}
		}
		defaults, _ := decodeTree(r.Default) // checked when it was read
		n.fill(defaults)
	}
}

// start settles every component of the plan; c.mu is held.
func (c *Core) start(p *plan) (broken []string) {
	for _, comp := range c.dev.Components {
		if comp.State != "RUNNING" && comp.State != "FINISHED" || c.cfg.Fail[comp.Recipe.Name] != "" {
			c.settle(comp)
		}
		if comp.State == "BROKEN" && p.chosen[comp.Recipe.Name] != nil {
			broken = append(broken, comp.Recipe.Name)
		}
	}
	return broken
}

// settle gives a component the state it ends in.
func (c *Core) settle(comp *component) {
	switch f := c.cfg.Fail[comp.Recipe.Name]; {
	case f != "":
		comp.State = "BROKEN"
	case comp.Recipe.Runs:
		comp.State = "RUNNING"
	default:
		comp.State = "FINISHED"
	}
	comp.Details = c.details(comp.State, c.cfg.Fail[comp.Recipe.Name])
}

// details say why a component is ERRORED or BROKEN; only classic tells.
func (c *Core) details(state string, f Failure) *protocol.ComponentStatusDetails {
	if c.lite() || state != "ERRORED" && state != "BROKEN" {
		return nil
	}
	if f == FailInstall {
		return &protocol.ComponentStatusDetails{StatusCodes: []string{"INSTALL_ERROR"}, StatusReason: "An error occurred during the install lifecycle. exit 1"}
	}
	return &protocol.ComponentStatusDetails{StatusCodes: []string{"RUN_ERROR"}, StatusReason: "An error occurred during the run lifecycle. exit 1"}
}

// fail ends a deployment whose components broke. Classic goes back to what was
// before when the document asks for it; lite never does.
func (c *Core) fail(ctx context.Context, p *plan, o *outcome, broken []string, before device) {
	o.status, o.detail = protocol.JobFailed, detailNoRollback
	o.err = fmt.Errorf("components broke: %v", broken)
	if c.lite() {
		return
	}
	o.stack, o.types = []string{codeFailure, "COMPONENT_UPDATE_ERROR", "COMPONENT_BROKEN"}, []string{"USER_COMPONENT_ERROR"}
	if s := c.session(); s != nil {
		_ = c.sendStatus(ctx, s, report{trigger: protocol.TriggerComponentStatusChange, changed: broken})
	}
	if p.doc.FailureHandling == handlingDoNothing {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	o.removed = slices.DeleteFunc(slices.Clone(c.dev.Components), func(x *component) bool { return before.component(x.Recipe.Name) != nil })
	o.changed, o.same, o.detail = nil, nil, detailRolledBack
	for _, comp := range before.Components {
		o.changed = append(o.changed, comp.Recipe.Name)
	}
	before.Sequence, before.Pending = c.dev.Sequence, c.dev.Pending
	c.dev = before
	c.saveLogged()
}
