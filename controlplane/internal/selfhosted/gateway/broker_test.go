package gateway_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/gateway"
	"github.com/ggfleet/ggfleet/shared/fault"
)

const own = "$aws/things/press-07/"

// echo answers each request on its /accepted topic.
func echo(_ context.Context, _ gateway.Session, topic string, payload []byte) ([]gateway.Message, error) {
	return []gateway.Message{{Topic: topic + "/accepted", Payload: payload, Push: true}}, nil
}

func TestTheFirstBytesOfARealRuntimeAreAnswered(t *testing.T) {
	w := newWorld(t, nil)
	d := w.device("heldout-core-1")
	conn, err := d.dial()
	require.NoError(t, err)
	defer conn.Close()
	raw, err := hex.DecodeString("102000044d5154540502001e052700001388000e68656c646f75742d636f72652d31") // captures/01
	require.NoError(t, err)
	_, err = conn.Write(raw)
	require.NoError(t, err)
	head := make([]byte, 4)
	_, err = io.ReadFull(conn, head)
	require.NoError(t, err)
	assert.Equal(t, byte(0x20), head[0], "CONNACK")
	assert.Equal(t, []byte{0, 0}, head[2:4], "no session, success")
	assert.Equal(t, "connected heldout-core-1", w.event())
	assert.True(t, w.gw.Connected("heldout-core-1"))
}

func TestClientIdsOfTheThingAreAdmittedAndOthersRefused(t *testing.T) {
	w := newWorld(t, nil)
	d := w.device("press-07")
	for _, id := range []string{"press-07", "press-07#2", "press-07#endpoint-switch"} {
		d.connect(id)
	}
	for _, id := range []string{"press-08", "press-07#0", "press-07x", "x", strings.Repeat("p", 129)} {
		_, ack := d.connectWith(5, id, nil)
		assert.NotZero(t, ack.ReasonCode, id)
	}
	_, ack := d.connectWith(5, "press-08", nil)
	assert.Equal(t, packets.ErrNotAuthorized.Code, ack.ReasonCode)
	_, ack = d.connectWith(4, "press-08", nil)
	assert.Equal(t, packets.Err3NotAuthorized.Code, ack.ReasonCode)
	rec := w.logs.find("device denied")
	require.NotEmpty(t, rec)
	assert.Equal(t, "press-07", rec[0]["thing"])
	assert.Equal(t, d.id, rec[0]["certificate"])
	assert.Equal(t, "iot:Connect", rec[0]["action"])
	assert.Equal(t, "arn:aws:iot:us-east-1:123456789012:client/press-08", rec[0]["resource"])
}

func TestAnyUserNameIsAccepted(t *testing.T) {
	w := newWorld(t, nil)
	d := w.device("press-07")
	for _, version := range []byte{4, 5} {
		_, ack := d.connectWith(version, "press-07", func(pk *packets.Packet) {
			pk.Connect.UsernameFlag, pk.Connect.Username = true, []byte("?SDK=Java&Version=1.2")
		})
		assert.Zero(t, ack.ReasonCode)
	}
}

func TestAnotherThingsTopicsAreRefusedAndLogged(t *testing.T) {
	for name, policies := range map[string][]string{"by policy": {thingPolicy}, "even when the policy allows all": {anyPolicy}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			w.service.serve = echo
			c := w.device("press-07", policies...).connect("press-07")
			const foreign = "$aws/things/press-08/jobs/$next/get"
			assert.Equal(t, packets.ErrNotAuthorized.Code, c.acked(foreign, "{}"))
			c.publish(foreign, "{}", 0)
			assert.Equal(t, []byte{0x87, 0x87, 0x87, 0x87}, c.subscribe("$aws/things/press-08/#", "$aws/things/+/jobs/notify", "$aws/#", "$SYS/#"))
			assert.Empty(t, w.service.requests())
			rec := w.logs.find("device denied")
			require.Len(t, rec, 6)
			assert.Equal(t, "press-07", rec[0]["thing"])
			assert.Equal(t, "arn:aws:iot:us-east-1:123456789012:topic/"+foreign, rec[0]["resource"])
		})
	}
}

func TestADeniedPublishEndsAnOlderClient(t *testing.T) {
	for _, qos := range []byte{0, 1} {
		w := newWorld(t, nil)
		c := w.device("press-07").connect3("press-07")
		c.publish("not/mine", "x", qos)
		c.ended(0)
		assert.Equal(t, "disconnected press-07 FORBIDDEN_ACCESS", w.event())
	}
}

