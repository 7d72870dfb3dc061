package device_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/test/internal/world"
)

// peer skips the test, or fails it where peers are required, when what it needs
// is missing.
func peer(t *testing.T, missing bool, what string) {
	t.Helper()
	if !missing {
		return
	}
	if os.Getenv("GGFLEET_REQUIRE_PEERS") == "1" {
		require.Fail(t, what)
	}
	t.Skip(what)
}

func needsSDK(t *testing.T) {
	t.Helper()
	_, err := exec.LookPath("node")
	peer(t, err != nil, "node is not installed (Debian package nodejs)")
	_, err = os.Stat("node_modules/aws-iot-device-sdk-v2")
	peer(t, err != nil, "the device SDK is not installed: npm ci in test/compat/device, or make compat-device")
}

// step is one line that a scenario prints.
type step map[string]any

// scenario runs a script as the device and serves its wish for deployments.
func scenario(t *testing.T, w *world.World, script string, core world.Core, other string) []step {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	host, port, err := net.SplitHostPort(w.MQTT)
	require.NoError(t, err)
	cert, key := core.Files(t, t.TempDir())
	cmd := exec.CommandContext(ctx, "node", script)
	cmd.Env = append(os.Environ(), "DEVICE_HOST="+host, "DEVICE_PORT="+port, "DEVICE_THING="+core.Name, "DEVICE_OTHER_THING="+other,
		"DEVICE_CA="+w.CAFile, "DEVICE_CERT="+cert, "DEVICE_KEY="+key)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	var steps []step
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var s step
		require.NoError(t, json.Unmarshal(lines.Bytes(), &s), lines.Text())
		t.Logf("%s", lines.Text())
		steps = append(steps, s)
		switch s["step"] {
		case "launched":
			world.Eventually(t, func() string {
				if got := w.Core(t, core.Name).Device; got.Status != "HEALTHY" || !got.Connected {
					return fmt.Sprintf("the core is %+v", got)
				}
				return ""
			})
		case "deploy":
			deploy(t, w, core.Name)
		case "restart":
			w.Kill9(t)
			w.Restart(t)
		}
	}
	require.NoError(t, cmd.Wait(), said.String())
	return steps
}

// deploy brings a new version of the device's template to it.
func deploy(t *testing.T, w *world.World, core string) {
	t.Helper()
	template := "line-" + core
	version := w.PutTemplate(t, template, world.TemplateComponent{Name: "com.example.Press", Version: "1.0.0"})
	task := w.WaitTask(t, w.Deploy(t, template, version, core))
	require.Equal(t, "Success", task.Status, "%+v", task)
}

const recipe = `{"RecipeFormatVersion":"2020-01-25","ComponentName":"com.example.Press","ComponentVersion":"1.0.0",
"Manifests":[{"Platform":{"os":"linux"},"Lifecycle":{"run":"sleep 1"}}]}`

func TestTheDeviceSDKIsServed(t *testing.T) {
	needsSDK(t)
	w := world.Start(t, world.Options{})
	w.PutComponent(t, []byte(recipe), nil)
	cores := w.CreateCores(t, "press-5", "press-311", "press-other")

	t.Run("MQTT 5", func(t *testing.T) {
		steps := scenario(t, w, "mqtt5.mjs", cores[0], "press-other")
		one := index(t, steps)
		assert.Equal(t, []any{1.0, 135.0}, one["subscribed"]["codes"], "another thing's topics are refused")
		for qos, s := range all(steps, "message") {
			assert.Equal(t, fmt.Sprintf("press-5/in/%d", qos), s["topic"])
			assert.Equal(t, fmt.Sprintf("stroke %d", qos), s["payload"])
			assert.EqualValues(t, qos, s["qos"])
			assert.Equal(t, "text/plain", s["contentType"])
			assert.Equal(t, "press-5/out", s["responseTopic"])
			assert.Equal(t, "c-1", s["correlation"])
			assert.Equal(t, []any{map[string]any{"name": "line", "value": "7"}}, s["properties"])
		}
		assert.EqualValues(t, 0, one["connected"]["reason"])
		assert.EqualValues(t, 135, one["denied"]["puback"])
		assert.Equal(t, []any{0.0}, one["unsubscribed"]["codes"])
		assert.Equal(t, step{"step": "away", "sessionPresent": true, "payload": "while you were away", "qos": 1.0}, one["away"])
		assert.EqualValues(t, 135, one["stranger"]["reason"], "another thing's client id")
		assert.EqualValues(t, 142, one["taken-over"]["reason"])
		jobsWereServed(t, w, "press-5", steps)
	})
	t.Run("MQTT 3.1.1", func(t *testing.T) {
		steps := scenario(t, w, "mqtt311.mjs", cores[1], "press-other")
		one := index(t, steps)
		assert.Equal(t, false, one["connected"]["sessionPresent"])
		assert.EqualValues(t, 1, one["subscribed"]["qos"])
		for qos, s := range all(steps, "message") {
			assert.Equal(t, step{"step": "message", "topic": fmt.Sprintf("press-311/in/%d", qos), "payload": fmt.Sprintf("stroke %d", qos), "qos": float64(qos), "retain": false}, s)
		}
		assert.EqualValues(t, 128, one["denied-subscribe"]["qos"])
		assert.Equal(t, step{"step": "back", "code": 0.0, "sessionPresent": false, "topic": "press-311/in/again", "payload": "still here"}, one["back"])
		require.Contains(t, one, "taken-over")
		require.Contains(t, one, "denied")
		jobsWereServed(t, w, "press-311", steps)
	})
}

