package enrollment

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// asked is a request whose device asks at this moment.
type asked struct {
	state.Record[Request]

	s      *Service
	a      applicant
	before Request // as it is stored
}

// byRequest lets in whom a rule, an operator or its own certificate lets in. Others
// wait.
func (s *Service) byRequest(ctx context.Context, a applicant) (Answer, error) {
	rec, err := state.ReadOr[Request](ctx, s.store, requestKey(a.key))
	if err != nil {
		return Answer{}, fmt.Errorf("read enrolment request: %w", err)
	}
	fresh := rec.Rev == 0
	if fresh {
		if rec.Value, err = s.request(ctx, a); err != nil {
			return Answer{}, err
		}
	} else if err := rec.Value.same(a); err != nil {
		return Answer{}, err
	}
	r := &asked{Record: rec, s: s, a: a, before: rec.Value}
	if r.Value.Name != "" && (fresh || r.Value.Status == Enrolled || r.Value.Status == Replaced) {
		pem, err := s.enrolled(ctx, r.Value.Subject(), a.key)
		if err != nil {
			return Answer{}, err
		}
		if pem != "" {
			return s.welcome(r.Value.Subject(), pem), nil
		}
	}
	if r.Value.Status == Enrolled || r.Value.Status == Replaced {
		r.again()
	}
	if r.Value.Status == Waiting {
		r.Value.Way, r.Value.Claim = a.way(), ""
		if r.Value.Way == WayClaim {
			r.Value.Claim = a.Certificate
		}
		if err := r.decide(ctx); err != nil {
			return Answer{}, err
		}
	}
	switch r.Value.Status {
	case Denied:
		return Answer{}, r.refuse(ctx, fresh)
	case Approved:
		return r.enter(ctx)
	case Waiting, Enrolled, Replaced:
	}
	return r.wait(ctx)
}

// request is what an applicant asks for that never asked before.
func (s *Service) request(ctx context.Context, a applicant) (Request, error) {
	now := s.stamp()
	r := Request{
		ID: a.key, Way: a.way(), Name: a.Name, Role: a.Role, Serial: a.Serial, Platform: a.Platform, Address: addressText(a.Address),
		Status: Waiting, FirstAsked: now,
	}
	if r.Role == "" {
		r.Role = protocol.RoleCore
	}
	if r.Way == WayCertificate {
		subject, err := s.ofThing(ctx, a)
		if err != nil {
			return r, err
		}
		r.Name, r.Role = subject.Name, subject.Role
	}
	return r, nil
}

// way tells how the applicant is known that brings no activation.
func (a applicant) way() Way {
	switch {
	case a.Thing != "":
		return WayCertificate
	case a.Certificate != "":
		return WayClaim
	}
	return WayNone
}

// ofThing is whom an applicant is for that has the certificate of a thing: what the
// fleet has of this name, else what it says it is.
func (s *Service) ofThing(ctx context.Context, a applicant) (protocol.Subject, error) {
	if of, is := protocol.AgentSubject(a.Thing, a.Attributes); is {
		return of, fault.New(fault.Denied, "the client certificate is the agent's own; it is renewed, not enrolled. To enrol %s anew, use an activation or its own certificate", of.Name)
	}
	subject, err := s.subject(ctx, a.Thing)
	if errors.Is(err, fault.NotFound) {
		subject, err = protocol.Subject{Role: a.Role, Name: a.Thing}, nil
		if subject.Role == "" {
			subject.Role = protocol.RoleCore
		}
	}
	if err != nil {
		return subject, err
	}
	if err := checkName(a.Thing); err != nil {
		return subject, fault.New(fault.Invalid, "the thing of the client certificate cannot have an agent: %s", fault.Message(err))
	}
	return subject, a.agrees(subject)
}

// again lets a request wait that lost what it had.
func (r *asked) again() {
	v := &r.Value
	v.Status, v.Certificate, v.Task, v.Decision = Waiting, "", "", nil
	v.Manual = r.a.way() != WayCertificate
	v.Message = "it was enrolled before and another device took its place, or its certificate was revoked; only an operator can let it in again"
	if v.Assigned {
		v.Name, v.Assigned = "", false
	}
}

