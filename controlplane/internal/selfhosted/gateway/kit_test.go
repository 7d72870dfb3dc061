package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/gateway"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/policy"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/pki"
)

func TestMain(m *testing.M) {
	code := m.Run()
	var leak error
	for range 60 { // each waits about a second; goroutines on a busy machine take their time to end
		if leak = goleak.Find(); leak == nil {
			os.Exit(code)
		}
	}
	fmt.Fprintln(os.Stderr, leak)
	os.Exit(1)
}

// patience is how long a test waits for what must happen.
const patience = 2 * time.Minute

var realm = names.Realm{Region: "us-east-1", Account: "123456789012"}

// thingPolicy is what a core usually has: itself, and its own topics.
const thingPolicy = `{"Version":"2012-10-17","Statement":[
 {"Effect":"Allow","Action":"iot:Connect","Resource":"arn:aws:iot:us-east-1:123456789012:client/${iot:Connection.Thing.ThingName}*"},
 {"Effect":"Allow","Action":["iot:Publish","iot:Receive","iot:RetainPublish"],"Resource":["arn:aws:iot:us-east-1:123456789012:topic/$aws/things/${iot:Connection.Thing.ThingName}/*","arn:aws:iot:us-east-1:123456789012:topic/plant/*"]},
 {"Effect":"Allow","Action":"iot:Subscribe","Resource":["arn:aws:iot:us-east-1:123456789012:topicfilter/$aws/things/${iot:Connection.Thing.ThingName}/*","arn:aws:iot:us-east-1:123456789012:topicfilter/plant/*","arn:aws:iot:us-east-1:123456789012:topicfilter/secret","arn:aws:iot:us-east-1:123456789012:topicfilter/#"]}]}`

