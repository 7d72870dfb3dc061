package load_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/shared/protocol"
	"github.com/ggfleet/ggfleet/test/internal/world"
)

// TestIdleBytes measures what a true agent that has nothing to do puts on the
// line, through proxies that count: TLS, MQTT and HTTPS as payload, and with the
// headers of IP and TCP, which the kernel's count of segments tells. It prints
// the hour of docs/telemetry.md: what a quiet session sent, scaled, and one look
// at the assignment.
func TestIdleBytes(t *testing.T) {
	lasts := time.Duration(size(t, "IDLE_SECONDS", 600, 3)) * time.Second // two heartbeats
	const name = "idle-agent"
	w, _ := start(t)
	provision(t, w, []string{name})
	mqtt, https := count(t, w.MQTT), count(t, w.Device)

	var activation struct {
		Enrollment string `json:"enrollment"`
	}
	w.Call(t, http.MethodPost, "/activations", map[string]string{"deviceId": name}, &activation)
	e, err := protocol.ParseEnrollment(activation.Enrollment)
	require.NoError(t, err)
	e.URL = "https://" + https.address
	agent, root := program(t, "agent", "ggfleet-agent"), filepath.Join(t.TempDir(), "core")
	enroll := exec.CommandContext(t.Context(), agent, "enroll", "-", "--root", root)
	enroll.Stdin = strings.NewReader(e.String())
	text, err := enroll.CombinedOutput()
	require.NoError(t, err, "%s", text)
	through(t, filepath.Join(root, "agent", "identity.json"), w.MQTT, mqtt.address)

	ctx, _ := background(t)
	run := exec.CommandContext(ctx, agent, "run", "--root", root)
	var said bytes.Buffer
	run.Stdout, run.Stderr = &said, &said
	require.NoError(t, run.Start())
	t.Cleanup(func() {
		_ = run.Process.Signal(os.Interrupt)
		_ = run.Wait()
		if t.Failed() {
			t.Log(said.String())
		}
	})
	world.Eventually(t, func() string {
		var c struct {
			Agent struct{ Machine, Host map[string]any }
		}
		if w.Call(t, http.MethodGet, "/cores/"+name, nil, &c); len(c.Agent.Machine) == 0 || len(c.Agent.Host) == 0 {
			return "the agent has not said everything"
		}
		return ""
	})
	settle := time.NewTimer(2 * time.Second)
	<-settle.C

	quiet := mqtt.sum()
	cpu := used(t, run.Process.Pid).cpu
	wait := time.NewTimer(lasts)
	<-wait.C
	session := mqtt.sum().less(quiet)
	row(t, "agent without a nucleus, idle", fmt.Sprintf("%.1f MB, %.3f %% of a CPU", rss(t, run.Process.Pid),
		100*(used(t, run.Process.Pid).cpu-cpu).Seconds()/lasts.Seconds()), "", "", "20 MB, 0.1 %")

	before := https.sum()
	// Any change of the version that is offered tells the agents.
	archive := filepath.Join(t.TempDir(), "nucleus.tar.gz")
	output(t, program(t, "test", "ggfleet-sim"), "pack", "--out", archive, "--version", "2.12.0")
	content, err := os.ReadFile(archive)
	require.NoError(t, err)
	w.Call(t, http.MethodPut, "/distributions/ggfleet.SimulatedNucleus/2.12.0?format=tar.gz", content, nil)
	w.Call(t, http.MethodPost, "/distributions/ggfleet.SimulatedNucleus/2.12.0/activate", nil, nil)
	world.Eventually(t, func() string {
		if https.sum().connections == before.connections {
			return "the agent was told and does not ask"
		}
		return ""
	})
	first := https.first()

	hours := lasts.Hours()
	hour := func(n int64) float64 { return float64(n) / hours / 1024 }
	row(t, "an idle agent's session, for an hour", fmt.Sprintf("%.1f KB; %.1f KB with IP and TCP headers", hour(session.payload), hour(session.wire())), "", "", "")
	row(t, "one look at the assignment", fmt.Sprintf("%.1f KB; %.1f KB with headers", float64(first.payload)/1024, float64(first.wire())/1024), "", "", "")
	row(t, "an idle agent's hour", fmt.Sprintf("%.1f KB; %.1f KB with headers", hour(session.payload)+float64(first.payload)/1024, hour(session.wire())+float64(first.wire())/1024),
		"", "", "20 KB")
}

