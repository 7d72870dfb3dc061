//go:build linux

package app_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/agent/app"
	"github.com/ggfleet/ggfleet/agent/internal/agenttest"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

func TestANoticeOverMQTTStartsAPatch(t *testing.T) {
	bin := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(bin, "ansible-playbook"), []byte("#!/bin/sh\necho played\n"), 0o700))
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	c := agenttest.New(t, core)
	cfg := fast(t.TempDir())
	cfg.Patches = time.Hour
	in(t, c, cfg)
	looks := func() (n int) {
		c.Change(func(s *agenttest.State) { n = s.Calls[protocol.PathPatches] })
		return n
	}
	require.Eventually(t, func() bool { return looks() >= 2 }, patience, tick, "once at its start, once when it listens")
	p := c.AddPatch(agenttest.Patch{ID: "one", Playbook: "- hosts: all\n", Timeout: 60})
	c.Notice(t, core)
	require.Eventually(t, func() bool { _, ok := c.Result(p); return ok }, patience, tick)
	r, _ := c.Result(p)
	assert.Contains(t, r.Message, "PATCHES_NOT_ALLOWED: ", "unless the device was told so")

	require.NoError(t, app.Allow(cfg.Root, "patches", true))
	p = c.AddPatch(agenttest.Patch{ID: "two", Playbook: "- hosts: all\n", Timeout: 60})
	c.Notice(t, core)
	require.Eventually(t, func() bool { _, ok := c.Result(p); return ok }, patience, tick)
	r, _ = c.Result(p)
	assert.True(t, r.Success)
	assert.Equal(t, "played\n", r.Message)
}