const anyPolicy = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`

// registry is a fake of the registry: what a certificate is, and who watches.
type registry struct {
	mu     sync.Mutex
	known  map[string]gateway.Identity
	err    map[string]error
	notify func(...string)
	looks  int
}

func (r *registry) Identify(_ context.Context, leaf *x509.Certificate) (gateway.Identity, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.looks++
	id := pki.ID(leaf.Raw)
	if err := r.err[id]; err != nil {
		return gateway.Identity{}, err
	}
	i, ok := r.known[id]
	if !ok {
		return gateway.Identity{}, fault.New(fault.Denied, "certificate %s is not registered", id)
	}
	return i, nil
}

func (r *registry) Watch(ctx context.Context, notify func(...string)) error {
	r.mu.Lock()
	r.notify = notify
	r.mu.Unlock()
	notify()
	<-ctx.Done()
	return nil
}

// change stores an identity, or the error that replaces it, and tells.
func (r *registry) change(id string, i gateway.Identity, err error) {
	r.mu.Lock()
	r.known[id], r.err[id] = i, err
	n := r.notify
	r.mu.Unlock()
	if n != nil {
		n(id)
	}
}

// service is a fake of the services behind reserved topics.
type service struct {
	mu    sync.Mutex
	serve func(ctx context.Context, s gateway.Session, topic string, payload []byte) ([]gateway.Message, error)
	seen  []string
}

func (s *service) Serve(ctx context.Context, ses gateway.Session, topic string, payload []byte) ([]gateway.Message, error) {
	s.mu.Lock()
	s.seen = append(s.seen, ses.Identity.Thing+" "+topic)
	f := s.serve
	s.mu.Unlock()
	if f == nil {
		return nil, fault.New(fault.NotFound, "no service has topic %s", topic)
	}
	return f(ctx, ses, topic, payload)
}

func (s *service) requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.seen...)
}

// world is a running gateway.
type world struct {
	t        testing.TB
	ca       *pki.Authority
	roots    *x509.CertPool
	registry *registry
	service  *service
	gw       *gateway.Gateway
	addr     string
	stop     func() // stops the gateway and waits
	logs     *logs
	events   chan string
	last     atomic.Pointer[gateway.Session] // told at the last disconnect
}

// logs keeps what was logged.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

// find returns the records with the message.
func (l *logs) find(msg string) []map[string]any {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []map[string]any
	for line := range strings.Lines(l.buf.String()) {
		var m map[string]any
		if json.Unmarshal([]byte(line), &m) == nil && m["msg"] == msg {
			out = append(out, m)
		}
	}
	return out
}

func newWorld(t testing.TB, change func(*gateway.Config)) *world {
	t.Helper()
	now := time.Now()
	ca, err := pki.NewRoot("test", now, time.Hour)
	require.NoError(t, err)
	key, err := pki.NewKey(pki.P256)
	require.NoError(t, err)
	der, err := ca.SignServer(key.Public(), []string{"localhost", "127.0.0.1"}, now, time.Hour)
	require.NoError(t, err)
	server := pki.TLSCertificate(key, der)

	w := &world{
		t: t, ca: ca, roots: x509.NewCertPool(), logs: &logs{}, service: &service{}, events: make(chan string, 1000),
		registry: &registry{known: map[string]gateway.Identity{}, err: map[string]error{}},
	}
	w.roots.AddCert(ca.Cert)
	cfg := gateway.Config{
		Identities: w.registry, Changes: w.registry, Reserved: w.service, Realm: realm,
		TLS: gateway.MQTTConfig(w.registry, func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &server, nil }),
		Log: slog.New(slog.NewJSONHandler(w.logs, nil)),
		Events: gateway.Events{
			Connected: func(s gateway.Session, _ time.Time) { w.events <- "connected " + s.ClientID },
			Disconnected: func(s gateway.Session, reason string, _ time.Time) {
				w.last.Store(&s)
				w.events <- "disconnected " + s.ClientID + " " + reason
			},
			Published: func(s gateway.Session, topic string, p []byte) {
				w.events <- "published " + s.ClientID + " " + topic + " " + string(p)
			},
			TooLarge: func(s gateway.Session, m gateway.Message, _ int) {
				w.events <- "too large " + s.ClientID + " " + m.Ref
			},
		},
	}
	if change != nil {
		change(&cfg)
	}
	w.gw, err = gateway.New(cfg)
	require.NoError(t, err)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	w.addr = ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.gw.Run(ctx, ln) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			require.NoError(t, err)
		case <-time.After(patience):
			t.Error("gateway did not stop")
		}
	})
	t.Cleanup(w.stop)
	return w
}

// event waits for the next event.
func (w *world) event() string {
	w.t.Helper()
	select {
	case e := <-w.events:
		return e
	case <-time.After(patience):
		w.t.Fatal("no event")
		return ""
	}
}

func docs(t testing.TB, texts ...string) []*policy.Document {
	t.Helper()
	var out []*policy.Document
	for _, s := range texts {
		d, err := policy.Parse([]byte(s))
		require.NoError(t, err)
		out = append(out, d)
	}
	return out
}

// device is a certificate that is registered for thing.
type device struct {
	w        *world
	id       string
	identity gateway.Identity
	key      crypto.Signer
	tls      *tls.Config
}

func (w *world) device(thing string, policies ...string) *device {
	w.t.Helper()
	if len(policies) == 0 {
		policies = []string{thingPolicy}
	}
	key, err := pki.NewKey(pki.P256)
	require.NoError(w.t, err)
	now := time.Now()
	der, err := w.ca.SignClient(pki.Client{Subject: pkix.Name{CommonName: "AWS IoT Certificate"}, Public: key.Public(), NotAfter: now.Add(time.Hour)}, now)
	require.NoError(w.t, err)
	d := &device{w: w, id: pki.ID(der), key: key, tls: &tls.Config{
		RootCAs: w.roots, ServerName: "localhost", MinVersion: tls.VersionTLS12,
		Certificates: []tls.Certificate{pki.TLSCertificate(key, der)},
	}}
	d.identity = gateway.Identity{CertificateID: d.id, Thing: thing, Policies: docs(w.t, policies...)}
	w.registry.change(d.id, d.identity, nil)
	return d
}

// client is a raw MQTT client.
type client struct {
	t       testing.TB
	conn    net.Conn
	r       *bufio.Reader
	version byte
	nextID  uint16
}

// dial opens the TLS connection.
func (d *device) dial() (*tls.Conn, error) {
	raw, err := net.DialTimeout("tcp", d.w.addr, patience)
	if err != nil {
		return nil, err
	}
	c := tls.Client(raw, d.tls)
	_ = c.SetDeadline(time.Now().Add(patience))
	if err := c.Handshake(); err != nil {
		_ = raw.Close()
		return nil, err
	}
	return c, nil
}

// connectWith sends a CONNECT and returns the client with the CONNACK.
func (d *device) connectWith(version byte, id string, change func(*packets.Packet)) (*client, packets.Packet) {
	d.w.t.Helper()
	conn, err := d.dial()
	require.NoError(d.w.t, err)
	d.w.t.Cleanup(func() { _ = conn.Close() })
	c := &client{t: d.w.t, conn: conn, r: bufio.NewReader(conn), version: version, nextID: 1}
	pk := packets.Packet{
		ProtocolVersion: version, FixedHeader: packets.FixedHeader{Type: packets.Connect},
		Connect: packets.ConnectParams{ProtocolName: []byte("MQTT"), Clean: true, Keepalive: 60, ClientIdentifier: id},
	}
	if change != nil {
		change(&pk)
	}
	c.send(pk)
	return c, c.read()
}

func (d *device) connect(id string) *client {
	d.w.t.Helper()
	c, ack := d.connectWith(5, id, nil)
	require.Equal(d.w.t, byte(0), ack.ReasonCode, "CONNACK")
	require.Equal(d.w.t, "connected "+id, d.w.event())
	return c
}

func (d *device) connect3(id string) *client {
	d.w.t.Helper()
	c, ack := d.connectWith(4, id, nil)
	require.Equal(d.w.t, byte(0), ack.ReasonCode, "CONNACK")
	require.Equal(d.w.t, "connected "+id, d.w.event())
	return c
}

func (c *client) send(pk packets.Packet) {
	c.t.Helper()
	pk.ProtocolVersion = c.version
	var b bytes.Buffer
	var err error
	switch pk.FixedHeader.Type {
	case packets.Connect:
		err = pk.ConnectEncode(&b)
	case packets.Publish:
		err = pk.PublishEncode(&b)
	case packets.Puback:
		err = pk.PubackEncode(&b)
	case packets.Subscribe:
		pk.FixedHeader.Qos = 1
		err = pk.SubscribeEncode(&b)
	case packets.Unsubscribe:
		pk.FixedHeader.Qos = 1
		err = pk.UnsubscribeEncode(&b)
	case packets.Disconnect:
		err = pk.DisconnectEncode(&b)
	case packets.Pingreq:
		err = pk.PingreqEncode(&b)
	}
	require.NoError(c.t, err)
	_, err = c.conn.Write(b.Bytes())
	require.NoError(c.t, err)
}

// next reads one packet, or the error that ended the connection.
func (c *client) next(wait time.Duration) (packets.Packet, error) {
	_ = c.conn.SetReadDeadline(time.Now().Add(wait))
	var pk packets.Packet
	pk.ProtocolVersion = c.version
	b, err := c.r.ReadByte()
	if err != nil {
		return pk, err
	}
	if err := pk.FixedHeader.Decode(b); err != nil {
		return pk, err
	}
	n, _, err := packets.DecodeLength(c.r)
	if err != nil {
		return pk, err
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(c.r, body); err != nil {
		return pk, err
	}
	pk.FixedHeader.Remaining = n
	switch pk.FixedHeader.Type {
	case packets.Connack:
		err = pk.ConnackDecode(body)
	case packets.Publish:
		err = pk.PublishDecode(body)
	case packets.Puback:
		err = pk.PubackDecode(body)
	case packets.Suback:
		err = pk.SubackDecode(body)
	case packets.Unsuback:
		err = pk.UnsubackDecode(body)
	case packets.Disconnect:
		err = pk.DisconnectDecode(body)
	}
	return pk, err
}

func (c *client) read() packets.Packet {
	c.t.Helper()
	pk, err := c.next(patience)
	require.NoError(c.t, err)
	return pk
}

// expect reads a packet of the type.
func (c *client) expect(kind byte) packets.Packet {
	c.t.Helper()
	pk := c.read()
	require.Equal(c.t, packets.PacketNames[kind], packets.PacketNames[pk.FixedHeader.Type])
	return pk
}

// silent checks that nothing came before the answer to a ping.
func (c *client) silent() {
	c.t.Helper()
	c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
	c.expect(packets.Pingresp)
}

// ended checks that the connection ends, with a DISCONNECT of the code first
// when code is not 0.
func (c *client) ended(code byte) {
	c.t.Helper()
	pk, err := c.next(patience)
	if code != 0 {
		require.NoError(c.t, err)
		require.Equal(c.t, packets.Disconnect, pk.FixedHeader.Type)
		require.Equal(c.t, code, pk.ReasonCode)
		_, err = c.next(patience)
	}
	require.Error(c.t, err)
	var ne net.Error
	if errors.As(err, &ne) {
		require.False(c.t, ne.Timeout(), "the connection is still open")
	}
}

func (c *client) id() uint16 { c.nextID++; return c.nextID }

func (c *client) publish(topic, payload string, qos byte) uint16 {
	c.t.Helper()
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: qos}, TopicName: topic, Payload: []byte(payload)}
	if qos > 0 {
		pk.PacketID = c.id()
	}
	c.send(pk)
	return pk.PacketID
}

// acked publishes with QoS 1 and returns the reason code of the PUBACK.
func (c *client) acked(topic, payload string) byte {
	c.t.Helper()
	id := c.publish(topic, payload, 1)
	ack := c.expect(packets.Puback)
	require.Equal(c.t, id, ack.PacketID)
	return ack.ReasonCode
}

// subscribe returns the reason codes.
func (c *client) subscribe(filters ...string) []byte {
	c.t.Helper()
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: c.id()}
	for _, f := range filters {
		pk.Filters = append(pk.Filters, packets.Subscription{Filter: f, Qos: 1})
	}
	c.send(pk)
	ack := c.expect(packets.Suback)
	require.Equal(c.t, pk.PacketID, ack.PacketID)
	return ack.ReasonCodes
}

func (c *client) unsubscribe(filters ...string) packets.Packet {
	c.t.Helper()
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe}, PacketID: c.id()}
	for _, f := range filters {
		pk.Filters = append(pk.Filters, packets.Subscription{Filter: f})
	}
	c.send(pk)
	ack := c.expect(packets.Unsuback)
	require.Equal(c.t, pk.PacketID, ack.PacketID)
	return ack
}

// message reads a PUBLISH and acknowledges it.
func (c *client) message() (topic, payload string) {
	c.t.Helper()
	pk := c.expect(packets.Publish)
	if pk.FixedHeader.Qos > 0 {
		c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: pk.PacketID})
	}
	return pk.TopicName, string(pk.Payload)
}
