package rest_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/ggfleet/ggfleet/controlplane/internal/edge/awsapi/rest"
)

func TestATokenHasTheLettersOfAMarkerAndNoneThatAURLEscapes(t *testing.T) {
	for _, after := range []string{"a", "name/ü", "arn:aws:iot:r:1:cert/00ff", "\xff\xfe?>"} {
		assert.Regexp(t, `^[A-Za-z0-9]+$`, rest.Token(after, "filter"))
	}
}
