//go:build linux

package app_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/agent/app"
	"github.com/ggfleet/ggfleet/agent/internal/agenttest"
)

// whole is a configuration that the doctor finds nothing wrong with but that nobody
// listens at its endpoints.
var whole = strings.ReplaceAll(document, "services: {}",
	"services: {aws.greengrass.NucleusLite: {configuration: {iotDataEndpoint: 127.0.0.1, iotCredEndpoint: '127.0.0.1:1'}}}")

func TestStatusAndTheDoctorTellOfANucleusThatEndsAgainAndAgain(t *testing.T) {
	c := agenttest.New(t, core)
	c.Change(func(s *agenttest.State) { s.Config, s.Assignment.Config = []byte(whole), true })
	c.Offer("1.0.0", agenttest.Archive(t, "1.0.0", agenttest.Breaks))
	cfg := fast(t.TempDir())
	_, err := app.Enroll(t.Context(), cfg, c.Enrollment.String())
	require.NoError(t, err)
	stop := in(t, c, cfg)
	status := func() string {
		var out bytes.Buffer
		require.NoError(t, app.Status(&out, cfg.Root))
		return out.String()
	}
	require.Eventually(t, func() bool { return complaints(t, cfg.Root)["D410"] != "" }, patience, tick)
	assert.Contains(t, complaints(t, cfg.Root)["D410"], "ended")
	assert.Contains(t, status(), "trouble:  ended")
	assert.Contains(t, status(), "within an hour")

	stop()
	assert.Contains(t, status(), "within an hour", "it is known without the agent, too")
	assert.FileExists(t, filepath.Join(cfg.Root, "agent", "trouble.json"))
}

func TestWhyNoNucleusIsInstalledIsToldOnTheDevice(t *testing.T) {
	c := agenttest.New(t, core)
	c.Change(func(s *agenttest.State) { s.Config, s.Assignment.Config = []byte(whole), true })
	c.Offer("1.0.0", []byte("this is no archive"))
	cfg := fast(t.TempDir())
	_, err := app.Enroll(t.Context(), cfg, c.Enrollment.String())
	require.NoError(t, err)
	defer in(t, c, cfg)()
	require.Eventually(t, func() bool { return len(complaints(t, cfg.Root)["D404"]) > len("none; ") }, patience, tick)
	var out bytes.Buffer
	require.NoError(t, app.Status(&out, cfg.Root))
	assert.Contains(t, out.String(), "nucleus:  none installed\ntrouble:  ")

	c.Offer("1.0.1", agenttest.Archive(t, "1.0.1", agenttest.Works))
	require.Eventually(t, func() bool { return complaints(t, cfg.Root)["D404"] == "" }, patience, tick)
	require.Eventually(t, func() bool {
		out.Reset()
		return app.Status(&out, cfg.Root) == nil && !bytes.Contains(out.Bytes(), []byte("trouble:"))
	}, patience, tick, "it is over")
}

func TestTheDoctorSeesTheEnvironmentOfTheService(t *testing.T) {
	t.Setenv("NO_PROXY", "from.terminal")
	file := filepath.Join(t.TempDir(), "environment")
	require.NoError(t, os.WriteFile(file, []byte("# settings\nHTTPS_PROXY=\"http://proxy.example:3128\"\n"), 0o600))
	env := app.ServiceEnv(file)
	assert.Equal(t, "http://proxy.example:3128", env("HTTPS_PROXY"))
	assert.Equal(t, "from.terminal", env("NO_PROXY"))
	assert.Empty(t, app.ServiceEnv(file+".gone")("HTTPS_PROXY"))
}
