//go:build linux

package app_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/agent/app"
	"github.com/ggfleet/ggfleet/agent/internal/agenttest"
	"github.com/ggfleet/ggfleet/agent/internal/doctor"
	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// installed is a device that was enrolled and has a nucleus; its agent is stopped.
func installed(t *testing.T) (*agenttest.Cloud, app.Config) {
	t.Helper()
	c := agenttest.New(t, core)
	c.Change(func(s *agenttest.State) { s.Config, s.Assignment.Config = []byte(document), true })
	c.Offer("1.0.0", agenttest.Archive(t, "1.0.0", agenttest.Works))
	cfg := fast(t.TempDir())
	stop := in(t, c, cfg)
	require.Eventually(t, func() bool { return c.LastNucleus().State == protocol.NucleusRunning }, patience, tick)
	stop()
	require.Empty(t, nuclei(cfg.Root))
	return c, cfg
}

// started runs the agent as it is, which need not be enrolled, until the test ends
// or stop is called.
func started(t *testing.T, cfg app.Config) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- app.Run(ctx, cfg) }()
	ended := false
	stop = func() {
		if !ended {
			ended = true
			cancel()
			assert.NoError(t, <-done)
		}
	}
	t.Cleanup(stop)
	return stop
}

func overwrite(t *testing.T, file, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
}

func one(t *testing.T, cfg app.Config) (pid int) {
	t.Helper()
	require.Eventually(t, func() bool { return len(nuclei(cfg.Root)) == 1 }, patience, tick, "the nucleus runs")
	return nuclei(cfg.Root)[0]
}

func TestADamagedIdentityIsTakenFromItsCopy(t *testing.T) {
	c, cfg := installed(t)
	file := filepath.Join(cfg.Root, "agent", "identity.json")
	was, err := os.ReadFile(file)
	require.NoError(t, err)
	for _, garbage := range []string{"", "\x00{", string(was[:len(was)/2]), "null", "{}"} {
		overwrite(t, file, garbage)
		sessions := len(c.Clients())
		stop := started(t, cfg)
		require.Eventually(t, func() bool { return len(c.Clients()) > sessions }, patience, tick, "%q", garbage)
		one(t, cfg)
		stop()
		now, err := os.ReadFile(file)
		require.NoError(t, err)
		assert.Equal(t, string(was), string(now))
		aside, err := os.ReadFile(file + localstate.DamagedSuffix)
		require.NoError(t, err)
		assert.Equal(t, garbage, string(aside))
	}
	assert.Equal(t, doctor.Result{
		Code: "D505", Name: "records", Status: doctor.Warning, Detail: file + localstate.DamagedSuffix,
	}, found(t, cfg, "D505"))
}

// found is what the doctor says for a check.
func found(t *testing.T, cfg app.Config, code string) doctor.Result {
	t.Helper()
	results, err := app.Examine(t.Context(), cfg.Root)
	require.NoError(t, err)
	for _, r := range results {
		if r.Code == code {
			r.Meaning, r.Fix = "", ""
			return r
		}
	}
	require.Fail(t, "no check "+code)
	return doctor.Result{}
}

func TestTheDoctorFindsAFlippedBitInTheNucleus(t *testing.T) {
	_, cfg := installed(t)
	require.Equal(t, doctor.OK, found(t, cfg, "D417").Status)
	program, err := filepath.Glob(filepath.Join(cfg.Root, "versions/*/bin/sim"))
	require.NoError(t, err)
	require.Len(t, program, 1)
	b, err := os.ReadFile(program[0])
	require.NoError(t, err)
	b[len(b)/2] ^= 1
	require.NoError(t, os.WriteFile(program[0], b, 0o700))
	r := found(t, cfg, "D417")
	assert.Equal(t, doctor.Failed, r.Status)
	assert.Contains(t, r.Detail, "bin/sim of ggfleet.SimulatedNucleus 1.0.0 is damaged")
}

