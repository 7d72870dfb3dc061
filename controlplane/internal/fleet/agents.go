package fleet

import (
	"slices"

	"github.com/ggfleet/ggfleet/controlplane/internal/telemetry"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// Agents tells what the agents of cores and client devices report.
type Agents interface {
	// Agent returns false when none ever reported.
	Agent(name string) (telemetry.Report, bool)
	// Counts counts the agents that reported since the start.
	Counts() telemetry.Counts
	// Cores returns, in order, names after after of cores whose agents f selects.
	Cores(f telemetry.Filter, after string, limit int) (names []string, more bool)
}

// AgentReport is what an agent said last.
type AgentReport = telemetry.Report

// AgentCounts counts agents.
type AgentCounts = telemetry.Counts

// Values of CoreFilter.Agent, beside those of telemetry.Warnings.
const (
	AgentConnected = "connected"
	AgentOffline   = "offline"
)

// Agent returns what the agent of a core or client device said last; nil when
// none ever did.
func (s *Service) Agent(name string) *AgentReport {
	if s.cfg.Agents == nil {
		return nil
	}
	r, ok := s.cfg.Agents.Agent(name)
	if !ok {
		return nil
	}
	return &r
}

// coresByAgent returns the cores that the filter selects by what their agents
// say, and by the rest of it.
func (s *Service) coresByAgent(f CoreFilter, p Page) ([]Core, string, error) {
	var of telemetry.Filter
	yes, no := true, false
	switch w := telemetry.Warning(f.Agent); {
	case f.Agent == AgentConnected:
		of.Connected = &yes
	case f.Agent == AgentOffline:
		of.Connected = &no
	case slices.Contains(telemetry.Warnings(), w):
		of.Warning = w
	default:
		return nil, "", fault.Field("agent", "%q is none of %s, %s, %v", f.Agent, AgentConnected, AgentOffline, telemetry.Warnings())
	}
	out, limit, last, more := []Core{}, count(p), p.After, s.cfg.Agents != nil
	for more && len(out) < limit {
		var names []string
		names, more = s.cfg.Agents.Cores(of, last, limit-len(out))
		for _, n := range names {
			last = n
			if c, _, ok := s.cores.Get(coreKey(n)); ok && f.selects(bucketOf(c)) {
				out = append(out, *c)
			}
		}
	}
	if !more {
		last = ""
	}
	return out, last, nil
}
