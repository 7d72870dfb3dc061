package nucleus_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	process "github.com/ggfleet/ggfleet/agent/internal/nucleus"
	"github.com/ggfleet/ggfleet/agent/internal/telemetry"
	"github.com/ggfleet/ggfleet/installer/nucleus"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// statuses keeps what a supervisor says.
type statuses struct {
	mu  sync.Mutex
	all []telemetry.Nucleus
}

func (s *statuses) add(n telemetry.Nucleus) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, n)
}

func (s *statuses) last() telemetry.Nucleus {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.all) == 0 {
		return telemetry.Nucleus{}
	}
	return s.all[len(s.all)-1]
}

func supervise(t *testing.T, cfg process.Config) (*process.Supervisor, *statuses, string) {
	t.Helper()
	dir, err := localstate.Open(t.TempDir(), nil)
	require.NoError(t, err)
	var said statuses
	cfg.Dir, cfg.OnStatus = dir, said.add
	s, err := process.New(cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		assert.NoError(t, <-done)
		assert.NoError(t, dir.Close())
	})
	return s, &said, dir.Site()
}

func script(t *testing.T, root, version, body string) process.Spec {
	t.Helper()
	program := filepath.Join(root, "nucleus-"+version)
	require.NoError(t, os.WriteFile(program, []byte("#!/bin/sh\n"+body), 0o755))
	return process.Spec{Version: nucleus.Version{Name: "n", Version: version, Digest: version}, Launch: nucleus.Launch{Program: program}, Root: root}
}

func TestWithoutReadyFileStayingUpIsTheProof(t *testing.T) {
	s, said, root := supervise(t, process.Config{UpFor: 50 * time.Millisecond, Look: 10 * time.Millisecond})
	require.NoError(t, s.Use(t.Context(), script(t, root, "1", "exec sleep 60"), false))
	n := said.last()
	assert.Equal(t, protocol.NucleusRunning, n.State)
	require.NoError(t, s.Use(t.Context(), script(t, root, "1", "exec sleep 60"), false))
	assert.Equal(t, n.PID, said.last().PID, "the same nucleus is left alone")
	require.NoError(t, s.Use(t.Context(), script(t, root, "1", "exec sleep 60"), true))
	assert.NotEqual(t, n.PID, said.last().PID, "unless it is to be restarted")
}

func TestTheNucleusSeesNothingOfTheAgentsEnvironment(t *testing.T) {
	t.Setenv("AGENT_SECRET", "x")
	s, _, root := supervise(t, process.Config{UpFor: 50 * time.Millisecond, Look: 10 * time.Millisecond})
	require.NoError(t, s.Use(t.Context(), script(t, root, "1", "env; pwd; exec sleep 60"), false))
	var log string
	require.Eventually(t, func() bool {
		b, err := os.ReadFile(filepath.Join(root, "logs/nucleus.log"))
		log = string(b)
		return err == nil && strings.Contains(log, "\n"+root+"\n")
	}, time.Minute, 10*time.Millisecond, "it works in its root")
	assert.NotContains(t, log, "AGENT_SECRET")
	assert.Contains(t, log, "HOME="+root)
}

func TestAProgramThatCannotStartFailsTheGate(t *testing.T) {
	s, said, root := supervise(t, process.Config{MinWait: time.Millisecond, MaxWait: time.Millisecond})
	spec := script(t, root, "1", "")
	spec.Launch.Program = filepath.Join(root, "missing")
	err := s.Use(t.Context(), spec, false)
	require.ErrorIs(t, err, process.ErrUnproven)
	require.ErrorContains(t, err, "missing")
	assert.Equal(t, protocol.NucleusFailed, said.last().State)
}

func TestTheLogIsKeptSmall(t *testing.T) {
	s, _, root := supervise(t, process.Config{Look: 5 * time.Millisecond, LogSize: 1000})
	spec := script(t, root, "1", `i=0
while [ $i -lt 400 ]; do echo line of some length $i; i=$((i+1)); [ $((i%50)) = 0 ] && sleep 0.05; done
while [ $(wc -c <logs/nucleus.log) -gt 1000 ]; do sleep 0.05; done
touch ready
exec sleep 60`)
	spec.Manifest.ReadyFile = "ready"
	require.NoError(t, s.Use(t.Context(), spec, false), "the log is cut while it writes")
	info, err := os.Stat(filepath.Join(root, "logs/nucleus.log.1"))
	require.NoError(t, err)
	assert.LessOrEqual(t, info.Size(), int64(1000))
}
