package gateway

import (
	"errors"
	"math"
	"os"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// maxOutboxBytes bounds what waits for one device, and what it has not acknowledged.
const maxOutboxBytes = 4 << 20

// room reports whether another message may be kept until the device acknowledges it:
// a device that is away, or acknowledges nothing, does not fill the memory.
func (s *session) room(cl *mqtt.Client) bool {
	in := cl.State.Inflight
	if in.Len() < maxOutboxBytes/s.g.limits.PayloadBytes {
		return true
	}
	bytes := 0
	for _, pk := range in.GetAll(false) {
		bytes += len(pk.Payload)
	}
	return bytes < maxOutboxBytes
}

// outgoing is one message on its way to a device.
type outgoing struct {
	topic   string
	payload []byte
	qos     byte
}

// Push sends m to every session of the thing (client ids T, T#n) that is
// subscribed to its topic and that policy lets receive it. It does not wait for
// the device. A device that does not take its messages is disconnected: it asks
// for its state when it comes back. The payload must not change afterwards.
func (g *Gateway) Push(thing string, m Message) PushResult {
	var r PushResult
	for _, s := range g.sessionsOf(thing) {
		if limit := s.send(m, 1, false, &r); limit > 0 && (r.Limit == 0 || limit < r.Limit) {
			r.Limit = limit
		}
	}
	return r
}

// send queues m for the session. unsubscribed sends it, with QoS qos, although
// no filter matches. It returns the client's maximum packet size if m is over
// it, and counts in r what happened, if r is not nil.
func (s *session) send(m Message, qos byte, unsubscribed bool, r *PushResult) int {
	if r == nil {
		r = new(PushResult)
	}
	s.mu.Lock()
	granted, subscribed := s.grantedLocked(m.Topic)
	s.mu.Unlock()
	if subscribed {
		qos = granted
	}
	if !subscribed && !unsubscribed {
		r.NotSubscribed++
		return 0
	}
	if !s.authority.Load().may(actReceive, m.Topic) {
		s.denied(actReceive, m.Topic, "policy")
		r.NotSubscribed++
		return 0
	}
	cl := s.client.Load()
	limit := int(cl.Properties.Props.MaximumPacketSize)
	if limit > 0 && publishSize(m.Topic, m.Payload, qos, cl.Properties.ProtocolVersion == 5) > limit {
		s.g.count.tooLarge.Add(1)
		r.TooLarge++
		return limit
	}
	if s.queue(outgoing{topic: m.Topic, payload: m.Payload, qos: qos}) {
		r.Delivered++
	}
	return 0
}

// queue appends to the outbox and sees that someone empties it. At rest a
// session has no goroutine for this.
func (s *session) queue(o outgoing) bool {
	s.mu.Lock()
	bytes := len(o.payload)
	for i := range s.outbox {
		bytes += len(s.outbox[i].payload)
	}
	full := len(s.outbox) >= s.g.limits.Outbox || bytes > maxOutboxBytes
	ok := !full && s.ended == nil && !s.gone
	start := ok && !s.draining
	if ok {
		s.outbox = append(s.outbox, o)
	}
	if start {
		s.draining = true
		s.g.work.Go(s.drain) // not gone: the connection itself still counts in work
	}
	s.mu.Unlock()
	if full {
		s.g.count.dropped.Add(1)
		s.end(endStalled)
	}
	return ok
}

// drain writes the outbox until it is empty.
func (s *session) drain() {
	for {
		s.mu.Lock()
		batch := s.outbox
		s.outbox = nil
		if len(batch) == 0 || s.ended != nil {
			s.draining = false
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		for _, o := range batch {
			if err := s.write(o); err != nil {
				s.g.count.dropped.Add(1)
				if errors.Is(err, os.ErrDeadlineExceeded) {
					s.end(endStalled)
				}
				continue
			}
			s.g.count.sent.Add(1)
		}
	}
}

// write sends one message now. It goes around the library's queue, which drops
// what does not fit and hands a message to all subscribers of its topic.
func (s *session) write(o outgoing) error {
	cl := s.client.Load()
	pk := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: o.qos},
		TopicName:   o.topic,
		Payload:     o.payload,
		Created:     time.Now().Unix(),
		Origin:      pushed,
	}
	in := cl.State.Inflight
	if o.qos > 0 && (in.Len() >= s.g.limits.Inflight || !s.flow.take()) {
		pk.FixedHeader.Qos = 0 // the client takes no more unacknowledged messages: send this one plain
	}
	if pk.FixedHeader.Qos > 0 {
		id, err := cl.NextPacketID()
		if err != nil || id > math.MaxUint16 {
			s.flow.give()
			return packets.ErrQuotaExceeded
		}
		pk.PacketID = uint16(id)
		in.Set(pk)
	}
	return cl.WritePacket(pk)
}
