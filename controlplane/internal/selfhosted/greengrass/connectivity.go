package greengrass

import (
	"context"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
)

// Endpoint is where client devices reach a core (greengrassv2-api §4,
// ConnectivityInfo).
type Endpoint struct {
	ID       string `json:"id,omitempty"`
	Host     string `json:"host"` // IP address or DNS name
	Port     int32  `json:"port"` // 0 to 65535
	Metadata string `json:"metadata,omitempty"`
}

// Limits of one core's connectivity information, in entries and characters.
const (
	maxEndpoints = 100
	maxHost      = 255
	maxMetadata  = 1024
)

// connectivity is a core's record. A thing made anew under the same name begins
// without.
type connectivity struct {
	ThingID   string     `json:"thingId"`
	Version   string     `json:"version"` // a UUID, of this set
	Endpoints []Endpoint `json:"endpoints"`
}

func connectivityKey(thing string) string { return prefix + "connectivity/" + thing }

// Connectivity returns where the core can be reached, as it or an operator last
// said. A thing that nobody said it of has none; an unknown one is fault.NotFound.
func (s *Service) Connectivity(ctx context.Context, thing string) ([]Endpoint, error) {
	t, err := s.registry.Thing(ctx, thing)
	if err != nil {
		return nil, err
	}
	c, err := state.ReadOr[connectivity](ctx, s.store, connectivityKey(thing))
	if err != nil {
		return nil, fmt.Errorf("read connectivity of %s: %w", thing, err)
	}
	if c.Value.ThingID != t.Value.ID {
		return nil, nil
	}
	return c.Value.Endpoints, nil
}

// SetConnectivity replaces where the core can be reached as a whole, and returns
// the version of the new set; the set that is there already keeps its version, and
// nothing is stored. The thing must be there, else fault.NotFound.
func (s *Service) SetConnectivity(ctx context.Context, thing string, list []Endpoint) (version string, err error) {
	if err := checkEndpoints(list); err != nil {
		return "", err
	}
	c, err := state.Update(ctx, s.store, state.StepAccount, connectivityKey(thing), func(c *connectivity, _ bool, b *state.Batch) error {
		t, err := s.registry.ThingBatch(ctx, b, thing)
		if err != nil {
			return err
		}
		if c.ThingID == t.Value.ID && slices.Equal(c.Endpoints, list) {
			return state.ErrKeep // cores say it again and again
		}
		*c = connectivity{ThingID: t.Value.ID, Version: names.NewUUID(), Endpoints: list}
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("store connectivity of %s: %w", thing, err)
	}
	return c.Value.Version, nil
}

func checkEndpoints(list []Endpoint) error {
	const field = "ConnectivityInfo"
	if len(list) > maxEndpoints {
		return fault.Field(field, "has %d entries, over the limit of %d", len(list), maxEndpoints)
	}
	for i, e := range list {
		at := fmt.Sprintf("%s[%d]", field, i)
		if e.Port < 0 || e.Port > 65535 {
			return fault.Field(at+".PortNumber", "is %d, want 0 to 65535", e.Port)
		}
		for _, m := range []struct {
			name, value string
			limit       int
		}{{"Id", e.ID, maxHost}, {"HostAddress", e.Host, maxHost}, {"Metadata", e.Metadata, maxMetadata}} {
			if n := utf8.RuneCountInString(m.value); n > m.limit {
				return fault.Field(at+"."+m.name, "is %d characters long, over the limit of %d", n, m.limit)
			}
		}
	}
	return nil
}
