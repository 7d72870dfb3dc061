package reconcile_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	process "github.com/ggfleet/ggfleet/agent/internal/nucleus"
	"github.com/ggfleet/ggfleet/agent/internal/reconcile"
	"github.com/ggfleet/ggfleet/agent/internal/telemetry"
	"github.com/ggfleet/ggfleet/installer/nucleus"
	"github.com/ggfleet/ggfleet/installer/nucleus/hosttest"
	"github.com/ggfleet/ggfleet/installer/nucleus/standin"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

const (
	agentRoot = "/var/lib/ggfleet-agent"
	classicOf = `system: {certificateFilePath: /greengrass/v2/cert.pem, privateKeyPath: /greengrass/v2/private.key, rootCaPath: /greengrass/v2/AmazonRootCA1.pem, rootpath: /greengrass/v2, thingName: gw}
services: {aws.greengrass.Nucleus: {componentType: NUCLEUS, version: 2.12.0, configuration: {awsRegion: us-east-1, iotDataEndpoint: fleet.example, iotCredEndpoint: "fleet.example:8444", iotRoleAlias: local, greengrassDataPlaneEndpoint: iotdata}}}
`
	liteOf = `system: {certificateFilePath: /var/lib/greengrass/cert.pem, privateKeyPath: /var/lib/greengrass/private.key, rootCaPath: /var/lib/greengrass/AmazonRootCA1.pem, rootPath: /var/lib/greengrass, thingName: gw}
services: {aws.greengrass.NucleusLite: {componentType: NUCLEUS, configuration: {awsRegion: us-east-1, iotDataEndpoint: fleet.example, iotCredEndpoint: "fleet.example:8444", iotRoleAlias: local, greengrassDataPlanePort: "8443", runWithDefault: {posixUser: "gg_component:gg_component"}}}}
`
)

// How a version does once it is started.
const (
	works   = ""
	crashes = "crashes" // systemd brings it back again and again
	dies    = "dies"    // it cannot be started
	returns = "returns" // classic's loader goes back to the version before
)

// machine is a host with a systemd that runs nothing and says what it ran.
type machine struct {
	*hosttest.Host
	mu       sync.Mutex
	does     map[string]string // by version
	active   map[string]bool
	restarts map[string]int
	before   string // where alts/current pointed to before the last start
	starts   int
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	h, err := hosttest.New(t.TempDir())
	require.NoError(t, err)
	m := &machine{Host: h, does: map[string]string{}, active: map[string]bool{}, restarts: map[string]int{}}
	others := h.Programs["systemctl"]
	h.Programs["systemctl"] = func(ctx context.Context, c nucleus.Command) nucleus.Result {
		m.mu.Lock()
		defer m.mu.Unlock()
		switch c.Argv[1] {
		case "start":
			return m.start(c.Argv[2:])
		case "stop":
			for _, u := range c.Argv[2:] {
				m.active[u] = false
			}
			return nucleus.Result{}
		case "is-active":
			if m.active[c.Argv[2]] {
				return nucleus.Result{Stdout: []byte("active\n")}
			}
			return nucleus.Result{Code: 3, Stdout: []byte("inactive\n")}
		case "show":
			return m.show(c.Argv[3:])
		}
		return others(ctx, c)
	}
	return m
}

// restarted is how often systemd has brought classic back since its start.
func (m *machine) restarted() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.restarts["greengrass.service"]
}

// version is what a start would run.
func (m *machine) version() string {
	for _, link := range []string{"/greengrass/v2/alts/current", "/var/lib/ggfleet-nucleus/current"} {
		if to, err := os.Readlink(m.Path(link)); err == nil {
			return path.Base(to)
		}
	}
	return ""
}

func (m *machine) behaviour() string {
	for v, does := range m.does {
		if strings.Contains(m.version(), v) {
			return does
		}
	}
	return works
}

