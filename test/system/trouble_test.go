package system_test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/test/internal/world"
	"github.com/ggfleet/ggfleet/test/system"
)

// operator runs commands of ggfleet against w.
func operator(t *testing.T, w *world.World) func(args ...string) string {
	t.Helper()
	bin, err := world.Binary()
	require.NoError(t, err)
	return func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "timeout", append([]string{"300", bin}, args...)...)
		cmd.Env = append(os.Environ(), "GGFLEET_SERVER="+w.API, "GGFLEET_TOKEN="+w.Token, "GGFLEET_KEY_PASSWORD=")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%v: %s", args, out)
		return string(out)
	}
}

func TestAServiceInItsYears(t *testing.T) {
	t.Parallel()
	const core = "press-years"
	m := system.Boot(t)
	w := world.Start(t, world.Options{})
	system.OfferNucleus(t, w)
	began := time.Now()
	m.InstallAgent(t, first, system.Activate(t, w, core))
	system.Healthy(t, w, core, first, began)
	ggfleet := operator(t, w)

	t.Run("the nucleus does not hear systemd in the agent's place", func(t *testing.T) {
		agent, nucleus := pids(t, m)
		assert.Contains(t, m.Sh(t, "tr '\\0' '\\n' </proc/"+agent+"/environ"), "NOTIFY_SOCKET=")
		assert.NotRegexp(t, "NOTIFY_SOCKET|WATCHDOG", m.Sh(t, "tr '\\0' '\\n' </proc/"+nucleus+"/environ"))
	})
	t.Run("reloaded: the same process, and the nucleus goes on", func(t *testing.T) {
		agent, nucleus := pids(t, m)
		at := time.Now()
		m.Sh(t, "systemctl reload ggfleet-agent")
		system.Healthy(t, w, core, first, at)
		again, same := pids(t, m)
		assert.Equal(t, []string{agent, nucleus}, []string{again, same})
	})
	t.Run("its log is read from the journal, here and from afar", func(t *testing.T) {
		assert.Contains(t, m.Sh(t, "ggfleet-agent logs -n 1000"), "agent runs")
		m.Sh(t, "ggfleet-agent allow all")
		assert.Contains(t, ggfleet("core", "logs", core, "--agent", "--tail", "1000"), "agent runs")
		m.Sh(t, "ggfleet-agent logs --nucleus -n 1; ggfleet-agent doctor || true")
	})
	t.Run("the support bundle", func(t *testing.T) {
		m.Sh(t, "cd /root; ggfleet-agent support-bundle -o here.zip; unzip -l here.zip | grep logs/; rm here.zip")
		file := filepath.Join(t.TempDir(), "b.zip")
		ggfleet("core", "bundle", core, "-o", file)
		assert.FileExists(t, file)
	})
	t.Run("the nucleus is restarted from afar", func(t *testing.T) {
		_, nucleus := pids(t, m)
		at := time.Now()
		ggfleet("core", "restart", core)
		system.Healthy(t, w, core, first, at)
		_, other := pids(t, m)
		assert.NotEqual(t, nucleus, other)
	})
	t.Run("started without a network, it works and is there when the network comes", func(t *testing.T) {
		w.Kill9(t)
		m.PowerCut(t)
		m.Until(t, "ggfleet-agent status | grep 'nucleus:.*running'")
		at := time.Now()
		w.Restart(t)
		system.Healthy(t, w, core, first, at)
	})
	t.Run("a second agent in a root of its own is a second service", func(t *testing.T) {
		_, nucleus := pids(t, m)
		enrollment := system.Activate(t, w, "press-second")
		at := time.Now()
		m.Sh(t, "printf '%s\\n' '"+enrollment+"' | ggfleet-agent enroll - --root /opt/second; ggfleet-agent install --root /opt/second")
		system.Healthy(t, w, "press-second", first, at)
		m.Reboot(t)
		system.Healthy(t, w, "press-second", first, time.Now())
		system.Healthy(t, w, core, first, time.Now())
		assert.Contains(t, m.Sh(t, "ggfleet-agent uninstall --purge --yes --root /opt/second"), "/opt/second is removed")
		m.Sh(t, "test ! -e /opt/second; systemctl is-active ggfleet-agent; ! ls /etc/systemd/system/ggfleet-agent-*")
		_, other := pids(t, m)
		assert.NotEqual(t, nucleus, other, "it was rebooted")
	})
	t.Run("what systemd takes from it", func(t *testing.T) {
		out := m.Sh(t, "systemd-analyze security ggfleet-agent --no-pager")
		t.Log(out[strings.LastIndex(out, "→"):])
	})
}

// released is the fleet API's view of a release.
type released struct {
	State, Reason string
	Running       int
	Updates       map[string]int
}

