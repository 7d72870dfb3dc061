//go:build faults && unix

package faultpoint_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/faultpoint"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/state/memory"
)

// TestCommitsTwice is what TestABinaryWithFaultsIsKilledAtThePoint runs.
func TestCommitsTwice(t *testing.T) {
	p, err := faultpoint.FromEnv()
	require.NoError(t, err)
	s := faultpoint.Store(memory.New(), p)
	for range 2 {
		require.NoError(t, commit(s, state.StepGroup))
	}
}
