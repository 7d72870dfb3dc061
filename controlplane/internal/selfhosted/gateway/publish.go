package gateway

import (
	"context"
	"strings"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
	"golang.org/x/time/rate"

	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
)

// OnPacketRead sees every packet before the library acts on it. Returning
// ErrRejectPacket ends the connection; other errors the library ignores.
func (h *hook) OnPacketRead(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	s := of(cl)
	s.ackID = 0
	switch pk.FixedHeader.Type {
	case packets.Connect:
		h.softenConnect(s, &pk)
	case packets.Publish:
		if code, bad := s.checkPublish(pk); bad {
			return s.reject(pk, code)
		}
		s.pace(s.publishes)
		if strings.HasPrefix(pk.TopicName, "$") { // each may have something stored
			s.pace(s.requests)
		}
		s.avoidID(cl, &pk)
	case packets.Subscribe:
		if len(pk.Filters) > h.g.limits.FiltersPerPacket {
			return s.reject(pk, packets.ErrQuotaExceeded)
		}
		s.avoidID(cl, &pk)
	case packets.Unsubscribe:
		s.avoidID(cl, &pk)
	case packets.Puback:
		s.flow.give()
	case packets.Pubrec, packets.Pubrel, packets.Pubcomp, packets.Auth:
		return s.reject(pk, packets.ErrProtocolViolation)
	}
	return pk, nil
}

func (s *session) reject(pk packets.Packet, code packets.Code) (packets.Packet, error) {
	s.end(endClient(code))
	return pk, packets.ErrRejectPacket
}

// softenConnect accepts any user name and password, and keeps a session from
// being inherited by another principal.
func (h *hook) softenConnect(s *session, pk *packets.Packet) {
	if pk.Connect.PasswordFlag && len(pk.Connect.Password) == 0 {
		pk.Connect.PasswordFlag = false
	}
	if old, ok := h.g.server.Clients.Get(pk.Connect.ClientIdentifier); ok && pk.Connect.ClientIdentifier != "" {
		if o := of(old); o == nil || o.certificate != s.certificate {
			pk.Connect.Clean = true
		}
	}
}

// checkPublish applies the limits that hold for every publish.
func (s *session) checkPublish(pk packets.Packet) (packets.Code, bool) {
	switch {
	case pk.FixedHeader.Qos > 1:
		return packets.ErrQosNotSupported, true
	case pk.Properties.TopicAliasFlag:
		return packets.ErrTopicAliasInvalid, true
	case len(pk.Payload) > s.g.limits.PayloadBytes:
		return packets.ErrPacketTooLarge, true
	case strings.HasPrefix(strings.ToUpper(firstLevel(pk.TopicName)), "$SYS"):
		// The library would swallow it and never acknowledge.
		return packets.ErrTopicNameInvalid, true
	case checkTopic(pk.TopicName) != "":
		return packets.ErrTopicNameInvalid, true
	}
	return packets.Code{}, false
}

// pace holds a device to a rate by reading on later: nothing is lost, and the
// device feels it through TCP.
func (s *session) pace(by *rate.Limiter) {
	r := by.Reserve()
	if d := r.Delay(); d > 0 {
		t := time.NewTimer(min(d, time.Second))
		defer t.Stop()
		select {
		case <-t.C:
		case <-s.g.base.Done():
		}
	}
}

// avoidID renames a packet whose id is also in use for a message to the device.
// The two directions number on their own, but the library keeps one table: it
// would answer SUBSCRIBE with "packet identifier in use", or forget its own
// message.
func (s *session) avoidID(cl *mqtt.Client, pk *packets.Packet) {
	if pk.PacketID == 0 {
		return
	}
	if _, ok := cl.State.Inflight.Get(pk.PacketID); !ok {
		return
	}
	for free := uint16(65535); free > 0; free-- {
		if _, ok := cl.State.Inflight.Get(free); !ok {
			s.ackID, pk.PacketID = pk.PacketID, free
			return
		}
	}
}

func (s *session) restoreID(pk *packets.Packet) {
	if s.ackID != 0 {
		pk.PacketID, s.ackID = s.ackID, 0
	}
}