func TestAPlainPublishReachesWhoMayReceiveIt(t *testing.T) {
	w := newWorld(t, nil)
	a, b := w.device("press-07").connect("press-07"), w.device("press-08").connect3("press-08")
	assert.Equal(t, []byte{1}, b.subscribe("plant/+/state"))
	assert.Equal(t, byte(0), a.acked("plant/7/state", "on"))
	assert.Equal(t, "published press-07 plant/7/state on", w.event())
	topic, payload := b.message()
	assert.Equal(t, "plant/7/state on", topic+" "+payload)
}

func TestASubscriptionWithoutReceiveIsGrantedAndSilent(t *testing.T) {
	w := newWorld(t, nil)
	other := w.device("any", anyPolicy).connect("any")
	for _, c := range []*client{w.device("press-07").connect("press-07"), w.device("press-08").connect3("press-08")} {
		assert.Equal(t, []byte{1, 1}, c.subscribe("secret", "#"))
		other.acked("secret", "x")
		w.event()
		c.silent()
	}
}

func TestRefusedFiltersHaveTheReasonOfTheVersion(t *testing.T) {
	w := newWorld(t, nil)
	five, three := w.device("press-07").connect("press-07"), w.device("press-08").connect3("press-08")
	assert.Equal(t, []byte{0x87, 1, 0x8F, 0x8F}, five.subscribe("other/topic", "plant/a", "plant/#/x", "plant/"+strings.Repeat("a/", 8)))
	assert.Equal(t, []byte{0x80, 1, 0x80}, three.subscribe("other/topic", "plant/a", "plant/a+"))
	assert.Equal(t, []byte{0x87, 0x8F, 1}, five.subscribe("$share/g/other", "$share/g/$aws/#", "$share/g/plant/#"))
}

func TestUnsubackIsAlwaysSuccess(t *testing.T) {
	w := newWorld(t, nil)
	c := w.device("press-07").connect("press-07")
	c.subscribe("plant/a")
	assert.Equal(t, []byte{0, 0, 0}, c.unsubscribe("plant/a", "plant/a", "never/there").ReasonCodes)
	w.device("press-08").connect3("press-08").unsubscribe("never/there")
}

func TestWildcardsNeverMatchReservedTopics(t *testing.T) {
	w := newWorld(t, nil)
	w.service.serve = echo
	c := w.device("press-07", anyPolicy).connect("press-07")
	assert.Equal(t, []byte{1, 1, 1}, c.subscribe("#", "+/things/press-07/jobs/get", "$share/g/#"))
	assert.Equal(t, gateway.PushResult{NotSubscribed: 1}, w.gw.Push("press-07", gateway.Message{Topic: own + "jobs/notify"}))
	c.acked(own+"jobs/get", "{}")
	c.message() // the answer, once
	c.silent()
}

func TestARequestIsCommittedBeforeItsAckAndAnsweredAfterIt(t *testing.T) {
	w := newWorld(t, nil)
	release := make(chan struct{})
	w.service.serve = func(ctx context.Context, s gateway.Session, topic string, p []byte) ([]gateway.Message, error) {
		<-release
		return echo(ctx, s, topic, p)
	}
	for i, c := range []*client{w.device("press-07").connect("press-07"), w.device("press-08").connect3("press-08")} {
		topic := fmt.Sprintf("$aws/things/press-0%d/jobs/get", 7+i)
		c.publish(topic, "a", 1)
		c.publish(topic, "b", 1)
		_, err := c.next(50 * time.Millisecond)
		require.Error(t, err, "nothing comes before the request is served")
		// A read deadline inside a TLS record would end it; none had begun.
		go func() { release <- struct{}{}; release <- struct{}{} }()
		var acks, answers int
		var got string
		for range 4 {
			pk := c.read()
			switch pk.FixedHeader.Type {
			case packets.Puback:
				acks++
			case packets.Publish:
				answers++
				got += string(pk.Payload)
				require.GreaterOrEqual(t, acks, answers, "an answer follows its acknowledgement")
				assert.Equal(t, topic+"/accepted", pk.TopicName)
			}
		}
		assert.Equal(t, "ab", got, "in order, without a subscription")
	}
}

func TestAnAnswerIsDeliveredOnceToASubscriber(t *testing.T) {
	w := newWorld(t, nil)
	w.service.serve = echo
	c := w.device("press-07").connect("press-07")
	c.subscribe(own+"jobs/get/+", own+"jobs/get/accepted")
	c.publish(own+"jobs/get", "x", 0)
	c.message()
	c.silent()
}

