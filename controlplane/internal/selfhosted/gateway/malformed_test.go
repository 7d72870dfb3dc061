package gateway_test

import (
	"io"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/gateway"
)

// sessionBytes are starts of real sessions that mutations begin with.
var sessionBytes = []string{
	connectV5 + "\x82\x09\x00\x01\x00\x00\x03a/b\x01",
	connectV5 + "\x32\x09\x00\x03a/b\x00\x01\x00x\xc0\x00\xe0\x00",
	connectV5 + "\xa2\x08\x00\x01\x00\x00\x03a/b",
	connectV5 + "\x40\x02\x00\x01\x62\x02\x00\x01\x50\x02\x00\x01",
	connectV5 + "\x30\xff\xff\xff\x7f",
	connectV5 + "\xf0\x02\x00\x00",
	"\x10\x14\x00\x04MQTT\x04\x02\x00\x3c\x00\x08press-07\x30\x05\x00\x01ax",
}

const connectV5 = "\x10\x14\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x07pressur"

func malformedWorld(t testing.TB) (*world, *device) {
	w := newWorld(t, func(c *gateway.Config) {
		c.Events = gateway.Events{}
		c.Log = nil
		c.Limits.FirstByte = 5 * time.Second
		c.Limits.PerCertificate = 1 << 20
	})
	return w, w.device("press-07", anyPolicy)
}

// throw sends b on a connection of its own and waits for its end.
func (d *device) throw(t testing.TB, b []byte) {
	c, err := d.dial()
	require.NoError(t, err)
	defer c.Close()
	_, _ = c.Write(b) // the gateway may have closed already
	_ = c.CloseWrite()
	_, _ = io.Copy(io.Discard, c)
}

func TestMutatedPacketsLeaveNothingBehind(t *testing.T) {
	w, d := malformedWorld(t)
	r := rand.New(rand.NewPCG(1, 2))
	mutate := func() []byte {
		b := []byte(sessionBytes[r.IntN(len(sessionBytes))])
		for range 1 + r.IntN(4) {
			b[r.IntN(len(b))] ^= byte(1 << r.IntN(8))
		}
		return b[:1+r.IntN(len(b))]
	}
	for range 100 {
		d.throw(t, mutate())
	}
	before := heap()
	for range 300 {
		d.throw(t, mutate())
	}
	require.Eventually(t, func() bool { return w.gw.Metrics().Connections == 0 }, patience, time.Millisecond)
	assert.Less(t, heap(), before+8<<20, "memory is flat")
	assert.Empty(t, w.gw.Sessions())
	c, ack := d.connectWith(5, "press-07", nil)
	assert.Zero(t, ack.ReasonCode)
	c.silent()
	assert.Zero(t, w.gw.Metrics().Panics)
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}

func FuzzMalformedPackets(f *testing.F) {
	w, d := malformedWorld(f)
	for _, s := range sessionBytes {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d.throw(t, b)
		require.Zero(t, w.gw.Metrics().Panics)
	})
}
