//go:build linux

package app_test

import (
	"context"
	"encoding/json"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/agent/app"
	"github.com/ggfleet/ggfleet/agent/internal/agenttest"
	"github.com/ggfleet/ggfleet/agent/internal/consent"
	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	"github.com/ggfleet/ggfleet/agent/internal/reconcile"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

const (
	core     = "gw-0001"
	document = `---
system:
  certificateFilePath: /greengrass/v2/cert.pem
  privateKeyPath: /greengrass/v2/private.key
  rootCaPath: /greengrass/v2/AmazonRootCA1.pem
  rootpath: /greengrass/v2
  thingName: gw-0001
services: {}
`
	patience = 3 * time.Minute
	tick     = 20 * time.Millisecond
)

// TestMain makes this binary an agent when it is told so: the kill test needs a
// process that can die.
func TestMain(m *testing.M) {
	if os.Getenv("AGENT_TEST_ROOT") == "" {
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	cfg := fast(os.Getenv("AGENT_TEST_ROOT"))
	cfg.Log = logx.New(os.Stderr, slog.LevelDebug, "text")
	cfg.Around = killer(os.Getenv("AGENT_TEST_KILL"), os.Getenv("AGENT_TEST_MARK"), os.Getenv("AGENT_TEST_HITS"))
	asRelease(&cfg)
	if _, err := app.Enroll(ctx, cfg, os.Getenv("AGENT_TEST_STRING")); err != nil {
		cfg.Log.Error("enroll", logx.Err, err)
		os.Exit(1)
	}
	if err := app.Run(ctx, cfg); err != nil {
		packagedAgain(err)
		cfg.Log.Error("run", logx.Err, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// killer ends this process before or after a point, once for each mark file,
// and notes each point it passes.
func killer(at, mark, hits string) localstate.Around {
	die := func(where string) {
		if where != at {
			return
		}
		if f, err := os.OpenFile(mark, os.O_CREATE|os.O_EXCL, 0o600); err == nil {
			_ = f.Close()
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	return func(p localstate.Point, do func() error) error {
		if f, err := os.OpenFile(hits, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err == nil {
			_, _ = f.WriteString(string(p) + "\n")
			_ = f.Close()
		}
		die(string(p) + ":before")
		err := do()
		die(string(p) + ":after")
		return err
	}
}

// eachKill has f kill an agent before or after every fifth of the points in turn,
// with GGFLEET_FAULT_FULL=1 before and after each of them.
func eachKill(t *testing.T, points []localstate.Point, f func(t *testing.T, kill string)) {
	const stride = 5 // odd: both sides have their turn
	for i := range 2 * len(points) {
		if i%stride != 0 && os.Getenv("GGFLEET_FAULT_FULL") == "" {
			continue
		}
		kill := string(points[i/2]) + []string{":before", ":after"}[i%2]
		t.Run(strings.ReplaceAll(kill, ":", " "), func(t *testing.T) {
			t.Parallel()
			f(t, kill)
		})
	}
}

func fast(root string) app.Config {
	return app.Config{
		Root: root, Poll: 100 * time.Millisecond, Rest: 100 * time.Millisecond, Health: time.Second, Components: 50 * time.Millisecond, Patches: time.Second, Renewal: 200 * time.Millisecond,
		Gate: time.Minute, Stop: 5 * time.Second, MinWait: 20 * time.Millisecond,
	}
}

// agent is an agent process that is started again whenever it dies.
type agent struct {
	t    *testing.T
	root string
	mark string
	hits string
	stop context.CancelFunc
	done chan int // how often it died
}

func startAgent(t *testing.T, c *agenttest.Cloud, kill string) *agent {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "bin"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "bin", "ansible-playbook"), []byte("#!/bin/sh\necho run >> "+filepath.Join(dir, "playbook-runs")+"\n"), 0o700))
	require.NoError(t, consent.Allow(filepath.Join(dir, "root", "agent"), consent.Patches, true))
	ctx, cancel := context.WithCancel(context.Background())
	a := &agent{t: t, root: filepath.Join(dir, "root"), mark: filepath.Join(dir, "mark"), hits: filepath.Join(dir, "hits"), stop: cancel, done: make(chan int, 1)}
	log, err := os.Create(filepath.Join(dir, "agent.log"))
	require.NoError(t, err)
	go func() {
		died := 0
		for {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), "AGENT_TEST_ROOT="+a.root, "AGENT_TEST_STRING="+c.Enrollment.String(),
				"AGENT_TEST_KILL="+kill, "AGENT_TEST_MARK="+a.mark, "AGENT_TEST_HITS="+a.hits,
				"PATH="+filepath.Join(dir, "bin")+":"+os.Getenv("PATH"))
			cmd.Stderr = log
			if cmd.Start() != nil {
				break
			}
			stopped := context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })
			_ = cmd.Wait()
			stopped()
			if ctx.Err() != nil {
				break
			}
			died++
		}
		_ = log.Close()
		a.done <- died
	}()
	t.Cleanup(func() {
		cancel()
		<-a.done
		if t.Failed() {
			b, _ := os.ReadFile(log.Name())
			t.Logf("agent's log:\n%s", b[max(0, len(b)-6000):])
		}
		for _, pid := range nuclei(a.root) { // a nucleus that the agent has lost
			t.Errorf("process %d still runs", pid)
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	return a
}

func (a *agent) record() (r reconcile.Record) {
	b, _ := os.ReadFile(filepath.Join(a.root, "agent", reconcile.RecordName))
	_ = json.Unmarshal(b, &r)
	return r
}

func (a *agent) waitFor(what string, ok func() bool) {
	a.t.Helper()
	require.Eventually(a.t, ok, patience, tick, what)
}

func (a *agent) waitVersion(c *agenttest.Cloud, version string) {
	a.t.Helper()
	a.waitFor("nucleus "+version+" installed and running", func() bool {
		r, n := a.record(), c.LastNucleus()
		return r.Current != nil && r.Current.Version == version && r.Trial == nil && n.State == protocol.NucleusRunning && n.Version == version
	})
}

// nuclei returns the pids of process group leaders whose home is root: the
// nuclei, without their children.
func nuclei(root string) (out []int) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		env, err := os.ReadFile(filepath.Join(d, "environ"))
		if err != nil || !slices.Contains(strings.Split(string(env), "\x00"), "HOME="+root) {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(d))
		if pgid, err := syscall.Getpgid(pid); err == nil && pgid == pid {
			out = append(out, pid)
		}
	}
	return out
}

// snapshot is what must not depend on kills: the files of the device but for
// what differs in every run.
func (a *agent) snapshot() (out map[string]string) {
	a.t.Helper()
	a.waitFor("a moment in which no file is being written, and none that was is left", func() (whole bool) {
		out, whole = a.files()
		return whole
	})
	return out
}

// files is a snapshot beside the agent that runs; whole reports that it wrote nothing
// meanwhile.
func (a *agent) files() (out map[string]string, whole bool) {
	out, whole = map[string]string{}, true
	err := filepath.WalkDir(a.root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(a.root, p)
		whole = whole && !strings.Contains(rel, ".tmp-")
		switch {
		case d.IsDir() && (rel == "agent/spool" || rel == "logs"):
			return filepath.SkipDir
		case rel == "agent/trouble.json": // tells what was, with times
		case d.IsDir():
			out[rel+"/"] = ""
		case d.Type()&fs.ModeSymlink != 0:
			out[rel], err = os.Readlink(p)
		case strings.HasSuffix(rel, ".pem") || rel == "private.key" || strings.HasPrefix(rel, "agent/identity.json") || rel == "agent/clock.json" || rel == "agent/nucleus.json":
			info, err := d.Info()
			out[rel] = "made here, " + info.Mode().String()
			return err
		default:
			var b []byte
			b, err = os.ReadFile(p)
			out[rel] = strings.ReplaceAll(string(b), a.root, "ROOT")
		}
		return err
	})
	return out, whole && err == nil // a file that goes meanwhile is an error
}

// patched has the device run a playbook: once, whatever kills the agent, and
// with a result that is true.
func (a *agent) patched(c *agenttest.Cloud, kill string) {
	a.t.Helper()
	p := c.AddPatch(agenttest.Patch{ID: "0f8fad5b-d9cb-469f-a165-70867728950e", Playbook: "- hosts: all\n", Timeout: 60})
	c.Notice(a.t, core)
	a.waitFor("the patch's result", func() bool { _, ok := c.Result(p); return ok })
	a.waitFor("the patch forgotten", func() bool {
		_, err := os.Lstat(filepath.Join(a.root, "agent", "patch.json"))
		return os.IsNotExist(err)
	})
	r, _ := c.Result(p)
	runs, _ := os.ReadFile(filepath.Join(filepath.Dir(a.root), "playbook-runs"))
	switch localstate.Point(strings.TrimSuffix(strings.TrimSuffix(kill, ":before"), ":after")) { //nolint:exhaustive // the others are alike
	case localstate.PatchRun:
		assert.Contains(a.t, r.Message, protocol.PatchInterrupted)
		assert.LessOrEqual(a.t, len(runs), len("run\n"), "never twice")
	case localstate.PatchStart, localstate.PatchEnd: // on one side of it the playbook may have run
		assert.LessOrEqual(a.t, len(runs), len("run\n"), "never twice")
		assert.Equal(a.t, r.Success, !strings.Contains(r.Message, protocol.PatchInterrupted))
	default:
		assert.True(a.t, r.Success, r.Message)
		assert.Equal(a.t, "run\n", string(runs))
	}
	c.Change(func(*agenttest.State) {
		assert.Len(a.t, p.Runs, 1)
		assert.Len(a.t, p.Results, 1)
	})
}

// scenario is a device's life: enrol, install 1.0.0, run a patch, update to
// 2.0.0, refuse 3.0.0, which breaks.
func scenario(t *testing.T, archives [3][]byte, kill string) (map[string]string, *agent) {
	c := agenttest.New(t, core)
	c.Change(func(s *agenttest.State) { s.Config, s.Assignment.Config = []byte(document), true })
	c.Offer("1.0.0", archives[0])
	a := startAgent(t, c, kill)
	a.waitVersion(c, "1.0.0")
	a.patched(c, kill)
	c.Offer("2.0.0", archives[1])
	a.waitVersion(c, "2.0.0")
	bad := c.Offer("3.0.0", archives[2])
	a.waitFor("3.0.0 refused and 2.0.0 running", func() bool {
		r, n := a.record(), c.LastNucleus()
		list, _ := os.ReadDir(filepath.Join(a.root, "versions"))
		left, _ := os.ReadDir(filepath.Join(a.root, "agent/downloads"))
		return r.Rejected == bad && r.Trial == nil && n.State == protocol.NucleusRunning && n.Version == "2.0.0" && len(list) == 1 && len(left) == 0
	})
	if kill != "" {
		assert.FileExists(t, a.mark, "the agent was killed")
	}
	assert.Len(t, nuclei(a.root), 1, "one nucleus runs")
	c.Change(func(s *agenttest.State) {
		assert.Len(t, s.Agents, 1, "one identity")
		assert.Len(t, s.Cores, 1, "one core certificate")
	})
	return a.snapshot(), a
}

func archives(t *testing.T) [3][]byte {
	return [3][]byte{
		agenttest.Archive(t, "1.0.0", agenttest.Works), agenttest.Archive(t, "2.0.0", agenttest.Works), agenttest.Archive(t, "3.0.0", agenttest.Breaks),
	}
}

func TestKilledAtAnyStepTheDeviceEndsTheSame(t *testing.T) {
	arch := archives(t)
	want, whole := scenario(t, arch, "")
	b, err := os.ReadFile(whole.hits)
	require.NoError(t, err)
	seen := map[localstate.Point]bool{}
	for line := range strings.Lines(string(b)) {
		p := localstate.Point(strings.TrimSpace(line))
		seen[p] = true
		assert.Contains(t, localstate.Points(), p, "a step that is not in the table")
	}
	for _, p := range localstate.LifePoints() {
		require.True(t, seen[p], "the scenario never comes to %s", p)
	}
	eachKill(t, localstate.LifePoints(), func(t *testing.T, kill string) {
		got, _ := scenario(t, arch, kill)
		assert.Equal(t, want, got)
	})
}

// in runs an enrolled agent in this process until the test ends or stop is
// called.
func in(t *testing.T, c *agenttest.Cloud, cfg app.Config) (stop func()) {
	t.Helper()
	_, err := app.Enroll(t.Context(), cfg, c.Enrollment.String())
	require.NoError(t, err)
	return started(t, cfg)
}

func kinds(c *agenttest.Cloud) (out []string) {
	for _, r := range c.Reports() {
		out = append(out, r.Kind)
	}
	return out
}

func TestTheAgentReportsInOrderAndSaysGoodbye(t *testing.T) {
	c := agenttest.New(t, core)
	c.Change(func(s *agenttest.State) { s.Config, s.Assignment.Config = []byte(document), true })
	c.Offer("1.0.0", agenttest.Archive(t, "1.0.0", agenttest.Works))
	c.RefusePublishes(2)
	cfg := fast(t.TempDir())
	stop := in(t, c, cfg)
	require.Eventually(t, func() bool {
		k := kinds(c)
		return slices.Contains(k, protocol.ReportComponents) && slices.Contains(k, protocol.ReportHealth) && c.LastNucleus().State == protocol.NucleusRunning
	}, patience, tick)
	c.DropConnections()
	require.Eventually(t, func() bool { return len(c.Clients()) > 1 }, patience, tick, "it comes back")
	born := func() (n int) {
		for _, r := range c.Reports() {
			if r.Kind == protocol.ReportConnection && r.Header.Sequence > 0 {
				n++
			}
		}
		return n
	}
	require.Eventually(t, func() bool { return born() >= 2 }, patience, tick, "each session has its birth")
	stop()
	require.Eventually(t, func() bool {
		all := c.Reports()
		last := all[len(all)-1]
		return last.Kind == protocol.ReportConnection && strings.Contains(string(last.Payload), `"connected":false`)
	}, patience, tick, "the last word is the will")
	assert.Equal(t, protocol.NucleusStopped, c.LastNucleus().State, "and the one before is what became of the nucleus")

	var last uint64
	for _, r := range c.Reports() {
		assert.Equal(t, protocol.AgentVersion, r.Header.V)
		assert.Equal(t, core, r.Header.Core)
		if r.Header.Sequence == 0 {
			continue // a will
		}
		assert.GreaterOrEqual(t, r.Header.Sequence, last)
		assert.LessOrEqual(t, r.Header.Sequence, last+1, "nothing is missing")
		last = r.Header.Sequence
	}
	assert.Equal(t, "gw-0001:agent", c.Clients()[0])
	assert.Empty(t, nuclei(cfg.Root), "an orderly stop stops the nucleus")
}

func TestTheNucleusNeedsNoControlPlaneToStart(t *testing.T) {
	c := agenttest.New(t, core)
	c.Change(func(s *agenttest.State) { s.Config, s.Assignment.Config = []byte(document), true })
	c.Offer("1.0.0", agenttest.Archive(t, "1.0.0", agenttest.Works))
	cfg := fast(t.TempDir())
	stop := in(t, c, cfg)
	require.Eventually(t, func() bool { return c.LastNucleus().State == protocol.NucleusRunning }, patience, tick)
	stop()
	c.Change(func(s *agenttest.State) { s.Away = true })
	in(t, c, cfg)
	require.Eventually(t, func() bool { return len(nuclei(cfg.Root)) == 1 }, patience, tick)
}

func TestABrokenLineDoesNotBreakTheInstallation(t *testing.T) {
	c := agenttest.New(t, core)
	c.Change(func(s *agenttest.State) {
		s.Config, s.Assignment.Config = []byte(document), true
		s.Cut = 1
		for _, p := range []string{protocol.PathEnroll, protocol.PathAgentCore, protocol.PathCoreCertificate} {
			s.Lose[p] = 1
		}
	})
	c.Offer("1.0.0", agenttest.Archive(t, "1.0.0", agenttest.Works))
	cfg := fast(t.TempDir())
	in(t, c, cfg)
	require.Eventually(t, func() bool { return c.LastNucleus().State == protocol.NucleusRunning }, patience, tick)
	c.Change(func(s *agenttest.State) {
		assert.Len(t, s.Cores, 1)
		require.Len(t, s.Ranges, 2)
		assert.Empty(t, s.Ranges[0])
		assert.Regexp(t, `^bytes=[1-9][0-9]*-$`, s.Ranges[1], "the download went on where it was cut")
	})
	info, err := os.Stat(filepath.Join(cfg.Root, "private.key"))
	require.NoError(t, err)
	assert.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
}

func TestANucleusThatHangsIsReplacedByTheOldOne(t *testing.T) {
	c := agenttest.New(t, core)
	c.Change(func(s *agenttest.State) { s.Config, s.Assignment.Config = []byte(document), true })
	c.Offer("1.0.0", agenttest.Archive(t, "1.0.0", agenttest.Works))
	cfg := fast(t.TempDir())
	cfg.Gate, cfg.Stop = 6*time.Second, 200*time.Millisecond
	in(t, c, cfg)
	require.Eventually(t, func() bool { return c.LastNucleus().State == protocol.NucleusRunning }, patience, tick)
	c.Offer("2.0.0", agenttest.Archive(t, "2.0.0", agenttest.Hangs))
	require.Eventually(t, func() bool {
		n := c.LastNucleus()
		return n.State == protocol.NucleusRunning && n.Version == "1.0.0" && strings.Contains(n.LastError, "2.0.0 failed and 1.0.0 runs again")
	}, patience, tick)
	assert.Len(t, nuclei(cfg.Root), 1)
}

func TestANucleusThatDiesIsStartedAgain(t *testing.T) {
	c := agenttest.New(t, core)
	c.Change(func(s *agenttest.State) { s.Config, s.Assignment.Config = []byte(document), true })
	c.Offer("1.0.0", agenttest.Archive(t, "1.0.0", agenttest.Works))
	cfg := fast(t.TempDir())
	in(t, c, cfg)
	require.Eventually(t, func() bool { return c.LastNucleus().State == protocol.NucleusRunning }, patience, tick)
	first := c.LastNucleus().PID
	require.NoError(t, syscall.Kill(first, syscall.SIGKILL))
	require.Eventually(t, func() bool {
		n := c.LastNucleus()
		return n.State == protocol.NucleusRunning && n.PID != first && n.Restarts == 1
	}, patience, tick)
}

func TestAWrongArchiveIsNeverUnpacked(t *testing.T) {
	c := agenttest.New(t, core)
	c.Change(func(s *agenttest.State) { s.Config, s.Assignment.Config = []byte(document), true })
	good := agenttest.Archive(t, "1.0.0", agenttest.Works)
	digest := c.Offer("1.0.0", good)
	wrong := slices.Clone(good)
	wrong[len(wrong)/2] ^= 1
	c.Change(func(s *agenttest.State) { s.Archives[digest] = wrong })
	cfg := fast(t.TempDir())
	in(t, c, cfg)
	require.Eventually(t, func() bool {
		n := c.LastNucleus()
		return n.State == protocol.NucleusInstalling && strings.Contains(n.LastError, "digest")
	}, patience, tick, "the control plane learns why")
	assert.NoDirExists(t, filepath.Join(cfg.Root, "versions"))
	c.Change(func(s *agenttest.State) { s.Archives[digest] = good })
	require.Eventually(t, func() bool { return c.LastNucleus().State == protocol.NucleusRunning }, patience, tick)
}

func TestTwoAgentsNeverShareARoot(t *testing.T) {
	c := agenttest.New(t, core)
	cfg := fast(t.TempDir())
	in(t, c, cfg)
	require.Eventually(t, func() bool { return len(c.Clients()) > 0 }, patience, tick)
	err := app.Run(t.Context(), cfg)
	require.ErrorIs(t, err, fault.Exists)
	assert.ErrorContains(t, err, "--root")

	e, err := app.Enroll(t.Context(), cfg, c.Enrollment.String())
	require.NoError(t, err, "to enrol again beside the running agent changes nothing")
	assert.False(t, e.Fresh)
	other := c.Enrollment
	other.ActivationID = "another"
	_, err = app.Enroll(t.Context(), cfg, other.String())
	require.ErrorIs(t, err, fault.Exists)
}

func TestRunWithoutEnrolmentSaysWhatToDo(t *testing.T) {
	err := app.Run(t.Context(), fast(t.TempDir()))
	require.ErrorIs(t, err, fault.NotFound)
	assert.ErrorContains(t, err, "enroll")
}

func TestStatusTellsAtEveryStage(t *testing.T) {
	c := agenttest.New(t, core)
	c.Change(func(s *agenttest.State) { s.Config, s.Assignment.Config = []byte(document), true })
	c.Offer("1.0.0", agenttest.Archive(t, "1.0.0", agenttest.Works))
	cfg := fast(t.TempDir())
	status := func() string {
		var b strings.Builder
		require.NoError(t, app.Status(&b, cfg.Root))
		return b.String()
	}
	assert.Contains(t, status(), "enrolled: no")
	stop := in(t, c, cfg)
	require.Eventually(t, func() bool { return strings.Contains(status(), "running, pid") }, patience, tick)
	assert.Contains(t, status(), "gw-0001:agent")
	stop()
	assert.Contains(t, status(), "not running")
}
