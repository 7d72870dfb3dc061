package simulator

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
	"github.com/ggfleet/ggfleet/shared/run"
	"github.com/ggfleet/ggfleet/test/simulator/mqttwire"
)

// liteToken is the client token of every request of lite's jobs client.
const liteToken = "jobs-nucleus-lite" //nolint:gosec // a correlation id, no secret

const (
	liteMaxID     = 64   // characters of a job or deployment id
	liteMaxUpdate = 1024 // bytes of the answer to an update (trap 21)
	// liteMaxRoots stands for the memory that lite decodes a document in: 25
	// components were taken up, 38 were not (§3, Sizes).
	liteMaxRoots = 32
)

// job is a deployment job as seen by the device.
type job struct {
	ID       string
	QueuedAt int64
	Doc      protocol.DeploymentDocument
}

// liteBegin is lite's start of a session: at a launch it subscribes twice and
// asks twice, as two of its daemons do (captures 01, 13).
func (c *Core) liteBegin(ctx context.Context, s *session, first bool, r report) error {
	times := 1
	if first {
		times = 2
	}
	var acks []<-chan mqttwire.Packet
	for range times {
		ch, err := s.send(mqttwire.Packet{Type: mqttwire.Subscribe, Filters: []string{protocol.JobsNotifyNext(c.cfg.Thing)}})
		if err != nil {
			return err
		}
		acks = append(acks, ch)
	}
	if err := c.sendStatus(ctx, s, r); err != nil {
		return err
	}
	c.flush(ctx) // results first, so that $next does not hand their jobs out again
	for range times {
		c.liteDescribe(ctx, s)
	}
	for _, ch := range acks {
		if err := s.await(ctx, ch); err != nil {
			return fmt.Errorf("subscribing to notify-next: %w", err)
		}
	}
	return nil
}

// liteNotified handles notify-next. One that lite cannot read makes it subscribe
// anew and ask (trap 13a).
func (c *Core) liteNotified(ctx context.Context, s *session, it item) {
	topic := protocol.JobsNotifyNext(c.cfg.Thing)
	if it.topic != topic {
		c.event(Event{Kind: EventIgnored, Detail: "message on " + it.topic})
		return
	}
	j, err := c.liteExecution(it.payload)
	if err == nil {
		c.enqueue(j)
		return
	}
	c.event(Event{Kind: EventRefused, Detail: "notify-next", Err: err})
	s.unsubscribe(topic)
	if err := s.subscribe(ctx, topic); err == nil {
		c.liteDescribe(ctx, s)
	}
}

// liteDescribe asks for $next until it gets an answer that lite can read.
func (c *Core) liteDescribe(ctx context.Context, s *session) {
	token := liteToken
	request := []byte(fmt.Sprintf(`{"jobId":"$next","thingName":%q,"includeJobDocument":true,"clientToken":%q}`, c.cfg.Thing, token))
	wait := run.Backoff{Min: c.cfg.RetryBase, Max: 10 * c.cfg.RetryBase}
	for ctx.Err() == nil {
		a, err := s.call(ctx, protocol.JobGet(c.cfg.Thing, protocol.NextJob), request, &token)
		select {
		case <-s.done:
			return
		default:
		}
		if err == nil && a.rejected {
			err = fault.New(fault.Denied, "$next was rejected: %s", a.payload)
		}
		var j *job
		if err == nil {
			j, err = c.liteExecution(a.payload)
		}
		if err == nil {
			c.enqueue(j)
			return
		}
		c.event(Event{Kind: EventRefused, Detail: "get $next", Err: err})
		_ = run.Sleep(ctx, wait.Next())
	}
}