// OnACLCheck decides a publish (write), and a delivery. The library also asks it
// about filters in the second form; OnSubscribed puts that right.
func (h *hook) OnACLCheck(cl *mqtt.Client, topic string, write bool) bool {
	s := of(cl)
	if s == nil || topic == "" {
		return false
	}
	a := s.authority.Load()
	if a == nil {
		return false
	}
	if !write {
		if !s.room(cl) {
			h.g.count.dropped.Add(1)
			return false
		}
		yes := a.may(actReceive, topic)
		if !yes && !strings.ContainsAny(topic, "+#") {
			s.denied(actReceive, topic, "policy")
		}
		return yes
	}
	var why string
	switch {
	case !ownTopic(a.session.Identity.Thing, topic):
		why = "reserved topic of another thing"
	case !a.may(actPublish, topic):
		why = "policy"
	default:
		return true
	}
	s.deny(cl, actPublish, topic, why)
	return false
}

// deny refuses a publish; MQTT 3.1.1 has no other way to say so than to end.
func (s *session) deny(cl *mqtt.Client, action, topic, why string) {
	s.denied(action, topic, why)
	if cl.Properties.ProtocolVersion < 5 {
		s.end(endForbidden)
	}
}

// OnPublish runs before the PUBACK: what it does is done when the device hears
// that its message arrived.
func (h *hook) OnPublish(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	s := of(cl)
	if s == nil {
		return pk, nil // the server's own
	}
	if pk.TopicName[0] == '$' {
		return pk, h.serveReserved(s, cl, pk)
	}
	a := s.authority.Load()
	if pk.FixedHeader.Retain {
		if !a.may(actRetainPublish, pk.TopicName) {
			s.deny(cl, actRetainPublish, pk.TopicName, "policy")
			return pk, refusal(cl, pk, packets.ErrNotAuthorized)
		}
		if !h.g.mayRetain(s, pk.TopicName, len(pk.Payload) == 0) {
			s.deny(cl, actRetainPublish, pk.TopicName, "too many retained messages")
			return pk, refusal(cl, pk, packets.ErrQuotaExceeded)
		}
	}
	h.g.count.published.Add(1)
	if f := h.g.events.Published; f != nil {
		f(a.session, pk.TopicName, pk.Payload)
	}
	return pk, nil
}

// refusal is the error that makes the library neither route the message nor
// acknowledge it as success. It honours a code only for MQTT 5 with QoS 1
// (defect 3).
func refusal(cl *mqtt.Client, pk packets.Packet, code packets.Code) error {
	if cl.Properties.ProtocolVersion == 5 && pk.FixedHeader.Qos > 0 {
		return code
	}
	return packets.ErrRejectPacket
}

// serveReserved hands a request on. CodeSuccessIgnore acknowledges without
// routing.
func (h *hook) serveReserved(s *session, cl *mqtt.Client, pk packets.Packet) error {
	a := s.authority.Load()
	ctx, cancel := context.WithTimeout(h.g.base, h.g.limits.Serve)
	defer cancel()
	h.g.count.served.Add(1)
	answers, err := h.g.reserved.Serve(ctx, a.session, pk.TopicName, pk.Payload)
	switch kind := fault.KindOf(err); {
	case err == nil:
		s.answers, s.answersQoS = answers, pk.FixedHeader.Qos
	case kind == fault.NotFound, kind == fault.Unsupported, kind == fault.Denied:
		s.deny(cl, actPublish, pk.TopicName, err.Error())
		return refusal(cl, pk, packets.ErrNotAuthorized)
	case fault.Permanent(err):
		h.g.log.Warn("device request refused", logx.Thing, a.session.Identity.Thing, logx.ClientID, s.id, logx.Topic, pk.TopicName, logx.Err, err)
	default:
		h.g.count.serveFailed.Add(1)
		h.g.log.Error("device request failed", logx.Thing, a.session.Identity.Thing, logx.ClientID, s.id, logx.Topic, pk.TopicName, logx.Err, err)
		s.end(endBusy)
		return packets.ErrRejectPacket
	}
	return packets.CodeSuccessIgnore
}

// OnPublished runs after the PUBACK: the answers follow.
func (h *hook) OnPublished(cl *mqtt.Client, _ packets.Packet) {
	s := of(cl)
	if s == nil {
		return // the server's own
	}
	answers := s.answers
	s.answers = nil
	for _, m := range answers {
		if limit := h.answer(s, m); limit > 0 && h.g.events.TooLarge != nil {
			h.g.events.TooLarge(s.authority.Load().session, m, limit)
		}
	}
}

// answer sends one answer or notice and returns the limit that it was over.
func (h *hook) answer(s *session, m Message) int {
	if !m.Notice {
		return s.send(m, s.answersQoS, m.Push, nil)
	}
	thing := s.authority.Load().session.Identity.Thing
	if thing == "" {
		return 0
	}
	return h.g.Push(thing, m).Limit
}
