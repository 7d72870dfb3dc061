package enrollment

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"time"
	"unicode"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/event"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Way is how a device is known that asks to be enrolled.
type Way string

// The ways, from the surest to none.
const (
	WayActivation  Way = "activation"
	WayCertificate Way = "certificate" // of its own thing
	WayClaim       Way = "claim"
	WayNone        Way = "none"
)

// Status of a request.
type Status string

// The statuses. A request that was enrolled becomes replaced when another key
// gets in under the same name, and waits again when its device asks after that.
const (
	Waiting  Status = "waiting"
	Approved Status = "approved" // the device has not fetched its certificate yet
	Denied   Status = "denied"
	Enrolled Status = "enrolled"
	Replaced Status = "replaced"
)

// Request is a device that asks to be let in. Its id is its key's: what it asks
// for stays what it was, so that nobody approves another device than the one seen.
type Request struct {
	ID       string        `json:"id"` // hex SHA-256 of the public key (SPKI)
	Way      Way           `json:"way"`
	Name     string        `json:"name,omitempty"` // empty: whoever approves it says
	Role     protocol.Role `json:"role"`
	Serial   string        `json:"serial,omitempty"`
	Platform string        `json:"platform,omitempty"`
	Address  string        `json:"address,omitempty"` // that it asked from last
	Claim    string        `json:"claim,omitempty"`   // id of the claim certificate

	Status     Status    `json:"status"`
	FirstAsked time.Time `json:"firstAsked"`
	LastAsked  time.Time `json:"lastAsked"` // to within TouchEvery
	Decision   *Decision `json:"decision,omitempty"`
	Message    string    `json:"message,omitempty"` // why it waits, for people

	Task        string `json:"task,omitempty"` // that creates core or client device
	Certificate string `json:"certificate,omitempty"`

	// Assigned: the name is not the device's own word but who approved it gave it.
	Assigned bool `json:"assigned,omitempty"`
	// Manual: rules leave it to people, since it was in before or their approval
	// could not be carried out.
	Manual bool `json:"manual,omitempty"`
	// Failed is the version of the rule whose approval could not be carried out.
	Failed string `json:"failed,omitempty"`
	// Attempt counts approvals: each may create core or client device anew.
	Attempt int `json:"attempt,omitempty"`
	// Queued is where it counts as waiting; empty: it does not.
	Queued string `json:"queued,omitempty"`
	// Revoke: it was denied after it got in; its certificates are being revoked.
	Revoke bool `json:"revoke,omitempty"`
}

// Decision is who decided about a request, and how.
type Decision struct {
	By   string `json:"by,omitempty"`   // the principal; empty: a rule did, or the thing's certificate
	Rule string `json:"rule,omitempty"` // name of the rule
	// Version is the rule's, as Request.Failed names it.
	Version string `json:"version,omitempty"`

	At     time.Time `json:"at"`
	Reason string    `json:"reason,omitempty"`
	Create *Creation `json:"create,omitempty"` // how to create what does not exist
}

// Subject is whom the request is for.
func (r Request) Subject() protocol.Subject { return protocol.Subject{Role: r.Role, Name: r.Name} }

// TouchEvery is how exact LastAsked is: asking more often is not written down.
const TouchEvery = 5 * time.Minute

// Bounds of what a device says of itself.
const (
	maxSerial   = 128 // bytes, as are the rest
	maxPlatform = 64
	maxMessage  = 1024
)

const requestPrefix = prefix + "request/"

func requestKey(id string) string { return requestPrefix + id }

// checkSaid checks what a device says of itself.
func checkSaid(r protocol.EnrollRequest) error {
	if r.Role != "" && r.Role != protocol.RoleCore && r.Role != protocol.RoleClient {
		return fault.Field("role", "is %q, want %s or %s", clip(string(r.Role)), protocol.RoleCore, protocol.RoleClient)
	}
	if r.Name != "" {
		if err := checkName(r.Name); err != nil {
			return err
		}
	}
	if err := checkText("serial", r.Serial, maxSerial); err != nil {
		return err
	}
	return checkText("platform", r.Platform, maxPlatform)
}

// maxName leaves room for the agent's.
func maxName() int { return names.MaxThing - len(protocol.AgentThing("")) }

// checkName: a thing's name that leaves room for its agent's, and is none itself.
func checkName(name string) error {
	if err := names.CheckThing(name); err != nil {
		return fault.Field("name", "%s", fault.Message(err))
	}
	if len(name) > maxName() {
		return fault.Field("name", "has %d characters; with an agent at most %d", len(name), maxName())
	}
	if strings.HasSuffix(name, protocol.AgentThing("")) {
		return fault.Field("name", "%q is a name of agents; enrol with the name of the device", name)
	}
	return nil
}

