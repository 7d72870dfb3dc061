package gateway_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/gateway"
)

// TestDevicesThatComeAndGoLeaveNothingBehind connects, takes over, asks and
// breaks off while pushes and changes of identity go on.
func TestDevicesThatComeAndGoLeaveNothingBehind(t *testing.T) {
	w := newWorld(t, func(c *gateway.Config) { c.Events = gateway.Events{} })
	w.service.serve = echo
	const devices, rounds = 8, 15
	stop := make(chan struct{})
	var noise, work sync.WaitGroup
	var all []*device
	for i := range devices {
		all = append(all, w.device(fmt.Sprintf("core-%d", i)))
	}
	noise.Go(func() {
		tick := time.NewTicker(200 * time.Microsecond) // slower than a device can take it
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			d := all[i%devices]
			w.gw.Push(d.identity.Thing, gateway.Message{Topic: "$aws/things/" + d.identity.Thing + "/jobs/notify", Payload: []byte("{}")})
			if i%50 == 0 {
				w.registry.change(d.id, d.identity, nil)
			}
		}
	})
	for i, d := range all {
		work.Go(func() {
			topic := "$aws/things/" + d.identity.Thing + "/jobs/get"
			for r := range rounds {
				c, ack := d.connectWith(byte(4+r%2), d.identity.Thing, func(pk *packets.Packet) {
					pk.Connect.Clean = r%3 == 0
					pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = 60, r%2 == 1
				})
				if !assert.Zero(t, ack.ReasonCode) {
					return
				}
				c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 1, Filters: packets.Subscriptions{{Filter: topic + "/+", Qos: 1}, {Filter: "$aws/things/" + d.identity.Thing + "/jobs/notify", Qos: 1}}})
				id := uint16(2)
				c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1}, PacketID: id, TopicName: topic, Payload: []byte("x")})
				for acked, answered := false, false; !acked || !answered; {
					pk, err := c.next(patience)
					if !assert.NoError(t, err) {
						return
					}
					acked = acked || pk.FixedHeader.Type == packets.Puback && pk.PacketID == id
					answered = answered || pk.TopicName == topic+"/accepted"
				}
				if (r+i)%2 == 0 {
					_ = c.conn.Close() // the other half is taken over
				}
			}
		})
	}
	work.Wait()
	close(stop)
	noise.Wait()
	for _, d := range all {
		w.gw.Kick(d.id)
	}
	require.Eventually(t, func() bool { return w.gw.Metrics().Connections == 0 }, patience, time.Millisecond)
	for _, r := range w.logs.find("device disconnected") {
		assert.Contains(t, []any{"DUPLICATE_CLIENTID", "CONNECTION_LOST", "API_INITIATED_DISCONNECT"}, r["reason"])
	}
	m := w.gw.Metrics()
	assert.Zero(t, m.Sessions)
	assert.Zero(t, m.Panics)
	assert.Empty(t, w.gw.Sessions())
}