func TestAServiceUpdatesItselfAndIsKeptFromAReleaseThatHangs(t *testing.T) {
	t.Parallel()
	const core = "press-update"
	m := system.Boot(t)
	w := world.Start(t, world.Options{})
	system.OfferNucleus(t, w)
	began := time.Now()
	m.InstallAgent(t, first, system.Activate(t, w, core))
	system.Healthy(t, w, core, first, began)
	m.Write(t, "/etc/systemd/system/ggfleet-agent.service.d/soon.conf", []byte("[Service]\nWatchdogSec=10\nTimeoutStartSec=10\nRestartSec=1\n"), 0o644)
	ggfleet := operator(t, w)
	key := filepath.Join(t.TempDir(), "key")
	ggfleet("agent-release", "keygen", key)
	m.Copy(t, key+".pub", "/media/key.pub")
	m.Sh(t, "systemctl daemon-reload; ggfleet-agent update-key add /media/key.pub; systemctl restart ggfleet-agent")
	m.Until(t, "ggfleet-agent status | grep 'nucleus:.*running'")
	release := func(version, file string) {
		t.Helper()
		ggfleet("agent-release", "sign", version, file, "--key", key)
		ggfleet("agent-release", "add", version, file, file+".minisig")
		ggfleet("agent-release", "activate", version, "--spread", "0s", "--max-failures", "1")
	}
	until := func(version string, good func(released) bool) {
		t.Helper()
		world.Eventually(t, func() string {
			var r released
			w.Call(t, http.MethodGet, "/agentReleases/"+version, nil, &r)
			if good(r) {
				return ""
			}
			return fmt.Sprintf("%s: %+v", version, r)
		})
	}
	agent, nucleus := pids(t, m)

	t.Run("a mount that runs no programs blocks it, and says so", func(t *testing.T) {
		m.Sh(t, "mkdir -p /var/lib/ggfleet-agent/agent/releases; mount -t tmpfs -o noexec,mode=0700 tmpfs /var/lib/ggfleet-agent/agent/releases")
		release(second, filepath.Join(system.Release(t, second), "ggfleet-agent_"+second+"_linux_amd64"))
		until(second, func(r released) bool { return r.Updates["blocked"] == 1 })
		assert.Contains(t, m.Sh(t, "journalctl -u ggfleet-agent --no-pager"), "noexec")
		m.Until(t, "umount /var/lib/ggfleet-agent/agent/releases") // busy while the agent tries again
		m.Sh(t, "systemctl reload ggfleet-agent")                  // else it waits for a minute and more
	})
	t.Run("it becomes the release, which is proven, in the same process", func(t *testing.T) {
		at := time.Now()
		until(second, func(r released) bool { return r.Updates["committed"] == 1 })
		t.Logf("committed after %.0f s", time.Since(at).Seconds())
		system.Healthy(t, w, core, second, at)
		again, same := pids(t, m)
		assert.Equal(t, []string{agent, nucleus}, []string{again, same})
		assert.Contains(t, m.Sh(t, "ggfleet-agent status"), "(release; packaged is "+first+")")
	})
	t.Run("a release that hangs is killed by the watchdog and not tried again", func(t *testing.T) {
		hangs := filepath.Join(t.TempDir(), "ggfleet-agent_1.4.0_linux_amd64")
		require.NoError(t, os.WriteFile(hangs, []byte("#!/bin/sh\n[ \"$1\" = version ] && echo ggfleet-agent 1.4.0 && exit\nexec sleep 100000\n"), 0o600))
		at := time.Now()
		release("1.4.0", hangs)
		until("1.4.0", func(r released) bool { return r.State == "stopped" })
		t.Logf("rejected after %.0f s: %s", time.Since(at).Seconds(), m.Sh(t, "ggfleet-agent update"))
		system.Healthy(t, w, core, second, at)
		assert.Regexp(t, `Watchdog|timeout|timed out`, m.Sh(t, "journalctl -u ggfleet-agent --no-pager"))
		_, same := pids(t, m)
		assert.Equal(t, nucleus, same)
	})
	t.Run("a power cut: the release goes on", func(t *testing.T) {
		at := time.Now()
		m.PowerCut(t)
		system.Healthy(t, w, core, second, at)
	})
}

// There is no Fedora here: Debian's rpm installs it beside dpkg.
func TestTheRPMIsInstalledUpgradedAndRemoved(t *testing.T) {
	t.Parallel()
	const core = "press-rpm"
	m := system.Boot(t)
	w := world.Start(t, world.Options{})
	system.OfferNucleus(t, w)
	before := m.Sh(t, everything)
	m.Media(t, first)
	began := time.Now()
	m.Sh(t, "cd /media/release; rpm -U --nodeps *.rpm; systemctl is-enabled ggfleet-agent")
	m.Sh(t, "printf '%s\\n' '"+system.Activate(t, w, core)+"' | ggfleet-agent enroll -")
	system.Healthy(t, w, core, first, began)
	agent, nucleus := pids(t, m)
	m.Media(t, second)
	at := time.Now()
	m.Sh(t, "cd /media/release; rpm -U --nodeps *.rpm")
	system.Healthy(t, w, core, second, at)
	again, same := pids(t, m)
	assert.Equal(t, []string{agent, nucleus}, []string{again, same})
	m.Sh(t, "rpm -e ggfleet-agent")
	m.Refuses(t, "kill -0 "+nucleus)
	m.Sh(t, "test -e /var/lib/ggfleet-agent/agent/identity.json; test ! -e /usr/bin/ggfleet-agent; ! systemctl cat ggfleet-agent")
	at = time.Now()
	m.Sh(t, "cd /media/release; rpm -U --nodeps *.rpm")
	system.Healthy(t, w, core, second, at)
	m.Sh(t, "sh /media/release/install.sh --format rpm --uninstall --purge --yes")
	assert.Equal(t, before, m.Sh(t, everything))
}

// everything lists what is on the machine, without what any program leaves
// anywhere: logs, caches, databases of packages, random seeds.
const everything = "find / -xdev \\( -path /media -o -path /var/log -o -path /var/cache -o -path /var/lib/dpkg -o -path /var/lib/rpm -o -path /usr/lib/sysimage -o -path /root -o -path /var/lib/systemd -o -path /var/tmp -o -path /etc/machine-id \\) -prune -o -print | sort"
