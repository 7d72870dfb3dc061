package app

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/gateway"
	"github.com/ggfleet/ggfleet/controlplane/internal/telemetry"
	"github.com/ggfleet/ggfleet/shared/buildinfo"
)

// metrics is what GET /metrics answers. Nothing in it names a device.
func (a *App) metrics() http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	gauge := func(name, help string, f func() float64) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "ggfleet", Name: name, Help: help}, f))
	}
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "ggfleet", Name: "build_info", Help: "Always 1; the version is in the label.", ConstLabels: prometheus.Labels{"version": buildinfo.Version},
	}, func() float64 { return 1 }))
	gauge("cores", "Core devices that the fleet knows.", func() float64 { return float64(a.fleet.Count()) })
	gauge("agents_connected", "Agents with a session.", func() float64 { return float64(a.agents.Counts().Connected) })
	gauge("agents_offline", "Agents that were there since the start and have no session.", func() float64 { return float64(a.agents.Counts().Offline) })
	for _, w := range telemetry.Warnings() {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: "ggfleet", Name: "agent_warnings", Help: "Agents that show a warning.", ConstLabels: prometheus.Labels{"warning": string(w)},
		}, func() float64 { return float64(a.agents.Counts().Warnings[w]) }))
	}
	gauge("mqtt_connections", "Open sockets of devices.", func() float64 { return float64(a.gateway.Metrics().Connections) })
	gauge("mqtt_sessions", "MQTT sessions of devices.", func() float64 { return float64(a.gateway.Metrics().Sessions) })
	for _, c := range []struct {
		name, help string
		value      func(gateway.Metrics) int64
	}{
		{"mqtt_refused_total", "Sockets, handshakes and connects refused.", func(m gateway.Metrics) int64 { return m.Refused }},
		{"mqtt_denied_total", "Publishes, subscriptions and deliveries that policy refused.", func(m gateway.Metrics) int64 { return m.Denied }},
		{"mqtt_published_total", "Plain publishes let through.", func(m gateway.Metrics) int64 { return m.Published }},
		{"mqtt_served_total", "Requests on reserved topics.", func(m gateway.Metrics) int64 { return m.Served }},
		{"mqtt_serve_failed_total", "Requests on reserved topics that were not acknowledged.", func(m gateway.Metrics) int64 { return m.ServeFailed }},
		{"mqtt_sent_total", "Answers and notices written.", func(m gateway.Metrics) int64 { return m.Sent }},
		{"mqtt_dropped_total", "Messages lost because a device did not take them.", func(m gateway.Metrics) int64 { return m.Dropped }},
		{"mqtt_too_large_total", "Messages over a device's maximum packet size.", func(m gateway.Metrics) int64 { return m.TooLarge }},
		{"mqtt_ended_total", "Sessions that the gateway ended.", func(m gateway.Metrics) int64 { return m.Ended }},
		{"mqtt_panics_total", "Connections ended by a defect.", func(m gateway.Metrics) int64 { return m.Panics }},
	} {
		reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: "ggfleet", Name: c.name, Help: c.help},
			func() float64 { return float64(c.value(a.gateway.Metrics())) }))
	}
	a.eventMetrics(reg)
	reg.MustRegister(a.aws.seconds)
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
}
