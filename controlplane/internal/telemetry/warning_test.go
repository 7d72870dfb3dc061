package telemetry_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/telemetry"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

func TestReportsOfAgentsOfTheFirstVersionAreRead(t *testing.T) {
	v := telemetry.New(telemetry.Config{})
	files, err := filepath.Glob("testdata/v1/*.json")
	require.NoError(t, err)
	require.Len(t, files, 5)
	for _, kind := range []string{"connection", "health", "nucleus", "components"} {
		b, err := os.ReadFile(filepath.Join("testdata/v1", kind+".json"))
		require.NoError(t, err)
		v.Observe(core, protocol.AgentTopic(core, kind), b)
	}
	got, ok := v.Agent(core)
	require.True(t, ok)
	got.LastReport = time.Time{}
	load, used, memory, free, disk := 0.25, uint64(412876800), uint64(2055208960), uint64(21474836480), uint64(31138512896)
	assert.Equal(t, telemetry.Report{
		Connected: true, Version: "1.2.0", DroppedReports: 3, Warnings: []telemetry.Warning{telemetry.NucleusDown},
		Nucleus:    &telemetry.Nucleus{State: protocol.NucleusFailed, Name: "aws.greengrass.Nucleus", Version: "2.12.0", Restarts: 2, LastError: "ended: exit status 1"},
		Host:       &telemetry.Host{UptimeSeconds: 863112, Load1: &load, MemoryUsedBytes: &used, MemoryBytes: &memory, DiskFreeBytes: &free, DiskBytes: &disk},
		Components: []protocol.LocalComponent{{Name: "com.example.Press", Version: "1.0.0", State: "RUNNING"}, {Name: "com.example.Log", Version: "1.0.0"}},
	}, got)

	b, err := os.ReadFile("testdata/v1/connection-will.json")
	require.NoError(t, err)
	v.Observe(core, protocol.AgentTopic(core, "connection"), b)
	got, _ = v.Agent(core)
	assert.False(t, got.Connected)
}

// health is a health report that has everything, changed by change.
func health(n uint64, change func(*protocol.HealthReport)) any {
	free, whole, no, offset := uint64(50<<30), uint64(100<<30), false, 0.5
	inodesFree, inodes := uint64(9), uint64(10)
	r := protocol.HealthReport{
		ReportHeader: header(n), AgentVersion: "2.0.0", DiskFreeBytes: &free, DiskBytes: &whole, InodesFree: &inodesFree, Inodes: &inodes,
		DiskReadOnly: &no, ClockOffsetSeconds: &offset,
	}
	change(&r)
	return r
}

func TestWarnings(t *testing.T) {
	yes, few, much, tiny, far, ahead := true, uint64(4<<30), uint64(9<<30), uint64(99<<20), -61.0, 61.0
	one, hundred := uint64(9), uint64(100)
	for name, tc := range map[string]struct {
		change func(*protocol.HealthReport)
		want   []telemetry.Warning
	}{
		"all is well":                     {func(*protocol.HealthReport) {}, nil},
		"less than a tenth is free":       {func(r *protocol.HealthReport) { r.DiskFreeBytes = &few }, []telemetry.Warning{telemetry.LowDisk}},
		"a tenth of a large disk is much": {func(r *protocol.HealthReport) { r.DiskFreeBytes = &much }, nil},
		"a small disk with little free":   {func(r *protocol.HealthReport) { r.DiskFreeBytes, r.DiskBytes = &tiny, &tiny }, []telemetry.Warning{telemetry.LowDisk}},
		"the inodes run out":              {func(r *protocol.HealthReport) { r.InodesFree, r.Inodes = &one, &hundred }, []telemetry.Warning{telemetry.LowDisk}},
		"a disk that takes nothing":       {func(r *protocol.HealthReport) { r.DiskReadOnly, r.ReportsInMemory = &yes, true }, []telemetry.Warning{telemetry.DiskReadOnly, telemetry.ReportsInMemory}},
		"a clock that is behind":          {func(r *protocol.HealthReport) { r.ClockOffsetSeconds = &far }, []telemetry.Warning{telemetry.ClockWrong}},
		"a clock that is ahead":           {func(r *protocol.HealthReport) { r.ClockOffsetSeconds = &ahead }, []telemetry.Warning{telemetry.ClockWrong}},
		"a spool that was damaged":        {func(r *protocol.HealthReport) { r.DamagedReports = 1 }, []telemetry.Warning{telemetry.ReportsDamaged}},
		"what is not known is no warning": {func(r *protocol.HealthReport) { *r = protocol.HealthReport{ReportHeader: r.ReportHeader} }, nil},
		"what an old agent does not tell": {func(r *protocol.HealthReport) { r.InodesFree, r.DiskReadOnly, r.ClockOffsetSeconds = nil, nil, nil }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			v := telemetry.New(telemetry.Config{})
			observe(t, v, "health", health(1, tc.change))
			got, _ := v.Agent(core)
			assert.Equal(t, tc.want, got.Warnings)
			for _, w := range tc.want {
				assert.Equal(t, 1, v.Counts().Warnings[w])
			}
			observe(t, v, "health", health(2, func(*protocol.HealthReport) {}))
			assert.Empty(t, v.Counts().Warnings, "it is over")
		})
	}
}

func TestACertificateThatExpiresIsAWarningInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := telemetry.New(telemetry.Config{Keep: 365 * 24 * time.Hour})
		go func() { assert.NoError(t, v.Run(t.Context())) }()
		at := time.Now().Add(40 * 24 * time.Hour)
		h := header(1)
		observe(t, v, "host", protocol.HostReport{ReportHeader: h, HostFacts: protocol.HostFacts{CoreCertificateExpires: &at}})
		assert.Empty(t, v.Counts().Warnings)
		time.Sleep(11 * 24 * time.Hour)
		synctest.Wait()
		assert.Equal(t, map[telemetry.Warning]int{telemetry.CertificateExpiring: 1}, v.Counts().Warnings, "without a report")
	})
}

func TestAgentsAreCountedAndFound(t *testing.T) {
	v := telemetry.New(telemetry.Config{})
	say := func(s protocol.Subject, n uint64, connected bool) {
		b := fmt.Sprintf(`{"v":2,"core":%q,"sequence":%d,"time":"2026-03-09T17:45:00Z","connected":%t}`, s.Name, n, connected)
		if s.Role == protocol.RoleClient {
			b = strings.Replace(b, `"core"`, `"device"`, 1)
		}
		v.Observe(s.Name, s.ReportTopic("connection"), []byte(b))
	}
	for i := range 5 {
		say(protocol.Subject{Name: fmt.Sprint("press-", i)}, 1, true)
	}
	sensor := protocol.Subject{Role: protocol.RoleClient, Name: "sensor-3"}
	say(sensor, 1, true)
	say(protocol.Subject{Name: "press-2"}, 0, false)
	v.Disconnected("press-4")
	v.Disconnected("nobody")
	assert.Equal(t, telemetry.Counts{Connected: 4, Offline: 2}, v.Counts())
	got, ok := v.Agent("sensor-3")
	assert.True(t, ok && got.Connected, "a client device has an agent as well")

	no, yes := false, true
	names, more := v.Cores(telemetry.Filter{Connected: &no}, "", 10)
	assert.Equal(t, []string{"press-2", "press-4"}, names)
	assert.False(t, more)
	names, more = v.Cores(telemetry.Filter{Connected: &yes}, "press-0", 1)
	assert.Equal(t, []string{"press-1"}, names, "no client device")
	assert.True(t, more)

	v.Observe("press-1", sensor.ReportTopic("connection"), []byte(`{"v":2,"core":"press-1","sequence":0,"time":"2026-03-09T17:45:00Z","connected":false}`))
	v.Observe("press-1", protocol.AgentTopic("press-1", "connection"), []byte(`{"v":2,"device":"press-1","sequence":0,"time":"2026-03-09T17:45:00Z","connected":false}`))
	got, _ = v.Agent("press-1")
	assert.True(t, got.Connected, "a report of another is refused")
}

func TestTheCountsAreThoseOfTheAgents(t *testing.T) {
	v := telemetry.New(telemetry.Config{})
	free := uint64(1)
	for n := uint64(1); n < 200; n++ {
		if n%37 == 0 {
			v.Moved(core)
		}
		switch n % 5 {
		case 0:
			v.Disconnected(core)
		case 1:
			observe(t, v, "connection", connection(0))
		case 2:
			v.Observe(core, protocol.AgentTopic(core, "health"), []byte("no report"))
		default:
			observe(t, v, "health", health(n, func(r *protocol.HealthReport) {
				if n%3 == 0 {
					r.DiskFreeBytes = &free
				}
			}))
		}
		got, told := v.Agent(core)
		c := v.Counts()
		if !told {
			assert.Zero(t, c.Connected+c.Offline)
			assert.Empty(t, c.Warnings)
			continue
		}
		assert.Equal(t, 1, c.Connected+c.Offline)
		assert.Equal(t, got.Connected, c.Connected == 1)
		assert.Len(t, c.Warnings, len(got.Warnings))
	}
}

func TestADeviceThatWasCopiedIsTold(t *testing.T) {
	v := telemetry.New(telemetry.Config{})
	said := func(sequence int, taken string) {
		v.Observe("press-4", "ggfleet/v1/cores/press-4/agent/connection", fmt.Appendf(nil, `{"v":2,"core":"press-4","sequence":%d,"time":"2026-03-09T17:45:%02dZ","connected":true,"agentVersion":"1"%s}`, sequence, sequence, taken))
	}
	warned := func() bool {
		r, _ := v.Agent("press-4")
		return slices.Contains(r.Warnings, telemetry.IdentityShared)
	}
	said(1, "")
	assert.False(t, warned())
	said(2, `,"takenOverAt":"2026-03-07T17:45:00Z"`)
	assert.False(t, warned(), "that was days ago")
	said(3, `,"takenOverAt":"2026-03-09T17:40:00Z"`)
	assert.True(t, warned())
	said(4, "")
	assert.True(t, warned(), "the copy knows nothing of it")
	assert.Equal(t, 1, v.Counts().Warnings[telemetry.IdentityShared])
}
