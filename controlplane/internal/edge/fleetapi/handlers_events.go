package fleetapi

import (
	"context"
	"fmt"
	"net/url"

	"github.com/ggfleet/ggfleet/controlplane/api"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/fleetapi/gen"
	"github.com/ggfleet/ggfleet/controlplane/internal/event"
	"github.com/ggfleet/ggfleet/controlplane/internal/fleet"
)

func (s *server) ListEvents(ctx context.Context, r gen.ListEventsRequestObject) (gen.ListEventsResponseObject, error) {
	p := r.Params
	f := event.Filter{Core: opt(p.Core), Type: event.Type(p.Type)}
	es, next, err := s.Events.List(ctx, f, opt(p.After), events(opt(p.Count)))
	if err != nil {
		return nil, fmt.Errorf("listing events: %w", err)
	}
	return gen.ListEvents200ApplicationVndAwsCdfV10PlusJSONResponse{EventsFoundApplicationVndAwsCdfV10PlusJSONResponse: gen.EventsFoundApplicationVndAwsCdfV10PlusJSONResponse{
		Events: each(es, envelope), Pagination: pagination(opt(p.Count), api.LastEvaluated{Sequence: next}),
	}}, nil
}

// events is the count that the log is asked for; the log has a default of its
// own.
func events(count api.Count) int { return min(count, fleet.MaxPage) }

func (s *server) ListCoreHistory(ctx context.Context, r gen.ListCoreHistoryRequestObject) (gen.ListCoreHistoryResponseObject, error) {
	after, err := fromToken(r.Params.ExclusiveStartToken)
	if err != nil {
		return nil, err
	}
	es, next, err := s.Events.History(ctx, r.Name, after, events(opt(r.Params.Count)))
	if err != nil {
		return nil, fmt.Errorf("listing the history of core %s: %w", r.Name, err)
	}
	return gen.ListCoreHistory200ApplicationVndAwsCdfV10PlusJSONResponse{EventsFoundApplicationVndAwsCdfV10PlusJSONResponse: gen.EventsFoundApplicationVndAwsCdfV10PlusJSONResponse{
		Events: each(es, envelope), Pagination: pagination(opt(r.Params.Count), api.LastEvaluated{NextToken: toToken(next)}),
	}}, nil
}

// envelope is an event as every subscriber gets it, with its place in the log.
func envelope(e event.Event) api.Event {
	v := e.Envelope()
	return api.Event{
		ID: v.ID, Sequence: e.Sequence, Source: v.Source, DetailType: string(v.DetailType), Time: api.At(v.Time), Core: e.Core, Detail: v.Detail,
	}
}

func (s *server) CreateWebhook(ctx context.Context, r gen.CreateWebhookRequestObject) (gen.CreateWebhookResponseObject, error) {
	b := r.Body
	w, secret, err := s.Webhooks.CreateWebhook(ctx, event.NewWebhook{
		URL: b.URL, Types: eventTypes(b.Types), Secret: b.Secret, Inactive: b.Active != nil && !*b.Active, Key: idempotency(ctx),
	})
	if err != nil {
		return nil, fmt.Errorf("creating a webhook: %w", err)
	}
	out := webhook(w)
	out.Secret = secret
	return gen.CreateWebhook201ApplicationVndAwsCdfV10PlusJSONResponse{
		Body:    out,
		Headers: gen.CreateWebhook201ResponseHeaders{Location: "/webhooks/" + url.PathEscape(w.ID), ETag: entityTag(w.Version)},
	}, nil
}

func (s *server) ListWebhooks(ctx context.Context, _ gen.ListWebhooksRequestObject) (gen.ListWebhooksResponseObject, error) {
	ws, err := s.Webhooks.Webhooks(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing webhooks: %w", err)
	}
	return gen.ListWebhooks200ApplicationVndAwsCdfV10PlusJSONResponse{Webhooks: each(ws, webhook)}, nil
}

