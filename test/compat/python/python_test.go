package python_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/test/internal/world"
)

// run runs a script against w and returns the lines that it printed.
func run(t *testing.T, w *world.World, env []string, args ...string) []map[string]any {
	t.Helper()
	var key struct {
		AccessKeyID     string `json:"accessKeyId"`
		SecretAccessKey string `json:"secretAccessKey"`
	}
	w.Call(t, http.MethodPost, "/accessKeys", map[string]string{"description": t.Name()}, &key)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Getenv("GGFLEET_PYTHON"), args...)
	cmd.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID="+key.AccessKeyID, "AWS_SECRET_ACCESS_KEY="+key.SecretAccessKey, "AWS_REGION=us-east-1",
		"AWS_DEFAULT_REGION=us-east-1", "AWS_ENDPOINT_URL="+w.AWS, "AWS_CONFIG_FILE=none", "AWS_SHARED_CREDENTIALS_FILE=none", "AWS_EC2_METADATA_DISABLED=true",
		"ACCOUNT=000000000000", "WORK_DIR="+t.TempDir(), "DEVICE_CA="+w.CAFile, "PYTHONDONTWRITEBYTECODE=1")
	cmd.Env = append(cmd.Env, env...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	t.Log(string(out))
	require.NoError(t, err, said.String())
	var steps []map[string]any
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		var s map[string]any
		require.NoError(t, json.Unmarshal(lines.Bytes(), &s), lines.Text())
		steps = append(steps, s)
	}
	return steps
}

func needs(t *testing.T) {
	t.Helper()
	if os.Getenv("GGFLEET_PYTHON") == "" {
		t.Skip("AWS's clients for Python are not installed; make compat-python installs them")
	}
}

func TestTheDeviceSDKForPythonIsServed(t *testing.T) {
	needs(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	alpn := ln.Addr().String()
	require.NoError(t, ln.Close())
	w := world.Start(t, world.Options{Flags: []string{"--alpn-addr", alpn}})
	_, mqtt, err := net.SplitHostPort(w.MQTT)
	require.NoError(t, err)
	_, both, err := net.SplitHostPort(alpn)
	require.NoError(t, err)
	assert.Equal(t, []map[string]any{
		{"step": "connected", "where": "mqtt"},
		{"step": "connected", "where": "alpn"},
		{"step": "deployed", "status": "COMPLETED"},
		{"step": "discovered", "cores": []any{"arn:aws:iot:us-east-1:000000000000:thing/python-core"}},
		{"step": "claimed", "thing": "python-claimed"},
		{"step": "end"},
	}, run(t, w, []string{"MQTT_PORT=" + mqtt, "ALPN_PORT=" + both}, "device.py"))
}

func TestComponentsArePublishedAsByTheDevelopmentKit(t *testing.T) {
	needs(t)
	w := world.Start(t, world.Options{})
	assert.Equal(t, []map[string]any{
		{"step": "versions", "newest": nil},
		{"step": "published", "version": "1.0.0", "state": "DEPLOYABLE"},
		{"step": "versions", "newest": "1.0.0"},
		{"step": "published", "version": "1.0.1", "state": "DEPLOYABLE"},
		{"step": "end"},
	}, run(t, w, nil, "publish.py", "ggfleet"))
}
