package gateway

import (
	"context"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// own is the client as which the server itself publishes. It is in no table of
// the library: no device can take it over.
type own struct {
	server *mqtt.Server
	client *mqtt.Client
}

func newOwn(s *mqtt.Server) *own { return &own{server: s, client: s.NewClient(nil, "own", "", true)} }

// Publish sends a message of the server to whoever is subscribed to topic and may
// receive it, like a plain publish of a device with QoS 1: a session that the
// broker keeps for a client that is away gets it later. It does not wait for the
// receivers. fault.Unavailable: the gateway does not run.
func (g *Gateway) Publish(_ context.Context, topic string, payload []byte) error {
	o := g.own.Load()
	if o == nil {
		return fault.New(fault.Unavailable, "the MQTT gateway does not run")
	}
	if why := checkTopic(topic); why != "" || topic[0] == '$' {
		return fault.New(fault.Invalid, "topic %q: %s", topic, why)
	}
	return o.server.InjectPacket(o.client, packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1}, TopicName: topic, Payload: payload, PacketID: 1,
	})
}
