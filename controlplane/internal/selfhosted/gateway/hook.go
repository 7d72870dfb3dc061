package gateway

import (
	"context"
	"errors"
	"time"
	"unicode/utf8"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
)

// hook is the gateway as the broker library calls it.
type hook struct {
	mqtt.HookBase
	g *Gateway
}

// ID names the hook in the library's tables.
func (*hook) ID() string { return "gateway" }

// Provides lists the calls that the hook wants.
func (*hook) Provides(b byte) bool {
	switch b {
	case mqtt.OnConnect, mqtt.OnConnectAuthenticate, mqtt.OnACLCheck, mqtt.OnSessionEstablished, mqtt.OnDisconnect,
		mqtt.OnPacketRead, mqtt.OnPacketEncode, mqtt.OnSubscribe, mqtt.OnSubscribed, mqtt.OnUnsubscribed,
		mqtt.OnPublish, mqtt.OnPublished, mqtt.OnPublishDropped, mqtt.OnWill, mqtt.OnWillSent, mqtt.OnClientExpired:
		return true
	}
	return false
}

func of(cl *mqtt.Client) *session {
	if c, ok := cl.Net.Conn.(*conn); ok {
		return c.session
	}
	return nil
}

// OnConnect bends the client's wishes to what the library does right.
func (h *hook) OnConnect(cl *mqtt.Client, _ packets.Packet) error {
	cl.Properties.Props.TopicAliasMaximum = 0 // aliases outlive their connection in resends (defect 8)
	longest := uint16(h.g.limits.KeepAlive.Seconds())
	if cl.State.Keepalive == 0 || cl.State.Keepalive > longest {
		cl.State.Keepalive, cl.State.ServerKeepalive = longest, true
	}
	of(cl).flow.bound(cl)
	return nil
}

// OnConnectAuthenticate admits the client or notes why not.
func (h *hook) OnConnectAuthenticate(cl *mqtt.Client, pk packets.Packet) bool {
	s := of(cl)
	s.id = cl.ID[:min(len(cl.ID), maxClientID)]
	s.client.Store(cl)
	code, why := h.g.admit(s, pk)
	if code == packets.CodeSuccess {
		return true
	}
	s.refusal = code
	h.g.log.Warn("device connect refused", logx.ClientID, s.id, logx.Certificate, s.certificate, logx.Address, s.address, "reason", why)
	return false
}

// admit decides about a CONNECT: identity, client id, policy, last will, and
// then the claim on the client id.
func (g *Gateway) admit(s *session, pk packets.Packet) (packets.Code, string) {
	if len(s.client.Load().ID) > maxClientID || !utf8.ValidString(s.id) {
		return packets.ErrClientIdentifierNotValid, "client id over 128 bytes or not utf-8"
	}
	ctx, cancel := context.WithTimeout(g.base, g.limits.Serve+time.Second)
	defer cancel()
	id, err := g.ids.Identify(ctx, s.leaf)
	if err != nil {
		if fault.Permanent(err) {
			return packets.ErrNotAuthorized, err.Error()
		}
		return packets.ErrServerUnavailable, err.Error()
	}
	a := newAuthority(Session{ClientID: s.id, Identity: id, Address: s.address}, s.leaf, g.cfg.Realm)
	s.authority.Store(a)
	if !a.may(actConnect, s.id) {
		s.denied(actConnect, s.id, "policy")
		return packets.ErrNotAuthorized, "policy does not allow " + actConnect + " on " + a.resource(actConnect, s.id)
	}
	if pk.Connect.WillFlag { // the library publishes it unchecked (defect 1)
		if why := g.admitWill(a, pk); why != "" {
			s.denied(actPublish, pk.Connect.WillTopic, why)
			return packets.ErrNotAuthorized, "last will: " + why
		}
	}
	if err := g.claim(ctx, s); err != nil {
		switch {
		case errors.Is(err, fault.Exhausted):
			return packets.ErrQuotaExceeded, err.Error()
		case errors.Is(err, fault.Denied):
			return packets.ErrClientIdentifierNotValid, err.Error()
		}
		return packets.ErrServerUnavailable, err.Error()
	}
	return packets.CodeSuccess, ""
}

func (g *Gateway) admitWill(a *authority, pk packets.Packet) string {
	topic := pk.Connect.WillTopic
	switch why := checkTopic(topic); {
	case why != "":
		return why
	case topic[0] == '$':
		return "reserved topics take no last will"
	case pk.Connect.WillQos > 1:
		return "qos 2"
	case len(pk.Connect.WillPayload) > g.limits.PayloadBytes:
		return "payload too large"
	case !a.may(actPublish, topic), pk.Connect.WillRetain && !a.may(actRetainPublish, topic):
		return "policy"
	}
	return ""
}

