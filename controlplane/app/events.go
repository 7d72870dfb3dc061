package app

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ggfleet/ggfleet/controlplane/internal/event"
	"github.com/ggfleet/ggfleet/controlplane/internal/event/webhook"
)

// openEvents makes the log of events, on the gateway that publishes them.
func (a *App) openEvents(context.Context) error {
	var err error
	a.eventLog, err = event.New(event.Config{
		Store: a.hub, Sealer: a.sealer, Publisher: a.gateway, Retain: a.cfg.EventRetain, Log: a.log,
		Sender: webhook.New(webhook.Config{AllowHTTP: a.cfg.WebhookHTTP, DenyPrivate: a.cfg.WebhookDenyPrivate}),
	})
	return err
}

// runEvents keeps and delivers events. Alone on the data, it need not wait for
// the lease of the process before.
func (a *App) runEvents(ctx context.Context) error {
	if a.etcd != nil {
		if err := a.eventLog.Release(ctx); err != nil && ctx.Err() == nil {
			return err
		}
	}
	return a.eventLog.Run(ctx)
}

// eventMetrics registers what the event service counts.
func (a *App) eventMetrics(reg prometheus.Registerer) {
	for _, c := range []struct {
		name, help string
		value      func(event.Metrics) int64
	}{
		{"events_delivered_total", "Events that a webhook or the bus took from this replica.", func(m event.Metrics) int64 { return m.Delivered }},
		{"events_retried_total", "Failed attempts to deliver an event that are made again.", func(m event.Metrics) int64 { return m.Retried }},
		{"events_dead_letters_total", "Events given up for a subscriber.", func(m event.Metrics) int64 { return m.DeadLetters }},
		{"events_lost_total", "Events that left the log before a subscriber was reached.", func(m event.Metrics) int64 { return m.Lost }},
		{"events_published_total", "Events handed to the MQTT gateway.", func(m event.Metrics) int64 { return m.Published }},
		{"events_unpublished_total", "Events that the MQTT gateway did not take.", func(m event.Metrics) int64 { return m.Unpublished }},
	} {
		reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: "ggfleet", Name: c.name, Help: c.help},
			func() float64 { return float64(c.value(a.eventLog.Metrics())) }))
	}
	for _, g := range []struct {
		name, help string
		value      func(event.Metrics) int64
	}{
		{"events_outbox", "Events without a place in the log when this replica, leading, last looked.", func(m event.Metrics) int64 { return m.Outbox }},
		{"events_sequence", "Sequence of the newest event.", func(m event.Metrics) int64 { return m.Sequence }},
	} {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "ggfleet", Name: g.name, Help: g.help},
			func() float64 { return float64(g.value(a.eventLog.Metrics())) }))
	}
}
