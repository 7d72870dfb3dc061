package gateway_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/gateway"
	"github.com/ggfleet/ggfleet/shared/fault"
)

func TestTheServersOwnMessagesReachWhoMayReceiveThem(t *testing.T) {
	w := newWorld(t, nil)
	may, old, mayNot := w.device("any", anyPolicy).connect("any"), w.device("press-08").connect3("press-08"), w.device("press-09").connect("press-09")
	assert.Equal(t, []byte{1}, may.subscribe("ggfleet/events/#"))
	assert.Equal(t, []byte{1, 1}, old.subscribe("plant/#", "#"))
	assert.Equal(t, []byte{1}, mayNot.subscribe("#"))
	for i := range 20 {
		require.NoError(t, w.gw.Publish(t.Context(), "ggfleet/events/gw-1/core-created-event", fmt.Append(nil, i)))
	}
	for i := range 20 {
		topic, payload := may.message()
		assert.Equal(t, fmt.Sprint("ggfleet/events/gw-1/core-created-event ", i), topic+" "+payload)
	}
	mayNot.silent()
	old.silent()
	require.NoError(t, w.gw.Publish(t.Context(), "plant/7/state", []byte("on")))
	topic, payload := old.message()
	assert.Equal(t, "plant/7/state on", topic+" "+payload)

	for _, bad := range []string{"", "a/+/b", "$aws/things/x/jobs/notify"} {
		require.ErrorIs(t, w.gw.Publish(t.Context(), bad, nil), fault.Invalid, bad)
	}
}

func TestNothingIsPublishedByAGatewayThatDoesNotRun(t *testing.T) {
	var g gateway.Gateway
	require.ErrorIs(t, g.Publish(t.Context(), "a", nil), fault.Unavailable)
}