func (m *machine) start(units []string) nucleus.Result {
	m.starts++
	if m.behaviour() == dies {
		return nucleus.Result{Code: 1, Stderr: []byte("Job failed.\n")}
	}
	if m.behaviour() == returns && m.before != "" {
		_ = os.Remove(m.Path("/greengrass/v2/alts/current"))
		_ = os.Symlink(m.before, m.Path("/greengrass/v2/alts/current"))
	}
	m.before, _ = os.Readlink(m.Path("/greengrass/v2/alts/current"))
	for _, u := range units {
		m.active[u], m.restarts[u] = true, 0
	}
	return nucleus.Result{}
}

func (m *machine) show(units []string) nucleus.Result {
	var b strings.Builder
	for _, u := range units {
		state := "inactive"
		if m.active[u] {
			state = "active"
			if m.behaviour() == crashes && strings.HasSuffix(u, ".service") {
				m.restarts[u]++
			}
		}
		fmt.Fprintf(&b, "Id=%s\nLoadState=loaded\nActiveState=%s\nSubState=running\nResult=success\nNRestarts=%d\nMainPID=7\n\n", u, state, m.restarts[u])
	}
	return nucleus.Result{Stdout: []byte(b.String())}
}

// life is one device in a test: a host, the agent's folder on it, and what the
// control plane offers.
type life struct {
	t     *testing.T
	m     *machine
	cloud *cloud
	mu    sync.Mutex // guards the next three
	kill  string
	dead  bool
	seen  map[localstate.Point]bool
	said  atomic.Pointer[telemetry.Nucleus]
	room  reconcile.Room
}

var errKilled = errors.New("killed here")

func newLife(t *testing.T, config, kill string) *life {
	t.Helper()
	l := &life{t: t, m: newMachine(t), kill: kill, seen: map[localstate.Point]bool{}}
	l.cloud = &cloud{assignment: protocol.CoreAssignment{Core: "gw", HasCertificate: true, CertsZip: true, Config: true, CAPEM: "-----BEGIN CERTIFICATE-----\nQ0E=\n-----END CERTIFICATE-----\n"}, config: config, zip: pair(t)}
	return l
}

func (l *life) offer(runtime string, archive []byte, format string) {
	l.t.Helper()
	f, err := os.CreateTemp(l.t.TempDir(), "")
	require.NoError(l.t, err)
	defer f.Close()
	_, err = f.Write(archive)
	require.NoError(l.t, err)
	m, err := nucleus.Inspect(f, format)
	require.NoError(l.t, err)
	sum := sha256.Sum256(archive)
	l.cloud.archive = archive
	l.cloud.assignment.Nucleus = &protocol.Distribution{
		Name: m.Name, Version: m.Version, Digest: hex.EncodeToString(sum[:]), Size: int64(len(archive)), Format: format, Runtime: runtime,
	}
}

// around kills the agent: loop and supervisor call it, each on its own goroutine.
func (l *life) around(p localstate.Point, do func() error) error {
	if l.dies(p, ":before") {
		return errKilled
	}
	err := do()
	if l.dies(p, ":after") {
		return errKilled
	}
	return err
}

func (l *life) dies(p localstate.Point, when string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.dead {
		l.seen[p] = true
		if l.kill == string(p)+when {
			l.kill, l.dead = "", true
		}
	}
	return l.dead
}

func (l *life) isDead() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dead
}

// agent is one run of the agent's part that looks after the nucleus, ended by f.
func (l *life) agent(f func(ctx context.Context, loop *reconcile.Loop)) {
	l.t.Helper()
	l.dead = false
	root := l.m.Path(agentRoot)
	dir, err := localstate.Open(root, l.around)
	require.NoError(l.t, err)
	site, err := nucleus.OpenSite(root, nucleus.Limits{})
	require.NoError(l.t, err)
	sup, err := process.New(process.Config{
		Dir: dir, System: l.m, OnStatus: func(n telemetry.Nucleus) { l.said.Store(&n) },
		UpFor: 10 * time.Millisecond, Look: time.Millisecond, Gate: time.Minute, MinWait: time.Millisecond, MaxWait: 5 * time.Millisecond,
	})
	require.NoError(l.t, err)
	loop, err := reconcile.New(reconcile.Config{Core: "gw", Dir: dir, Site: site, Cloud: l.cloud, Supervisor: sup, System: l.m, Room: func(string) reconcile.Room { return l.room }})
	require.NoError(l.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- sup.Run(ctx) }()
	f(ctx, loop)
	cancel()
	require.NoError(l.t, <-done)
	require.NoError(l.t, errors.Join(loop.Close(), site.Close(), dir.Close()))
}

