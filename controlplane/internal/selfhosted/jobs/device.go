package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Message is something to publish to a device. Notice marks one that every
// session of the thing that subscribed gets; the others answer a request and go
// to the connection that asked.
type Message struct {
	Topic   string
	Payload []byte
	Notice  bool
	// Job names the execution whose document the payload carries, so that a
	// message no client can take ends that execution (trap 5).
	Job string
}

// maxRequest bounds the payload of a request; the largest a runtime sends is an
// update whose details hold four values of at most 1,024 characters.
const maxRequest = 16 << 10

// Serve answers one request of the jobs service that thing sent. The answers
// are in the order to publish; changes are committed when it returns. An error
// means that the request was not carried out and should be sent again.
func (a *Announcer) Serve(ctx context.Context, thing, topic string, payload []byte) ([]Message, error) {
	t, ok := protocol.ParseJobTopic(topic)
	if !ok || t.Thing != thing {
		return reject(topic, protocol.JobRequest{}, protocol.CodeInvalidTopic, "no operation of the jobs service has this topic", a.jobs.now().Unix(), nil), nil
	}
	var req protocol.JobRequest
	if len(payload) > maxRequest {
		return reject(topic, req, protocol.CodeInvalidRequest, fmt.Sprintf("payload of %d bytes is over the limit of %d", len(payload), maxRequest), a.jobs.now().Unix(), nil), nil
	}
	if len(payload) > 0 {
		if err := json.Unmarshal(payload, &req); err != nil {
			code := protocol.CodeInvalidJSON
			if _, wrongType := errors.AsType[*json.UnmarshalTypeError](err); wrongType {
				code = protocol.CodeInvalidRequest // the rest was read, the token with it
			}
			return reject(topic, req, code, "the payload is not the JSON object expected: "+err.Error(), a.jobs.now().Unix(), nil), nil
		}
	}
	var out []Message
	var err error
	switch t.Op {
	case protocol.JobOpGetPending:
		out, err = a.pending(ctx, topic, t, req)
	case protocol.JobOpDescribe:
		out, err = a.describe(ctx, topic, t, req)
	case protocol.JobOpStartNext:
		out, err = a.startNext(ctx, topic, t, req)
	case protocol.JobOpUpdate:
		out, err = a.update(ctx, topic, t, req)
	}
	var no *RefusedError
	if errors.As(err, &no) {
		a.jobs.log.InfoContext(ctx, "job request refused", logx.Thing, thing, logx.Job, t.Job, "code", no.Code, "reason", no.Text)
		return reject(topic, req, no.Code, no.Text, a.jobs.now().Unix(), no.State), nil
	}
	return out, err
}

func (a *Announcer) pending(ctx context.Context, topic string, t protocol.JobTopic, req protocol.JobRequest) ([]Message, error) {
	list, err := a.jobs.Pending(ctx, t.Thing)
	if err != nil {
		return nil, err
	}
	running, queued := []protocol.JobExecutionSummary{}, []protocol.JobExecutionSummary{}
	for _, e := range list {
		if e.Status == protocol.JobInProgress {
			running = append(running, summary(e))
		} else {
			queued = append(queued, summary(e))
		}
	}
	return accept(topic, "", protocol.JobAnswer{ClientToken: req.ClientToken, Timestamp: a.jobs.now().Unix(), InProgressJobs: &running, QueuedJobs: &queued})
}

func (a *Announcer) describe(ctx context.Context, topic string, t protocol.JobTopic, req protocol.JobRequest) ([]Message, error) {
	unlock := a.lock(t.Thing)
	defer unlock()
	list, err := a.views.load(ctx, a.jobs, t.Thing)
	if err != nil {
		return nil, err
	}
	if t.Job == protocol.NextJob {
		a.saidLocked(t.Thing, list) // the answer tells it
	}
	answer := protocol.JobAnswer{ClientToken: req.ClientToken, Timestamp: a.jobs.now().Unix()}
	at := slices.IndexFunc(list, func(e Execution) bool {
		return t.Job == protocol.NextJob || e.JobID == t.Job && (req.ExecutionNumber == 0 || req.ExecutionNumber == e.Number)
	})
	if at < 0 {
		if t.Job != protocol.NextJob {
			return nil, a.jobs.refuseDescribe(ctx, t.Thing, t.Job)
		}
		return accept(topic, "", answer)
	}
	document := req.IncludeJobDocument == nil || *req.IncludeJobDocument
	if answer.Execution, err = a.jobs.wire(ctx, list[at], document); err != nil {
		return nil, err
	}
	job := ""
	if document {
		job = list[at].JobID
	}
	return accept(topic, job, answer)
}

