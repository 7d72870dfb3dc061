package gateway_test

import (
	"bytes"
	"context"
	"io"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/gateway"
)

// BenchmarkPublishToServe measures a QoS 1 request over mTLS from the device's
// write to its PUBACK, 32 in flight, the service doing nothing. Client and
// gateway share the cores.
func BenchmarkPublishToServe(b *testing.B) {
	w := newWorld(b, func(c *gateway.Config) { c.Log, c.Limits.PublishRate, c.Limits.RequestRate = nil, 1e9, 1e9 })
	w.service.serve = func(context.Context, gateway.Session, string, []byte) ([]gateway.Message, error) { return nil, nil }
	c := w.device("press-07").connect("press-07")
	const window = 32
	var batch bytes.Buffer
	for id := range uint16(window) {
		pk := packets.Packet{
			ProtocolVersion: 5, FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1}, PacketID: id + 1,
			TopicName: own + "greengrassv2/health/json", Payload: make([]byte, 400),
		}
		require.NoError(b, pk.PublishEncode(&batch))
	}
	acks := make([]byte, 4*window)
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; n += window {
		_, err := c.conn.Write(batch.Bytes())
		require.NoError(b, err)
		_, err = io.ReadFull(c.r, acks)
		require.NoError(b, err)
	}
}
