package nucleus

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/ggfleet/ggfleet/agent/internal/marked"
)

// What marks the nucleus's environment: which start it is of, which agent's it is by
// its folder, and which version. Its children inherit them.
const (
	tokenVar  = "GGFLEET_NUCLEUS_TOKEN" //nolint:gosec // the name of a variable, and the token is no secret: it tells processes apart
	siteVar   = "GGFLEET_NUCLEUS_SITE"
	digestVar = "GGFLEET_NUCLEUS_DIGEST"
)

// bootID tells this run of the machine from every other.
func bootID() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b))
}

// startOf returns when the process began, in clock ticks since boot. ok is false
// when there is no such process or it has ended and only waits for its parent.
func startOf(pid int) (ticks uint64, ok bool) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, false
	}
	return parseStat(b)
}

// parseStat reads state and start time from /proc/PID/stat, where the name in
// parentheses may hold anything.
func parseStat(b []byte) (uint64, bool) {
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return 0, false
	}
	f := strings.Fields(string(b[i+1:]))
	if len(f) < 20 || f[0] == "Z" || f[0] == "X" {
		return 0, false
	}
	ticks, err := strconv.ParseUint(f[19], 10, 64)
	return ticks, err == nil
}

// alive finds the process that r means: by pid and start time, or by its token
// when the agent was killed before it could store them.
func (r record) alive() (pid int, start uint64, ok bool) {
	if r.Token == "" || r.Boot != bootID() {
		return 0, 0, false
	}
	if r.PID > 0 {
		start, ok := startOf(r.PID)
		return r.PID, start, ok && start == r.Start
	}
	return oldest(marked.Processes(tokenVar, r.Token))
}

// lost finds the nucleus of the agent in site when no record tells of it: the disk
// took none, or it was damaged. What another account has marked so is none.
func lost(site string) (pid int, start uint64, ok bool) {
	leaders := slices.DeleteFunc(marked.Processes(siteVar, site), func(pid int) bool {
		group, err := syscall.Getpgid(pid)
		return err != nil || group != pid || !own(pid) // the nucleus may be gone, and only what it started be there
	})
	return oldest(leaders)
}

// own reports whether this process's user has started pid: the real user counts,
// since anybody may start a program that is root by its mode.
func own(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, ids, found := strings.Cut(string(b), "\nUid:")
	f := strings.Fields(ids)
	return err == nil && found && len(f) > 0 && f[0] == strconv.Itoa(os.Getuid())
}

// killLeft ends everything that was started by a nucleus of the agent in site, also
// what has left its process group. It must not run beside the next one.
func killLeft(site string) { marked.Kill(siteVar, site) }

// oldest is the process that began first: of those with one token the nucleus
// itself, since its children came later.
func oldest(pids []int) (pid int, start uint64, ok bool) {
	for _, n := range pids {
		if at, alive := startOf(n); alive && (!ok || at < start || at == start && n < pid) {
			pid, start, ok = n, at, true
		}
	}
	return pid, start, ok
}

// signalGroup sends sig to the process group of pid. A group that is gone is
// fine.
func signalGroup(pid int, sig syscall.Signal) error {
	if err := syscall.Kill(-pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("signal %s to process group %d: %w", sig, pid, err)
	}
	return nil
}

// reap lets go of the process if it is a child that has ended: this process may
// have started it before it became another agent by exec.
func reap(pid int) { _, _ = syscall.Wait4(pid, nil, syscall.WNOHANG, nil) }
