package api_test

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/ggfleet/ggfleet/controlplane/internal/event"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// asyncAPI is the document as far as this test reads it.
type asyncAPI struct {
	Channels map[string]struct {
		Address  string `yaml:"address"`
		Messages map[string]struct {
			Ref string `yaml:"$ref"`
		} `yaml:"messages"`
	} `yaml:"channels"`
	Components struct {
		Messages map[string]struct {
			Payload struct {
				Ref string `yaml:"$ref"`
			} `yaml:"payload"`
			Examples []struct {
				Payload any `yaml:"payload"`
			} `yaml:"examples"`
		} `yaml:"messages"`
		Schemas map[string]any `yaml:"schemas"`
	} `yaml:"components"`
}

// schemas reads those of the document with OpenAPI's validator: it uses only
// what both have in common. Members that are not in them are refused here.
func schemas(t *testing.T, doc asyncAPI) openapi3.Schemas {
	t.Helper()
	b, err := json.Marshal(map[string]any{
		"openapi": "3.0.3", "info": map[string]string{"title": "t", "version": "1"}, "paths": map[string]any{},
		"components": map[string]any{"schemas": doc.Components.Schemas},
	})
	require.NoError(t, err)
	spec, err := openapi3.NewLoader().LoadFromData(b)
	require.NoError(t, err)
	require.NoError(t, spec.Validate(t.Context()))
	for _, s := range spec.Components.Schemas {
		no := false
		s.Value.AdditionalProperties = openapi3.AdditionalProperties{Has: &no}
	}
	return spec.Components.Schemas
}

func readAsyncAPI(t *testing.T) (doc asyncAPI, known openapi3.Schemas) {
	t.Helper()
	b, err := os.ReadFile("asyncapi.yaml")
	require.NoError(t, err)
	require.NoError(t, yaml.Unmarshal(b, &doc))
	return doc, schemas(t, doc)
}

// conform checks payloads, and the examples of the document, against the schema of
// the message of a channel.
func conform(t *testing.T, doc asyncAPI, known openapi3.Schemas, ref string, payloads []any) {
	t.Helper()
	m := doc.Components.Messages[strings.TrimPrefix(ref, "#/components/messages/")]
	schema := known[strings.TrimPrefix(m.Payload.Ref, "#/components/schemas/")]
	require.NotNil(t, schema)
	require.NotEmpty(t, m.Examples)
	for _, e := range m.Examples {
		payloads = append(payloads, e.Payload)
	}
	for _, p := range payloads {
		b, err := json.Marshal(p)
		require.NoError(t, err)
		var v any
		require.NoError(t, json.Unmarshal(b, &v))
		assert.NoError(t, schema.Value.VisitJSON(v), "%s", b)
	}
}

func TestEventsAreAsTheDocumentSays(t *testing.T) {
	doc, known := readAsyncAPI(t)
	seen := 0
	for name, c := range doc.Channels {
		if !strings.HasPrefix(c.Address, "ggfleet/events/") {
			continue
		}
		i := slices.IndexFunc(event.Types(), func(typ event.Type) bool { return strings.HasSuffix(c.Address, "/"+typ.Slug()) })
		require.GreaterOrEqual(t, i, 0, name)
		seen++
		e := event.Event{ID: "5", Type: event.Types()[i], Core: "{core}", At: time.Now().UTC(), Sequence: 9}
		assert.Equal(t, e.Topic(), c.Address)
		var detail map[string]any // the package fleet knows the details; the example has all that are required
		example := doc.Components.Messages[strings.TrimPrefix(c.Messages["event"].Ref, "#/components/messages/")].Examples[0].Payload
		detail = example.(map[string]any)["detail"].(map[string]any)
		e.Detail, _ = json.Marshal(detail)
		conform(t, doc, known, c.Messages["event"].Ref, []any{e.Message()})
	}
	assert.Len(t, event.Types(), seen)
}

