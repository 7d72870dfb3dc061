package nucleus

import (
	"path/filepath"
	"time"

	"github.com/ggfleet/ggfleet/agent/internal/nucleusfacts"
	"github.com/ggfleet/ggfleet/agent/internal/telemetry"
	"github.com/ggfleet/ggfleet/installer/nucleus"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Health is how the nucleus has done since the last Use or Restart that took
// effect.
type Health struct {
	Proven bool
	Up     time.Duration // since it was last started or brought back; 0 when not proven
	Ends   int           // by itself
	Why    string        // of the last end
}

// Health tells how the nucleus does. It may be called from anywhere.
func (s *Supervisor) Health() Health {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.health
}

// note publishes the health.
func (s *Supervisor) note() {
	h := Health{Proven: s.proven, Ends: s.ends, Why: s.status.LastError}
	if s.proven {
		h.Up = time.Since(s.since)
	}
	s.mu.Lock()
	s.health = h
	s.mu.Unlock()
}

func (s *Supervisor) set(spec Spec, state protocol.NucleusState, pid int, lastError string) {
	s.status = telemetry.Nucleus{
		State: state, Name: spec.Version.Name, Version: spec.Version.Version, PID: pid, Restarts: s.restarts, LastError: lastError,
		Runtime: spec.Manifest.Runtime, Root: spec.Root,
	}
	if spec.Manifest.Runtime == "" { // it was there before the agent: nothing came with a manifest
		s.status.Adopted, s.status.Runtime = true, nucleusfacts.Classic
		if spec.Version.Name == nucleus.LiteName {
			s.status.Runtime = nucleusfacts.Lite
		}
	}
	if f := spec.Manifest.StateFile; f != "" {
		s.status.StateFile = filepath.Join(spec.Root, filepath.FromSlash(f))
	}
	s.cfg.OnStatus(s.status)
}

func (s *Supervisor) tell(i Installation) {
	if s.spec == nil {
		s.status = telemetry.Nucleus{State: protocol.NucleusInstalling, Name: i.Version.Name, Version: i.Version.Version, LastError: i.Err}
	} else if i.Err != "" {
		s.status.LastError = i.Err
	}
	s.cfg.OnStatus(s.status)
}
