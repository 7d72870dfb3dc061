package gateway_test

import (
	"crypto/tls"
	"net"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/gateway"
)

func TestTakeOverEndsTheOlderSessionFirst(t *testing.T) {
	w := newWorld(t, nil)
	d := w.device("press-07")
	c := d.connect("press-07")
	c.subscribe(own + "jobs/notify")
	for range 20 {
		next, ack := d.connectWith(5, "press-07", nil)
		require.Zero(t, ack.ReasonCode)
		c.ended(packets.ErrSessionTakenOver.Code)
		require.Equal(t, "disconnected press-07 DUPLICATE_CLIENTID", w.event())
		require.Equal(t, "connected press-07", w.event())
		next.subscribe(own+"jobs/notify", "plant/a")
		require.Equal(t, 1, w.gw.Push("press-07", gateway.Message{Topic: own + "jobs/notify"}).Delivered)
		next.message()
		next.publish("plant/a", "x", 0) // routed by the library: the new session must be in its tables
		require.Equal(t, "published press-07 plant/a x", w.event())
		next.message()
		c = next
	}
	assert.Len(t, w.gw.Sessions(), 1)
}

func TestASessionIsResumedByItsOwnCertificateOnly(t *testing.T) {
	keep := func(pk *packets.Packet) {
		pk.Connect.Clean = false
		pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = 600, true
	}
	w := newWorld(t, nil)
	d := w.device("press-07")
	c, _ := d.connectWith(5, "press-07", keep)
	w.event()
	c.subscribe(own + "jobs/notify")
	_ = c.conn.Close()
	assert.Equal(t, "disconnected press-07 CONNECTION_LOST", w.event())

	c, ack := d.connectWith(5, "press-07", keep)
	w.event()
	assert.True(t, ack.SessionPresent)
	assert.Equal(t, 1, w.gw.Push("press-07", gateway.Message{Topic: own + "jobs/notify"}).Delivered)
	c.message()
	_ = c.conn.Close()
	w.event()

	_, ack = w.device("press-07").connectWith(5, "press-07", keep)
	assert.Zero(t, ack.ReasonCode)
	assert.False(t, ack.SessionPresent)
}

func TestPacketIdsOfTheTwoDirectionsDoNotMeet(t *testing.T) {
	w := newWorld(t, nil)
	w.service.serve = echo
	c := w.device("press-07").connect("press-07")
	c.subscribe(own + "jobs/notify")
	w.gw.Push("press-07", gateway.Message{Topic: own + "jobs/notify"})
	id := c.expect(packets.Publish).PacketID // not acknowledged: in use by the server
	c.nextID = id - 1
	assert.Equal(t, []byte{1}, c.subscribe("plant/b"), "not 0x91")
	c.nextID = id - 1
	assert.Equal(t, []byte{0}, c.unsubscribe("plant/b").ReasonCodes)
	c.nextID = id - 1
	assert.Equal(t, byte(0), c.acked("plant/c", "x"))
	c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: id})
	c.silent()
}

func TestTheClientsReceiveMaximumIsKeptAndNeverUsedUp(t *testing.T) {
	w := newWorld(t, nil)
	sender := w.device("press-08").connect("press-08")
	c, _ := w.device("press-07").connectWith(5, "press-07", func(pk *packets.Packet) { pk.Properties.ReceiveMaximum = 2 })
	w.event()
	c.subscribe("plant/a")
	for range 5 { // more rounds than the window has places
		for range 4 {
			sender.acked("plant/a", "x")
			w.event()
		}
		var open []uint16
		for got := 0; got < 4; got++ {
			pk := c.expect(packets.Publish)
			if open = append(open, pk.PacketID); len(open) == 2 {
				for _, id := range open {
					c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: id})
				}
				open = nil
			}
		}
	}
	c.silent()
}

func TestTheLastWillIsCheckedAtConnect(t *testing.T) {
	w := newWorld(t, nil)
	d := w.device("press-07")
	will := func(topic string, retain bool) func(*packets.Packet) {
		return func(pk *packets.Packet) {
			pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload, pk.Connect.WillRetain = true, topic, []byte("gone"), retain
		}
	}
	for _, topic := range []string{"not/mine", "$aws/things/press-08/jobs/notify", own + "jobs/notify", "plant/+"} {
		_, ack := d.connectWith(5, "press-07", will(topic, false))
		assert.NotZero(t, ack.ReasonCode, topic)
	}
	watcher := w.device("press-08").connect("press-08")
	watcher.subscribe("plant/will")
	c, ack := d.connectWith(5, "press-07", will("plant/will", false))
	require.Zero(t, ack.ReasonCode)
	w.event()
	_ = c.conn.Close()
	_, payload := watcher.message()
	assert.Equal(t, "gone", payload)
	assert.Equal(t, "published press-07 plant/will gone", w.event())
	assert.Equal(t, "disconnected press-07 CONNECTION_LOST", w.event())
}

