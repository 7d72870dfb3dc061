//go:build linux

package app_test

import (
	"archive/zip"
	"bytes"
	"context"
	"os"
	"path/filepath"
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
	"github.com/ggfleet/ggfleet/shared/protocol"
)

var (
	subject    = protocol.Subject{Role: protocol.RoleCore, Name: core}
	askLogs    = protocol.HelpAsk{Kind: protocol.HelpLogsTail, Of: protocol.HelpOfNucleus, Lines: 10_000}
	askRestart = protocol.HelpAsk{Kind: protocol.HelpRestart, Of: protocol.HelpOfNucleus}
)

// answered waits for the end of a request.
func answered(t *testing.T, c *agenttest.Cloud, h *agenttest.Help) (protocol.HelpResult, string) {
	t.Helper()
	require.Eventually(t, func() bool { _, _, ok := c.HelpResult(t, h); return ok }, patience, tick)
	r, content, _ := c.HelpResult(t, h)
	return r, content
}

// helped has the device send a large log and restart its nucleus; whatever kills
// the agent, the log is whole and the nucleus restarted once at most.
func helped(t *testing.T, archive []byte, kill string) (map[string]string, *agent) {
	c := agenttest.New(t, core)
	c.Change(func(s *agenttest.State) { s.Config, s.Assignment.Config = []byte(document), true })
	c.Offer("1.0.0", archive)
	a := startAgent(t, c, kill)
	require.NoError(t, app.Allow(a.root, "logs,restart", true))
	a.waitVersion(c, "1.0.0")
	text := strings.Repeat("2026-05-01T09:30:00Z a line of the nucleus\n", 5000)
	name := filepath.Join(a.root, "logs", "nucleus.log")
	require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
	at := time.Now().Add(-time.Minute)
	require.NoError(t, os.Chtimes(name, at, at))

	logs := c.AskHelp(t, subject, agenttest.Help{ID: "logs", Ask: askLogs})
	r, content := answered(t, c, logs)
	assert.Equal(t, protocol.HelpDone, r.Outcome, r.Message)
	assert.True(t, strings.HasPrefix(content, text), "nothing is missing, nothing is there twice")

	before := nuclei(a.root)
	restart := c.AskHelp(t, subject, agenttest.Help{ID: "restart", Ask: askRestart})
	r, _ = answered(t, c, restart)
	a.waitVersion(c, "1.0.0")
	c.Change(func(*agenttest.State) {
		assert.LessOrEqual(t, len(restart.Runs), 1, "no second run gets it")
	})
	if r.Outcome == protocol.HelpDone {
		a.waitFor("another nucleus", func() bool { now := nuclei(a.root); return len(now) == 1 && now[0] != before[0] })
	} else {
		assert.Contains(t, r.Message, "INTERRUPTED", "whoever asked knows that it may not have happened")
		require.NotEmpty(t, kill)
	}
	if kill != "" {
		assert.FileExists(t, a.mark, "the agent was killed")
	}
	a.waitFor("one nucleus", func() bool { return len(nuclei(a.root)) == 1 })
	out := a.snapshot()
	delete(out, "agent/clock.json") // when the control plane was heard
	return out, a
}

func TestKilledAtAnyStepOfHelpTheDeviceEndsTheSame(t *testing.T) {
	archive := agenttest.Archive(t, "1.0.0", agenttest.Works)
	want, whole := helped(t, archive, "")
	b, err := os.ReadFile(whole.hits)
	require.NoError(t, err)
	for _, p := range localstate.HelpPoints() {
		require.Contains(t, strings.Split(string(b), "\n"), string(p), "the story never comes to it")
	}
	eachKill(t, localstate.HelpPoints(), func(t *testing.T, kill string) {
		got, _ := helped(t, archive, kill)
		assert.Equal(t, want, got)
	})
}

