package system_test

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/test/internal/world"
	"github.com/ggfleet/ggfleet/test/system"
)

// Two releases, of which the second is an upgrade.
const (
	first  = "1.2.3"
	second = "1.3.0"
)

var nucleusPID = regexp.MustCompile(`nucleus: .*pid (\d+)`)

// pids returns the process ids of agent and nucleus in the machine.
func pids(t *testing.T, m *system.Machine) (agent, nucleus string) {
	t.Helper()
	agent = strings.TrimSpace(m.Sh(t, "systemctl show -P MainPID ggfleet-agent"))
	require.NotEqual(t, "0", agent)
	status := m.Sh(t, "ggfleet-agent status")
	found := nucleusPID.FindStringSubmatch(status)
	require.NotNil(t, found, status)
	return agent, found[1]
}

func TestADeviceFromTheFirstMinuteToTheLast(t *testing.T) {
	t.Parallel()
	const core = "press-01"
	m := system.Boot(t)
	w := world.Start(t, world.Options{})
	system.OfferNucleus(t, w)
	enrollment := system.Activate(t, w, core)
	before := m.Sh(t, everything)

	m.Media(t, first)
	out := m.Sh(t, "sh /media/release/install.sh --dry-run; ls -d /usr/bin/ggfleet-agent 2>&1 || true")
	assert.Contains(t, out, "dpkg -i ggfleet-agent_1.2.3_linux_amd64.deb")
	assert.Contains(t, out, "No such file")
	out = m.Sh(t, "printf 'n\\n' | script -qec 'sh /media/release/install.sh' /dev/null || true")
	assert.Contains(t, out, "Continue? [y/N]")
	assert.Contains(t, out, "nothing was changed")

	began := time.Now()
	out = m.Sh(t, "printf '%s\\n' '"+enrollment+"' | sh /media/release/install.sh --enroll - --yes")
	system.Healthy(t, w, core, first, began)
	t.Logf("from the start of install.sh to HEALTHY: %.1f s", time.Since(began).Seconds())
	assert.Contains(t, out, "enrolled as "+core+":agent")
	m.Sh(t, "systemctl is-enabled ggfleet-agent; systemd-analyze verify ggfleet-agent.service; test $(systemctl is-system-running) = running")
	status := m.Sh(t, "ggfleet-agent status")
	assert.Regexp(t, `service: +ggfleet-agent: active \(running\), pid \d+, since .*, starts with the machine by its package`, status)
	out = m.Sh(t, "sh /media/release/install.sh --yes")
	assert.Contains(t, out, "nothing: 1.2.3 is there already")

	t.Run("the agent is killed: systemd starts it, the nucleus goes on", func(t *testing.T) {
		at, agent, nucleus := killed(t, m, "kill -9")
		system.Healthy(t, w, core, first, at)
		again, same := pids(t, m)
		assert.NotEqual(t, agent, again)
		assert.Equal(t, nucleus, same)
	})
	t.Run("the agent hangs: the watchdog kills it, the nucleus goes on", func(t *testing.T) {
		const dropIn = "/etc/systemd/system/ggfleet-agent.service.d/soon.conf"
		m.Write(t, dropIn, []byte("[Service]\nWatchdogSec=10\nRestartSec=1\n"), 0o644)
		m.Sh(t, "systemctl daemon-reload; systemctl restart ggfleet-agent")
		m.Until(t, "ggfleet-agent status | grep 'nucleus:.*running'")
		at, agent, nucleus := killed(t, m, "kill -STOP")
		m.Until(t, "journalctl -u ggfleet-agent | grep 'Watchdog timeout'")
		system.Healthy(t, w, core, first, at)
		again, same := pids(t, m)
		assert.NotEqual(t, agent, again)
		assert.Equal(t, nucleus, same)
		m.Sh(t, "rm "+dropIn+"; systemctl daemon-reload")
	})
	t.Run("an upgrade: the same process is the new agent, the nucleus goes on", func(t *testing.T) {
		agent, nucleus := pids(t, m)
		m.Media(t, second)
		at := time.Now()
		m.Sh(t, "sh /media/release/install.sh --yes")
		system.Healthy(t, w, core, second, at)
		again, same := pids(t, m)
		assert.Equal(t, agent, again)
		assert.Equal(t, nucleus, same)
	})
	t.Run("a reboot and a power cut: it runs again", func(t *testing.T) {
		for _, again := range []func(testing.TB){m.Reboot, m.PowerCut} {
			at := time.Now()
			again(t)
			system.Healthy(t, w, core, second, at)
		}
	})
	t.Run("removed, the nucleus is stopped and what the agent keeps stays", func(t *testing.T) {
		_, nucleus := pids(t, m)
		m.Sh(t, "dpkg --remove ggfleet-agent")
		m.Refuses(t, "kill -0 "+nucleus)
		m.Refuses(t, "systemctl cat ggfleet-agent")
		m.Sh(t, "test -e /var/lib/ggfleet-agent/agent/identity.json; test ! -e /usr/bin/ggfleet-agent")
	})
	t.Run("installed again, it goes on without an enrolment", func(t *testing.T) {
		at := time.Now()
		m.Sh(t, "sh /media/release/install.sh --yes")
		system.Healthy(t, w, core, second, at)
		m.Sh(t, "systemctl is-enabled ggfleet-agent")
	})
	t.Run("uninstalled by itself, a service of a package is disabled only", func(t *testing.T) {
		assert.Contains(t, m.Sh(t, "ggfleet-agent uninstall"), "belongs to a package")
		m.Refuses(t, "systemctl is-active ggfleet-agent || systemctl is-enabled ggfleet-agent")
		assert.Contains(t, m.Sh(t, "ggfleet-agent install"), "by its package")
		m.Sh(t, "systemctl is-active ggfleet-agent; systemctl is-enabled ggfleet-agent")
	})
	t.Run("purged, nothing is left", func(t *testing.T) {
		m.Sh(t, "sh /media/release/install.sh --uninstall --purge --yes")
		m.Sh(t, "test ! -e /var/lib/ggfleet-agent; test ! -e /etc/ggfleet-agent; test ! -e /usr/bin/ggfleet-agent")
		assert.Empty(t, added(before, m.Sh(t, everything)))
	})
}

