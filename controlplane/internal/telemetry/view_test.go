package telemetry_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/telemetry"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

const core = "press-07"

var start = time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC)

// header is that of the n-th report, told n seconds after start.
func header(n uint64) protocol.ReportHeader {
	return protocol.ReportHeader{V: 1, Core: core, Sequence: n, Time: start.Add(time.Duration(n) * time.Second)}
}

func connection(n uint64) any {
	return protocol.ConnectionReport{ReportHeader: header(n), Connected: n > 0, AgentVersion: "1.2.0"}
}

func nucleus(n uint64, state protocol.NucleusState) any {
	return protocol.NucleusReport{ReportHeader: header(n), State: state, Name: "aws.greengrass.Nucleus", Version: "2.12.0"}
}

func components(n uint64, list ...protocol.LocalComponent) any {
	return protocol.ComponentsReport{ReportHeader: header(n), Components: append([]protocol.LocalComponent{}, list...)}
}

func observe(t testing.TB, v *telemetry.View, kind string, report any) {
	t.Helper()
	b, err := json.Marshal(report)
	require.NoError(t, err)
	v.Observe(core, protocol.AgentTopic(core, kind), b)
}

func TestTheViewHoldsWhatWasSaidLast(t *testing.T) {
	v := telemetry.New(telemetry.Config{})
	_, ok := v.Agent(core)
	assert.False(t, ok, "nothing was said")

	load, used := 0.5, uint64(1000)
	observe(t, v, "connection", connection(1))
	observe(t, v, "nucleus", protocol.NucleusReport{ReportHeader: header(2), State: protocol.NucleusFailed, Name: "n", Version: "2", Restarts: 3, LastError: "exit\n\x1b[31mstatus 1"})
	observe(t, v, "components", components(3, protocol.LocalComponent{Name: "com.example.Press", Version: "1.0.0", State: "RUNNING"}))
	observe(t, v, "health", protocol.HealthReport{ReportHeader: header(4), AgentVersion: "1.2.1", UptimeSeconds: 7, Load1: &load, MemoryUsedBytes: &used, DroppedReports: 9})

	got, ok := v.Agent(core)
	require.True(t, ok)
	assert.WithinDuration(t, time.Now(), got.LastReport, time.Minute)
	got.LastReport = time.Time{}
	assert.Equal(t, telemetry.Report{
		Connected: true, Version: "1.2.1", DroppedReports: 9, Warnings: []telemetry.Warning{telemetry.NucleusDown},
		Nucleus:    &telemetry.Nucleus{State: protocol.NucleusFailed, Name: "n", Version: "2", Restarts: 3, LastError: "exit  [31mstatus 1"},
		Host:       &telemetry.Host{UptimeSeconds: 7, Load1: &load, MemoryUsedBytes: &used},
		Components: []protocol.LocalComponent{{Name: "com.example.Press", Version: "1.0.0", State: "RUNNING"}},
	}, got)
	_, ok = v.Agent("press-08")
	assert.False(t, ok, "another core said nothing")
}

func TestOldReportsChangeNothing(t *testing.T) {
	v := telemetry.New(telemetry.Config{})
	observe(t, v, "nucleus", nucleus(5, protocol.NucleusRunning))
	observe(t, v, "nucleus", nucleus(4, protocol.NucleusStarting))
	observe(t, v, "nucleus", nucleus(5, protocol.NucleusFailed))
	observe(t, v, "components", components(1)) // another kind counts for itself
	got, _ := v.Agent(core)
	assert.Equal(t, protocol.NucleusRunning, got.Nucleus.State)
	assert.NotNil(t, got.Components)

	again := header(1) // the device lost its memory, not its clock
	again.Time = start.Add(time.Hour)
	observe(t, v, "nucleus", protocol.NucleusReport{ReportHeader: again, State: protocol.NucleusAbsent})
	got, _ = v.Agent(core)
	assert.Equal(t, protocol.NucleusAbsent, got.Nucleus.State, "a new agent counts from 1")

	back := header(2) // the device's clock was set back
	back.Time = start.Add(-time.Hour)
	observe(t, v, "nucleus", protocol.NucleusReport{ReportHeader: back, State: protocol.NucleusInstalling})
	got, _ = v.Agent(core)
	assert.Equal(t, protocol.NucleusInstalling, got.Nucleus.State)
}

func TestConnectedIsTheSessionNotTheLastConnectionReport(t *testing.T) {
	will := connection(0)
	for name, end := range map[string]func(*telemetry.View){
		"a last will ends it":        func(v *telemetry.View) { observe(t, v, "connection", will) },
		"an end without will, too":   func(v *telemetry.View) { v.Disconnected(core) },
		"both end it no more than 1": func(v *telemetry.View) { observe(t, v, "connection", will); v.Disconnected(core) },
	} {
		t.Run(name, func(t *testing.T) {
			v := telemetry.New(telemetry.Config{})
			observe(t, v, "connection", connection(7))
			observe(t, v, "nucleus", nucleus(8, protocol.NucleusRunning))
			end(v)
			got, ok := v.Agent(core)
			require.True(t, ok)
			assert.False(t, got.Connected)
			assert.Equal(t, protocol.NucleusRunning, got.Nucleus.State, "what was known stays")

			observe(t, v, "nucleus", nucleus(8, protocol.NucleusRunning)) // said again, over a new session
			got, _ = v.Agent(core)
			assert.True(t, got.Connected)
		})
	}
	v := telemetry.New(telemetry.Config{})
	observe(t, v, "connection", will)
	v.Disconnected(core)
	_, ok := v.Agent(core)
	assert.False(t, ok, "a will alone is no report")
}

