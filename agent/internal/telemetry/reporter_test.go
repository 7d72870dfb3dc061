package telemetry_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/agent/internal/inventory"
	"github.com/ggfleet/ggfleet/agent/internal/telemetry"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// listener takes reports, or refuses them while it is away.
type listener struct {
	mu    sync.Mutex
	away  bool
	kinds []string
	last  map[string]json.RawMessage
}

func (l *listener) publish(_ context.Context, topic string, payload []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.away {
		return fault.New(fault.Unavailable, "away")
	}
	kind := strings.TrimPrefix(topic, protocol.AgentTopic("gw-0001", ""))
	l.kinds = append(l.kinds, kind)
	l.last[kind] = payload
	return nil
}

// forget returns the kinds that came since the last call.
func (l *listener) forget(away bool) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	kinds := l.kinds
	l.away, l.kinds, l.last = away, nil, map[string]json.RawMessage{}
	return kinds
}

func TestEverythingIsSaidAgainToWhoeverForgot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &listener{last: map[string]json.RawMessage{}}
		dir := t.TempDir()
		state := filepath.Join(dir, "state.json")
		require.NoError(t, os.WriteFile(state, []byte(`{"components":[{"name":"com.example.Press","version":"1.0.0","state":"RUNNING"}]}`), 0o600))
		r, err := telemetry.New(telemetry.Config{
			Subject: protocol.Subject{Role: protocol.RoleCore, Name: "gw-0001"}, Host: inventory.New(dir), AgentVersion: "1.0.0", Spool: openSpool(t, dir, 0), Publish: l.publish, DiskPath: dir,
			Health: 24 * time.Hour, Components: time.Second,
		})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		var done sync.WaitGroup
		done.Go(func() { assert.NoError(t, r.Run(ctx)) })
		defer done.Wait()
		defer cancel()
		settle := func() { time.Sleep(10 * time.Minute); synctest.Wait() }

		settle()
		assert.ElementsMatch(t, []string{"health", "host"}, l.forget(false), "there is no nucleus to tell of")
		r.ConnectionUp()
		settle()
		assert.ElementsMatch(t, []string{"connection", "health", "host"}, l.forget(false))

		r.Nucleus(telemetry.Nucleus{State: protocol.NucleusRunning, Name: "n", Version: "2.0.0", StateFile: state})
		settle()
		assert.Equal(t, []string{"nucleus", "components"}, l.forget(false))
		settle()
		assert.Empty(t, l.forget(false), "nothing changed")

		r.ConnectionUp()
		settle()
		assert.Contains(t, string(l.last["nucleus"]), `"state":"running"`)
		assert.Contains(t, string(l.last["components"]), "com.example.Press")
		assert.ElementsMatch(t, []string{"connection", "nucleus", "components", "health", "host"}, l.forget(true))

		for range 50 { // connected, but nothing gets through
			r.ConnectionUp()
			settle()
		}
		l.forget(false)
		settle()
		times := map[string]int{}
		for _, k := range l.forget(false) {
			times[k]++
		}
		assert.Equal(t, map[string]int{"connection": 50, "nucleus": 1, "components": 1, "health": 1, "host": 1}, times, "what waits is not said twice")
	})
}
