package fleetapi

import (
	"time"

	"github.com/ggfleet/ggfleet/controlplane/api"
	"github.com/ggfleet/ggfleet/controlplane/internal/fleet"
	"github.com/ggfleet/ggfleet/controlplane/internal/telemetry"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

func coreAgent(r fleet.AgentReport) api.CoreAgent {
	a := api.CoreAgent{
		Connected:  r.Connected,
		Version:    r.Version,
		LastReport: api.At(r.LastReport),
		Components: each(r.Components, func(c protocol.LocalComponent) api.AgentComponent {
			return api.AgentComponent{Name: c.Name, Version: c.Version, State: c.State}
		}),
		ComponentsSource:  r.Source,
		ComponentsOmitted: r.Omitted,
		DroppedReports:    r.DroppedReports,
		DamagedReports:    r.DamagedReports,
		ReportsInMemory:   r.InMemory,
	}
	a.Warnings = agentWarnings(r)
	if n := r.Nucleus; n != nil {
		a.Nucleus = api.AgentNucleus{
			State: api.AgentNucleusState(n.State), Name: n.Name, Version: n.Version, Restarts: n.Restarts, LastError: n.LastError,
			Runtime: n.Runtime, Root: n.Root, Adopted: n.Adopted, ConfigDigest: n.ConfigDigest, LogBytes: n.LogBytes, LogErrors: n.LogErrors,
		}
	}
	if h := r.Host; h != nil {
		a.Host = api.AgentHost{
			UptimeSeconds: h.UptimeSeconds, Load1: h.Load1, MemoryUsedBytes: h.MemoryUsedBytes, MemoryBytes: h.MemoryBytes,
			DiskFreeBytes: h.DiskFreeBytes, DiskBytes: h.DiskBytes, InodesFree: h.InodesFree, Inodes: h.Inodes, DiskReadOnly: h.DiskReadOnly,
			TemperatureCelsius: h.TemperatureCelsius, ClockSynchronized: h.ClockSynchronized, ClockOffsetSeconds: h.ClockOffsetSeconds,
		}
	}
	if m := r.Machine; m != nil {
		a.Machine = agentMachine(*m)
		a.AgentCertificateExpires, a.CoreCertificateExpires = api.At(when(m.AgentCertificateExpires)), api.At(when(m.CoreCertificateExpires))
	}
	return a
}

// listAgent has no members for a core without agent.
func listAgent(r *fleet.AgentReport) (out api.CoreListAgent) {
	if r == nil {
		return out
	}
	return api.CoreListAgent{Connected: r.Connected, Version: r.Version, LastReport: api.At(r.LastReport), Warnings: agentWarnings(*r)}
}

func agentWarnings(r fleet.AgentReport) (out []api.AgentWarning) {
	for _, w := range r.Warnings {
		out = append(out, api.AgentWarning(w))
	}
	return out
}

func when(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

func agentMachine(m protocol.HostFacts) api.AgentMachine {
	out := api.AgentMachine{
		Os: m.OS, Distribution: m.Distribution, Kernel: m.Kernel, Architecture: m.Architecture, Model: m.Model, Serial: m.Serial, BootID: m.BootID, Cpus: m.CPUs,
	}
	for _, i := range m.Interfaces {
		out.Interfaces = append(out.Interfaces, api.AgentInterface{Name: i.Name, Up: i.Up, Mac: i.MAC, Addresses: i.Addresses})
	}
	for _, r := range m.Routes {
		out.DefaultRoutes = append(out.DefaultRoutes, api.AgentRoute{Interface: r.Interface, Gateway: r.Gateway})
	}
	return out
}

// agentSummary has no members while no agent ever reported.
func agentSummary(c fleet.AgentCounts) (out api.AgentSummary) {
	if c.Connected+c.Offline == 0 {
		return out
	}
	out.Connected, out.Offline, out.Warnings = c.Connected, c.Offline, map[string]int{}
	for _, w := range telemetry.Warnings() {
		out.Warnings[string(w)] = c.Warnings[w]
	}
	return out
}
