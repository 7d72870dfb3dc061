package gateway

import (
	"bytes"
	"sync"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/ggfleet/ggfleet/shared/run"
)

// flow keeps the messages that a device has not acknowledged within its Receive
// Maximum. The library's own way is switched off: when it sends what had to wait
// it locks its table for reading twice, and if a message for the device comes in
// between, the session and whoever sends to it stand still for ever; and it
// forgets that message before it is acknowledged.
type flow struct {
	freed run.Bell // a place was given back since somebody looked

	mu      sync.Mutex
	window  int // 0: the client named none
	unacked int
}

// bound takes the library's flow control away from cl and sets our own to what the
// client asked for.
func (f *flow) bound(cl *mqtt.Client) {
	f.mu.Lock()
	f.window = int(cl.Properties.Props.ReceiveMaximum)
	f.mu.Unlock()
	cl.Properties.Props.ReceiveMaximum = 0
	cl.State.Inflight.ResetSendQuota(0)
}

// take counts one more message, unless there is no place for it.
func (f *flow) take() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.window > 0 && f.unacked >= f.window {
		return false
	}
	f.unacked++
	return true
}

// give gives a place back.
func (f *flow) give() {
	f.mu.Lock()
	f.unacked = max(0, f.unacked-1)
	f.mu.Unlock()
	f.freed.Ring()
}

// await takes a place as soon as there is one; done ends the wait.
func (f *flow) await(done <-chan struct{}) {
	for !f.take() {
		select {
		case <-f.freed:
		case <-done:
			return
		}
	}
}

// pushed is the origin of what the gateway itself sends; no client has this id.
const pushed = "\x00"

// flows holds a relayed message until the device takes it. The library's writer
// calls it: other messages wait behind it, answers do not.
func (s *session) flows(cl *mqtt.Client, pk *packets.Packet) {
	switch {
	case pk.FixedHeader.Qos == 0:
	case pk.FixedHeader.Dup: // resent before anything is read: nobody could give a place back
		if !s.flow.take() {
			pk.FixedHeader.Dup, pk.FixedHeader.Qos = false, 0
			cl.State.Inflight.Delete(pk.PacketID)
		}
	case pk.Origin == pushed: // it has its place
	case tooLarge(*pk):
		cl.State.Inflight.Delete(pk.PacketID) // the library does not send it, and would keep it for ever
	default:
		s.flow.await(s.done)
	}
}

// forgetTooLarge removes what was kept while the device was away and is over what
// it takes now: the library would end each of its connections at the first of these.
func forgetTooLarge(cl *mqtt.Client) {
	asked := cl.Properties.Props
	for _, pk := range cl.State.Inflight.GetAll(false) {
		pk.ProtocolVersion = cl.Properties.ProtocolVersion
		pk.Mods = packets.Mods{
			MaxSize: asked.MaximumPacketSize, AllowResponseInfo: true,
			DisallowProblemInfo: asked.RequestProblemInfoFlag && asked.RequestProblemInfo == 0,
		}
		if pk.FixedHeader.Type == packets.Publish && tooLarge(pk) {
			cl.State.Inflight.Delete(pk.PacketID)
		}
	}
}

// tooLarge asks the library how large pk is, as it will be sent.
func tooLarge(pk packets.Packet) bool {
	if pk.Mods.MaxSize == 0 {
		return false
	}
	var b bytes.Buffer
	return pk.PublishEncode(&b) == nil && b.Len() > int(pk.Mods.MaxSize)
}
