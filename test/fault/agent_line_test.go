package fault_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/test/internal/world"
)

// What a line does.
const (
	linePasses  = iota
	lineRefuses // ends each connection at once
	lineSilent  // takes connections and what comes on them, and nothing goes on
)

// cable is a TCP proxy that can fail.
type cable struct {
	address string
	how     atomic.Int32
	taken   atomic.Int32 // connections

	mu    sync.Mutex // guards conns
	conns map[net.Conn]bool
}

func newCable(t *testing.T, to string) *cable {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	_, port, _ := net.SplitHostPort(l.Addr().String())
	p := &cable{address: "localhost:" + port, conns: map[net.Conn]bool{}}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			p.taken.Add(1)
			all.Go(func() { p.carry(in, to) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		p.cut()
		all.Wait()
	})
	return p
}

func (p *cable) carry(in net.Conn, to string) {
	if p.how.Load() == lineRefuses {
		_ = in.Close()
		return
	}
	out, err := net.Dial("tcp", to)
	if err != nil {
		_ = in.Close()
		return
	}
	p.mu.Lock()
	p.conns[in], p.conns[out] = true, true
	p.mu.Unlock()
	var both sync.WaitGroup
	for a, b := range map[net.Conn]net.Conn{in: out, out: in} {
		both.Go(func() {
			_, _ = io.Copy(quietly{b, p}, a)
			_, _ = a.Close(), b.Close()
		})
	}
	both.Wait()
	p.mu.Lock()
	delete(p.conns, in)
	delete(p.conns, out)
	p.mu.Unlock()
}

// quietly drops what is written while the line is silent.
type quietly struct {
	net.Conn
	line *cable
}

func (q quietly) Write(b []byte) (int, error) {
	if q.line.how.Load() == lineSilent {
		return len(b), nil
	}
	return q.Conn.Write(b)
}

// cut ends all connections.
func (p *cable) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
}

// through has the device's agent use a line to the broker.
func (d *device) through(l *cable) {
	d.t.Helper()
	d.identity(func(id map[string]any) { id["mqttAddress"] = l.address })
}

// identity changes what the agent has stored of itself.
func (d *device) identity(change func(map[string]any)) {
	d.t.Helper()
	path := filepath.Join(d.root, "agent", "identity.json")
	b, err := os.ReadFile(path)
	require.NoError(d.t, err)
	var id map[string]any
	require.NoError(d.t, json.Unmarshal(b, &id))
	change(id)
	b, err = json.Marshal(id)
	require.NoError(d.t, err)
	require.NoError(d.t, os.WriteFile(path, b, 0o600))
}

func TestALineThatFlapsCausesNoStormAndLosesNoReport(t *testing.T) {
	t.Parallel()
	w := world.Start(t, world.Options{})
	w.CreateCores(t, "flaps")
	offer(t, w, "1.0.0", worksFine, 10)
	d := newDevice(t, w, "flaps", "")
	d.must("enroll", "-")
	l := newCable(t, w.MQTT)
	d.through(l)
	d.start()
	d.runs("1.0.0")
	pid := d.oneNucleus()

	before, began := l.taken.Load(), time.Now()
	for i := range 8 {
		l.cut()
		l.how.Store(int32([]int{linePasses, lineRefuses}[i%2]))
		wait(t, 1500*time.Millisecond)
	}
	took := time.Since(began)
	assert.LessOrEqual(t, l.taken.Load()-before, int32(took*4/3/time.Second), "connections in %s", took)
	l.how.Store(linePasses)
	d.waitFor("it is back", func(s agentView) bool { return s.Connected })

	// Nothing comes through, and neither end is told.
	l.how.Store(lineSilent)
	offer(t, w, "2.0.0", worksFine, 10)
	wait(t, time.Second)
	l.cut() // from here on a broker takes connections and never answers
	quiet, began := l.taken.Load(), time.Now()
	world.Eventually(t, func() string { // without a session it asks over HTTPS
		if out, _ := d.run("status"); !strings.Contains(out, "2.0.0 (process of the agent, running") {
			return "the device without a broker stays where it was: " + out
		}
		return ""
	})
	wait(t, 3*time.Second)
	took = time.Since(began)
	assert.LessOrEqual(t, l.taken.Load()-quiet, 3+int32(took/(10*time.Second)), "connections to a broker that never answers, in %s", took)
	l.how.Store(linePasses)
	l.cut()
	d.runs("2.0.0")
	s, _ := d.shown()
	assert.Zero(t, s.DroppedReports)
	assert.NotEqual(t, pid, d.oneNucleus())
}