func (s *server) GetWebhook(ctx context.Context, r gen.GetWebhookRequestObject) (gen.GetWebhookResponseObject, error) {
	w, err := s.Webhooks.Webhook(ctx, r.ID)
	if err != nil {
		return nil, fmt.Errorf("reading webhook %s: %w", r.ID, err)
	}
	return gen.GetWebhook200ApplicationVndAwsCdfV10PlusJSONResponse{WebhookFoundApplicationVndAwsCdfV10PlusJSONResponse: webhookFound(w)}, nil
}

func (s *server) UpdateWebhook(ctx context.Context, r gen.UpdateWebhookRequestObject) (gen.UpdateWebhookResponseObject, error) {
	version, err := ifVersion(r.Params.IfMatch)
	if err != nil {
		return nil, err
	}
	u := event.WebhookUpdate{URL: r.Body.URL, Secret: r.Body.Secret, Active: r.Body.Active}
	if r.Body.Types != nil {
		types := eventTypes(*r.Body.Types)
		u.Types = &types
	}
	w, err := s.Webhooks.UpdateWebhook(ctx, r.ID, u, version)
	if err != nil {
		return nil, fmt.Errorf("updating webhook %s: %w", r.ID, err)
	}
	return gen.UpdateWebhook200ApplicationVndAwsCdfV10PlusJSONResponse{WebhookFoundApplicationVndAwsCdfV10PlusJSONResponse: webhookFound(w)}, nil
}

func (s *server) DeleteWebhook(ctx context.Context, r gen.DeleteWebhookRequestObject) (gen.DeleteWebhookResponseObject, error) {
	version, err := ifVersion(r.Params.IfMatch)
	if err != nil {
		return nil, err
	}
	if err := s.Webhooks.DeleteWebhook(ctx, r.ID, version); err != nil {
		return nil, fmt.Errorf("deleting webhook %s: %w", r.ID, err)
	}
	return gen.DeleteWebhook204Response{}, nil
}

func (s *server) ListDeadLetters(ctx context.Context, r gen.ListDeadLettersRequestObject) (gen.ListDeadLettersResponseObject, error) {
	p := r.Params
	ls, next, err := s.Webhooks.DeadLetters(ctx, r.ID, opt(p.After), events(opt(p.Count)))
	if err != nil {
		return nil, fmt.Errorf("listing the dead letters of webhook %s: %w", r.ID, err)
	}
	return gen.ListDeadLetters200ApplicationVndAwsCdfV10PlusJSONResponse{
		DeadLetters: each(ls, func(l event.DeadLetter) api.DeadLetter {
			return api.DeadLetter{Event: envelope(l.Event), Attempts: l.Attempts, Reason: l.Reason, At: api.At(l.At), Again: l.Again}
		}),
		Pagination: pagination(opt(p.Count), api.LastEvaluated{Sequence: next}),
	}, nil
}

func (s *server) ReplayWebhook(ctx context.Context, r gen.ReplayWebhookRequestObject) (gen.ReplayWebhookResponseObject, error) {
	if err := s.Webhooks.Replay(ctx, r.ID, event.ReplayRequest{FromSequence: r.Body.FromSequence, DeadLetters: r.Body.DeadLetters}); err != nil {
		return nil, fmt.Errorf("replaying to webhook %s: %w", r.ID, err)
	}
	return gen.ReplayWebhook202Response{}, nil
}

func webhookFound(w event.Webhook) gen.WebhookFoundApplicationVndAwsCdfV10PlusJSONResponse {
	return gen.WebhookFoundApplicationVndAwsCdfV10PlusJSONResponse{Body: webhook(w), Headers: gen.WebhookFoundResponseHeaders{ETag: entityTag(w.Version)}}
}

func webhook(w event.Webhook) api.Webhook {
	return api.Webhook{
		ID:        w.ID,
		URL:       w.URL,
		Types:     each(w.Types, func(t event.Type) api.EventType { return api.EventType(t) }),
		Active:    w.Active,
		Reason:    w.Reason,
		Sequence:  w.Sequence,
		Lost:      w.Lost,
		CreatedAt: api.At(w.CreatedAt),
		UpdatedAt: api.At(w.UpdatedAt),
	}
}

func eventTypes(ts []api.EventType) []event.Type {
	return each(ts, func(t api.EventType) event.Type { return event.Type(t) })
}
