package gateway

import (
	"slices"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// OnSubscribe decides about each filter. A refused one is made invalid, so that
// the library leaves it alone; OnSubscribed then writes the true reason.
func (h *hook) OnSubscribe(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	s := of(cl)
	s.asked = s.asked[:0]
	pk.Filters = slices.Clone(pk.Filters)
	for i := range pk.Filters {
		f := &pk.Filters[i]
		f.Qos = min(f.Qos, 1)
		s.asked = append(s.asked, asked{sub: *f, code: s.admitFilter(*f, i)})
		if s.asked[i].code != 0 {
			f.Filter = ""
		}
	}
	return pk
}

// admitFilter returns 0, or the reason code that refuses the filter. before is
// how many filters of the same packet come ahead of it.
func (s *session) admitFilter(sub packets.Subscription, before int) byte {
	a := s.authority.Load()
	name := sub.Filter
	if _, inner, ok := cutShare(sub.Filter); ok {
		name = inner // a Deny on a filter is no less one when it is shared
	}
	switch {
	case checkFilter(sub.Filter) != "":
		return packets.ErrTopicFilterInvalid.Code
	case sub.NoLocal && name != sub.Filter:
		return packets.ErrProtocolViolation.Code
	case !ownTopic(a.session.Identity.Thing, name):
		s.denied(actSubscribe, sub.Filter, "reserved topic of another thing")
		return packets.ErrNotAuthorized.Code
	case !a.may(actSubscribe, name):
		s.denied(actSubscribe, sub.Filter, "policy")
		return packets.ErrNotAuthorized.Code
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, have := s.filters[sub.Filter]; !have && len(s.filters)+before >= s.g.limits.Subscriptions {
		return packets.ErrQuotaExceeded.Code
	}
	return 0
}

// OnSubscribed corrects the reason codes before they are sent. The library asked
// whether the client may receive on the filter's text, which is not the question
// at SUBSCRIBE: a granted filter that it refused is subscribed here.
func (h *hook) OnSubscribed(cl *mqtt.Client, _ packets.Packet, reasons []byte) {
	s := of(cl)
	if s == nil {
		return
	}
	for i, q := range s.asked {
		if q.code != 0 {
			reasons[i] = q.code
			if cl.Properties.ProtocolVersion < 5 {
				reasons[i] = packets.ErrUnspecifiedError.Code
			}
			continue
		}
		if reasons[i] >= packets.ErrUnspecifiedError.Code {
			h.g.server.Topics.Subscribe(cl.ID, q.sub)
			cl.State.Subscriptions.Add(q.sub.Filter, q.sub)
			reasons[i] = q.sub.Qos
		}
		s.mu.Lock()
		s.filters[q.sub.Filter] = q.sub.Qos
		s.mu.Unlock()
	}
}

// OnUnsubscribed forgets the filters.
func (h *hook) OnUnsubscribed(cl *mqtt.Client, pk packets.Packet) {
	s := of(cl)
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range pk.Filters {
		delete(s.filters, f.Filter)
	}
}

// grantedLocked returns the highest QoS granted for topic.
func (s *session) grantedLocked(topic string) (qos byte, ok bool) {
	for f, q := range s.filters {
		if matches(f, topic) {
			qos, ok = max(qos, q), true
		}
	}
	return qos, ok
}