// liteExecution reads notify-next and get/accepted as strictly as lite does
// (§2.2). A nil job without error means that there is nothing to do.
func (c *Core) liteExecution(payload []byte) (*job, error) {
	var m struct {
		Timestamp *int64          `json:"timestamp"`
		Execution json.RawMessage `json:"execution"`
	}
	if err := json.Unmarshal(payload, &m); err != nil {
		return nil, fault.New(fault.Invalid, "not the JSON expected, times are whole seconds (trap 13): %v", err)
	}
	if m.Execution == nil {
		return nil, nil
	}
	var e struct {
		JobID    string             `json:"jobId"`
		Status   protocol.JobStatus `json:"status"`
		QueuedAt *int64             `json:"queuedAt"`
		Document json.RawMessage    `json:"jobDocument"`
	}
	if err := json.Unmarshal(m.Execution, &e); err != nil {
		return nil, fault.New(fault.Invalid, "execution: %v", err)
	}
	if e.QueuedAt == nil || e.JobID == "" || len(e.JobID) > liteMaxID {
		return nil, fault.New(fault.Invalid, "execution without a whole queuedAt or with a job id %q (traps 12, 13a)", e.JobID)
	}
	switch e.Status {
	case protocol.JobQueued, protocol.JobInProgress:
	case protocol.JobSucceeded, protocol.JobFailed, protocol.JobRejected, protocol.JobTimedOut, protocol.JobRemoved, protocol.JobCanceled:
		return nil, nil
	default:
		return nil, fault.New(fault.Invalid, "execution has the unknown status %q", e.Status)
	}
	j := &job{ID: e.JobID, QueuedAt: *e.QueuedAt}
	if len(e.Document) == 0 || e.Document[0] != '{' {
		return nil, fault.New(fault.Invalid, "execution %s without a jobDocument", e.JobID)
	}
	if err := json.Unmarshal(e.Document, &j.Doc); err != nil {
		return nil, fault.New(fault.Invalid, "jobDocument of %s: %v", e.JobID, err)
	}
	if len(j.Doc.DeploymentID) > liteMaxID {
		return nil, fault.New(fault.Invalid, "deployment id of %d characters", len(j.Doc.DeploymentID))
	}
	if len(j.Doc.Components) > liteMaxRoots {
		return nil, fault.New(fault.TooLarge, "document of %d components does not fit lite's memory", len(j.Doc.Components))
	}
	return j, nil
}

// enqueue hands a job to the deployments loop, unless it was seen already.
func (c *Core) enqueue(j *job) {
	if j == nil {
		return
	}
	c.mu.Lock()
	seen := c.last.ID == j.ID && j.QueuedAt <= c.last.QueuedAt
	if !seen {
		c.last = job{ID: j.ID, QueuedAt: j.QueuedAt}
	}
	c.mu.Unlock()
	if seen {
		c.event(Event{Kind: EventIgnored, Job: j.ID, Detail: "the same job again"})
		return
	}
	select {
	case c.jobs <- *j:
	default:
		c.event(Event{Kind: EventIgnored, Job: j.ID, Detail: "queue of ten is full"})
	}
}

// liteUpdate reports a job's status and waits for the answer. done tells that
// there is nothing more to send.
func (c *Core) liteUpdate(ctx context.Context, s *session, u pendingUpdate) (done bool, err error) {
	token := liteToken
	payload := []byte(fmt.Sprintf(`{"status":%q,"clientToken":%q}`, u.Status, token))
	a, err := s.call(ctx, protocol.JobUpdate(c.cfg.Thing, u.Job), payload, &token)
	if err != nil {
		return false, err
	}
	if len(a.payload) > liteMaxUpdate {
		return false, fault.New(fault.TooLarge, "answer to an update of %d bytes is over lite's %d (trap 21)", len(a.payload), liteMaxUpdate)
	}
	return settled(a)
}

// settled reads the answer to an update: a refusal for good ends it too.
func settled(a answer) (bool, error) {
	if !a.rejected {
		return true, nil
	}
	var r protocol.JobRejection
	if err := json.Unmarshal(a.payload, &r); err != nil {
		return false, fault.New(fault.Invalid, "rejected: %v", err)
	}
	return r.Code != protocol.CodeInternalError && r.Code != protocol.CodeRequestThrottled, fault.New(fault.Denied, "update rejected: %s %s", r.Code, r.Message)
}

// flush sends the results that the cloud has not accepted yet, oldest first. What
// fails is tried again after a minute and after a reconnect.
func (c *Core) flush(ctx context.Context) {
	c.flushing.Lock()
	defer c.flushing.Unlock()
	for {
		c.mu.Lock()
		s := c.sess
		if len(c.dev.Pending) == 0 || s == nil {
			c.mu.Unlock()
			return
		}
		u := c.dev.Pending[0]
		c.mu.Unlock()
		update := c.classicUpdate
		if c.lite() {
			update = c.liteUpdate
		}
		done, err := update(ctx, s, u)
		if !done {
			c.event(Event{Kind: EventRefused, Job: u.Job, Detail: "update " + string(u.Status), Err: err})
			if ctx.Err() == nil {
				time.AfterFunc(60*c.cfg.RetryBase, func() { c.inbox.put(item{flush: true}) })
			}
			return
		}
		c.mu.Lock()
		c.dev.Pending = c.dev.Pending[1:]
		c.saveLogged()
		c.mu.Unlock()
		c.event(Event{Kind: EventReported, Job: u.Job, Detail: string(u.Status), Err: err})
	}
}