// OnSessionEstablished runs after CONNACK and before the first request.
func (h *hook) OnSessionEstablished(cl *mqtt.Client, _ packets.Packet) {
	s := of(cl)
	s.adopt(cl)
	s.established.Store(true)
	h.g.establish(s)
	s.told = s.authority.Load().session
	h.g.log.Info("device connected", logx.Thing, s.told.Identity.Thing, logx.ClientID, s.id, logx.Certificate, s.certificate, logx.Address, s.address)
	if f := h.g.events.Connected; f != nil {
		f(s.told, time.Now())
	}
	if s.stale.Swap(false) {
		h.g.recheck(s)
	}
}

// adopt takes over what the library inherited from an earlier connection; a
// resumed session would keep the quota that an unacknowledged exchange had used up.
func (s *session) adopt(cl *mqtt.Client) {
	s.mu.Lock()
	for f, sub := range cl.State.Subscriptions.GetAll() {
		s.filters[f] = min(sub.Qos, 1)
	}
	s.mu.Unlock()
	cl.State.Inflight.ResetReceiveQuota(int32(s.g.limits.ReceiveMaximum)) //nolint:gosec // a small setting
}

// OnDisconnect notes whether the broker keeps the session.
func (h *hook) OnDisconnect(cl *mqtt.Client, _ error, expire bool) {
	of(cl).kept = !expire
}

// OnClientExpired removes what the library forgets to remove (defect 7).
func (h *hook) OnClientExpired(cl *mqtt.Client) {
	h.g.server.UnsubscribeClient(cl)
	cl.ClearInflights()
	if s := of(cl); s != nil {
		h.g.expired(s)
	}
}

// OnWill withholds the last will of a session whose identity was taken away. An
// error would make the library send the original.
func (h *hook) OnWill(cl *mqtt.Client, will mqtt.Will) (mqtt.Will, error) {
	s := of(cl)
	if e := s.endedFor(); e != nil && !e.will {
		return mqtt.Will{}, nil
	}
	if a := s.authority.Load(); a == nil || !a.may(actPublish, will.TopicName) {
		return mqtt.Will{}, nil
	}
	if will.Retain && !h.g.mayRetain(s, will.TopicName, len(will.Payload) == 0) {
		will.Retain = false
	}
	return will, nil
}

// OnWillSent tells of a last will that went out; one that was withheld has no
// topic.
func (h *hook) OnWillSent(cl *mqtt.Client, pk packets.Packet) {
	a := of(cl).authority.Load()
	if f := h.g.events.Published; f != nil && a != nil && pk.TopicName != "" {
		f(a.session, pk.TopicName, pk.Payload)
	}
}

// OnPublishDropped counts what a full queue lost.
func (h *hook) OnPublishDropped(*mqtt.Client, packets.Packet) { h.g.count.dropped.Add(1) }

// OnPacketEncode corrects packets on their way to the device.
func (h *hook) OnPacketEncode(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	s := of(cl)
	if s == nil {
		return pk
	}
	switch pk.FixedHeader.Type {
	case packets.Publish:
		s.flows(cl, &pk)
	case packets.Connack:
		h.connack(cl, s, &pk)
	case packets.Unsuback:
		// Lite takes 0x11, "no subscription existed", for a malformed packet and
		// drops the connection (nucleus-contract trap 6).
		clear(pk.ReasonCodes)
		s.restoreID(&pk)
	case packets.Suback, packets.Puback:
		s.restoreID(&pk)
	}
	return pk
}

func (h *hook) connack(cl *mqtt.Client, s *session, pk *packets.Packet) {
	if s.refusal.Code != 0 {
		pk.ReasonCode, pk.Properties.ReasonString = s.refusal.Code, s.refusal.Reason
		if cl.Properties.ProtocolVersion < 5 {
			pk.ReasonCode = connackV3(s.refusal)
		}
		return
	}
	if pk.SessionPresent {
		forgetTooLarge(cl) // before the library sends again what is unacknowledged
	}
	if pk.ReasonCode == 0 {
		pk.Properties.MaximumPacketSize = uint32(h.g.limits.PacketBytes) //nolint:gosec // a small setting
	}
}

// connackV3 maps a reason to the return codes of MQTT 3.1.1.
func connackV3(c packets.Code) byte {
	switch c.Code {
	case packets.ErrClientIdentifierNotValid.Code:
		return packets.Err3ClientIdentifierNotValid.Code
	case packets.ErrServerUnavailable.Code, packets.ErrQuotaExceeded.Code:
		return packets.Err3ServerUnavailable.Code
	}
	return packets.Err3NotAuthorized.Code
}
