package enrollment

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/event"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/logx"
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

const requestPrefix = prefix + "request/"

func requestKey(id string) string { return requestPrefix + id }

func (r *Request) approve(d Decision) {
	r.Status, r.Decision, r.Message, r.Manual, r.Task = Approved, &d, "", false, ""
	r.Attempt++
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
