package telemetry_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/agent/internal/inventory"
	"github.com/ggfleet/ggfleet/agent/internal/telemetry"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

func TestWhatIsWorthAReportBetweenHeartbeats(t *testing.T) {
	u := func(v uint64) *uint64 { return &v }
	f := func(v float64) *float64 { return &v }
	b := func(v bool) *bool { return &v }
	base := protocol.HealthReport{
		DiskFreeBytes: u(500), DiskBytes: u(1000), InodesFree: u(500), Inodes: u(1000), MemoryUsedBytes: u(500), MemoryBytes: u(1000),
		Load1: f(0), TemperatureCelsius: f(40), ClockOffsetSeconds: f(0), DiskReadOnly: b(false), ClockSynchronized: b(true),
	}
	for name, tc := range map[string]struct {
		change func(*protocol.HealthReport)
		want   bool
	}{
		"nothing changed":                    {func(*protocol.HealthReport) {}, false},
		"time passed":                        {func(r *protocol.HealthReport) { r.UptimeSeconds = 99 }, false},
		"the disk filled a little":           {func(r *protocol.HealthReport) { r.DiskFreeBytes = u(451) }, false},
		"the disk filled by a twentieth":     {func(r *protocol.HealthReport) { r.DiskFreeBytes = u(450) }, true},
		"the disk was cleared":               {func(r *protocol.HealthReport) { r.DiskFreeBytes = u(600) }, true},
		"the inodes went":                    {func(r *protocol.HealthReport) { r.InodesFree = u(10) }, true},
		"memory trembles":                    {func(r *protocol.HealthReport) { r.MemoryUsedBytes = u(640) }, false},
		"memory fills":                       {func(r *protocol.HealthReport) { r.MemoryUsedBytes = u(650) }, true},
		"the load is high":                   {func(r *protocol.HealthReport) { r.Load1 = f(1000) }, true},
		"it gets warmer":                     {func(r *protocol.HealthReport) { r.TemperatureCelsius = f(44.9) }, false},
		"it gets hot":                        {func(r *protocol.HealthReport) { r.TemperatureCelsius = f(45) }, true},
		"the clock drifts":                   {func(r *protocol.HealthReport) { r.ClockOffsetSeconds = f(-1.9) }, false},
		"the clock jumps":                    {func(r *protocol.HealthReport) { r.ClockOffsetSeconds = f(-3600) }, true},
		"the clock is no longer kept":        {func(r *protocol.HealthReport) { r.ClockSynchronized = b(false) }, true},
		"the disk is remounted":              {func(r *protocol.HealthReport) { r.DiskReadOnly = b(true) }, true},
		"a sensor came":                      {func(r *protocol.HealthReport) { r.TemperatureCelsius = nil }, true},
		"the disk takes no reports any more": {func(r *protocol.HealthReport) { r.ReportsInMemory = true }, true},
		"damage was found":                   {func(r *protocol.HealthReport) { r.DamagedReports = 1 }, true},
		"what is not known says nothing":     {func(r *protocol.HealthReport) { r.DiskBytes = nil }, false},
	} {
		t.Run(name, func(t *testing.T) {
			now := base
			tc.change(&now)
			assert.Equal(t, tc.want, telemetry.Notable(base, now))
			assert.Equal(t, tc.want, telemetry.Notable(now, base), "and back")
		})
	}
}

func TestAListOfComponentsFitsAReport(t *testing.T) {
	list := make([]protocol.LocalComponent, 3000)
	for i := range list {
		list[i] = protocol.LocalComponent{Name: strings.Repeat("n", 10), Version: "1"}
	}
	assert.Len(t, telemetry.Fitting(list), protocol.MaxComponents)
	for i := range list {
		list[i].Name = strings.Repeat("\u0001", 200) // six bytes each as JSON
	}
	few := telemetry.Fitting(list)
	assert.Less(t, len(few), 200)
	b, err := json.Marshal(protocol.ComponentsReport{ReportHeader: protocol.Subject{Name: strings.Repeat("c", 128)}.Header(1, time.Now()), Components: few, Omitted: 2900})
	require.NoError(t, err)
	assert.LessOrEqual(t, len(b), protocol.MaxAgentMessage)
}