func (l *life) record() reconcile.Record {
	l.t.Helper()
	r, err := reconcile.ReadRecord(l.m.Path(agentRoot + "/agent"))
	require.NoError(l.t, err)
	return r
}

// until runs agents, a new one whenever one was killed, until ok.
func (l *life) until(what string, ok func(reconcile.Record) bool) {
	l.t.Helper()
	var last error
	for range 5 {
		l.agent(func(ctx context.Context, loop *reconcile.Loop) {
			loop.Start(ctx)
			for i := 0; i < 5 && !l.isDead(); i++ {
				if last = loop.Pass(ctx); last == nil && ok(l.record()) {
					return
				}
			}
		})
		if !l.isDead() && ok(l.record()) {
			return
		}
	}
	require.Fail(l.t, "never: "+what, "record %+v, last error %v", l.record(), last)
}

func (l *life) runs(version string) {
	l.t.Helper()
	l.until(version+" installed", func(r reconcile.Record) bool {
		return r.Current != nil && r.Current.Version == version && r.Trial == nil
	})
	assert.Contains(l.t, l.m.version(), version)
}

func (l *life) refused(version, stays string) {
	l.t.Helper()
	l.until(version+" refused", func(r reconcile.Record) bool {
		return r.Trial == nil && r.Rejection != nil && r.Rejection.Version == version
	})
	assert.Contains(l.t, l.m.version(), stays)
}

// tree is what must not depend on kills.
func (l *life) tree() map[string]string {
	l.t.Helper()
	tree, err := l.m.Tree(func(name string) bool {
		return strings.HasSuffix(name, ".pem") || strings.HasSuffix(name, ".key") || strings.Contains(name, "/.before") || strings.HasPrefix(name, "/var/lib/dpkg")
	})
	require.NoError(l.t, err)
	for name, v := range tree {
		tree[name] = strings.ReplaceAll(v, l.m.Path("/"), "HOST")
	}
	return tree
}

func classicZip(version string) []byte {
	return standin.Zip(standin.ClassicFiles(version, []byte("jar "+version), []byte("#!/bin/sh\n")))
}

func liteTar(version string) []byte {
	return standin.LiteTarGz(version, standin.LiteFiles("/usr/bin", []byte("#!/bin/sh\n# "+version+"\n")))
}

// story is a device's life with one runtime: installed, updated, and kept from a
// version that crash-loops.
func story(t *testing.T, runtime, kill string) *life {
	config, pack, format := classicOf, classicZip, nucleus.FormatZip
	if runtime == "lite" {
		config, pack, format = liteOf, liteTar, nucleus.FormatTarGz
	}
	l := newLife(t, config, kill)
	l.m.does["2.14.0"] = crashes
	l.offer(runtime, pack("2.12.0"), format)
	l.runs("2.12.0")
	l.offer(runtime, pack("2.13.0"), format)
	l.runs("2.13.0")
	l.offer(runtime, pack("2.14.0"), format)
	l.refused("2.14.0", "2.13.0")
	assert.Empty(t, l.kill, "killed")
	return l
}

func TestClassicAndLiteKilledAtAnyStepEndTheSame(t *testing.T) {
	for _, runtime := range []string{"classic", "lite"} {
		whole := story(t, runtime, "")
		want := whole.tree()
		for p := range whole.seen {
			require.True(t, slices.Contains(localstate.Points(), p), "%s is a step that is not in the table", p)
		}
		for i, p := range slices.Sorted(maps.Keys(whole.seen)) {
			for j, when := range []string{"before", "after"} {
				if (2*i+j)%3 != 0 && os.Getenv("GGFLEET_FAULT_FULL") == "" {
					continue // each side of every third has its turn
				}
				t.Run(runtime+" "+string(p)+" "+when, func(t *testing.T) {
					t.Parallel()
					got := story(t, runtime, string(p)+":"+when).tree()
					if !maps.Equal(want, got) {
						assert.Equal(t, want, got)
					}
				})
			}
		}
	}
}
