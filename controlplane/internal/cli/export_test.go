package cli

import (
	"io"

	"github.com/ggfleet/ggfleet/controlplane/api"
)

// ReadEvents reads a stream of server-sent events and returns the sequence
// number after which another one goes on.
func ReadEvents(r io.Reader, show func(api.Event) error) (int64, error) {
	s := &subscription{after: -1}
	err := s.events(r, func() {}, show)
	return s.after, err
}
