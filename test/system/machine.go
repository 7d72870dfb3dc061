package system

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	bootIn = 5 * time.Minute // bounds a boot and a shutdown
	shIn   = 5 * time.Minute // bounds one script
)

// Machine is one that runs. It ends with its test.
type Machine struct {
	Root string // its file system, as the host sees it

	groups  []string // its control groups
	cmd     *exec.Cmd
	ended   chan error
	leader  string // pid of its systemd
	console *os.File
}

// Boot boots a machine of its own for t, or skips t (see the package comment).
func Boot(t testing.TB) *Machine {
	t.Helper()
	if os.Getenv("GGFLEET_REQUIRE_SYSTEMD") == "" {
		t.Skip("boots a machine: set GGFLEET_REQUIRE_SYSTEMD=1, as make test-system does")
	}
	require.Empty(t, missing())
	base, err := rootfs()
	require.NoError(t, err)
	dir := t.TempDir()
	m := &Machine{Root: filepath.Join(dir, "root")}
	for _, d := range []string{"root", "upper", "work"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, d), 0o755))
	}
	m.console, err = os.Create(filepath.Join(dir, "console"))
	require.NoError(t, err)
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", base, filepath.Join(dir, "upper"), filepath.Join(dir, "work"))
	out, err := exec.Command("mount", "-t", "overlay", "overlay", "-o", options, m.Root).CombinedOutput()
	require.NoError(t, err, "%s", out)
	m.groups = cgroups(t)
	t.Cleanup(func() { m.end(t) })
	m.Write(t, "/etc/hosts", []byte("127.0.0.1 localhost\n"), 0o644) // debootstrap writes none
	for _, timer := range []string{"apt-daily", "apt-daily-upgrade", "dpkg-db-backup", "e2scrub_all", "systemd-tmpfiles-clean"} {
		name := filepath.Join(m.Root, "etc/systemd/system", timer+".timer")
		require.NoError(t, os.Symlink("/dev/null", name), "masking what Debian does at its own times, such as midnight")
	}
	m.start(t)
	return m
}

func (m *Machine) start(t testing.TB) {
	t.Helper()
	m.cmd = exec.Command("sh", "-euc", `for g; do echo $$ >"$g/cgroup.procs"; shift; [ "$1" != -- ] || break; done; shift; exec "$@"`, "sh")
	m.cmd.Args = append(append(m.cmd.Args, m.groups...), "--", "systemd-nspawn", "--quiet", "--directory="+m.Root, "--register=no", "--keep-unit", "--link-journal=no",
		"--resolv-conf=off", "--timezone=off", "--console=pipe", "--boot")
	m.cmd.Stdout, m.cmd.Stderr = m.console, m.console
	require.NoError(t, m.cmd.Start())
	m.ended = make(chan error, 1)
	go func(cmd *exec.Cmd) { m.ended <- cmd.Wait() }(m.cmd)
	pid := strconv.Itoa(m.cmd.Process.Pid)
	require.Eventually(t, func() bool {
		b, err := os.ReadFile("/proc/" + pid + "/task/" + pid + "/children")
		if children := strings.Fields(string(b)); err == nil && len(children) == 1 {
			m.leader = children[0]
			state, _ := m.Try(t.Context(), "systemctl is-system-running || true")
			return state == "running\n" || state == "degraded\n"
		}
		return false
	}, bootIn, 50*time.Millisecond, "the machine does not come up")
}

// Try runs a script in the machine, as root, with sh -eu, and returns what it
// printed to both outputs.
func (m *Machine) Try(ctx context.Context, script string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, shIn)
	defer cancel()
	cmd := exec.CommandContext(ctx, "nsenter", "--target", m.leader, "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd",
		"env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8", "DEBIAN_FRONTEND=noninteractive",
		"sh", "-euc", script)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// Sh is Try for a script that must succeed.
func (m *Machine) Sh(t testing.TB, script string) string {
	t.Helper()
	out, err := m.Try(t.Context(), script)
	require.NoError(t, err, "%s\n%s", script, out)
	return out
}

// Refuses is Try for a script that must fail.
func (m *Machine) Refuses(t testing.TB, script string) string {
	t.Helper()
	out, err := m.Try(t.Context(), script)
	var status *exec.ExitError
	require.ErrorAs(t, err, &status, "%s\n%s", script, out)
	return out
}

// Until runs a script again and again until it succeeds, at most for five minutes.
func (m *Machine) Until(t testing.TB, script string) {
	t.Helper()
	var out string
	for end := time.Now().Add(5 * time.Minute); time.Now().Before(end); {
		var err error
		if out, err = m.Try(t.Context(), script); err == nil {
			return
		}
		if errors.Is(t.Context().Err(), context.Canceled) {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	require.Fail(t, "this does not become true", "%s\n%s", script, out)
}

// Copy puts a file of the host at path in the machine, with its mode.
func (m *Machine) Copy(t testing.TB, file, path string) {
	t.Helper()
	info, err := os.Stat(file)
	require.NoError(t, err)
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	m.Write(t, path, b, info.Mode().Perm())
}

// Write puts a file into the machine, and the folders above it. /run and /tmp are
// file systems of the machine's own that this does not reach.
func (m *Machine) Write(t testing.TB, path string, content []byte, mode os.FileMode) {
	t.Helper()
	name := filepath.Join(m.Root, path)
	require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
	require.NoError(t, os.WriteFile(name, content, mode))
	require.NoError(t, os.Chmod(name, mode))
}

// Reboot shuts the machine down in order and starts it again.
func (m *Machine) Reboot(t testing.TB) {
	t.Helper()
	m.Sh(t, "systemctl reboot")
	m.wait(t)
	m.start(t)
}

// PowerCut ends the machine as a power cut does, and starts it again.
func (m *Machine) PowerCut(t testing.TB) {
	t.Helper()
	m.kill(t)
	m.wait(t)
	m.start(t)
}

func (m *Machine) kill(t testing.TB) {
	pid, err := strconv.Atoi(m.leader)
	require.NoError(t, err)
	_ = syscall.Kill(pid, syscall.SIGKILL) // with the first process all others of its namespace end
}

func (m *Machine) wait(t testing.TB) {
	t.Helper()
	select {
	case <-m.ended:
	case <-time.After(bootIn):
		m.kill(t)
		require.Fail(t, "the machine does not go down")
	}
}

func (m *Machine) end(t testing.TB) {
	if t.Failed() {
		log, _ := m.Try(context.Background(), "journalctl --no-pager --boot -n 100; systemctl --failed --no-pager")
		t.Logf("the end of the machine's journal:\n%s", log)
		console, _ := os.ReadFile(m.console.Name())
		t.Logf("its console:\n%s", console[max(0, len(console)-4000):])
	}
	if m.leader != "" {
		m.kill(t)
	}
	if m.cmd != nil && m.cmd.Process != nil {
		select {
		case <-m.ended:
		case <-time.After(bootIn):
			_ = m.cmd.Process.Kill()
			<-m.ended
		}
	}
	assert.NoError(t, m.console.Close())
	out, err := exec.Command("umount", "--recursive", m.Root).CombinedOutput()
	assert.NoError(t, err, "%s", out)
}
