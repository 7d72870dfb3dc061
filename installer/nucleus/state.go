package nucleus

import (
	"encoding/json"

	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// MaxState bounds a state file in bytes, maxComponents its components. The
// whole list must fit one agent message.
const (
	MaxState      = protocol.MaxAgentMessage - 1024
	maxComponents = 1000
)

// State is what a nucleus that names a stateFile writes there: what it runs.
type State struct {
	Components []protocol.LocalComponent `json:"components"`
}

// ParseState reads a state file. Errors are of kind fault.Invalid or
// fault.TooLarge.
func ParseState(b []byte) (State, error) {
	var s State
	if len(b) > MaxState {
		return s, fault.New(fault.TooLarge, "the state file has %d bytes, at most %d are read", len(b), MaxState)
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return State{}, fault.New(fault.Invalid, "the state file is not JSON of the known form: %v", err)
	}
	if len(s.Components) > maxComponents {
		return State{}, fault.New(fault.TooLarge, "the state file has %d components, at most %d are read", len(s.Components), maxComponents)
	}
	for _, c := range s.Components {
		if err := names.CheckComponent(c.Name); err != nil {
			return State{}, err
		}
		if len(c.Version) > 128 || len(c.State) > 64 {
			return State{}, fault.New(fault.Invalid, "component %s has a version or state that is too long", c.Name)
		}
	}
	return s, nil
}
