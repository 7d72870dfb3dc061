package load_test

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/shared/protocol"
	"github.com/ggfleet/ggfleet/test/internal/world"
	"github.com/ggfleet/ggfleet/test/simulator"
	"github.com/ggfleet/ggfleet/test/simulator/mqttwire"
)

// TestFleetStatus measures how many fleet status messages with QoS 1 the gateway
// takes from many connections: such as change nothing, and such as change the
// record and are committed before they are acknowledged. The floor is the same
// bytes on a topic that nobody reads.
func TestFleetStatus(t *testing.T) {
	sessions := size(t, "SESSIONS", 1000, 20)
	lasts := 10 * time.Second
	if !full() {
		lasts = 200 * time.Millisecond
	}
	w, profiles := start(t)
	names := coreNames(sessions)
	provision(t, w, names)
	_, list := identities(t, w, names)

	before := rss(t, w.PID())
	publishers := make([]*publisher, sessions)
	var failed errorOnce
	began := time.Now()
	parallel(sessions, 32, func(n int) {
		var err error
		publishers[n], err = connect(w, list[n], simulator.SpreadIP(n))
		failed.set(err)
	})
	connected := time.Since(began)
	require.NoError(t, failed.get())
	t.Cleanup(func() {
		for _, p := range publishers {
			_ = p.conn.Close()
		}
	})
	idle := rss(t, w.PID())
	row(t, "mTLS MQTT connections, "+strconv.Itoa(sessions), fmt.Sprintf("%.0f/s; %.0f KB each while idle",
		float64(sessions)/connected.Seconds(), (idle-before)*1024/float64(sessions)), "", "", "80 KB")

	measure := func(name string, message func(p *publisher, n int) (string, []byte)) (float64, string) {
		var count atomic.Int64
		cpu := used(t, w.PID()).cpu
		var took time.Duration
		profile(t, profiles, name, func() {
			began := time.Now()
			end := began.Add(lasts)
			var wg sync.WaitGroup
			for _, p := range publishers {
				wg.Go(func() { failed.set(p.publish(end, &count, message)) })
			}
			wg.Wait()
			took = time.Since(began)
		})
		require.NoError(t, failed.get(), name)
		cpu = used(t, w.PID()).cpu - cpu
		perSecond := float64(count.Load()) / took.Seconds()
		return perSecond, fmt.Sprintf("%.0f/s, %.0f µs CPU", perSecond, float64(cpu.Microseconds())/float64(max(1, count.Load())))
	}
	// Made once: the machine shall work on what is measured.
	payloads := map[string][2][]byte{}
	for _, name := range names {
		payloads[name] = [2][]byte{fleetStatus(name, protocol.Healthy), fleetStatus(name, protocol.Unhealthy)}
	}
	same := func(p *publisher, _ int) (string, []byte) {
		return protocol.FleetStatusTopic(p.name), payloads[p.name][0]
	}
	measure("first status", same)
	floor, floorText := measure("nobody reads", func(p *publisher, _ int) (string, []byte) { return "dt/bench/" + p.name + "/x", payloads[p.name][0] })
	unchanged, unchangedText := measure("unchanged status", same)
	changed, changedText := measure("changed status", func(p *publisher, n int) (string, []byte) {
		return protocol.FleetStatusTopic(p.name), payloads[p.name][n%2]
	})
	row(t, "fleet status unchanged, QoS 1, "+strconv.Itoa(sessions)+" connections", unchangedText, floorText, fmt.Sprintf("%.2f", unchanged/floor), "0.5")
	row(t, "fleet status changed, committed before PUBACK", changedText, floorText, fmt.Sprintf("%.2f", changed/floor), "8,000/s")
}