func TestWithoutAnIdentityTheNucleusRunsAllTheSame(t *testing.T) {
	c, cfg := installed(t)
	agentDir := filepath.Join(cfg.Root, "agent")
	key, err := os.ReadFile(filepath.Join(agentDir, "key.pem"))
	require.NoError(t, err)
	spoils := map[string]func(){
		"identity and copy are garbage": func() {
			overwrite(t, filepath.Join(agentDir, "identity.json"), "x")
			overwrite(t, filepath.Join(agentDir, "identity.json.copy"), "x")
		},
		"identity and copy are gone": func() {
			require.NoError(t, os.Remove(filepath.Join(agentDir, "identity.json")))
			require.NoError(t, os.Remove(filepath.Join(agentDir, "identity.json.copy")))
		},
		"the key is garbage": func() { overwrite(t, filepath.Join(agentDir, "key.pem"), "x") },
	}
	for name, spoil := range spoils {
		t.Run(name, func(t *testing.T) {
			spoil()
			stop := started(t, cfg)
			pid := one(t, cfg)
			require.NoError(t, syscall.Kill(-pid, syscall.SIGKILL))
			require.Eventually(t, func() bool { n := nuclei(cfg.Root); return len(n) == 1 && n[0] != pid }, patience, tick, "and is started again")
			var b strings.Builder
			_ = app.Status(&b, cfg.Root)
			assert.Contains(t, b.String(), "running, pid")
			stop()
			assert.Empty(t, nuclei(cfg.Root), "an orderly stop stops it")

			// What puts it right: enrolled again as before, with the same key.
			overwrite(t, filepath.Join(agentDir, "key.pem"), string(key))
			_, err := app.Enroll(t.Context(), cfg, c.Enrollment.String())
			require.NoError(t, err)
			sessions := len(c.Clients())
			stop = started(t, cfg)
			require.Eventually(t, func() bool { return len(c.Clients()) > sessions }, patience, tick)
			one(t, cfg)
			stop()
		})
	}
}

func TestAnAgentThatEnrolsAnewLeavesItsNucleusAlone(t *testing.T) {
	c, cfg := installed(t)
	agentDir := filepath.Join(cfg.Root, "agent")
	overwrite(t, filepath.Join(agentDir, "identity.json"), "x")
	overwrite(t, filepath.Join(agentDir, "identity.json.copy"), "x")
	overwrite(t, filepath.Join(cfg.Root, "enroll.json"), `{"string":"`+c.Enrollment.String()+`"}`)
	c.Change(func(s *agenttest.State) { s.Away = true })
	started(t, cfg)
	pid := one(t, cfg)
	sessions := len(c.Clients())
	c.Change(func(s *agenttest.State) { s.Away = false })
	require.Eventually(t, func() bool { return len(c.Clients()) > sessions }, patience, tick)
	require.Eventually(t, func() bool { return c.LastNucleus().State == protocol.NucleusRunning && c.LastNucleus().PID == pid }, patience, tick)
	assert.Equal(t, []int{pid}, nuclei(cfg.Root))
	assert.NoFileExists(t, filepath.Join(cfg.Root, "enroll.json"))
}

func TestNoSmallRecordOfTheAgentEndsIt(t *testing.T) {
	c, cfg := installed(t)
	agentDir := filepath.Join(cfg.Root, "agent")
	for _, name := range []string{
		"clock.json", "conflict.json", "core-swap.json", "device-renewal.json", "enroll.json", "install.json", "nucleus.json", "nucleus-settings.json",
		"nucleus-settings.json.copy", "patch.json", "trouble.json", "update.json", "update-keys/x.pub", "update-inbox/ggfleet-agent.minisig", "spool/acked",
	} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(agentDir, name)), 0o700))
		overwrite(t, filepath.Join(agentDir, name), "\x00\xff garbage {")
	}
	sessions := len(c.Clients())
	started(t, cfg)
	require.Eventually(t, func() bool { return len(c.Clients()) > sessions }, patience, tick)
	one(t, cfg)
	require.Eventually(t, func() bool { return strings.Contains(c.LastNucleus().LastError, "nucleus-settings.json is damaged") }, patience, tick, "it says what to write anew")
}
