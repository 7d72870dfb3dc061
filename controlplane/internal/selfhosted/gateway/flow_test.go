package gateway_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/gateway"
)

func ack(id uint16) packets.Packet {
	return packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: id}
}

// window asks for a Receive Maximum.
func window(n uint16, more ...func(*packets.Packet)) func(*packets.Packet) {
	return func(pk *packets.Packet) {
		pk.Properties.ReceiveMaximum = n
		for _, f := range more {
			f(pk)
		}
	}
}

func keep(pk *packets.Packet) {
	pk.Connect.Clean = false
	pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = 600, true
}

func TestMessagesThatWaitForAcknowledgementsAllComeInOrder(t *testing.T) {
	w := newWorld(t, nil)
	done := make(chan struct{})
	var heard sync.WaitGroup
	heard.Go(func() {
		for {
			select {
			case <-w.events:
			case <-done:
				return
			}
		}
	})
	defer heard.Wait()
	defer close(done)
	c, _ := w.device("press-07").connectWith(5, "press-07", window(2))
	c.subscribe("plant/a")
	const senders, each = 4, 50
	var wg sync.WaitGroup
	defer wg.Wait()
	for n := range senders {
		s, _ := w.device(fmt.Sprintf("press-1%d", n)).connectWith(5, fmt.Sprintf("press-1%d", n), nil)
		wg.Go(func() {
			for i := range each {
				assert.Zero(t, s.acked("plant/a", fmt.Sprintf("%d %d", n, i)))
			}
		})
	}
	var next [senders]int
	for range senders * each {
		var n, i int
		pk := c.expect(packets.Publish)
		_, err := fmt.Sscan(string(pk.Payload), &n, &i)
		require.NoError(t, err)
		assert.Equal(t, byte(1), pk.FixedHeader.Qos)
		assert.Equal(t, next[n], i)
		next[n]++
		c.send(ack(pk.PacketID))
	}
	c.silent()
}

func TestAMessageTooLargeTakesNoPlaceOfOthers(t *testing.T) {
	w := newWorld(t, nil)
	c, _ := w.device("press-07").connectWith(5, "press-07", window(1, func(pk *packets.Packet) { pk.Properties.MaximumPacketSize = 100 }))
	w.event()
	c.subscribe("plant/a")
	sender := w.device("press-08").connect("press-08")
	for range 3 {
		sender.acked("plant/a", strings.Repeat("x", 100))
		sender.acked("plant/a", "y")
		pk := c.expect(packets.Publish)
		assert.Equal(t, "y", string(pk.Payload))
		c.send(ack(pk.PacketID))
	}
	c.silent()
}

func TestWhatWasKeptForADeviceStaysWithinItsReceiveMaximum(t *testing.T) {
	w := newWorld(t, nil)
	d := w.device("press-07")
	c, _ := d.connectWith(5, "press-07", window(2, keep))
	c.subscribe("plant/a", own+"jobs/notify")
	_ = c.conn.Close()
	for e := w.event(); !strings.HasPrefix(e, "disconnected "); e = w.event() {
		continue
	}
	sender := w.device("press-08").connect("press-08")
	for range 5 {
		sender.acked("plant/a", "x")
		w.event()
	}
	sender.silent() // the last one is handed on
	c, connack := d.connectWith(5, "press-07", window(2, keep))
	require.True(t, connack.SessionPresent)
	for e := w.event(); !strings.HasPrefix(e, "connected press-07"); e = w.event() {
		continue
	}
	w.gw.Push("press-07", gateway.Message{Topic: own + "jobs/notify"})
	var unacked []uint16
	for range 6 { // what has no place comes without asking for an acknowledgement
		if pk := c.expect(packets.Publish); pk.FixedHeader.Qos > 0 {
			unacked = append(unacked, pk.PacketID)
		}
	}
	assert.Len(t, unacked, 2)
	for _, id := range unacked {
		c.send(ack(id))
	}
	sender.acked("plant/a", "y")
	assert.Equal(t, byte(1), c.expect(packets.Publish).FixedHeader.Qos)
	c.silent()
}

// away waits until the session of c has ended.
func (w *world) away(c *client) {
	w.t.Helper()
	_ = c.conn.Close()
	for e := w.event(); !strings.HasPrefix(e, "disconnected "); e = w.event() {
		continue
	}
}

func TestWhatTheGatewaySendsAgainTakesItsPlacesToo(t *testing.T) {
	w := newWorld(t, nil)
	d := w.device("press-07")
	c, _ := d.connectWith(5, "press-07", window(2, keep))
	c.subscribe(own + "jobs/notify")
	var ids []uint16
	for range 2 {
		w.gw.Push("press-07", gateway.Message{Topic: own + "jobs/notify"})
		ids = append(ids, c.expect(packets.Publish).PacketID)
	}
	w.away(c)
	c, _ = d.connectWith(5, "press-07", window(2, keep))
	for e := w.event(); e != "connected press-07"; e = w.event() {
		continue
	}
	for range 2 {
		pk := c.expect(packets.Publish)
		assert.True(t, pk.FixedHeader.Dup)
		assert.Contains(t, ids, pk.PacketID)
	}
	w.gw.Push("press-07", gateway.Message{Topic: own + "jobs/notify"})
	assert.Zero(t, c.expect(packets.Publish).FixedHeader.Qos, "two wait for acknowledgements already")
	c.send(ack(ids[0]))
	c.silent()
	w.gw.Push("press-07", gateway.Message{Topic: own + "jobs/notify"})
	assert.Equal(t, byte(1), c.expect(packets.Publish).FixedHeader.Qos)
}

func TestWhatWaitedForAPlaceWhenTheConnectionEndedComesWithTheNext(t *testing.T) {
	w := newWorld(t, nil)
	d := w.device("press-07")
	c, _ := d.connectWith(5, "press-07", window(1, keep))
	c.subscribe("plant/a")
	sender := w.device("press-08")
	s, _ := sender.connectWith(5, "press-08", nil)
	for _, m := range []string{"a", "b", "c"} {
		s.acked("plant/a", m)
	}
	s.silent() // the last one is handed on
	assert.Equal(t, "a", string(c.expect(packets.Publish).Payload))
	w.away(c)
	c, again := d.connectWith(5, "press-07", window(10, keep))
	require.True(t, again.SessionPresent)
	var got []string
	for range 3 {
		pk := c.expect(packets.Publish)
		assert.Equal(t, byte(1), pk.FixedHeader.Qos)
		got = append(got, string(pk.Payload))
		c.send(ack(pk.PacketID))
	}
	assert.ElementsMatch(t, []string{"a", "b", "c"}, got)
	c.silent()
}

func TestWhatWasKeptAndIsTooLargeKeepsNoDeviceOut(t *testing.T) {
	w := newWorld(t, nil)
	d := w.device("press-07")
	small := func(pk *packets.Packet) { pk.Properties.MaximumPacketSize = 100; keep(pk) }
	c, _ := d.connectWith(5, "press-07", small)
	c.subscribe("plant/a")
	w.away(c)
	sender := w.device("press-08").connect("press-08")
	for _, m := range []string{strings.Repeat("x", 100), "y"} {
		sender.acked("plant/a", m)
	}
	sender.silent() // the last one is handed on
	for range 2 {
		c, again := d.connectWith(5, "press-07", small)
		require.True(t, again.SessionPresent)
		assert.Equal(t, "y", string(c.expect(packets.Publish).Payload))
		c.silent()
		w.away(c)
	}
}