func (a *Announcer) startNext(ctx context.Context, topic string, t protocol.JobTopic, req protocol.JobRequest) ([]Message, error) {
	unlock := a.lock(t.Thing)
	defer unlock()
	list, err := a.views.load(ctx, a.jobs, t.Thing)
	if err != nil {
		return nil, err
	}
	answer := protocol.JobAnswer{ClientToken: req.ClientToken, Timestamp: a.jobs.now().Unix()}
	job := ""
	if len(list) > 0 {
		e := list[0]
		if e.Status == protocol.JobQueued {
			if e, err = a.jobs.Apply(ctx, Update{Thing: t.Thing, JobID: e.JobID, Status: protocol.JobInProgress, Details: req.StatusDetails}); err != nil {
				return nil, err
			}
			a.views.forget(t.Thing) // read before that
		}
		job = e.JobID
		if answer.Execution, err = a.jobs.wire(ctx, e, true); err != nil {
			return nil, err
		}
		list[0] = e
	}
	a.saidLocked(t.Thing, list) // the answer tells it
	return accept(topic, job, answer)
}

// update carries out a report and lets what it changed for the device follow
// its answer, so that the next job never overtakes the acceptance of the last.
func (a *Announcer) update(ctx context.Context, topic string, t protocol.JobTopic, req protocol.JobRequest) ([]Message, error) {
	unlock := a.lock(t.Thing)
	defer unlock()
	e, err := a.jobs.Apply(ctx, Update{
		Thing: t.Thing, JobID: t.Job, Status: req.Status, Details: req.StatusDetails,
		ExpectedVersion: req.ExpectedVersion, ExecutionNumber: req.ExecutionNumber,
	})
	if err != nil {
		return nil, err
	}
	answer := protocol.JobAnswer{ClientToken: req.ClientToken, Timestamp: a.jobs.now().Unix()}
	if req.IncludeJobExecutionState {
		answer.ExecutionState = stateOf(e)
	}
	if req.IncludeJobDocument != nil && *req.IncludeJobDocument {
		x, err := a.jobs.wire(ctx, e, true)
		if err != nil {
			return nil, err
		}
		answer.JobDocument = x.JobDocument
	}
	out, err := accept(topic, "", answer)
	if err != nil {
		return nil, err
	}
	if !e.Status.Terminal() {
		// Nothing follows IN_PROGRESS (nucleus-contract §2.2): the device knows.
		if a.shard(t.Thing).said[t.Thing] != (announced{}) {
			return out, nil
		}
		if list, err := a.views.load(ctx, a.jobs, t.Thing); err == nil {
			a.saidLocked(t.Thing, list)
		}
		return out, nil
	}
	notices, err := a.noticesLocked(ctx, t.Thing, true)
	if err != nil {
		// The report is committed: answer it, and let the watch announce.
		a.jobs.log.WarnContext(ctx, "next job could not be announced with the answer", logx.Thing, t.Thing, logx.Err, err)
		return out, nil
	}
	return append(out, notices...), nil
}

// wire is the execution as devices see it. The document gets its stamp here.
func (s *Service) wire(ctx context.Context, e Execution, document bool) (*protocol.JobExecution, error) {
	out := &protocol.JobExecution{
		JobID: e.JobID, ThingName: e.Thing, Status: e.Status, StatusDetails: e.Details, QueuedAt: e.QueuedAt,
		StartedAt: e.StartedAt, LastUpdatedAt: e.UpdatedAt, VersionNumber: e.Version, ExecutionNumber: e.Number,
	}
	if !document {
		return out, nil
	}
	t, err := s.template(ctx, e.JobID)
	if err != nil {
		return nil, err
	}
	out.JobDocument = t.with(e.Stamp)
	return out, nil
}

func summary(e Execution) protocol.JobExecutionSummary {
	return protocol.JobExecutionSummary{
		JobID: e.JobID, QueuedAt: e.QueuedAt, StartedAt: e.StartedAt, LastUpdatedAt: e.UpdatedAt, VersionNumber: e.Version, ExecutionNumber: e.Number,
	}
}

func accept(topic, job string, answer protocol.JobAnswer) ([]Message, error) {
	b, err := json.Marshal(answer)
	if err != nil {
		return nil, fmt.Errorf("encode answer: %w", err)
	}
	return []Message{{Topic: protocol.Accepted(topic), Payload: b, Job: job}}, nil
}

func reject(topic string, req protocol.JobRequest, code, text string, now int64, st *protocol.JobExecutionState) []Message {
	b, _ := json.Marshal(protocol.JobRejection{Code: code, Message: text, ClientToken: req.ClientToken, Timestamp: now, ExecutionState: st}) //nolint:errchkjson // plain data always encodes
	return []Message{{Topic: protocol.Rejected(topic), Payload: b}}
}