// machine is a small computer whose temperature a test can set.
func machine(t *testing.T) (root string, heat func(string)) {
	t.Helper()
	root = t.TempDir()
	write := func(name, content string) {
		p := filepath.Join(root, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(p), 0o700))
		require.NoError(t, os.WriteFile(p, []byte(content), 0o600))
	}
	write("proc/uptime", "863112.00 1000.00\n")
	write("proc/loadavg", "0.25 0.20 0.20 1/100 999\n")
	write("proc/meminfo", "MemTotal: 2007040 kB\nMemAvailable: 1603840 kB\n")
	heat = func(t string) { write("sys/class/thermal/thermal_zone0/temp", t) }
	heat("48500\n")
	return root, heat
}

// begin runs a reporter on that machine until the test ends.
func begin(t *testing.T, l *listener, change func(*telemetry.Config)) (*telemetry.Reporter, func(string), *telemetry.Spool) {
	t.Helper()
	root, heat := machine(t)
	s := openSpool(t, t.TempDir(), 0)
	cfg := telemetry.Config{
		Subject: protocol.Subject{Name: "gw-0001"}, AgentVersion: "1.0.0", Spool: s, Publish: l.publish, DiskPath: root, Host: inventory.New(root),
	}
	change(&cfg)
	r, err := telemetry.New(cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { assert.NoError(t, r.Run(ctx)) })
	t.Cleanup(func() { cancel(); done.Wait() })
	return r, heat, s
}

func TestADeviceThatIdlesSaysOneThingEveryFiveMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &listener{last: map[string]json.RawMessage{}}
		_, heat, s := begin(t, l, func(c *telemetry.Config) {
			c.ClockOffset = func() (time.Duration, bool) { return 1400 * time.Millisecond, true }
			c.Certificates = func() (agent, device time.Time) { return time.Unix(1e9, 0), time.Time{} }
		})
		time.Sleep(time.Minute)
		synctest.Wait()
		assert.Contains(t, string(l.last["host"]), `"agentCertificateExpires":"2001-09-09T01:46:40Z"`)
		assert.NotContains(t, string(l.last["host"]), "coreCertificateExpires")
		assert.Contains(t, string(l.last["health"]), `"temperatureCelsius":48.5`)
		assert.Contains(t, string(l.last["health"]), `"clockOffsetSeconds":1.4`)
		l.forget(false)

		time.Sleep(24 * time.Hour)
		synctest.Wait()
		assert.InDelta(t, 24*12, len(l.forget(false)), 24, "heartbeats and nothing else")

		heat("61000\n")
		time.Sleep(31 * time.Second)
		synctest.Wait()
		assert.Equal(t, []string{"health"}, l.forget(false), "at once")
		for range 60 { // it swings
			heat("48000\n")
			time.Sleep(30 * time.Second)
			heat("63000\n")
			time.Sleep(30 * time.Second)
		}
		synctest.Wait()
		assert.LessOrEqual(t, len(l.forget(false)), 26, "two for each heartbeat, and two more")

		s.FailWrites(func() error { return syscall.EROFS })
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		assert.Contains(t, string(l.last["health"]), `"reportsInMemory":true`)
		s.FailWrites(nil)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		assert.NotContains(t, string(l.last["health"]), `"reportsInMemory"`)
	})
}

func TestWeeksWithoutALineAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &listener{last: map[string]json.RawMessage{}, away: true}
		r, _, s := begin(t, l, func(c *telemetry.Config) { c.Components = time.Hour })
		time.Sleep(14 * 24 * time.Hour)
		l.forget(false)
		r.ConnectionUp()
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		kinds := l.forget(false)
		assert.InDelta(t, 14*24*12, len(kinds), 400)
		assert.Zero(t, s.Condition().Dropped, "two weeks have room")
	})
}

func TestAClientDeviceReportsUnderItsOwnName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		topics := map[string]string{}
		l := &listener{last: map[string]json.RawMessage{}}
		r, _, _ := begin(t, l, func(c *telemetry.Config) {
			c.Subject = protocol.Subject{Role: protocol.RoleClient, Name: "sensor-3"}
			c.Publish = func(_ context.Context, topic string, payload []byte) error {
				mu.Lock()
				defer mu.Unlock()
				topics[topic] = string(payload)
				return nil
			}
		})
		r.ConnectionUp()
		time.Sleep(time.Minute)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		assert.Contains(t, topics["ggfleet/v1/devices/sensor-3/agent/health"], `"device":"sensor-3"`)
		assert.Len(t, topics, 3, "%v", topics)
		topic, payload := r.Will()
		assert.Equal(t, "ggfleet/v1/devices/sensor-3/agent/connection", topic)
		assert.Contains(t, string(payload), `"sequence":0`)
	})
}