func TestHelpOverMQTTIsTheOwnersDecision(t *testing.T) {
	c := agenttest.New(t, core)
	c.Change(func(s *agenttest.State) { s.Config, s.Assignment.Config = []byte(document), true })
	c.Offer("1.0.0", agenttest.Archive(t, "1.0.0", agenttest.Works))
	cfg := fast(t.TempDir())
	cfg.Patches = time.Hour
	in(t, c, cfg)
	require.Eventually(t, func() bool { return c.LastNucleus().State == protocol.NucleusRunning }, patience, tick)

	r, _ := answered(t, c, c.AskHelp(t, subject, agenttest.Help{ID: "no", Ask: askLogs}))
	assert.Equal(t, protocol.HelpRefused, r.Outcome)
	assert.Equal(t, "the owner of this device does not allow logs; on the device, 'ggfleet-agent allow logs --root "+cfg.Root+"' does", r.Message)
	require.NoError(t, app.Allow(cfg.Root, "all", true))
	r, content := answered(t, c, c.AskHelp(t, subject, agenttest.Help{ID: "agent", Ask: protocol.HelpAsk{Kind: protocol.HelpLogsTail, Of: protocol.HelpOfAgent, Lines: 100}}))
	assert.Equal(t, protocol.HelpDone, r.Outcome, r.Message)
	assert.Contains(t, content, "agent runs", "an agent that no service manager keeps the log of keeps it itself")
	assert.NotEmpty(t, r.Next)

	_, content = answered(t, c, c.AskHelp(t, subject, agenttest.Help{ID: "network", Ask: protocol.HelpAsk{Kind: protocol.HelpDiagnose, Diagnostic: "network"}}))
	assert.NotContains(t, content, "FAILED")
	assert.Contains(t, content, "certificate")
	_, content = answered(t, c, c.AskHelp(t, subject, agenttest.Help{ID: "nucleus", Ask: protocol.HelpAsk{Kind: protocol.HelpDiagnose, Diagnostic: "nucleus"}}))
	assert.Contains(t, content, "1.0.0")

	pid := c.LastNucleus().PID
	r, _ = answered(t, c, c.AskHelp(t, subject, agenttest.Help{ID: "restart", Ask: askRestart}))
	assert.Equal(t, protocol.HelpDone, r.Outcome, r.Message)
	require.Eventually(t, func() bool {
		n := c.LastNucleus()
		return n.State == protocol.NucleusRunning && n.PID != pid
	}, patience, tick)
	r, _ = answered(t, c, c.AskHelp(t, subject, agenttest.Help{ID: "component", Ask: protocol.HelpAsk{Kind: protocol.HelpRestart, Of: protocol.HelpOfComponent, Component: "com.example.X"}}))
	assert.Equal(t, protocol.HelpFailed, r.Outcome)
	assert.Contains(t, r.Message, "restart the nucleus")

	r, content = answered(t, c, c.AskHelp(t, subject, agenttest.Help{ID: "bundle", Ask: protocol.HelpAsk{Kind: protocol.HelpBundle}}))
	assert.Equal(t, protocol.HelpDone, r.Outcome, r.Message)
	key, err := os.ReadFile(filepath.Join(cfg.Root, "private.key"))
	require.NoError(t, err)
	names := bundled(t, content, string(key))
	assert.Contains(t, names, "status.txt")
	assert.Contains(t, names, "logs/nucleus.log")
}

// bundled returns the names in a bundle, none of which holds a line of secret.
func bundled(t *testing.T, raw, secret string) (names []string) {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader([]byte(raw)), int64(len(raw)))
	require.NoError(t, err)
	for _, f := range z.File {
		names = append(names, f.Name)
		r, err := f.Open()
		require.NoError(t, err)
		var b bytes.Buffer
		_, err = b.ReadFrom(r)
		require.NoError(t, err)
		for l := range strings.Lines(secret) {
			assert.NotContains(t, b.String(), strings.TrimSpace(l), f.Name)
		}
	}
	return names
}

