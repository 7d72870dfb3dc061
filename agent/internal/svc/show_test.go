package svc

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestWhatSystemdShows(t *testing.T) {
	since := time.Date(2026, 11, 22, 9, 59, 11, 0, time.UTC)
	tests := map[string]struct {
		out  string
		want State
	}{
		"a service of a package that runs": {
			"LoadState=loaded\nActiveState=active\nSubState=running\nFragmentPath=/lib/systemd/system/ggfleet-agent.service\nUnitFileState=enabled\nMainPID=42\nNRestarts=3\nActiveEnterTimestamp=Sun 2026-11-22 09:59:11 UTC\n",
			State{Installed: true, Running: true, Boot: true, Packaged: true, Word: "active (running)", File: "/lib/systemd/system/ggfleet-agent.service", PID: 42, Restarts: 3, Since: since},
		},
		"one of our own that waits": {
			"LoadState=loaded\nActiveState=inactive\nSubState=dead\nFragmentPath=/etc/systemd/system/ggfleet-agent.service\nUnitFileState=disabled\nMainPID=0\nNRestarts=0\nActiveEnterTimestamp=\n",
			State{Installed: true, Word: "inactive (dead)", File: "/etc/systemd/system/ggfleet-agent.service"},
		},
		"one that is about to be started again": {
			"LoadState=loaded\nActiveState=activating\nSubState=auto-restart\nFragmentPath=/etc/systemd/system/a.service\nUnitFileState=enabled\n",
			State{Installed: true, Running: true, Boot: true, Word: "activating (auto-restart)", File: "/etc/systemd/system/a.service"},
		},
		"one that is masked": {
			"LoadState=masked\nActiveState=inactive\nSubState=dead\nFragmentPath=\nUnitFileState=masked\n",
			State{Installed: true, Word: "masked"},
		},
		"none":           {"LoadState=not-found\nActiveState=inactive\nSubState=dead\n", State{Word: "not installed"}},
		"no answer":      {"", State{Word: "unknown"}},
		"something else": {"systemctl: what?\n", State{Word: "unknown"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got := parseShow([]byte(tc.out))
			assert.True(t, tc.want.Since.Equal(got.Since), got.Since)
			got.Since, tc.want.Since = time.Time{}, time.Time{}
			assert.Equal(t, tc.want, got)
		})
	}
}
