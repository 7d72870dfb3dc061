package simulator

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// deploymentShadow is the named shadow through which AWS sends classic its thing
// deployments.
const deploymentShadow = "AWSManagedGreengrassV2Deployment"

// classicBegin is classic's start of a session (§6.1). A session that the server
// kept needs no new subscriptions.
func (c *Core) classicBegin(ctx context.Context, s *session, first bool, r report) error {
	thing := c.cfg.Thing
	get := protocol.JobGet(thing, protocol.NextJob)
	shadow := protocol.ThingPrefix(thing) + "shadow/name/" + deploymentShadow
	if !s.resumed {
		err := s.subscribe(ctx, protocol.JobsNotify(thing), protocol.Accepted(get), protocol.Rejected(get),
			shadow+"/update/accepted", shadow+"/update/rejected", shadow+"/get/accepted")
		if err != nil {
			return err
		}
	}
	c.flush(ctx)
	if err := c.classicDescribe(ctx, s, false); err != nil {
		return err
	}
	request := []byte(fmt.Sprintf(`{"thingName":%q,"shadowName":%q}`, thing, deploymentShadow))
	if err := s.publish(ctx, shadow+"/get", request, 1); err != nil {
		return fmt.Errorf("asking for the deployment shadow: %w", err)
	}
	if !first {
		c.mu.Lock()
		soon := time.Since(c.reconnect) < time.Minute
		c.reconnect = time.Now()
		c.mu.Unlock()
		if soon {
			return nil // at most one RECONNECT a minute
		}
	}
	return c.sendStatus(ctx, s, r)
}

// classicNotified handles notify: QUEUED makes it ask for $next, an empty list
// cancels what runs, anything else is ignored (§2.2).
func (c *Core) classicNotified(ctx context.Context, s *session, it item) {
	if it.topic != protocol.JobsNotify(c.cfg.Thing) {
		return // shadow messages and late answers
	}
	var n struct {
		Jobs map[protocol.JobStatus]json.RawMessage `json:"jobs"`
	}
	if err := json.Unmarshal(it.payload, &n); err != nil {
		c.event(Event{Kind: EventRefused, Detail: "notify", Err: err})
		return
	}
	if len(n.Jobs) == 0 {
		c.cancelActive()
		return
	}
	if _, queued := n.Jobs[protocol.JobQueued]; !queued {
		return
	}
	if err := c.classicDescribe(ctx, s, true); err != nil {
		c.cfg.Log.WarnContext(ctx, "asking for the next job failed", logx.Thing, c.cfg.Thing, logx.Err, err)
	}
}

// cancelActive takes the running deployment back if that is still possible, and
// forgets which jobs were seen.
func (c *Core) cancelActive() {
	c.mu.Lock()
	a := c.active
	c.last = job{}
	canceled := a != nil && !a.committed
	c.mu.Unlock()
	if canceled {
		a.cancel(errCanceled)
	}
}

// classicDescribe asks for $next without a client token. When a notification
// promised a job and there is none, it asks again at once (trap 11).
func (c *Core) classicDescribe(ctx context.Context, s *session, promised bool) error {
	topic := protocol.JobGet(c.cfg.Thing, protocol.NextJob)
	request := []byte(fmt.Sprintf(`{"thingName":%q,"jobId":"$next","includeJobDocument":true}`, c.cfg.Thing))
	for {
		w, release := s.expect(topic, nil)
		err := s.publish(ctx, topic, request, 1)
		var a answer
		if err == nil {
			a, err = s.wait(ctx, w)
		}
		release()
		if err != nil {
			return err
		}
		if a.rejected {
			c.event(Event{Kind: EventRefused, Detail: "get $next", Err: fault.New(fault.Denied, "%s", a.payload)})
			return nil
		}
		var m protocol.JobAnswer
		if err := json.Unmarshal(a.payload, &m); err != nil {
			c.event(Event{Kind: EventRefused, Detail: "get $next", Err: err})
			return nil //nolint:nilerr // told as an event; the session goes on
		}
		if m.Execution != nil && m.Execution.JobID != "" {
			c.classicTake(m.Execution)
			return nil
		}
		if !promised {
			return nil
		}
		c.event(Event{Kind: EventRefused, Detail: "QUEUED was announced but $next is empty (trap 11)"})
	}
}

func (c *Core) classicTake(e *protocol.JobExecution) {
	var doc protocol.DeploymentDocument
	switch err := json.Unmarshal(e.JobDocument, &doc); {
	case err != nil:
		c.event(Event{Kind: EventRefused, Job: e.JobID, Detail: "jobDocument", Err: err})
		return
	case e.QueuedAt == 0 || doc.CreationTimestamp == 0 || doc.ConfigurationARN == "":
		c.event(Event{Kind: EventRefused, Job: e.JobID, Detail: "queuedAt, creationTimestamp or configurationArn is missing (traps 12, 14)"})
		return
	}
	if doc.DeploymentID == "" {
		doc.DeploymentID = e.JobID
	}
	j := job{ID: e.JobID, QueuedAt: e.QueuedAt, Doc: doc}
	c.mu.Lock()
	old := j.QueuedAt < c.last.QueuedAt || j.QueuedAt == c.last.QueuedAt && j.ID == c.last.ID
	if !old {
		c.last = job{ID: j.ID, QueuedAt: j.QueuedAt}
	}
	c.mu.Unlock()
	if old {
		c.event(Event{Kind: EventIgnored, Job: j.ID, Detail: "queuedAt is not newer than the last one (trap 12)"})
		return
	}
	select {
	case c.jobs <- j:
	default:
		c.event(Event{Kind: EventIgnored, Job: j.ID, Detail: "queue is full"})
	}
}

// classicUpdate reports a job's status over subscriptions of its own.
func (c *Core) classicUpdate(ctx context.Context, s *session, u pendingUpdate) (bool, error) {
	topic := protocol.JobUpdate(c.cfg.Thing, u.Job)
	if err := s.subscribe(ctx, protocol.Accepted(topic), protocol.Rejected(topic)); err != nil {
		return false, err
	}
	defer s.unsubscribe(protocol.Accepted(topic), protocol.Rejected(topic))
	w, release := s.expect(topic, nil)
	defer release()
	payload := compact(protocol.JobRequest{ThingName: c.cfg.Thing, JobID: u.Job, Status: u.Status, StatusDetails: u.Details})
	if err := s.publish(ctx, topic, payload, 1); err != nil {
		return false, err
	}
	a, err := s.wait(ctx, w)
	if err != nil {
		return false, err
	}
	return settled(a)
}