func TestReportsThatCannotBeReadAreRefused(t *testing.T) {
	long := strings.Repeat("x", 300)
	many := make([]protocol.LocalComponent, 1001)
	other := header(9)
	other.Core = "press-08"
	for _, tc := range []struct {
		name, kind string
		report     any
		says       string
	}{
		{"no object", "health", "text", "JSON"},
		{"a member of another type", "nucleus", map[string]any{"v": "1"}, "JSON"},
		{"over the size", "health", strings.Repeat("x", protocol.MaxAgentMessage), "bytes"},
		{"no version", "nucleus", map[string]any{"core": core, "sequence": 1, "time": start, "state": "running"}, "v"},
		{"another core", "nucleus", protocol.NucleusReport{ReportHeader: other, State: "running"}, "press-07"},
		{"no time", "nucleus", map[string]any{"v": 1, "core": core, "sequence": 1, "state": "running"}, "time"},
		{"a sequence of a will", "nucleus", nucleus(0, protocol.NucleusRunning), "sequence"},
		{"a will with a sequence", "connection", protocol.ConnectionReport{ReportHeader: header(9)}, "sequence"},
		{"a birth without one", "connection", protocol.ConnectionReport{ReportHeader: header(0), Connected: true}, "sequence"},
		{"an unknown state", "nucleus", nucleus(9, "dancing"), "state"},
		{"restarts below 0", "nucleus", protocol.NucleusReport{ReportHeader: header(9), State: "running", Restarts: -1}, "restarts"},
		{"uptime below 0", "health", protocol.HealthReport{ReportHeader: header(9), UptimeSeconds: -1}, "uptimeSeconds"},
		{"a long version", "connection", protocol.ConnectionReport{ReportHeader: header(9), Connected: true, AgentVersion: long}, "agentVersion"},
		{"control characters", "nucleus", protocol.NucleusReport{ReportHeader: header(9), State: "running", Name: "a\x1b[2J"}, "name"},
		{"no components", "components", map[string]any{"v": 1, "core": core, "sequence": 1, "time": start}, "components"},
		{"too many components", "components", components(9, many...), "1001"},
		{"a component with a long state", "components", components(9, protocol.LocalComponent{}, protocol.LocalComponent{State: long}), "components[1].state"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var log strings.Builder
			v := telemetry.New(telemetry.Config{Log: slog.New(slog.NewTextHandler(&log, nil))})
			observe(t, v, tc.kind, tc.report)
			_, ok := v.Agent(core)
			assert.False(t, ok)
			assert.Contains(t, log.String(), tc.says)

			said := log.Len()
			observe(t, v, tc.kind, tc.report)
			assert.Len(t, log.String(), said, "once is enough")
			observe(t, v, "nucleus", nucleus(10, protocol.NucleusRunning))
			_, ok = v.Agent(core)
			assert.True(t, ok, "good ones are taken after it")
		})
	}
}

func TestOtherTopicsArePassedOver(t *testing.T) {
	v := telemetry.New(telemetry.Config{})
	b, err := json.Marshal(nucleus(1, protocol.NucleusRunning))
	require.NoError(t, err)
	for _, topic := range []string{"", "plant/nucleus", protocol.AgentTopic("press-08", "nucleus"), protocol.AgentTopic(core, "dreams"), protocol.AgentTopic(core, "nucleus/x")} {
		v.Observe(core, topic, b)
	}
	_, ok := v.Agent(core)
	assert.False(t, ok)
}

func TestAgentsThatAreGoneForLongAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		v := telemetry.New(telemetry.Config{Keep: 48 * time.Hour})
		var done sync.WaitGroup
		done.Go(func() { assert.NoError(t, v.Run(ctx)) })
		observe(t, v, "connection", connection(1))
		time.Sleep(30 * 24 * time.Hour)
		_, ok := v.Agent(core)
		assert.True(t, ok, "it is connected, if silent")
		v.Disconnected(core)
		time.Sleep(47 * time.Hour)
		_, ok = v.Agent(core)
		assert.True(t, ok)
		time.Sleep(3 * time.Hour)
		_, ok = v.Agent(core)
		assert.False(t, ok)
		cancel()
		done.Wait()
	})
}

func FuzzObserve(f *testing.F) {
	for kind, r := range map[string]any{
		"connection": connection(1), "nucleus": nucleus(2, protocol.NucleusRunning),
		"components": components(3, protocol.LocalComponent{Name: "a", Version: "1"}), "health": protocol.HealthReport{ReportHeader: header(4)},
	} {
		b, err := json.Marshal(r)
		require.NoError(f, err)
		f.Add(kind, b)
	}
	f.Add("connection", []byte(fmt.Sprintf(`{"v":1,"core":%q,"time":"2026-03-02T08:00:00Z"}`, core)))
	f.Fuzz(func(t *testing.T, kind string, payload []byte) {
		v := telemetry.New(telemetry.Config{})
		v.Observe(core, protocol.AgentTopic(core, kind), payload)
		r, ok := v.Agent(core)
		if !ok {
			return
		}
		require.True(t, r.Connected)
		shown, err := json.Marshal(r)
		require.NoError(t, err)
		require.LessOrEqual(t, len(shown), 8*protocol.MaxAgentMessage)
	})
}