func checkText(field, s string, limit int) error {
	if len(s) > limit {
		return fault.Field(field, "has %d bytes, at most %d are taken", len(s), limit)
	}
	// What cannot be seen, or turns what can, would let one text pass for another.
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsGraphic(r) || r == unicode.ReplacementChar }) {
		return fault.Field(field, "holds control characters or others that cannot be seen, or is not UTF-8")
	}
	return nil
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

// asked is a request whose device asks at this moment.
type asked struct {
	state.Record[Request]

	s      *Service
	a      applicant
	before Request // as it is stored
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

// same reports an applicant that asks for something else with the key of r.
func (r Request) same(a applicant) error {
	name := r.Name
	if r.Assigned {
		name = ""
	}
	role := a.Role
	if role == "" {
		role = protocol.RoleCore
	}
	if a.way() == WayCertificate {
		if a.Thing != r.Name {
			return otherKey("name", r.Name, a.Thing)
		}
		return nil
	}
	switch {
	case a.Name != name:
		return otherKey("name", name, a.Name)
	case role != r.Role:
		return otherKey("role", string(r.Role), string(role))
	case a.Serial != r.Serial:
		return otherKey("serial", r.Serial, a.Serial)
	}
	return nil
}

func otherKey(what, before, now string) error {
	return fault.New(fault.Exists, "%s: this key asked as %q before and now asks as %q; enrol with a new key, or have the request removed with DELETE /enrollmentRequests/{id}", what, clip(before), clip(now))
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

func (r *Request) approve(d Decision) {
	r.Status, r.Decision, r.Message, r.Manual, r.Task = Approved, &d, "", false, ""
	r.Attempt++
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

// wait answers that the device has to ask again.
func (r *asked) wait(ctx context.Context) (Answer, error) {
	if err := r.store(ctx); err != nil {
		return Answer{}, err
	}
	return r.pending(), nil
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

// replacedBatch marks the request whose agent another one takes the place of.
func (s *Service) replacedBatch(ctx context.Context, b *state.Batch, id string) error {
	r, err := state.ReadOr[Request](ctx, s.store, requestKey(id))
	if err != nil {
		return fmt.Errorf("read enrolment request %s: %w", id, err)
	}
	if r.Rev == 0 || r.Value.Status != Enrolled {
		return nil
	}
	r.Value.Status = Replaced
	b.If(requestKey(id), r.Rev).Put(requestKey(id), r.Value)
	return nil
}

// requestDetail is the detail of the events of a request.
type requestDetail struct {
	RequestID string        `json:"requestId"`
	Name      string        `json:"name,omitempty"`
	Role      protocol.Role `json:"role"`
	Serial    string        `json:"serial,omitempty"`
	Platform  string        `json:"platform,omitempty"`
	Address   string        `json:"address,omitempty"`
	Way       Way           `json:"way"`
	By        string        `json:"by,omitempty"`
	Rule      string        `json:"rule,omitempty"`
	Reason    string        `json:"reason,omitempty"`
}

// tell adds the event of what a request became to b. It is no core's history: a
// device may ask for any name.
func (s *Service) tell(b *state.Batch, r Request) {
	what := map[Status]event.Type{Waiting: event.EnrollmentRequested, Approved: event.EnrollmentApproved, Denied: event.EnrollmentDenied}[r.Status]
	if what == "" {
		return
	}
	d := requestDetail{RequestID: r.ID, Name: r.Name, Role: r.Role, Serial: r.Serial, Platform: r.Platform, Address: r.Address, Way: r.Way}
	if r.Decision != nil {
		d.By, d.Rule, d.Reason = r.Decision.By, r.Decision.Rule, r.Decision.Reason
	}
	event.Add(b, what, "", s.now(), d)
}

// audit logs what a request became.
func (s *Service) audit(ctx context.Context, r Request) {
	args := []any{"request", r.ID, "status", r.Status, "name", r.Name, "role", r.Role, "way", r.Way, logx.Address, r.Address}
	if d := r.Decision; d != nil {
		args = append(args, logx.Actor, d.By, "rule", d.Rule)
	}
	s.log.InfoContext(ctx, "enrolment request", args...)
}

func (s *Service) stamp() time.Time { return s.now().UTC().Truncate(time.Millisecond) }

func addressText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.Unmap().String()
}