func TestAgentsReportsAreAsTheDocumentSays(t *testing.T) {
	doc, known := readAsyncAPI(t)

	h := protocol.ReportHeader{V: protocol.AgentVersion, Core: "press-07", Sequence: 1, Time: time.Now().UTC()}
	device := protocol.Subject{Role: protocol.RoleClient, Name: "sensor-3"}.Header(1, h.Time)
	load, n := 0.5, uint64(1<<40)
	reports := map[string][]any{
		protocol.ReportConnection: {protocol.ConnectionReport{ReportHeader: h}, protocol.ConnectionReport{ReportHeader: h, Connected: true, AgentVersion: "1.2.0"}},
		protocol.ReportHealth: {protocol.HealthReport{ReportHeader: h}, protocol.HealthReport{
			ReportHeader: h, AgentVersion: "1.2.0", UptimeSeconds: 7, Load1: &load, MemoryUsedBytes: &n, MemoryBytes: &n, DiskFreeBytes: &n, DiskBytes: &n, DroppedReports: 3,
		}, protocol.HealthReport{
			ReportHeader: h, InodesFree: &n, Inodes: &n, DiskReadOnly: new(bool), TemperatureCelsius: &load, ClockSynchronized: new(bool),
			ClockOffsetSeconds: &load, ReportsInMemory: true, DamagedReports: 1,
		}},
		protocol.ReportHost: {
			protocol.HostReport{ReportHeader: h},
			protocol.HostReport{ReportHeader: device, HostFacts: protocol.HostFacts{
				OS: "linux", Distribution: "d", Kernel: "6", Architecture: "arm", Model: "m", Serial: "s", BootID: "b", CPUs: 4,
				Interfaces:              []protocol.Interface{{Name: "eth0", Up: true, MAC: "00:00:5e:00:53:01", Addresses: []string{"192.0.2.1/24"}}},
				Routes:                  []protocol.DefaultRoute{{Interface: "eth0", Gateway: "192.0.2.254"}, {Interface: "ppp0"}},
				AgentCertificateExpires: &h.Time, CoreCertificateExpires: &h.Time,
			}},
		},
		protocol.ReportNucleus: {
			protocol.NucleusReport{ReportHeader: h, State: protocol.NucleusAbsent},
			protocol.NucleusReport{ReportHeader: h, State: protocol.NucleusInstalling},
			protocol.NucleusReport{ReportHeader: h, State: protocol.NucleusStarting},
			protocol.NucleusReport{ReportHeader: h, State: protocol.NucleusStopped},
			protocol.NucleusReport{ReportHeader: h, State: protocol.NucleusRunning, Name: "n", Version: "2", PID: 7, Restarts: 1},
			protocol.NucleusReport{ReportHeader: h, State: protocol.NucleusFailed, LastError: "exit status 1"},
			protocol.NucleusReport{ReportHeader: h, State: protocol.NucleusRunning, Runtime: "lite", Root: "/r", Adopted: true, ConfigDigest: "ab", LogBytes: 1, LogErrors: 2},
		},
		protocol.ReportComponents: {
			protocol.ComponentsReport{ReportHeader: h, Components: []protocol.LocalComponent{}},
			protocol.ComponentsReport{ReportHeader: h, Components: []protocol.LocalComponent{{Name: "a", Version: "1"}, {Name: "b", Version: "1", State: "RUNNING"}}},
			protocol.ComponentsReport{ReportHeader: h, Components: []protocol.LocalComponent{}, Source: protocol.ComponentsFromCLI, Omitted: 2},
		},
	}
	assert.Len(t, doc.Channels, len(reports)+len(event.Types()))
	for kind, list := range reports {
		t.Run(kind, func(t *testing.T) {
			c := doc.Channels[kind]
			assert.Equal(t, protocol.AgentTopic("{core}", kind), c.Address)
			conform(t, doc, known, c.Messages["report"].Ref, list)
		})
	}
}
