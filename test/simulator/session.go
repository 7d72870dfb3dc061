package simulator

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/test/simulator/mqttwire"
)

const (
	dialTimeout  = 30 * time.Second
	writeTimeout = 10 * time.Second
	// answerTimeout is how long both runtimes wait for an answer (§1.4, §2.2).
	answerTimeout = 30 * time.Second
	// liteMaxPacket is the Maximum Packet Size that lite announces (§1.4).
	liteMaxPacket    = 5000
	classicMaxPacket = 131072
)

var errSessionEnded = errors.New("MQTT session ended")

// answer is what came back on <topic>/accepted or /rejected.
type answer struct {
	rejected bool
	payload  []byte
}

// session is one MQTT connection. One goroutine reads (serve); any number write.
type session struct {
	conn      net.Conn
	br        *bufio.Reader
	version   byte
	maxIn     int // bytes of a packet we take
	maxOut    int // bytes of a packet the server takes
	keepAlive time.Duration
	resumed   bool
	strict    bool // lite: an UNSUBACK code it does not know ends the connection (trap 6)

	onMessage func(topic string, payload []byte)

	wmu  sync.Mutex
	wbuf []byte

	mu      sync.Mutex
	nextID  uint16
	acks    map[uint16]chan mqttwire.Packet
	waiters map[string]*waiter // by request topic

	done chan struct{}
	err  error // set before done is closed
}

type waiter struct {
	token *string
	ch    chan answer
}

// dial opens a connection and does the CONNECT exchange.
func dial(ctx context.Context, d *net.Dialer, addr string, tc *tls.Config, connect mqttwire.Packet, version byte, s *session) error {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	raw, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("dialling the broker: %w", err)
	}
	conn := tls.Client(raw, tc)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return fmt.Errorf("TLS with the broker: %w", err)
	}
	s.conn, s.version = conn, version
	s.br = bufio.NewReaderSize(conn, 512)
	s.maxOut = 256 << 10
	s.acks, s.waiters = map[uint16]chan mqttwire.Packet{}, map[string]*waiter{}
	s.done = make(chan struct{})
	if err := s.handshake(connect); err != nil {
		_ = conn.Close()
		return err
	}
	return nil
}

func (s *session) handshake(connect mqttwire.Packet) error {
	if err := s.write(connect); err != nil {
		return err
	}
	_ = s.conn.SetReadDeadline(time.Now().Add(dialTimeout))
	p, err := mqttwire.Read(s.br, s.version, s.maxIn)
	if err != nil {
		return fmt.Errorf("waiting for CONNACK: %w", err)
	}
	if p.Type != mqttwire.Connack || p.Code() != 0 {
		return fault.New(fault.Denied, "the broker answered CONNECT with %s code 0x%02x %s", p.Type, p.Code(), p.Props.ReasonString)
	}
	s.resumed = p.SessionPresent
	if p.Props.MaximumPacketSize > 0 {
		s.maxOut = int(p.Props.MaximumPacketSize)
	}
	if p.Props.ServerKeepAlive > 0 {
		s.keepAlive = time.Duration(p.Props.ServerKeepAlive) * time.Second
	}
	return nil
}

// serve reads until the connection ends and says why. It sends the keep-alive
// pings; a ping without answer within the keep-alive ends the connection.
func (s *session) serve(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = s.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	err := s.read(ctx)
	if ctx.Err() != nil {
		_ = s.write(mqttwire.Packet{Type: mqttwire.Disconnect})
		err = ctx.Err()
	}
	s.err = err
	close(s.done)
	_ = s.conn.Close()
	return err
}

