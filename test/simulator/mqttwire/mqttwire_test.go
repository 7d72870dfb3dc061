package mqttwire_test

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/test/simulator/mqttwire"
)

const thing = "heldout-core-1"

func TestPacketsHaveTheBytesThatTheRuntimeSent(t *testing.T) {
	connect := mqttwire.Packet{Type: mqttwire.Connect, ClientID: thing, CleanStart: true, KeepAlive: 30, Props: mqttwire.Properties{MaximumPacketSize: 5000}}
	b, err := mqttwire.Append(nil, connect, mqttwire.V5)
	require.NoError(t, err)
	assert.Equal(t, "102000044d5154540502001e052700001388000e68656c646f75742d636f72652d31", hex.EncodeToString(b))

	connect.WillTopic, connect.Will = "a/b", []byte("gone")
	b, err = mqttwire.Append(nil, connect, mqttwire.V5)
	require.NoError(t, err)
	assert.Equal(t, "102c00044d515454050e001e052700001388000e68656c646f75742d636f72652d31"+"00"+"0003612f62"+"0004676f6e65", hex.EncodeToString(b))

	next := "$aws/things/" + thing + "/jobs/$next/namespace-aws-gg-deployment/get"
	sizes := map[string]struct {
		p    mqttwire.Packet
		size int
	}{
		"subscribe":   {mqttwire.Packet{Type: mqttwire.Subscribe, ID: 3, Filters: []string{next + "/+"}}, 79},
		"unsubscribe": {mqttwire.Packet{Type: mqttwire.Unsubscribe, ID: 6, Filters: []string{next + "/+"}}, 78},
		"publish": {mqttwire.Packet{
			Type: mqttwire.Publish, ID: 4, QoS: 1, Topic: next,
			Payload: []byte(`{"jobId":"$next","thingName":"heldout-core-1","includeJobDocument":true,"clientToken":"jobs-nucleus-lite"}`),
		}, 183},
		"puback":     {mqttwire.Packet{Type: mqttwire.Puback, ID: 1}, 4},
		"ping":       {mqttwire.Packet{Type: mqttwire.Pingreq}, 2},
		"disconnect": {mqttwire.Packet{Type: mqttwire.Disconnect}, 3},
	}
	for name, tc := range sizes {
		t.Run(name, func(t *testing.T) {
			b, err := mqttwire.Append(nil, tc.p, mqttwire.V5)
			require.NoError(t, err)
			assert.Len(t, b, tc.size)
		})
	}
}

func TestReadUnderstandsWhatAServerSends(t *testing.T) {
	tests := map[string]struct {
		raw     string
		version byte
		want    mqttwire.Packet
	}{
		"connack with limits":   {"200900000621001422000a", mqttwire.V5, mqttwire.Packet{Type: mqttwire.Connack, Size: 11, Codes: []byte{0}, Props: mqttwire.Properties{ReceiveMaximum: 20}}},
		"puback without code":   {"40020004", mqttwire.V5, mqttwire.Packet{Type: mqttwire.Puback, Size: 4, ID: 4}},
		"refused puback":        {"4003000487", mqttwire.V5, mqttwire.Packet{Type: mqttwire.Puback, Size: 5, ID: 4, Codes: []byte{0x87}}},
		"unsuback of version 5": {"b00400060011", mqttwire.V5, mqttwire.Packet{Type: mqttwire.Unsuback, Size: 6, ID: 6, Codes: []byte{0x11}}},
		"suback of 3.1.1":       {"9003000301", mqttwire.V311, mqttwire.Packet{Type: mqttwire.Suback, Size: 5, ID: 3, Codes: []byte{1}}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			raw, err := hex.DecodeString(tc.raw)
			require.NoError(t, err)
			got, err := mqttwire.Read(bufio.NewReader(bytes.NewReader(raw)), tc.version, 5000)
			require.NoError(t, err)
			assert.Equal(t, tc.want, got)
		})
	}
}

func TestAPacketOverTheLimitIsRefusedBeforeItsBodyIsRead(t *testing.T) {
	_, err := mqttwire.Read(bufio.NewReader(bytes.NewReader([]byte{0x30, 0xff, 0xff, 0x7f})), mqttwire.V5, 5000)
	require.ErrorIs(t, err, mqttwire.ErrTooLarge)
}

func FuzzRead(f *testing.F) {
	f.Add([]byte{0x40, 2, 0, 4}, true)
	f.Add([]byte{0x20, 9, 0, 0, 6, 0x21, 0, 0x14, 0x22, 0, 0x0a}, true)
	f.Add([]byte{0x32, 7, 0, 1, 'a', 0, 9, 0, 'x'}, true)
	f.Fuzz(func(t *testing.T, raw []byte, five bool) {
		version := mqttwire.V311
		if five {
			version = mqttwire.V5
		}
		p, err := mqttwire.Read(bufio.NewReader(bytes.NewReader(raw)), version, 5000)
		if err != nil {
			return
		}
		require.LessOrEqual(t, p.Size, len(raw))
		if p.Type != mqttwire.Publish || p.Props != (mqttwire.Properties{}) {
			return
		}
		b, err := mqttwire.Append(nil, p, version)
		require.NoError(t, err)
		require.Contains(t, string(b), string(p.Payload))
	})
}