func TestWhatAServiceRefusesIsAcknowledgedAsThat(t *testing.T) {
	w := newWorld(t, nil)
	var fail error
	w.service.serve = func(context.Context, gateway.Session, string, []byte) ([]gateway.Message, error) { return nil, fail }
	d := w.device("press-07")
	c := d.connect("press-07")
	for name, x := range map[string]struct {
		err  error
		code byte
	}{
		"nobody owns the topic":     {fault.New(fault.NotFound, "no owner"), 0x87},
		"denied":                    {fault.New(fault.Denied, "no"), 0x87},
		"never right, so not again": {fault.New(fault.Invalid, "bad"), 0},
	} {
		fail = x.err
		assert.Equal(t, x.code, c.acked(own+"jobs/get", "{}"), name)
	}
	for _, qos := range []byte{0, 1} {
		fail = errors.New("store is away")
		c.publish(own+"jobs/get", "{}", qos)
		c.ended(packets.ErrServerBusy.Code) // and no PUBACK
		assert.Equal(t, "disconnected press-07 SERVER_ERROR", w.event())
		c = d.connect("press-07")
	}
}

func TestPushReportsWhatBecameOfIt(t *testing.T) {
	w := newWorld(t, nil)
	d := w.device("press-07")
	m := gateway.Message{Topic: own + "jobs/notify", Payload: []byte(`{"jobs":{}}`)}
	assert.True(t, w.gw.Push("press-07", m).NotConnected())
	a := d.connect("press-07")
	assert.Equal(t, gateway.PushResult{NotSubscribed: 1}, w.gw.Push("press-07", m))
	a.subscribe(own + "jobs/notify")
	b := d.connect("press-07#2")
	b.subscribe(own + "jobs/+")
	assert.Equal(t, gateway.PushResult{Delivered: 2}, w.gw.Push("press-07", m))
	for _, c := range []*client{a, b} {
		topic, payload := c.message()
		assert.Equal(t, m.Topic+string(m.Payload), topic+payload)
	}
	a.unsubscribe(own + "jobs/notify")
	assert.Equal(t, gateway.PushResult{Delivered: 1, NotSubscribed: 1}, w.gw.Push("press-07", m))
}

func TestAMessageOverTheClientsMaximumIsReported(t *testing.T) {
	w := newWorld(t, nil)
	const limit = 5000
	w.service.serve = func(_ context.Context, _ gateway.Session, topic string, _ []byte) ([]gateway.Message, error) {
		return []gateway.Message{{Topic: topic + "/accepted", Payload: make([]byte, limit), Push: true, Ref: "job-1"}, {Topic: topic + "/accepted", Push: true}}, nil
	}
	c, _ := w.device("press-07").connectWith(5, "press-07", func(pk *packets.Packet) { pk.Properties.MaximumPacketSize = limit })
	w.event()
	c.subscribe(own + "#")
	topic := own + "jobs/notify-next"
	fits := limit - 3 - 2 - len(topic) - 2 - 1 // fixed header of 3, topic length, packet id, no properties
	assert.Equal(t, gateway.PushResult{Delivered: 1}, w.gw.Push("press-07", gateway.Message{Topic: topic, Payload: make([]byte, fits)}))
	assert.Len(t, c.expect(packets.Publish).Payload, fits)
	assert.Equal(t, gateway.PushResult{TooLarge: 1, Limit: limit}, w.gw.Push("press-07", gateway.Message{Topic: topic, Payload: make([]byte, fits+1)}))
	c.acked(own+"jobs/get", "{}")
	assert.Equal(t, "too large press-07 job-1", w.event())
	assert.Empty(t, c.expect(packets.Publish).Payload, "what fits still comes")
}

func TestANoticeReachesEverySubscribedSession(t *testing.T) {
	w := newWorld(t, nil)
	w.service.serve = func(_ context.Context, _ gateway.Session, topic string, _ []byte) ([]gateway.Message, error) {
		return []gateway.Message{{Topic: topic + "/accepted", Push: true}, {Topic: own + "jobs/notify", Notice: true}}, nil
	}
	d := w.device("press-07")
	a, b := d.connect("press-07"), d.connect("press-07#2")
	b.subscribe(own + "jobs/notify")
	a.acked(own+"jobs/x/update", "{}")
	topic, _ := a.message()
	assert.Equal(t, own+"jobs/x/update/accepted", topic)
	topic, _ = b.message()
	assert.Equal(t, own+"jobs/notify", topic)
	a.silent()
}

