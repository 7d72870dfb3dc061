package gateway_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/stretchr/testify/assert"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/gateway"
)

// retain publishes with QoS 1 what is to be retained and returns the reason code.
func (c *client) retain(topic, payload string) byte {
	c.t.Helper()
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1, Retain: true}, TopicName: topic, Payload: []byte(payload), PacketID: c.id()}
	c.send(pk)
	return c.expect(packets.Puback).ReasonCode
}

// bounded lets six messages be retained, three of one thing.
func bounded(c *gateway.Config) { c.Limits.Retained, c.Limits.RetainedOfOne = 6, 3 }

func TestOneThingDoesNotTakeAllRetainedMessages(t *testing.T) {
	w := newWorld(t, bounded)
	greedy, other, third := w.device("press-07").connect("press-07"), w.device("press-08").connect("press-08"), w.device("press-09").connect("press-09")
	const full = 0x97
	for i, want := range []byte{0, 0, 0, full, full} {
		assert.Equal(t, want, greedy.retain(fmt.Sprintf("plant/%d", i), "x"))
	}
	assert.Zero(t, greedy.retain("plant/0", "y"), "what it has may change")
	assert.Zero(t, other.retain("plant/a", "x"))
	assert.Zero(t, greedy.retain("plant/0", ""))
	assert.Zero(t, greedy.retain("plant/4", "x"), "in the place of what it took back")
	for _, topic := range []string{"plant/b", "plant/c"} {
		assert.Zero(t, other.retain(topic, "x"))
	}
	assert.EqualValues(t, full, third.retain("plant/z", "x"), "all places are taken")
	assert.Zero(t, third.retain("plant/a", "x"), "this one is there already")
}

func TestAThingHasItsPlaceBackWhenAnotherTakesBackWhatItRetained(t *testing.T) {
	w := newWorld(t, bounded)
	one, other := w.device("press-07").connect("press-07"), w.device("press-08").connect("press-08")
	for i := range 8 {
		topic := fmt.Sprintf("plant/%d", i)
		assert.Zero(t, one.retain(topic, "x"))
		assert.Zero(t, other.retain(topic, ""))
	}
}

func TestLastWillsAreNoWayAroundTheBoundOfRetainedMessages(t *testing.T) {
	for _, version := range []byte{4, 5} {
		w := newWorld(t, bounded)
		greedy := w.device("press-07")
		for i := range 8 {
			c, ack := greedy.connectWith(version, "press-07", func(pk *packets.Packet) {
				pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload, pk.Connect.WillRetain = true, fmt.Sprintf("plant/%d", i), []byte("x"), true
			})
			assert.Zero(t, ack.ReasonCode)
			_ = c.conn.Close()
			for e := w.event(); !strings.HasPrefix(e, "disconnected "); e = w.event() {
				continue
			}
		}
		assert.Zero(t, w.device("press-08").connect("press-08").retain("plant/a", "x"))
	}
}