// A disk that is full or read-only keeps nobody from being helped: nothing is
// stored for it.
func TestHelpNeedsNoDisk(t *testing.T) {
	c := agenttest.New(t, core)
	cfg := fast(t.TempDir())
	require.NoError(t, consent.Allow(filepath.Join(cfg.Root, "agent"), consent.Diagnostics, true))
	in(t, c, cfg)
	ask := protocol.HelpAsk{Kind: protocol.HelpDiagnose, Diagnostic: "disk"}
	answered(t, c, c.AskHelp(t, subject, agenttest.Help{ID: "first", Ask: ask})) // whatever a start stores is there then
	require.Eventually(t, func() bool { return len(c.Clients()) > 0 && len(c.Reports()) > 0 }, patience, tick)
	before := files(t, filepath.Join(cfg.Root, "agent"))
	r, content := answered(t, c, c.AskHelp(t, subject, agenttest.Help{ID: "disk", Ask: ask}))
	assert.Equal(t, protocol.HelpDone, r.Outcome, r.Message)
	assert.Contains(t, content, "free of")
	assert.Equal(t, before, files(t, filepath.Join(cfg.Root, "agent")), "nothing was stored")
}

// files are those of the agent but for its spool.
func files(t *testing.T, dir string) (out []string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range list {
		out = append(out, e.Name())
	}
	return out
}

func TestLocalLogsAndSupportBundle(t *testing.T) {
	c := agenttest.New(t, core)
	c.Change(func(s *agenttest.State) { s.Config, s.Assignment.Config = []byte(document), true })
	c.Offer("1.0.0", agenttest.Archive(t, "1.0.0", agenttest.Works))
	cfg := fast(t.TempDir())
	stop := in(t, c, cfg)
	require.Eventually(t, func() bool { return c.LastNucleus().State == protocol.NucleusRunning }, patience, tick)
	show := func(r app.LogRequest) string {
		var b bytes.Buffer
		require.NoError(t, app.Logs(t.Context(), &b, cfg.Root, r))
		return b.String()
	}
	assert.Contains(t, show(app.LogRequest{Lines: 100}), "agent runs")
	require.NoError(t, os.WriteFile(filepath.Join(cfg.Root, "logs", "com.example.X.log"), []byte("hello password=hunter2hunter2\n"), 0o600))
	assert.Equal(t, "hello password=[removed]\n", show(app.LogRequest{Lines: 1, Component: "com.example.X"}))
	require.ErrorContains(t, app.Logs(t.Context(), &bytes.Buffer{}, cfg.Root, app.LogRequest{Lines: 1, Component: "com.example.Y"}), "com.example.X")
	require.ErrorContains(t, app.Logs(t.Context(), &bytes.Buffer{}, cfg.Root, app.LogRequest{Lines: 1, Component: "../agent/agent"}), "component")

	ctx, cancel := context.WithCancel(t.Context())
	r, w, err := os.Pipe()
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() {
		ended <- app.Logs(ctx, w, cfg.Root, app.LogRequest{Lines: 1, Component: "com.example.X", Follow: true})
		_ = w.Close()
	}()
	line := make([]byte, 100)
	n, err := r.Read(line)
	require.NoError(t, err)
	assert.Equal(t, "hello password=[removed]\n", string(line[:n]))
	f, err := os.OpenFile(filepath.Join(cfg.Root, "logs", "com.example.X.log"), os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteString("followed\n")
	require.NoError(t, err)
	require.NoError(t, f.Close())
	n, err = r.Read(line)
	require.NoError(t, err)
	assert.Equal(t, "followed\n", string(line[:n]))
	cancel()
	require.NoError(t, <-ended)

	stop()
	out := filepath.Join(t.TempDir(), "b.zip")
	name, err := app.SupportBundle(t.Context(), nil, cfg.Root, out)
	require.NoError(t, err, "also of an agent that does not run")
	assert.Equal(t, out, name)
	raw, err := os.ReadFile(out)
	require.NoError(t, err)
	key, err := os.ReadFile(filepath.Join(cfg.Root, "private.key"))
	require.NoError(t, err)
	assert.Contains(t, bundled(t, string(raw), string(key)), "logs/components/com.example.X.log")
	info, err := os.Stat(out)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	_, err = app.SupportBundle(t.Context(), nil, cfg.Root, out)
	require.ErrorIs(t, err, syscall.EEXIST, "nothing is overwritten")
}
