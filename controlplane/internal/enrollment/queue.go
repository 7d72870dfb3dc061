package enrollment

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/cloud"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/protocol"
	"github.com/ggfleet/ggfleet/shared/run"
)

// Bounds of the requests that wait.
const (
	DefaultWaiting = 1000
	DefaultFromOne = 100
	// KeepRequests is how long a request is kept whose device does not ask.
	KeepRequests = 7 * 24 * time.Hour
)

// waiting counts the requests that wait: all of them, or those from one address.
type waiting struct {
	Count int `json:"count"`
}

const waitingKey = prefix + "waiting"

func waitingFromKey(from string) string { return prefix + "waiting-from/" + url.PathEscape(from) }

// network is what counts as one address: who has an IPv6 address has 2^64 of them.
func network(address string) string {
	a, err := netip.ParseAddr(address)
	if err != nil {
		return "unknown"
	}
	if a.Is4() {
		return a.String()
	}
	p, err := a.WithZone("").Prefix(64)
	if err != nil {
		return a.String()
	}
	return p.String()
}

// queueBatch gives the request its place among those that wait, or takes it from
// there, as its status says. fault.Exhausted when there is no place.
func (s *Service) queueBatch(ctx context.Context, b *state.Batch, r *Request) error {
	var step int
	from := r.Queued
	switch {
	case r.Status == Waiting && r.Queued == "":
		step, from = 1, network(r.Address)
		r.Queued = from
	case r.Status != Waiting && r.Queued != "":
		step, r.Queued = -1, ""
	default:
		return nil
	}
	for _, c := range []struct {
		key   string
		limit int
		full  string
	}{
		{waitingKey, s.cfg.MaxWaiting, "%d devices wait to be enrolled already, which is all that may; approve or deny some"},
		{waitingFromKey(from), s.cfg.MaxFromOne, "%d devices wait to be enrolled from this address already, which is all that may"},
	} {
		n, err := state.ReadOr[waiting](ctx, s.store, c.key)
		if err != nil {
			return fmt.Errorf("count waiting enrolments: %w", err)
		}
		n.Value.Count += step
		if step > 0 && n.Value.Count > c.limit {
			return fault.New(fault.Exhausted, c.full, c.limit)
		}
		b.If(c.key, n.Rev)
		if n.Value.Count > 0 {
			b.Put(c.key, n.Value)
		} else {
			b.Delete(c.key)
		}
	}
	return nil
}

// change edits a request and commits it with its place among those that wait and
// its event; edit returns state.ErrKeep to leave it. It returns fault.NotFound if
// there is none.
func (s *Service) change(ctx context.Context, id string, edit func(*Request) error) (Request, error) {
	s.queue.Lock()
	defer s.queue.Unlock()
	var before Status
	r, err := state.Update(ctx, s.store, state.StepEnrollRequest, requestKey(id), func(r *Request, exists bool, b *state.Batch) error {
		if !exists {
			return noRequest(id)
		}
		before = r.Status
		if err := edit(r); err != nil {
			return err
		}
		if err := s.queueBatch(ctx, b, r); err != nil {
			return err
		}
		if r.Status != before {
			s.tell(b, *r)
		}
		return nil
	})
	if err == nil && r.Value.Status != before {
		s.audit(ctx, r.Value)
	}
	return r.Value, err
}

func noRequest(id string) error {
	return fault.New(fault.NotFound, "enrolment request %s does not exist; one is forgotten when its device does not ask for %d days", fault.Brief(id), int(KeepRequests.Hours()/24))
}

// Run removes what is forgotten and ends what was interrupted, until ctx is done.
func (s *Service) Run(ctx context.Context) error {
	return run.Every(ctx, time.Minute, s.Sweep, func(err error) {
		s.log.WarnContext(ctx, "enrolment requests are not swept", logx.Err, err)
	})
}

// Sweep removes the requests whose devices do not ask any more, and revokes what
// was denied and not revoked yet.
func (s *Service) Sweep(ctx context.Context) error {
	var errs []error
	err := state.All(ctx, s.store, requestPrefix, func(_ string, r state.Record[Request]) error {
		if r.Value.Revoke {
			errs = append(errs, s.revoke(ctx, r.Value))
			return nil
		}
		if s.now().Sub(r.Value.LastAsked) > KeepRequests {
			errs = append(errs, s.remove(ctx, r.Value.ID, func(now Request) bool { return now.LastAsked.Equal(r.Value.LastAsked) }))
		}
		return nil
	})
	return errors.Join(append(errs, err, s.sweepSerials(ctx))...)
}

// remove deletes a request if it still is one that may go.
func (s *Service) remove(ctx context.Context, id string, may func(Request) bool) error {
	s.queue.Lock()
	defer s.queue.Unlock()
	_, err := state.Update(ctx, s.store, state.StepEnrollRequest, requestKey(id), func(r *Request, exists bool, b *state.Batch) error {
		if !exists || !may(*r) {
			return state.ErrKeep
		}
		r.Status = Denied // leaves its place
		if err := s.queueBatch(ctx, b, r); err != nil {
			return err
		}
		b.Delete(requestKey(id))
		return nil
	})
	if err != nil {
		return fmt.Errorf("remove enrolment request %s: %w", id, err)
	}
	return nil
}

// revoke ends the agent that got in by a request that was denied later, unless
// another one took its place.
func (s *Service) revoke(ctx context.Context, r Request) error {
	a, err := state.ReadOr[agentRecord](ctx, s.store, agentKey(r.Name))
	if err != nil {
		return fmt.Errorf("read agent of %s: %w", r.Name, err)
	}
	if a.Value.Request == r.ID {
		err = s.cfg.Things.SetCertificates(ctx, protocol.AgentThing(r.Name), cloud.Revoked)
		if err != nil && !errors.Is(err, fault.NotFound) {
			return fmt.Errorf("revoke agent of %s: %w", r.Name, err)
		}
	}
	_, err = s.change(ctx, r.ID, func(r *Request) error {
		if !r.Revoke {
			return state.ErrKeep
		}
		r.Revoke = false
		return nil
	})
	if errors.Is(err, fault.NotFound) {
		return nil
	}
	return err
}
