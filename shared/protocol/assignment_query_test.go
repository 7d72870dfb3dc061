package protocol_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/shared/protocol"
)

func TestWhatAnAgentTellsOfItsDeviceComesThrough(t *testing.T) {
	q := protocol.AssignmentQuery{Platform: "linux/arm64", Runtime: "classic"}
	u, err := url.Parse(q.Path())
	require.NoError(t, err)
	got := protocol.ParseAssignmentQuery(u.Query())
	assert.Equal(t, q.Platform, got.Platform)
	assert.Equal(t, q.Runtime, got.Runtime)
	for _, nonsense := range []string{"a b", "a\x00", strings.Repeat("a", 65), "ä"} {
		assert.Empty(t, protocol.ParseAssignmentQuery(url.Values{"platform": {nonsense}}).Platform, nonsense)
	}
}
