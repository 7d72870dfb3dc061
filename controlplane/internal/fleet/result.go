package fleet

import (
	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/rollout"
)

// applied says what a result changed.
type applied struct {
	changed bool // anything
	mine    bool // it is the execution that the last task started
	first   bool // the core took it up just now
}

// sentBy reports whether e is the execution that the last deployment task started.
func (c *Core) sentBy(e cloud.Execution, t TemplateRef) bool {
	return c.Desired == t && c.Execution == refOf(e)
}

// taskOf returns the task that started e, "" if it is not known any more.
func (c *Core) taskOf(e cloud.Execution, t TemplateRef) string {
	if c.sentBy(e, t) {
		return c.DeploymentTask
	}
	for _, p := range c.Past {
		if p.Execution == refOf(e) {
			return p.Task
		}
	}
	return ""
}

func refOf(e cloud.Execution) ExecutionRef { return ExecutionRef{JobID: e.JobID, Number: e.Number} }

// knows reports whether e is old news, for this record and all that come after it: a
// restart and every other replica meet each result again. That a core began is of
// interest to rollouts only.
func (c *Core) knows(e cloud.Execution, t TemplateRef) bool {
	mine := c.sentBy(e, t)
	if !e.Ended {
		return mine && (!c.Paced || c.TakenUp)
	}
	return c.DeploymentStatus != DeploymentInProgress && (mine && e.Status != rollout.Succeeded || e.Order <= c.ReportedOrder)
}

// report enters that e brought template t onto the core, unless something newer
// did, and whether that is news.
func (c *Core) report(e cloud.Execution, t TemplateRef) bool {
	if e.Status != rollout.Succeeded || e.Order <= c.ReportedOrder {
		return false
	}
	c.Reported, c.ReportedOrder = t, e.Order
	return true
}

// apply enters a result. Only the execution that the last deployment task started
// decides deploymentStatus; the newest success of any template group decides the
// reported template.
func (c *Core) apply(e cloud.Execution, t TemplateRef) applied {
	x := applied{mine: c.sentBy(e, t)}
	if x.mine && !c.TakenUp && c.DeploymentStatus == DeploymentInProgress && tookUp(e.Status) {
		c.TakenUp, x.first, x.changed = true, true, true
	}
	if !e.Ended {
		return x
	}
	if c.report(e, t) {
		x.changed = true
	}
	if x.mine && c.DeploymentStatus == DeploymentInProgress {
		c.DeploymentStatus, c.DeploymentMessage = outcome(e)
		x.changed = true
	} else {
		x.mine = false // nothing to count
	}
	return x
}

// tookUp reports whether a core that has this status began with the execution.
func tookUp(status string) bool {
	switch status {
	case rollout.InProgress, rollout.Succeeded, rollout.Failed, rollout.Rejected, rollout.TimedOut:
		return true
	default:
		return false
	}
}

func outcome(e cloud.Execution) (DeploymentStatus, string) {
	if e.Status == rollout.Succeeded {
		return DeploymentSuccess, ""
	}
	m := e.Status
	if e.Detailed != "" {
		m = e.Detailed
	}
	if e.Cause != "" {
		m += ": " + e.Cause
	}
	return DeploymentFailure, m
}
