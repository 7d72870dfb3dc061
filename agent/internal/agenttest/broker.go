package agenttest

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Report is one message that an agent published.
type Report struct {
	Kind    string
	Header  protocol.ReportHeader
	Payload []byte
}

// broker takes what agents publish and keeps it.
type broker struct {
	mqtt.HookBase
	registered func(*x509.Certificate) bool
	server     *mqtt.Server
	address    string

	mu      sync.Mutex // guards what follows
	reports []Report
	reject  int // publishes that are refused before one is taken
	clients []string
	alive   time.Duration // the keep-alive of the last session
}

func newBroker(t testing.TB, cert tls.Certificate, registered func(*x509.Certificate) bool) *broker {
	t.Helper()
	b := &broker{registered: registered}
	b.server = mqtt.New(&mqtt.Options{InlineClient: true, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, b.server.AddHook(b, nil))
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAnyClientCert})
	require.NoError(t, err)
	b.address = l.Addr().String()
	require.NoError(t, b.server.AddListener(listeners.NewNet("test", l)))
	require.NoError(t, b.server.Serve())
	t.Cleanup(func() { _ = b.server.Close() })
	return b
}

// ID names the hook.
func (b *broker) ID() string { return "agenttest" }

// Provides tells which events the hook takes.
func (b *broker) Provides(e byte) bool {
	return bytes.Contains([]byte{mqtt.OnConnectAuthenticate, mqtt.OnACLCheck, mqtt.OnPublish, mqtt.OnWillSent}, []byte{e})
}

// OnConnectAuthenticate admits agents under their own name.
func (b *broker) OnConnectAuthenticate(cl *mqtt.Client, pk packets.Packet) bool {
	conn, ok := cl.Net.Conn.(*tls.Conn)
	if !ok || len(conn.ConnectionState().PeerCertificates) == 0 {
		return false
	}
	b.mu.Lock()
	b.clients = append(b.clients, pk.Connect.ClientIdentifier)
	b.alive = time.Duration(pk.Connect.Keepalive) * time.Second
	b.mu.Unlock()
	return b.registered(conn.ConnectionState().PeerCertificates[0]) && strings.HasSuffix(pk.Connect.ClientIdentifier, ":agent")
}

// OnACLCheck admits an agent to its own topics.
func (b *broker) OnACLCheck(cl *mqtt.Client, topic string, write bool) bool {
	if !write {
		return strings.HasPrefix(topic, protocol.Subject{Name: strings.TrimSuffix(cl.ID, ":agent")}.Topic(""))
	}
	return strings.HasPrefix(topic, protocol.AgentTopic(strings.TrimSuffix(cl.ID, ":agent"), ""))
}

// OnPublish keeps a report, before it is acknowledged.
func (b *broker) OnPublish(_ *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.reject > 0 {
		b.reject--
		return pk, packets.ErrQuotaExceeded
	}
	b.keepLocked(pk.TopicName, pk.Payload)
	return pk, nil
}

// OnWillSent keeps a will.
func (b *broker) OnWillSent(_ *mqtt.Client, pk packets.Packet) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.keepLocked(pk.TopicName, pk.Payload)
}

func (b *broker) keepLocked(topic string, payload []byte) {
	r := Report{Kind: topic[strings.LastIndexByte(topic, '/')+1:], Payload: bytes.Clone(payload)}
	_ = json.Unmarshal(payload, &r.Header)
	b.reports = append(b.reports, r)
}

// Reports returns what was published so far.
func (c *Cloud) Reports() []Report {
	c.broker.mu.Lock()
	defer c.broker.mu.Unlock()
	return append([]Report(nil), c.broker.reports...)
}

// RefusePublishes has the next n publishes refused with a quota error.
func (c *Cloud) RefusePublishes(n int) {
	c.broker.mu.Lock()
	defer c.broker.mu.Unlock()
	c.broker.reject = n
}

// Clients returns the client ids that connected.
func (c *Cloud) Clients() []string {
	c.broker.mu.Lock()
	defer c.broker.mu.Unlock()
	return append([]string(nil), c.broker.clients...)
}

// KeepAlive is what the last session has asked for.
func (c *Cloud) KeepAlive() time.Duration {
	c.broker.mu.Lock()
	defer c.broker.mu.Unlock()
	return c.broker.alive
}

// Notice tells the core's agent that a patch waits.
func (c *Cloud) Notice(t testing.TB, core string) {
	t.Helper()
	require.NoError(t, c.broker.server.Publish(protocol.PatchTopic(core), []byte("{}"), false, 1))
}

// DropConnections ends every MQTT connection without a word.
func (c *Cloud) DropConnections() {
	for _, cl := range c.broker.server.Clients.GetAll() {
		if conn := cl.Net.Conn; conn != nil {
			_ = conn.Close()
		}
	}
}

// LastNucleus returns the newest nucleus report.
func (c *Cloud) LastNucleus() (n protocol.NucleusReport) {
	for _, r := range c.Reports() {
		if r.Kind == protocol.ReportNucleus {
			n = protocol.NucleusReport{}
			_ = json.Unmarshal(r.Payload, &n)
		}
	}
	return n
}