// decide asks the thing's own certificate, then the rules.
func (r *asked) decide(ctx context.Context) error {
	v := &r.Value
	if v.Manual {
		return nil
	}
	if v.Way == WayCertificate {
		v.approve(Decision{At: r.s.stamp(), Reason: "it presented the certificate of " + v.Name, Create: &Creation{}})
		return nil
	}
	return r.rule(ctx)
}

// store writes the request as it is now, with its place among those that wait and
// the event of what became of it.
func (r *asked) store(ctx context.Context) error {
	v := &r.Value
	now := r.s.stamp()
	if r.Rev != 0 && reflect.DeepEqual(r.before, *v) && now.Sub(v.LastAsked) < TouchEvery {
		return nil
	}
	v.LastAsked, v.Platform, v.Address = now, r.a.Platform, addressText(r.a.Address)
	b := state.NewBatch(state.StepEnrollRequest)
	r.s.queue.Lock()
	defer r.s.queue.Unlock()
	if err := r.s.queueBatch(ctx, b, v); err != nil {
		return err
	}
	b.If(requestKey(v.ID), r.Rev).Put(requestKey(v.ID), *v)
	if r.Rev == 0 || r.before.Status != v.Status {
		r.s.tell(b, *v)
	}
	rev, err := r.s.store.Commit(ctx, b)
	if err != nil {
		return fmt.Errorf("store enrolment request %s: %w", v.ID, err)
	}
	if r.Rev == 0 || r.before.Status != v.Status {
		r.s.audit(ctx, *v)
	}
	r.Rev, r.before = rev, *v
	return nil
}

func (r *asked) pending() Answer {
	v := r.Value
	after := 10 * time.Second
	switch age := r.s.now().Sub(v.FirstAsked); {
	case v.Status == Approved:
		after = 2 * time.Second // what creates it is at work
	case age > time.Hour:
		after = TouchEvery
	case age > 5*time.Minute:
		after = 30 * time.Second
	}
	return Answer{Pending: &protocol.EnrollPending{RequestID: v.ID, KeyFingerprint: v.ID, RetryAfterSeconds: int(after.Seconds())}}
}

// wait answers that the device has to ask again.
func (r *asked) wait(ctx context.Context) (Answer, error) {
	if err := r.store(ctx); err != nil {
		return Answer{}, err
	}
	return r.pending(), nil
}

// refuse is the answer to a denied request. That a rule denied it is not written
// down: it can ask as often as it likes.
func (r *asked) refuse(ctx context.Context, fresh bool) error {
	err := fault.New(fault.Denied, "the enrolment of this device was denied (request %s)", r.Value.ID)
	if fresh {
		r.s.log.WarnContext(ctx, "enrolment refused", "request", r.Value.ID, "rule", r.Value.Decision.Rule, "name", r.Value.Name, logx.Address, addressText(r.a.Address))
		return err
	}
	if serr := r.store(ctx); serr != nil {
		return serr
	}
	return err
}

// enter lets an approved device in, once core or client device exist.
func (r *asked) enter(ctx context.Context) (Answer, error) {
	if r.Rev == 0 || r.before.Status != Approved { // first: the approval counts, whatever comes of it
		if err := r.store(ctx); err != nil {
			return Answer{}, err
		}
	}
	subject := r.Value.Subject()
	exists, err := r.s.made(ctx, &r.Value)
	if err != nil {
		return Answer{}, err
	}
	if !exists {
		return r.pending(), nil
	}
	e := entry{Way: r.Value.Way, Request: r.Value.ID}
	if r.Value.Way != WayCertificate {
		e.decision = r.Value.Decision
	}
	pem, err := r.s.admit(ctx, r.a, subject, e, func(b *state.Batch, issued cloud.Issued) {
		last := r.Value
		last.Status, last.Certificate, last.Message = Enrolled, issued.ID, ""
		last.LastAsked, last.Platform, last.Address = r.s.stamp(), r.a.Platform, addressText(r.a.Address)
		b.If(requestKey(last.ID), r.Rev).Put(requestKey(last.ID), last)
	})
	if errors.Is(err, errTaken) {
		if err := r.s.unmade(ctx, &r.Value, "another device got in as "+subject.Name+" since; approve it again to let it take that one's place"); err != nil {
			return Answer{}, err
		}
		return r.pending(), nil
	}
	if err != nil {
		return Answer{}, err
	}
	return r.s.welcome(subject, pem), nil
}