// killed ends the agent with the command, and returns when, and the processes
// before.
func killed(t *testing.T, m *system.Machine, how string) (at time.Time, agent, nucleus string) {
	t.Helper()
	agent, nucleus = pids(t, m)
	at = time.Now()
	m.Sh(t, how+" "+agent)
	m.Until(t, "p=$(systemctl show -P MainPID ggfleet-agent); test $p != 0; test $p != "+agent)
	return at, agent, nucleus
}

func TestAPackageThatIsNotEnrolledWaits(t *testing.T) {
	t.Parallel()
	m := system.Boot(t)
	m.InstallAgent(t, first, "")
	m.Sh(t, "systemctl is-enabled ggfleet-agent; test $(systemctl is-system-running) = running")
	m.Refuses(t, "systemctl is-active ggfleet-agent")
	assert.Contains(t, m.Sh(t, "ggfleet-agent status"), "waits for 'ggfleet-agent enroll'")
	m.Reboot(t)
	m.Refuses(t, "systemctl is-active ggfleet-agent")
	assert.Equal(t, "0\n", m.Sh(t, "systemctl show -P NRestarts ggfleet-agent"), "it does not try again and again")
	t.Run("an administrator who disabled it is heeded by an upgrade", func(t *testing.T) {
		m.Sh(t, "systemctl disable ggfleet-agent")
		m.Media(t, second)
		m.Sh(t, "sh /media/release/install.sh --yes")
		m.Refuses(t, "systemctl is-enabled ggfleet-agent")
	})
}