func (s *session) read(ctx context.Context) error {
	pinging := false
	nextPing := time.Now().Add(s.keepAlive)
	for {
		_ = s.conn.SetReadDeadline(nextPing)
		if ctx.Err() != nil { // after the deadline above, so that AfterFunc's cannot be lost
			return ctx.Err()
		}
		if _, err := s.br.Peek(1); err != nil {
			var ne net.Error
			if !errors.As(err, &ne) || !ne.Timeout() || ctx.Err() != nil {
				return err
			}
			if pinging {
				return errors.New("no PINGRESP within the keep-alive")
			}
			if err := s.write(mqttwire.Packet{Type: mqttwire.Pingreq}); err != nil {
				return err
			}
			pinging, nextPing = true, time.Now().Add(s.keepAlive)
			continue
		}
		_ = s.conn.SetReadDeadline(time.Now().Add(dialTimeout))
		p, err := mqttwire.Read(s.br, s.version, s.maxIn)
		if err != nil {
			return fmt.Errorf("reading a packet: %w", err)
		}
		if p.Type == mqttwire.Pingresp {
			pinging = false
			continue
		}
		if err := s.handle(p); err != nil {
			return err
		}
	}
}

func (s *session) handle(p mqttwire.Packet) error {
	switch p.Type { //nolint:exhaustive // the rest is unexpected
	case mqttwire.Publish:
		if p.Props.TopicAlias != 0 {
			return fault.New(fault.Invalid, "the server used a topic alias, which this client did not allow")
		}
		s.message(p)
		if p.QoS == 1 {
			return s.write(mqttwire.Packet{Type: mqttwire.Puback, ID: p.ID})
		}
	case mqttwire.Puback, mqttwire.Suback:
		s.acknowledge(p)
	case mqttwire.Unsuback:
		for _, code := range p.Codes {
			if s.strict && code != 0 && code < 0x80 {
				return fault.New(fault.Invalid, "UNSUBACK code 0x%02x is malformed for this runtime (trap 6)", code)
			}
		}
		s.acknowledge(p)
	case mqttwire.Disconnect:
		return fmt.Errorf("the server sent DISCONNECT 0x%02x %s", p.Code(), p.Props.ReasonString)
	default:
		return fault.New(fault.Invalid, "unexpected %s", p.Type)
	}
	return nil
}

func (s *session) acknowledge(p mqttwire.Packet) {
	s.mu.Lock()
	ch := s.acks[p.ID]
	delete(s.acks, p.ID)
	s.mu.Unlock()
	if ch != nil {
		ch <- p // buffered
	}
}

// message hands an answer to who waits for it, anything else to onMessage. An
// answer whose client token is not exactly the request's is none (trap 7).
func (s *session) message(p mqttwire.Packet) {
	for _, suffix := range []string{"/accepted", "/rejected"} {
		topic, ok := strings.CutSuffix(p.Topic, suffix)
		if !ok {
			continue
		}
		s.mu.Lock()
		w := s.waiters[topic]
		s.mu.Unlock()
		if w == nil || !sameToken(p.Payload, w.token) {
			return
		}
		select {
		case w.ch <- answer{rejected: suffix == "/rejected", payload: p.Payload}:
		default:
		}
		return
	}
	s.onMessage(p.Topic, p.Payload)
}

func sameToken(payload []byte, want *string) bool {
	var got struct {
		ClientToken *string `json:"clientToken"`
	}
	if json.Unmarshal(payload, &got) != nil {
		return false
	}
	if want == nil || got.ClientToken == nil {
		return want == got.ClientToken
	}
	return *want == *got.ClientToken
}

func (s *session) write(p mqttwire.Packet) error {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	b, err := mqttwire.Append(s.wbuf[:0], p, s.version)
	if err != nil {
		return err
	}
	if s.maxOut > 0 && len(b) > s.maxOut {
		return fault.New(fault.TooLarge, "packet of %d bytes is over the server's maximum of %d", len(b), s.maxOut)
	}
	s.wbuf = b[:0]
	if cap(s.wbuf) > 4096 {
		s.wbuf = nil // an idle core keeps no large buffer
	}
	_ = s.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, err := s.conn.Write(b); err != nil {
		_ = s.conn.Close()
		return fmt.Errorf("sending %s: %w", p.Type, err)
	}
	return nil
}