// fleetStatus is a COMPLETE message of a core with a few components.
func fleetStatus(thing, status string) []byte {
	m := protocol.FleetStatus{
		GGCVersion: "2.12.0", Platform: "linux", Architecture: "amd64", Runtime: protocol.RuntimeLite, Thing: thing, SequenceNumber: 1,
		Timestamp: time.Now().UnixMilli(), MessageType: protocol.StatusComplete, Trigger: protocol.TriggerCadence, OverallDeviceStatus: status,
		Components: []protocol.ComponentStatus{}, Deployment: &protocol.DeploymentInformation{},
	}
	for i := range 5 {
		m.Components = append(m.Components, protocol.ComponentStatus{
			ComponentName: "com.example.Part" + strconv.Itoa(i), Version: "1.0.0", FleetConfigARNs: []string{}, IsRoot: true, Status: "RUNNING",
		})
	}
	b, _ := json.Marshal(m) //nolint:errchkjson // plain structs
	return b
}

// publisher is one MQTT 5 session.
type publisher struct {
	name string
	conn net.Conn
	r    *bufio.Reader
}

const maxPacket = 128 << 10

func connect(w *world.World, c identity, from netip.Addr) (*publisher, error) {
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: time.Minute, LocalAddr: &net.TCPAddr{IP: from.AsSlice()}}, Config: c.tls}
	conn, err := d.Dial("tcp", w.MQTT)
	if err != nil {
		return nil, fmt.Errorf("connect %s: %w", c.name, err)
	}
	p := &publisher{name: c.name, conn: conn, r: bufio.NewReaderSize(conn, 512)}
	if err := p.send(mqttwire.Packet{Type: mqttwire.Connect, ClientID: c.name, CleanStart: true, KeepAlive: 1000}); err != nil {
		return nil, err
	}
	answer, err := mqttwire.Read(p.r, mqttwire.V5, maxPacket)
	if err == nil && (answer.Type != mqttwire.Connack || answer.Code() != 0) {
		err = fmt.Errorf("connect %s: %s code %d", c.name, answer.Type, answer.Code())
	}
	return p, err
}

// connectOnce makes c known to the cloud as a core device.
func connectOnce(t *testing.T, w *world.World, c identity) {
	t.Helper()
	p, err := connect(w, c, simulator.SpreadIP(0))
	require.NoError(t, err)
	defer func() { _ = p.conn.Close() }()
	var count atomic.Int64
	status := fleetStatus(c.name, protocol.Healthy)
	err = p.publish(time.Now().Add(time.Millisecond), &count, func(*publisher, int) (string, []byte) { return protocol.FleetStatusTopic(c.name), status })
	require.NoError(t, err)
}

func (p *publisher) send(packets ...mqttwire.Packet) error {
	var b []byte
	for _, x := range packets {
		var err error
		if b, err = mqttwire.Append(b, x, mqttwire.V5); err != nil {
			return err
		}
	}
	_, err := p.conn.Write(b)
	return err
}

// window is how many messages of one connection wait for their PUBACK.
const window = 4

// publish sends messages until end, in windows, and counts those acknowledged.
func (p *publisher) publish(end time.Time, count *atomic.Int64, message func(*publisher, int) (string, []byte)) error {
	packets := make([]mqttwire.Packet, window)
	for n := 0; time.Now().Before(end); n += window {
		for i := range packets {
			topic, payload := message(p, n+i)
			packets[i] = mqttwire.Packet{Type: mqttwire.Publish, ID: uint16(i + 1), Topic: topic, Payload: payload, QoS: 1}
		}
		if err := p.send(packets...); err != nil {
			return fmt.Errorf("publish of %s: %w", p.name, err)
		}
		for range packets {
			a, err := mqttwire.Read(p.r, mqttwire.V5, maxPacket)
			if err != nil {
				return fmt.Errorf("PUBACK for %s: %w", p.name, err)
			}
			if a.Type != mqttwire.Puback || a.Code() > 0x10 { // 0x10: nobody reads it
				return fmt.Errorf("%s was answered %s code 0x%02x", p.name, a.Type, a.Code())
			}
			count.Add(1)
		}
	}
	return nil
}

// errorOnce keeps the first error of several goroutines.
type errorOnce struct {
	mu  sync.Mutex
	err error
}

func (e *errorOnce) set(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err == nil && err != nil && !errors.Is(err, net.ErrClosed) {
		e.err = err
	}
}

func (e *errorOnce) get() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.err
}
