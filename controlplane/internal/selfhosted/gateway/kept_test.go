package gateway_test

import (
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestWhatIsKeptForADeviceThatIsAwayIsBoundedInBytes(t *testing.T) {
	keep := func(pk *packets.Packet) {
		pk.Connect.Clean = false
		pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = 600, true
	}
	for says, tc := range map[string]struct{ size, messages, least, most int }{
		"large messages, as far as there is room": {100_000, 100, 40, 43},
		"small ones, all":                         {100, 100, 100, 100},
	} {
		t.Run(says, func(t *testing.T) {
			w := newWorld(t, nil)
			away := w.device("press-07")
			c, _ := away.connectWith(5, "press-07", keep)
			c.subscribe("plant/a")
			_ = c.conn.Close()
			for e := w.event(); !strings.HasPrefix(e, "disconnected "); e = w.event() {
				continue
			}
			other := w.device("press-08").connect("press-08")
			for range tc.messages {
				require.Zero(t, other.acked("plant/a", strings.Repeat("x", tc.size)))
				w.event()
			}
			other.silent() // the last one is handed on
			c, ack := away.connectWith(5, "press-07", keep)
			require.True(t, ack.SessionPresent)
			c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
			got := 0
			for pk := c.read(); pk.FixedHeader.Type == packets.Publish; pk = c.read() {
				got++
			}
			assert.GreaterOrEqual(t, got, tc.least)
			assert.LessOrEqual(t, got, tc.most)
		})
	}
}
