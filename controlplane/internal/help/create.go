package help

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/ggfleet/ggfleet/controlplane/internal/event"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// detail is what the events of a request say.
type detail struct {
	RequestID  string `json:"requestId"`
	Core       string `json:"coreName,omitempty"`
	Device     string `json:"deviceName,omitempty"`
	Kind       string `json:"kind"`
	Of         string `json:"of,omitempty"`
	Component  string `json:"component,omitempty"`
	Diagnostic string `json:"diagnostic,omitempty"`
	By         string `json:"by"`
	Status     string `json:"status,omitempty"`
	Message    string `json:"message,omitempty"`
}

// tell puts an event about r into b, unless r only goes on with what another
// request began.
func tell(b *state.Batch, t event.Type, r Request) {
	if r.Follows != "" {
		return
	}
	d := detail{
		RequestID: r.ID, Kind: string(r.Kind), Of: r.Of, Component: r.Component, Diagnostic: r.Diagnostic, By: r.By,
		Status: string(r.Status), Message: r.Message,
	}
	if r.Role == protocol.RoleClient {
		d.Device = r.Device
	} else {
		d.Core = r.Device
	}
	event.Add(b, t, r.Device, r.UpdatedAt, d)
}

// Create stores a request and lets the device know. fault.NotFound without such
// a device, fault.Conflict without an agent on it, fault.Exhausted when the
// device has protocol.MaxHelpOpen requests open.
func (s *Service) Create(ctx context.Context, n New) (Request, error) {
	if err := check(n); err != nil {
		return Request{}, err
	}
	has, err := s.cfg.Devices.HasAgent(ctx, n.Subject)
	if err != nil {
		return Request{}, err
	}
	if !has {
		return Request{}, fault.New(fault.Conflict, "no agent of %s has enrolled; nobody there could answer", fault.Brief(n.Subject.Name))
	}
	for {
		r, replaced, err := s.create(ctx, n)
		if errors.Is(err, fault.Conflict) && !errors.Is(err, errNoFollow) {
			if ctx.Err() != nil {
				return Request{}, ctx.Err()
			}
			continue // somebody else asks the same device in this moment
		}
		if err != nil {
			return Request{}, err
		}
		if replaced != "" {
			s.drop(ctx, replaced)
		}
		s.log.InfoContext(ctx, "help asked for", "request", r.ID, "device", r.Device, "kind", string(r.Kind), "by", r.By)
		return r, nil
	}
}

// idOf is the id of the request that a key names.
func idOf(key string) string {
	h := sha256.Sum256([]byte("help\x00" + key))
	return names.UUIDOf([16]byte(h[:16]))
}

func check(n New) error {
	if n.By == "" || n.Subject.Name == "" {
		return fault.New(fault.Invalid, "a request needs a device and somebody who asks")
	}
	if err := n.Check(); err != nil {
		return err
	}
	if n.Wait != 0 && (n.Wait < MinWait || n.Wait > Keep) {
		return fault.Field("expiresSeconds", "is %d, want %d to %d", int(n.Wait.Seconds()), int(MinWait.Seconds()), int(Keep.Seconds()))
	}
	if n.Follows != "" && (n.Kind != protocol.HelpLogsRange || n.From != "") {
		return fault.Field("follows", "belongs to the kind %s without \"from\"", protocol.HelpLogsRange)
	}
	return nil
}

// errNoFollow tells a conflict that stays from one of the store.
var errNoFollow = errors.New("cannot be followed")

func (s *Service) create(ctx context.Context, n New) (_ Request, replaced string, _ error) {
	id := names.NewUUID()
	if n.Key != "" {
		id = idOf(n.Key)
		if r, err := s.read(ctx, id); !errors.Is(err, fault.NotFound) {
			return r.Value.Request, "", err
		}
	}
	at := waitingKey(n.Subject.Name)
	o, err := state.ReadOr[open](ctx, s.store, at)
	if err != nil {
		return Request{}, "", err
	}
	if len(o.Value.Requests) >= protocol.MaxHelpOpen {
		return Request{}, "", fault.New(fault.Exhausted, "%s has %d requests open already; wait until one has ended, or delete one", fault.Brief(n.Subject.Name), protocol.MaxHelpOpen)
	}
	now, wait := s.stamp(), n.Wait
	if wait == 0 {
		wait = DefaultWait
	}
	r := record{Request: Request{
		ID: id, Device: n.Subject.Name, Role: n.Subject.Role, HelpAsk: n.HelpAsk, By: n.By, Status: Waiting, CreatedAt: now, UpdatedAt: now,
	}}
	if r.Role == "" {
		r.Role = protocol.RoleCore
	}
	b := state.NewBatch(state.StepHelp)
	if n.Follows != "" {
		if err := s.follow(ctx, b, n, &r.Request); err != nil {
			return Request{}, "", err
		}
	}
	r.due(b, now.Add(wait))
	o.Value.Role = string(r.Role)
	o.Value.Requests = append(slices.Clone(o.Value.Requests), r.ID)
	b.If(requestKey(r.ID), 0).Put(requestKey(r.ID), r).Put(r.index(), r.ID).If(at, o.Rev).Put(at, o.Value)
	tell(b, event.HelpRequested, r.Request)
	if _, err := s.store.Commit(ctx, b); err != nil {
		return Request{}, "", fmt.Errorf("store help request: %w", err)
	}
	return r.Request, n.Follows, nil
}

// follow makes r go on where the request that n names ended, and removes that
// one in b.
func (s *Service) follow(ctx context.Context, b *state.Batch, n New, r *Request) error {
	old, err := s.read(ctx, n.Follows)
	if err != nil {
		return err
	}
	v := old.Value
	logs := v.Kind == protocol.HelpLogsTail || v.Kind == protocol.HelpLogsRange
	if v.Device != n.Subject.Name || v.By != n.By || !logs || v.Of != n.Of || v.Component != n.Component {
		return fault.Field("follows", "%q is no request of yours for the same log", fault.Brief(n.Follows))
	}
	if !v.Ended() {
		return fmt.Errorf("%w: %w", errNoFollow, fault.New(fault.Conflict, "help request %s has not ended", v.ID))
	}
	r.From = v.From
	if v.Status == Done {
		r.From = v.Next
	}
	r.Follows = v.ID
	s.erase(b, old)
	return nil
}

// erase removes an ended request in b; its content is to be dropped afterwards.
func (s *Service) erase(b *state.Batch, r state.Record[record]) {
	b.If(requestKey(r.Value.ID), r.Rev).Delete(requestKey(r.Value.ID)).Delete(r.Value.index()).Delete(r.Value.Due)
}