func TestKeepAliveIsCapped(t *testing.T) {
	w := newWorld(t, nil)
	for asked, told := range map[uint16]uint16{0: 1200, 60: 0, 65535: 1200} {
		_, ack := w.device("press-07").connectWith(5, "press-07", func(pk *packets.Packet) { pk.Connect.Keepalive = asked })
		assert.Equal(t, told, ack.Properties.ServerKeepAlive, asked)
		assert.Equal(t, uint16(100), ack.Properties.ReceiveMaximum)
		assert.Zero(t, ack.Properties.TopicAliasMaximum)
		assert.Equal(t, uint32(256<<10), ack.Properties.MaximumPacketSize)
	}
}

func TestClientsWithAndWithoutALPNConnect(t *testing.T) {
	w := newWorld(t, nil)
	for _, protos := range [][]string{nil, {"x-amzn-mqtt-ca"}, {"mqtt"}} {
		d := w.device("press-07")
		d.tls.NextProtos = protos
		d.connect("press-07")
		_, ack := d.connectWith(5, "press-07#2", nil)
		require.Zero(t, ack.ReasonCode)
		w.event()
		assert.Equal(t, 2, w.gw.Kick(d.id))
		for range 2 {
			w.event()
		}
	}
	d := w.device("press-07")
	d.tls.MaxVersion = tls.VersionTLS11
	d.tls.MinVersion = tls.VersionTLS10
	_, err := d.dial()
	require.Error(t, err)
}

func TestConnectionsAreBounded(t *testing.T) {
	w := newWorld(t, func(c *gateway.Config) { c.Limits.Connections = 2; c.Limits.PerCertificate = 1 })
	d := w.device("press-07")
	d.connect("press-07")
	c, err := d.dial() // the same certificate again: refused after the handshake
	if err == nil {
		_, err = c.Read(make([]byte, 1))
		_ = c.Close()
	}
	require.Error(t, err)
	require.Eventually(t, func() bool { return w.gw.Metrics().Connections == 1 }, patience, time.Millisecond)
	silent, err := net.Dial("tcp", w.addr)
	require.NoError(t, err)
	defer silent.Close()
	require.Eventually(t, func() bool { return w.gw.Metrics().Connections == 2 }, patience, time.Millisecond)
	w.device("press-08").connect("press-08") // who says nothing makes room for it
	require.Eventually(t, func() bool { return w.gw.Metrics().Connections == 2 }, patience, time.Millisecond)
	_, err = w.device("press-09").dial()
	require.Error(t, err, "devices make room for nobody")
}

func TestStoredSessionsOfACertificateAreBounded(t *testing.T) {
	keep := func(pk *packets.Packet) {
		pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = 600, true
	}
	w := newWorld(t, func(c *gateway.Config) { c.Limits.PerCertificate = 2 })
	d := w.device("press-07")
	leave := func(id string) byte {
		c, ack := d.connectWith(5, id, keep)
		if ack.ReasonCode == 0 {
			w.event()
		}
		_ = c.conn.Close()
		if ack.ReasonCode == 0 {
			w.event()
		}
		// A socket counts until it is gone, that of a refused CONNECT too.
		require.Eventually(t, func() bool { return w.gw.Metrics().Connections == 0 }, patience, time.Millisecond)
		return ack.ReasonCode
	}
	assert.Zero(t, leave("press-07"))
	assert.Zero(t, leave("press-07#2"))
	assert.Equal(t, packets.ErrQuotaExceeded.Code, leave("press-07#3"))
	assert.Zero(t, leave("press-07#2"), "one that is stored may come back")
}

func TestAKickEndsTheSessionsOfACertificate(t *testing.T) {
	w := newWorld(t, nil)
	d := w.device("press-07")
	c := d.connect("press-07")
	assert.Equal(t, 1, w.gw.Kick(d.id))
	c.ended(packets.ErrAdministrativeAction.Code)
	assert.Equal(t, "disconnected press-07 API_INITIATED_DISCONNECT", w.event())
	assert.Zero(t, w.gw.Kick("unknown"))
}

func TestPresenceTellsHowASessionEnded(t *testing.T) {
	w := newWorld(t, nil)
	d := w.device("press-07")
	c := d.connect("press-07")
	c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}})
	assert.Equal(t, "disconnected press-07 CLIENT_INITIATED_DISCONNECT", w.event())
	_, ack := d.connectWith(5, "press-07", func(pk *packets.Packet) { pk.Connect.Keepalive = 1 })
	require.Zero(t, ack.ReasonCode)
	w.event()
	assert.Equal(t, "disconnected press-07 MQTT_KEEP_ALIVE_TIMEOUT", w.event())
}
