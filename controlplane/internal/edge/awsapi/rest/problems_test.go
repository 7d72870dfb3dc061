package rest_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/ggfleet/ggfleet/controlplane/internal/edge/awsapi/rest"
)

func TestEveryInvalidMemberIsInTheMessage(t *testing.T) {
	err := &rest.InvalidError{Problems: []rest.Problem{{Name: "thingName", Message: "is required"}, {Name: "tags[1].Key", Message: "is null"}}}
	assert.EqualError(t, err, "thingName is required; tags[1].Key is null", "for clients whose errors have no fields")
}