// send writes a packet that is acknowledged and returns where the
// acknowledgement will arrive.
func (s *session) send(p mqttwire.Packet) (<-chan mqttwire.Packet, error) {
	ch := make(chan mqttwire.Packet, 1)
	s.mu.Lock()
	s.nextID++
	if s.nextID == 0 {
		s.nextID = 1
	}
	p.ID = s.nextID
	s.acks[p.ID] = ch
	s.mu.Unlock()
	return ch, s.write(p)
}

// await waits for an acknowledgement; a code from 0x80 on is an error.
func (s *session) await(ctx context.Context, ch <-chan mqttwire.Packet) error {
	t := time.NewTimer(answerTimeout)
	defer t.Stop()
	select {
	case p := <-ch:
		for _, code := range p.Codes {
			if code >= 0x80 {
				return fault.New(fault.Denied, "the server answered with %s code 0x%02x", p.Type, code)
			}
		}
		return nil
	case <-s.done:
		return errSessionEnded
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return errors.New("no acknowledgement within 30 s")
	}
}

// subscribe sends one SUBSCRIBE per filter, all at once, and waits for the
// acknowledgements.
func (s *session) subscribe(ctx context.Context, filters ...string) error {
	acks := make([]<-chan mqttwire.Packet, 0, len(filters))
	for _, f := range filters {
		ch, err := s.send(mqttwire.Packet{Type: mqttwire.Subscribe, Filters: []string{f}})
		if err != nil {
			return err
		}
		acks = append(acks, ch)
	}
	for i, ch := range acks {
		if err := s.await(ctx, ch); err != nil {
			return fmt.Errorf("subscription %d of %v: %w", i+1, filters, err)
		}
	}
	return nil
}

func (s *session) unsubscribe(filters ...string) {
	for _, f := range filters {
		_, _ = s.send(mqttwire.Packet{Type: mqttwire.Unsubscribe, Filters: []string{f}})
	}
}

// publish sends payload; with QoS 1 it waits for the PUBACK.
func (s *session) publish(ctx context.Context, topic string, payload []byte, qos byte) error {
	p := mqttwire.Packet{Type: mqttwire.Publish, Topic: topic, Payload: payload, QoS: qos}
	if qos == 0 {
		return s.write(p)
	}
	ch, err := s.send(p)
	if err != nil {
		return err
	}
	return s.await(ctx, ch)
}

// expect registers for the answers to a request on topic; release ends it.
func (s *session) expect(topic string, token *string) (w *waiter, release func()) {
	w = &waiter{token: token, ch: make(chan answer, 1)}
	s.mu.Lock()
	s.waiters[topic] = w
	s.mu.Unlock()
	return w, func() {
		s.mu.Lock()
		delete(s.waiters, topic)
		s.mu.Unlock()
	}
}

// wait waits for the answer itself.
func (s *session) wait(ctx context.Context, w *waiter) (answer, error) {
	t := time.NewTimer(answerTimeout)
	defer t.Stop()
	select {
	case a := <-w.ch:
		return a, nil
	case <-s.done:
		return answer{}, errSessionEnded
	case <-ctx.Done():
		return answer{}, ctx.Err()
	case <-t.C:
		return answer{}, errors.New("no answer within 30 s")
	}
}

// call is lite's request and response: SUBSCRIBE topic/+, PUBLISH, wait for the
// answer, UNSUBSCRIBE, without waiting in between (§1.4).
func (s *session) call(ctx context.Context, topic string, payload []byte, token *string) (answer, error) {
	w, release := s.expect(topic, token)
	defer release()
	suback, err := s.send(mqttwire.Packet{Type: mqttwire.Subscribe, Filters: []string{topic + "/+"}})
	if err != nil {
		return answer{}, err
	}
	defer s.unsubscribe(topic + "/+")
	puback, err := s.send(mqttwire.Packet{Type: mqttwire.Publish, Topic: topic, Payload: payload, QoS: 1})
	if err != nil {
		return answer{}, err
	}
	if err := s.await(ctx, suback); err != nil {
		return answer{}, fmt.Errorf("subscribing to the answer: %w", err)
	}
	if err := s.await(ctx, puback); err != nil {
		return answer{}, fmt.Errorf("publishing the request: %w", err)
	}
	return s.wait(ctx, w)
}
