//go:build linux

package app_test

import (
	"bytes"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/agent/app"
	"github.com/ggfleet/ggfleet/agent/internal/agenttest"
	"github.com/ggfleet/ggfleet/agent/internal/doctor"
)

// ofTheMachine are checks whose outcome is that of the machine that the test runs
// on.
var ofTheMachine = []string{"D103", "D104", "D106", "D107", "D108", "D110", "D111", "D112", "D113", "D114", "D115", "D116"}

// complaints are what the doctor found that is not of the machine.
func complaints(t *testing.T, root string) map[string]string {
	t.Helper()
	results, err := app.Examine(t.Context(), root)
	require.NoError(t, err)
	out := map[string]string{}
	for _, r := range results {
		if (r.Status == doctor.Failed || r.Status == doctor.Warning) && !slices.Contains(ofTheMachine, r.Code) {
			out[r.Code] = r.Detail
		}
	}
	return out
}

func TestTheDoctorOnARealDevice(t *testing.T) {
	t.Parallel()
	cloud := agenttest.New(t, core)
	cfg := fast(filepath.Join(t.TempDir(), "root"))
	_, err := app.Enroll(t.Context(), cfg, cloud.Enrollment.String())
	require.NoError(t, err)
	none := complaints(t, cfg.Root)
	assert.Equal(t, []string{"D401"}, keysOf(none), "but for what a core without configuration has not: %v", none)
	assert.Contains(t, none["D401"], "none")

	var out bytes.Buffer
	well, err := app.Doctor(t.Context(), &out, cfg.Root, true)
	require.NoError(t, err)
	assert.False(t, well)
	var results []doctor.Result
	require.NoError(t, json.Unmarshal(out.Bytes(), &results))
	assert.Len(t, results, len(doctor.Checks()))

	identity := filepath.Join(cfg.Root, "agent", "identity.json")
	before, err := os.ReadFile(identity)
	require.NoError(t, err)
	for _, c := range []struct {
		name, code string
		spoil      func(t *testing.T, record map[string]any)
	}{
		{"a control plane that is not there", "D304", func(t *testing.T, r map[string]any) {
			r["url"] = "https://" + deaf(t)
		}},
		{"an impostor", "D305", func(t *testing.T, r map[string]any) { r["url"] = "https://" + impostor(t) }},
		{"an MQTT port that is closed", "D309", func(t *testing.T, r map[string]any) {
			r["mqttAddress"] = deaf(t)
		}},
		{"an identity without address", "D202", func(_ *testing.T, r map[string]any) { r["mqttAddress"] = "x" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			var record map[string]any
			require.NoError(t, json.Unmarshal(before, &record))
			c.spoil(t, record)
			b, err := json.Marshal(record)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(identity, b, 0o600))
			found := complaints(t, cfg.Root)
			delete(found, "D401")
			assert.Equal(t, []string{c.code}, keysOf(found), "%v", found)
		})
	}
	require.NoError(t, os.WriteFile(identity, before, 0o600))
	require.NoError(t, os.Chmod(identity, 0o600))
	assert.Equal(t, []string{"D401"}, keysOf(complaints(t, cfg.Root)), "and well again")
}

func keysOf(m map[string]string) (out []string) {
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// deaf is an address that nobody listens on, nor can while the test runs.
func deaf(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	c, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c.LocalAddr().String()
}

// impostor is another control plane.
func impostor(t *testing.T) string {
	t.Helper()
	return strings.TrimPrefix(agenttest.New(t, core).Enrollment.URL, "https://")
}
