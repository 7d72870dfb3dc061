package enrollment

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Approval is how an operator lets a device in.
type Approval struct {
	By     string // the principal
	Name   string // for a device that gave none; else empty or what it gave
	Reason string
	Create Creation // used when there is no such core or client device
}

// Approve lets a device in at its next call; a core or client device that does not
// exist is created. Approved twice is approved once, unless the creation failed. It
// returns fault.NotFound for an unknown request.
func (s *Service) Approve(ctx context.Context, id string, a Approval) (Request, error) {
	if err := checkText("reason", a.Reason, maxMessage); err != nil {
		return Request{}, err
	}
	if err := a.Create.check(); err != nil {
		return Request{}, err
	}
	if err := s.canCreate(ctx, id, a); err != nil {
		return Request{}, err
	}
	out, err := s.change(ctx, id, func(r *Request) error {
		if r.Status == Enrolled || r.Status == Approved {
			return state.ErrKeep
		}
		switch {
		case r.Name == "" && a.Name == "":
			return fault.Field("name", "is missing: the device gave none, so say which core or client device it is")
		case r.Name == "":
			if err := checkName(a.Name); err != nil {
				return err
			}
			r.Name, r.Assigned = a.Name, true
		case a.Name != "" && a.Name != r.Name:
			return fault.Field("name", "is %q, but the device asks for %q", a.Name, r.Name)
		}
		r.approve(Decision{By: a.By, At: s.stamp(), Reason: a.Reason, Create: &a.Create})
		return nil
	})
	if err != nil {
		return out, aboutRequest(err, "approve", id)
	}
	if out.Status == Approved && out.Task == "" {
		if _, err := s.made(ctx, &out); err != nil {
			return out, err
		}
		return s.Request(ctx, id)
	}
	return out, nil
}

// canCreate reports an approval that can only fail: a client device that does not
// exist needs a core.
func (s *Service) canCreate(ctx context.Context, id string, a Approval) error {
	r, err := s.Request(ctx, id)
	if err != nil || r.Role != protocol.RoleClient || a.Create.Core != "" || r.Status == Approved || r.Status == Enrolled {
		return err
	}
	_, err = s.subject(ctx, cmp.Or(r.Name, a.Name))
	if errors.Is(err, fault.NotFound) {
		return fault.Field("coreName", "is missing: the client device does not exist yet, so say which core it belongs to")
	}
	return err
}

// Deny keeps a device out until it is approved. If it got in already, the
// certificates of its agent are revoked.
func (s *Service) Deny(ctx context.Context, id, by, reason string) (Request, error) {
	if err := checkText("reason", reason, maxMessage); err != nil {
		return Request{}, err
	}
	out, err := s.change(ctx, id, func(r *Request) error {
		if r.Status == Denied {
			return state.ErrKeep
		}
		r.Revoke = r.Status == Enrolled
		r.Status, r.Message, r.Task = Denied, "", ""
		r.Decision = &Decision{By: by, At: s.stamp(), Reason: reason}
		return nil
	})
	if err != nil {
		return out, aboutRequest(err, "deny", id)
	}
	if out.Revoke {
		if err := s.revoke(ctx, out); err != nil { // Sweep goes on with it
			s.log.WarnContext(ctx, "agent is not revoked yet", "request", id, logx.Err, err)
		}
	}
	return s.Request(ctx, id)
}

func aboutRequest(err error, what, id string) error {
	return fmt.Errorf("%s enrolment request %s: %w", what, fault.Brief(id), err)
}

// DeleteRequest forgets a request; none is no error. A device that is in stays in,
// one that still wants in asks anew.
func (s *Service) DeleteRequest(ctx context.Context, id, by string) error {
	gone := false
	err := s.remove(ctx, id, func(r Request) bool {
		gone = !r.Revoke
		return gone
	})
	if err == nil && gone {
		s.log.InfoContext(ctx, "enrolment request removed", "request", id, logx.Actor, by)
	}
	return err
}

// Request returns an enrolment request, or fault.NotFound.
func (s *Service) Request(ctx context.Context, id string) (Request, error) {
	if len(id) != 64 || strings.Trim(id, "0123456789abcdef") != "" {
		return Request{}, noRequest(id)
	}
	r, err := state.Read[Request](ctx, s.store, requestKey(id))
	if errors.Is(err, fault.NotFound) {
		return Request{}, noRequest(id)
	}
	return r.Value, err
}

// RequestFilter selects requests; empty members select all.
type RequestFilter struct {
	Status Status
	Name   string
}

// Requests returns at most count requests after the one with the id after, by id,
// and the id to go on after ("" at the end).
func (s *Service) Requests(ctx context.Context, f RequestFilter, after string, count int) ([]Request, string, error) {
	statuses := []Status{Waiting, Approved, Denied, Enrolled, Replaced}
	if f.Status != "" && !slices.Contains(statuses, f.Status) {
		return nil, "", fault.Field("status", "is %q, want one of %v", fault.Brief(string(f.Status)), statuses)
	}
	out := []Request{}
	for {
		page, err := s.store.List(ctx, requestPrefix, requestKey(after), min(4*count, 1000))
		if err != nil {
			return nil, "", fmt.Errorf("list enrolment requests: %w", err)
		}
		for _, e := range page.Entries {
			r, err := state.Decode[Request](e)
			if err != nil {
				return nil, "", err
			}
			after = r.Value.ID
			if f.Status != "" && r.Value.Status != f.Status || f.Name != "" && r.Value.Name != f.Name {
				continue
			}
			if len(out) == count {
				return out, out[count-1].ID, nil
			}
			out = append(out, r.Value)
		}
		if !page.More {
			return out, "", nil
		}
	}
}
