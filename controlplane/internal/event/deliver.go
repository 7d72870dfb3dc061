package event

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/run"
)

// busName is the subscriber behind the port Bus: webhooks have UUIDs.
const (
	busName    = "bus"
	putTimeout = 10 * time.Second
)

// running is the delivery to one webhook.
type running struct {
	rev  state.Rev
	stop context.CancelFunc
	done chan struct{}
}

func (r running) end() {
	r.stop()
	<-r.done
}

// deliver keeps one delivery going for each active webhook, and for the bus.
func (s *Service) deliver(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if s.cfg.Bus != nil {
		wg.Go(func() { s.forward(ctx) })
	}
	select {
	case <-s.webhooks.Ready():
	case <-ctx.Done():
		return nil
	}
	now := map[string]running{}
	for {
		s.reconcile(ctx, now, &wg)
		select {
		case <-s.changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// reconcile makes now what the records say. A changed record starts over.
func (s *Service) reconcile(ctx context.Context, now map[string]running, wg *sync.WaitGroup) {
	items, _ := s.webhooks.Range("", 0, func(_ string, r *webhookRecord) bool { return r.Active })
	want := map[string]state.Item[webhookRecord]{}
	for _, it := range items {
		want[strings.TrimPrefix(it.Key, webhookPrefix)] = it
	}
	for id, r := range now {
		if it, ok := want[id]; !ok || it.Rev != r.rev {
			r.end()
			delete(now, id)
		}
	}
	for id, it := range want {
		if _, ok := now[id]; ok {
			continue
		}
		sub, err := s.subscriber(id, *it.Value)
		if err != nil {
			s.log.ErrorContext(ctx, "webhook is not delivered to", "webhook", id, logx.Err, err)
			continue
		}
		own, stop := context.WithCancel(ctx)
		r := running{rev: it.Rev, stop: stop, done: make(chan struct{})}
		now[id] = r
		wg.Go(func() {
			defer close(r.done)
			defer stop()
			s.serve(own, sub)
		})
	}
}

// subscriber returns who gets the events of a webhook.
func (s *Service) subscriber(id string, r webhookRecord) (subscriber, error) {
	secret, err := s.cfg.Sealer.Open(webhookKey(id), r.Secret)
	if err != nil {
		return subscriber{}, err
	}
	key, err := signingKey(string(secret))
	if err != nil {
		return subscriber{}, err
	}
	return subscriber{
		id: id,
		send: func(ctx context.Context, e *Event) Outcome {
			return s.cfg.Sender.Send(ctx, Request{URL: r.URL, Key: key, Event: *e})
		},
		wants: func(t Type) bool { return len(r.Types) == 0 || slices.Contains(r.Types, t) },
		guard: func(b *state.Batch) { b.IfExists(webhookKey(id)) },
		pause: func(ctx context.Context, reason string) error { return s.pause(ctx, id, r.Version, reason) },
	}, nil
}

// pause stops the delivery to a version of a webhook until somebody sets it active
// again. A version that is gone needs no pause.
func (s *Service) pause(ctx context.Context, id string, version int, reason string) error {
	_, err := s.change(ctx, id, version, func(r *webhookRecord, _ *state.Batch) error {
		r.Active, r.Reason, r.UpdatedAt = false, reason, s.stamp()
		r.Version++
		return nil
	})
	if errors.Is(err, fault.NotFound) || errors.Is(err, fault.Stale) {
		return nil
	}
	return err
}

// forward delivers to the bus.
func (s *Service) forward(ctx context.Context) {
	s.serve(ctx, subscriber{
		id: busName, wants: func(Type) bool { return true }, guard: func(*state.Batch) {},
		send: func(ctx context.Context, e *Event) Outcome {
			ctx, cancel := context.WithTimeout(ctx, putTimeout)
			defer cancel()
			err := s.cfg.Bus.Put(ctx, []Envelope{e.Envelope()})
			switch {
			case err == nil:
				return Outcome{Verdict: Taken}
			case fault.Permanent(err):
				return Outcome{Verdict: Refused, Reason: fault.Clip(err.Error(), MaxReason)}
			}
			return Outcome{Verdict: Again, Reason: fault.Clip(err.Error(), MaxReason)}
		},
	})
}

// serve delivers to sub until ctx is done or sub is paused.
func (s *Service) serve(ctx context.Context, sub subscriber) {
	wait := run.Backoff{Max: 10 * time.Second}
	for ctx.Err() == nil {
		err := s.deliverTo(ctx, sub)
		if err == nil {
			return
		}
		if ctx.Err() == nil && !errors.Is(err, fault.Conflict) { // a replay has moved the cursor
			s.log.WarnContext(ctx, "delivery of events stopped; trying again", "subscriber", sub.id, logx.Err, err)
		}
		_ = run.Sleep(ctx, wait.Next()) // the loop looks at ctx
	}
}
