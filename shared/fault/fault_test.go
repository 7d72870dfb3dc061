package fault_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/ggfleet/ggfleet/shared/fault"
)

func TestKindSurvivesWrapping(t *testing.T) {
	err := fmt.Errorf("store thing gw-1: %w", fault.New(fault.NotFound, "thing %s is not registered", "gw-1"))
	assert.ErrorIs(t, err, fault.NotFound)
	assert.NotErrorIs(t, err, fault.Conflict)
	assert.Equal(t, fault.NotFound, fault.KindOf(err))
	assert.Equal(t, "thing gw-1 is not registered", fault.Message(err), "the wrapper's text is for the log only")
	assert.True(t, fault.Permanent(err))
}

func TestUnclassifiedErrorShowsNothing(t *testing.T) {
	err := errors.New("dial tcp 10.0.0.1: refused")
	assert.Empty(t, fault.KindOf(err))
	assert.Empty(t, fault.Message(err))
	assert.False(t, fault.Permanent(err))
}

func TestUnderBuildsTheFieldPath(t *testing.T) {
	err := fault.Under("cores", fault.Under("[3]", fault.Field("name", "is empty")))
	assert.Equal(t, "cores[3].name", fault.FieldOf(err))
	assert.Equal(t, "cores[3].name: is empty", fault.Message(err))
	assert.ErrorIs(t, err, fault.Invalid)
}

func TestABareKindIsAnError(t *testing.T) {
	err := fmt.Errorf("put: %w: %w", fault.Unavailable, errors.New("etcd timeout"))
	assert.Equal(t, fault.Unavailable, fault.KindOf(err))
	assert.Empty(t, fault.Message(err))
}
