package fleetapitest

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/ggfleet/ggfleet/controlplane/internal/event"
	"github.com/ggfleet/ggfleet/controlplane/internal/fleet"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// Tell puts an event into the log.
func (f *Fake) Tell(t event.Type, core, detail string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := int64(len(f.log) + 1)
	f.log = append(f.log, event.Event{
		ID: fmt.Sprintf("9b1deb4d-3b7d-4bad-9bdd-%012d", n), Type: t, Core: core, At: Now(), Detail: []byte(detail), Sequence: n,
	})
	close(f.told)
	f.told = make(chan struct{})
}

// Prune makes the log begin with sequence first.
func (f *Fake) Prune(first int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.first = first
}

// after returns what comes after a sequence number, and a channel that is closed
// when there is more.
func (f *Fake) after(filter event.Filter, after int64) ([]event.Event, <-chan struct{}, error) {
	done, err := f.lock()
	defer done()
	switch {
	case err != nil:
		return nil, nil, err
	case after != event.Oldest && after+1 < f.first:
		return nil, nil, fault.New(fault.Stale, "events before sequence %d are no longer kept", f.first)
	}
	es := slices.DeleteFunc(slices.Clone(f.log), func(e event.Event) bool {
		return e.Sequence <= after || e.Sequence < f.first || filter.Core != "" && e.Core != filter.Core || filter.Type != "" && e.Type != filter.Type
	})
	return es, f.told, nil
}

// Bounds returns the first and the last sequence number.
func (f *Fake) Bounds(context.Context) (first, last int64, _ error) {
	done, err := f.lock()
	defer done()
	return f.first, int64(len(f.log)), err
}

// List lists events.
func (f *Fake) List(_ context.Context, filter event.Filter, after int64, count int) ([]event.Event, int64, error) {
	es, _, err := f.after(filter, after)
	if err == nil && count > 0 && len(es) > count {
		return es[:count], es[count-1].Sequence, nil
	}
	return es, 0, err
}

// Stream follows the log.
func (f *Fake) Stream(ctx context.Context, filter event.Filter, after int64, handle func([]event.Event) error) error {
	for {
		es, more, err := f.after(filter, after)
		if err != nil {
			return err
		}
		if len(es) > 0 {
			if err := handle(es); err != nil {
				return err
			}
			after = es[len(es)-1].Sequence
		}
		select {
		case <-ctx.Done():
			return nil
		case <-more:
		}
	}
}

// History returns the events of a core, newest first.
func (f *Fake) History(_ context.Context, core, after string, count int) ([]event.Event, string, error) {
	es, _, err := f.after(event.Filter{Core: core}, event.Oldest)
	if err != nil {
		return nil, "", err
	}
	slices.Reverse(es)
	return pageOf(es, func(e event.Event) string { return e.ID }, fleet.Page{After: after, Count: count})
}

// CreateWebhook stores a webhook.
func (f *Fake) CreateWebhook(_ context.Context, n event.NewWebhook) (event.Webhook, string, error) {
	done, err := f.lock()
	defer done()
	if err != nil {
		return event.Webhook{}, "", err
	}
	w := event.Webhook{ID: "hook-" + strconv.Itoa(len(f.hooks)+1), URL: n.URL, Types: n.Types, Active: !n.Inactive, Version: 1, CreatedAt: Now()}
	f.hooks[w.ID] = w
	secret := n.Secret
	if secret == "" {
		secret = "made-secret-of-" + w.ID
	}
	return w, secret, nil
}

// Webhook returns a webhook.
func (f *Fake) Webhook(_ context.Context, id string) (event.Webhook, error) {
	return get(f, f.hooks, "webhook", id)
}

// Webhooks lists webhooks.
func (f *Fake) Webhooks(context.Context) ([]event.Webhook, error) {
	done, err := f.lock()
	defer done()
	return sorted(f.hooks), err
}

// UpdateWebhook changes URL and types.
func (f *Fake) UpdateWebhook(ctx context.Context, id string, u event.WebhookUpdate, ifVersion int) (event.Webhook, error) {
	w, err := f.Webhook(ctx, id)
	if err != nil {
		return w, err
	}
	if err := stale(w.Version, ifVersion); err != nil {
		return w, err
	}
	if u.URL != nil {
		w.URL = *u.URL
	}
	if u.Types != nil {
		w.Types = *u.Types
	}
	if u.Active != nil {
		w.Active = *u.Active
	}
	w.Version++
	w.UpdatedAt = Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hooks[id] = w
	return w, nil
}

// DeleteWebhook forgets a webhook.
func (f *Fake) DeleteWebhook(ctx context.Context, id string, ifVersion int) error {
	w, err := f.Webhook(ctx, id)
	if err != nil {
		return err
	}
	if err := stale(w.Version, ifVersion); err != nil {
		return err
	}
	return remove(f, f.hooks, "webhook", id)
}

// DeadLetters returns every event of the log as one.
func (f *Fake) DeadLetters(ctx context.Context, id string, after int64, count int) ([]event.DeadLetter, int64, error) {
	if _, err := f.Webhook(ctx, id); err != nil {
		return nil, 0, err
	}
	es, next, err := f.List(ctx, event.Filter{}, after, count)
	out := make([]event.DeadLetter, len(es))
	for i, e := range es {
		out[i] = event.DeadLetter{Event: e, Reason: "the receiver answered 500", Attempts: 12, At: Now()}
	}
	return out, next, err
}

// Replay remembers what it was given.
func (f *Fake) Replay(ctx context.Context, id string, r event.ReplayRequest) error {
	if (r.FromSequence > 0) == r.DeadLetters {
		return fault.New(fault.Invalid, "name either fromSequence or deadLetters")
	}
	f.mu.Lock()
	f.LastReplay = r
	f.mu.Unlock()
	_, err := f.Webhook(ctx, id)
	return err
}