func TestQoS2AndOversizedPacketsEndTheConnection(t *testing.T) {
	w := newWorld(t, nil)
	d := w.device("press-07")
	for name, x := range map[string]struct {
		send func(*client)
		code byte
	}{
		"qos 2":                {func(c *client) { c.publish("plant/a", "x", 2) }, 0x9B},
		"payload over 128 KiB": {func(c *client) { c.publish("plant/a", strings.Repeat("x", 128<<10+1), 0) }, 0x95},
		"topic over 256 bytes": {func(c *client) { c.publish("plant/"+strings.Repeat("x", 256), "x", 0) }, 0x90},
		"topic over 7 slashes": {func(c *client) { c.publish("plant/1/2/3/4/5/6/7/8", "x", 0) }, 0x90},
		"system topic":         {func(c *client) { c.publish("$SYS/x", "x", 1) }, 0x90},
		"nine filters at once": {func(c *client) {
			pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 9}
			for range 9 {
				pk.Filters = append(pk.Filters, packets.Subscription{Filter: "plant/a"})
			}
			c.send(pk)
		}, 0x97},
	} {
		c := d.connect("press-07")
		x.send(c)
		c.ended(x.code)
		assert.Equal(t, "disconnected press-07 CLIENT_ERROR", w.event(), name)
	}
	c := d.connect3("press-07")
	c.publish("plant/a", "x", 2)
	c.ended(0)
	assert.Equal(t, "disconnected press-07 CLIENT_ERROR", w.event())
	assert.Equal(t, "connected press-07", func() string { d.connectWith(5, "press-07", nil); return w.event() }())
}

func TestTopicsOfRulesHaveTheirPrefixForFree(t *testing.T) {
	w := newWorld(t, nil)
	w.service.serve = func(context.Context, gateway.Session, string, []byte) ([]gateway.Message, error) { return nil, nil }
	c := w.device("press-07", anyPolicy).connect("press-07")
	assert.Equal(t, byte(0), c.acked("$aws/rules/r/1/2/3/4/5/6/7/8", "x"))
}

func TestSubscriptionsAreBounded(t *testing.T) {
	w := newWorld(t, func(c *gateway.Config) { c.Limits.Subscriptions = 3 })
	c := w.device("press-07").connect("press-07")
	assert.Equal(t, []byte{1, 1}, c.subscribe("plant/a", "plant/b"))
	assert.Equal(t, []byte{1, 0x97}, c.subscribe("plant/c", "plant/d"))
	assert.Equal(t, []byte{1}, c.subscribe("plant/a"))
}

func TestRetainNeedsItsOwnRight(t *testing.T) {
	const noRetain = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Deny","Action":"iot:RetainPublish","Resource":"*"}]}`
	w := newWorld(t, func(c *gateway.Config) { c.Limits.Retained = 1 })
	retain := func(c *client, topic string) byte {
		c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1, Retain: true}, TopicName: topic, Payload: []byte("x"), PacketID: 9})
		return c.expect(packets.Puback).ReasonCode
	}
	assert.Equal(t, byte(0x87), retain(w.device("a", noRetain).connect("a"), "plant/r"))
	c := w.device("press-07").connect("press-07")
	assert.Equal(t, byte(0), retain(c, "plant/r"))
	assert.Equal(t, byte(0x97), retain(c, "plant/s"), "the number of retained messages is bounded")
	c.subscribe("plant/#")
	topic, _ := c.message()
	assert.Equal(t, "plant/r", topic)
}

func TestPublishesOverTheRateAreReadLaterNotLost(t *testing.T) {
	w := newWorld(t, func(c *gateway.Config) { c.Limits.PublishRate = 50 })
	c := w.device("press-07").connect("press-07")
	begin := time.Now()
	for range 60 {
		c.publish("plant/a", "x", 0)
	}
	for range 60 {
		assert.Equal(t, "published press-07 plant/a x", w.event())
	}
	assert.GreaterOrEqual(t, time.Since(begin), 100*time.Millisecond, "the burst is 51")
}

func TestTheConnectionsOfACertificateShareThePaceOfRequests(t *testing.T) {
	const burst, more = 250, 20
	w := newWorld(t, func(c *gateway.Config) { c.Limits.RequestRate = 50 })
	var served sync.WaitGroup
	w.service.serve = func(context.Context, gateway.Session, string, []byte) ([]gateway.Message, error) {
		served.Done()
		return nil, nil
	}
	d := w.device("press-07")
	clients := []*client{d.connect("press-07"), d.connect("press-07#2")}
	served.Add(burst + more)
	begin := time.Now()
	for i := range burst + more {
		clients[i%2].publish(own+"shadow/update", "{}", 0)
	}
	served.Wait()
	assert.GreaterOrEqual(t, time.Since(begin), 300*time.Millisecond, "all are served, the last of them later")
}