func TestAControlPlaneThatComesBackFindsItsDevices(t *testing.T) {
	t.Parallel()
	w := world.Start(t, world.Options{})
	names := []string{"away-0", "away-1"}
	w.CreateCores(t, names...)
	offer(t, w, "1.0.0", worksFine, 10)
	var devices []*device
	for _, name := range names {
		d := enrolled(t, w, name, "")
		d.runs("1.0.0")
		devices = append(devices, d)
	}
	long := 5 * time.Second
	if full() {
		long = time.Minute
	}

	// It comes back with nothing in its memory and, as at each start, a new server
	// certificate.
	pids := []int{devices[0].oneNucleus(), devices[1].oneNucleus()}
	w.Kill9(t)
	wait(t, long)
	w.Restart(t)
	for i, d := range devices {
		d.runs("1.0.0")
		assert.Equal(t, pids[i], d.oneNucleus(), "the nucleus has not noticed")
	}

	// While it is away an agent and its nucleus are killed, and come back without it.
	w.Stop(t)
	d := devices[0]
	d.stop()
	d.start()
	world.Eventually(t, func() string {
		if d.oneNucleus() == 0 {
			return "the nucleus does not start without a control plane"
		}
		return ""
	})
	lines, began := strings.Count(devices[1].said(), "\n"), time.Now()
	wait(t, long)
	assert.Less(t, strings.Count(devices[1].said(), "\n")-lines, int(10*time.Since(began)/time.Second), "what an agent logs while nobody is there")
	w.Restart(t)
	offer(t, w, "2.0.0", worksFine, 10)
	for _, d := range devices {
		d.runs("2.0.0")
	}
	// All that they said meanwhile is in order: nothing was dropped.
	for _, d := range devices {
		s, _ := d.shown()
		assert.Zero(t, s.DroppedReports, d.core)
	}
}

func TestACopiedDeviceIsShownAndBothGoOn(t *testing.T) {
	t.Parallel()
	w := world.Start(t, world.Options{})
	w.CreateCores(t, "copied")
	offer(t, w, "1.0.0", worksFine, 10)
	one := enrolled(t, w, "copied", "")
	one.runs("1.0.0")
	one.stop()
	two := &device{t: t, w: w, core: "copied", program: one.program, root: filepath.Join(t.TempDir(), "root"), log: filepath.Join(t.TempDir(), "agent.log")}
	require.NoError(t, os.CopyFS(two.root, os.DirFS(one.root)))
	for _, p := range []string{"agent/key.pem", "private.key"} { // CopyFS gives its own modes
		require.NoError(t, os.Chmod(filepath.Join(two.root, p), 0o600))
	}
	t.Cleanup(two.end)
	one.start()
	one.connectedAgain()
	two.start()
	world.Eventually(t, func() string {
		if !strings.Contains(one.said(), "another agent uses this identity") {
			return "the first does not say that there is another"
		}
		return ""
	})
	wait(t, 5*time.Second)
	for _, d := range []*device{one, two} {
		assert.NotZero(t, d.oneNucleus(), "each has its nucleus")
		assert.LessOrEqual(t, strings.Count(d.said(), "msg=connected"), 3, "they do not fight")
	}
	out, err := one.run("status")
	require.NoError(t, err, out)
	assert.Contains(t, out, "conflict: another agent used this identity")

	// The copy is gone; the first takes the session when its turn comes, which a new
	// start makes now.
	two.stop()
	one.kill9()
	one.start()
	one.connectedAgain()
	one.runs("1.0.0")
	world.Eventually(t, func() string {
		if s, _ := one.shown(); !slices.Contains(s.Warnings, "identityShared") {
			return fmt.Sprintf("the fleet does not show it: %v", s.Warnings)
		}
		return ""
	})
}