// through makes the file name another address.
func through(t *testing.T, file, from, to string) {
	t.Helper()
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	_, port, err := net.SplitHostPort(from)
	require.NoError(t, err)
	_, other, err := net.SplitHostPort(to)
	require.NoError(t, err)
	changed := bytes.Replace(b, []byte(":"+port+`"`), []byte(":"+other+`"`), 1)
	require.NotEqual(t, string(b), string(changed), "the broker's address is in %s", b)
	require.NoError(t, os.WriteFile(file, changed, 0o600))
}

// counter is a proxy that counts what an agent sends and receives.
type counter struct {
	address string

	mu    sync.Mutex // guards conns
	conns []*counted
}

// counted is one connection of an agent.
type counted struct {
	tcp     *net.TCPConn
	payload atomic.Int64

	mu       sync.Mutex // guards what follows
	segments int64
	closed   bool
}

// traffic is what went over the line in both directions.
type traffic struct {
	connections       int
	payload, segments int64
}

// header is what IPv4 and TCP with timestamps put before each segment.
const header = 52

func (a traffic) wire() int64 { return a.payload + header*a.segments }

func (a traffic) less(b traffic) traffic {
	return traffic{a.connections - b.connections, a.payload - b.payload, a.segments - b.segments}
}

// count starts a proxy to a server. Its side towards the agent has no TCP
// keep-alives, as the broker's has none.
func count(t *testing.T, to string) *counter {
	t.Helper()
	lc := net.ListenConfig{KeepAlive: -1}
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	c := &counter{address: l.Addr().String()}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			in, ok := conn.(*net.TCPConn)
			if !ok {
				continue
			}
			one := &counted{tcp: in}
			c.mu.Lock()
			c.conns = append(c.conns, one)
			c.mu.Unlock()
			go one.pass(t.Context(), to)
		}
	}()
	return c
}

func (c *counted) pass(ctx context.Context, to string) {
	out, err := (&net.Dialer{}).DialContext(ctx, "tcp", to)
	if err != nil {
		_ = c.tcp.Close()
		return
	}
	var wg sync.WaitGroup
	one := func(dst, src net.Conn) {
		_, _ = io.Copy(io.MultiWriter(dst, c), src)
		if half, ok := dst.(*net.TCPConn); ok {
			_ = half.CloseWrite()
		}
	}
	wg.Go(func() { one(out, c.tcp) })
	wg.Go(func() { one(c.tcp, out) })
	wg.Wait()
	c.look(true)
	_ = c.tcp.Close()
	_ = out.Close()
}

// Write counts a payload.
func (c *counted) Write(b []byte) (int, error) {
	c.payload.Add(int64(len(b)))
	return len(b), nil
}

// look asks the kernel for the segments of both directions so far.
func (c *counted) look(last bool) traffic {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.segments, c.closed = segments(c.tcp), last
	}
	return traffic{connections: 1, payload: c.payload.Load(), segments: c.segments}
}

func (c *counter) sum() (all traffic) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, one := range c.conns {
		n := one.look(false)
		all = traffic{all.connections + 1, all.payload + n.payload, all.segments + n.segments}
	}
	return all
}

// first is the cheapest connection: one that brought the assignment and no more.
func (c *counter) first() (least traffic) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, one := range c.conns {
		if n := one.look(false); least.payload == 0 || n.payload < least.payload && n.payload > 1024 {
			least = n
		}
	}
	return least
}
