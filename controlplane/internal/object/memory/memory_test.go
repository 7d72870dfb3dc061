package memory_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/object"
	"github.com/ggfleet/ggfleet/controlplane/internal/object/memory"
	"github.com/ggfleet/ggfleet/controlplane/internal/object/objecttest"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
)

func TestStoreKeepsTheContract(t *testing.T) {
	objecttest.Run(t, func(*testing.T) object.Store { return memory.New("fake") })
}

func TestFailBreaksOneOperation(t *testing.T) {
	broken := errors.New("broken")
	s := memory.New("fake")
	s.Fail = func(op, key string) error {
		if op == "put" && key == "a" {
			return broken
		}
		return nil
	}
	put := func(key string) error {
		return s.Put(t.Context(), state.PutArtifact, key, bytes.NewReader(nil), 0, "")
	}
	require.ErrorIs(t, put("a"), broken)
	require.NoError(t, put("b"))
	all, err := s.List(t.Context(), "", "", 0)
	require.NoError(t, err)
	require.Len(t, all, 1)
	assert.Equal(t, "b", all[0].Key)
}
