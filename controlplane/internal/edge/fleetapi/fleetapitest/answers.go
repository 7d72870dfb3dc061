package fleetapitest

import (
	"github.com/ggfleet/ggfleet/controlplane/internal/once"
	"github.com/ggfleet/ggfleet/controlplane/internal/seal"
	"github.com/ggfleet/ggfleet/controlplane/internal/state/memory"
)

// answers remembers answers in memory.
func answers() *once.Store {
	sealer, err := seal.New(make([]byte, seal.KeySize))
	if err != nil {
		panic(err)
	}
	s, err := once.New(once.Config{Store: memory.New(), Sealer: sealer})
	if err != nil {
		panic(err)
	}
	return s
}