// jobsWereServed checks what both jobs clients of a scenario saw, and what the
// fleet view made of it.
func jobsWereServed(t *testing.T, w *world.World, core string, steps []step) {
	t.Helper()
	one := index(t, steps)
	assert.Equal(t, step{"step": "v2-stream", "type": 0.0}, one["v2-stream"], "established")
	assert.EqualValues(t, 0, one["v2-pending"]["queued"])
	assert.Equal(t, "ResourceNotFound", one["v2-unknown"]["code"])
	assert.Equal(t, "QUEUED", one["v2-next"]["status"])
	assert.NotEmpty(t, one["v2-next"]["deploymentId"])
	assert.Equal(t, one["v2-next"]["jobId"], one["v2-described"]["jobId"])
	assert.Equal(t, []any{one["v2-next"]["jobId"]}, one["v2-list"]["queued"])
	assert.Equal(t, "IN_PROGRESS", one["v2-updated"]["status"])
	assert.EqualValues(t, 2, one["v2-updated"]["version"])
	assert.Equal(t, map[string]any{"step": "1 of 2"}, one["v2-updated"]["details"])
	assert.Equal(t, "VersionMismatch", one["v2-conflict"]["code"])
	done := all(steps, "v2-done")
	require.Len(t, done, 2)
	assert.Nil(t, done[0]["next"])
	assert.Equal(t, "IN_PROGRESS", one["v2-start-next"]["status"])
	assert.Equal(t, one["v2-start-next"]["notified"], one["v2-start-next"]["jobId"])
	assert.NotEqual(t, done[0]["jobId"], done[1]["jobId"])

	assert.Equal(t, step{"step": "v1-pending", "kind": "pending", "token": "pending-1", "queued": 0.0}, one["v1-pending"])
	assert.Equal(t, one["v1-next"]["jobId"], one["v1-described"]["jobId"])
	assert.Equal(t, "describe-1", one["v1-described"]["token"])
	assert.Equal(t, []step{
		{"step": "v1-updated", "kind": "updated", "status": "IN_PROGRESS", "token": "IN_PROGRESS"},
		{"step": "v1-updated", "kind": "updated", "status": "SUCCEEDED", "token": "SUCCEEDED"},
		{"step": "v1-updated", "kind": "update rejected", "status": "FAILED", "token": "FAILED", "code": "InvalidStateTransition"},
	}, all(steps, "v1-updated"))

	world.Eventually(t, func() string {
		want := world.TemplateState{Name: "line-" + core, Version: 3, DeploymentStatus: "Success"}
		if got := w.Core(t, core).Template.Reported; got != want {
			return fmt.Sprintf("reported template is %+v, want %+v", got, want)
		}
		return ""
	})
}

// index is the first line of each step.
func index(t *testing.T, steps []step) map[string]step {
	t.Helper()
	out := map[string]step{}
	for _, s := range steps {
		name, ok := s["step"].(string)
		require.True(t, ok)
		if _, there := out[name]; !there {
			out[name] = s
		}
	}
	require.Contains(t, out, "end")
	return out
}

func all(steps []step, name string) []step {
	var out []step
	for _, s := range steps {
		if s["step"] == name {
			out = append(out, s)
		}
	}
	return out
}
