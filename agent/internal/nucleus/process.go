package nucleus

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// pollEvery is how often a process that is not our child is looked at.
const pollEvery = 500 * time.Millisecond

// process is the nucleus, started by this agent or found.
type process struct {
	pid   int
	since time.Time     // when this agent started or found it
	ended chan struct{} // closed once it is gone
	err   error         // how it ended; set before ended is closed
}

// start runs the program of spec. Its output goes straight to the log file, so
// that it does not depend on the agent.
func start(spec Spec, token, logFile string) (*process, error) {
	out, err := os.OpenFile(logFile, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()                               //nolint:errcheck // the process has its own
	cmd := exec.Command(spec.Program, spec.Args...) //nolint:noctx // outlives every context: it is stopped by signal, in order
	cmd.Dir = spec.Root
	cmd.Env = environment(spec.Root, token)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", spec.Program, err)
	}
	p := &process{pid: cmd.Process.Pid, since: time.Now(), ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		if p.err = cmd.Wait(); p.err == nil {
			p.err = errors.New("exit status 0")
		}
	}()
	return p, nil
}

// environment is what the nucleus gets to see: nothing of the agent's own.
func environment(root, token string) []string {
	path := os.Getenv("PATH")
	if path == "" {
		path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	}
	return []string{"PATH=" + path, "HOME=" + root, "LANG=C.UTF-8", tokenVar + "=" + token}
}

// adopt watches a process that an earlier agent started.
func adopt(pid int, began uint64) *process {
	p := &process{pid: pid, since: time.Now(), ended: make(chan struct{}), err: errors.New("it ended")}
	go func() {
		defer close(p.ended)
		t := time.NewTicker(pollEvery)
		defer t.Stop()
		for range t.C { // ends with the process; Supervisor.stop sees to that
			reap(pid)
			if at, ok := startOf(pid); !ok || at != began {
				return
			}
		}
	}()
	return p
}

// stop ends the process group: asks, waits, kills.
func (p *process) stop(patience time.Duration) error {
	if err := signalGroup(p.pid, syscall.SIGTERM); err != nil {
		return err
	}
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-p.ended:
	case <-t.C:
	}
	// Also when the leader went: what it left behind must not run beside the
	// next one.
	if err := signalGroup(p.pid, syscall.SIGKILL); err != nil {
		return err
	}
	<-p.ended
	return nil
}

// rotate keeps the log file within size bytes and one older copy. The process
// has the file open for appending, so it is copied and cut, not renamed; what is
// written between the two is lost.
func rotate(logFile string, size int64) error {
	info, err := os.Stat(logFile)
	if err != nil || info.Size() <= size {
		return nil //nolint:nilerr // nothing written yet
	}
	src, err := os.Open(logFile)
	if err != nil {
		return err
	}
	defer src.Close() //nolint:errcheck // read only
	dst, err := os.OpenFile(logFile+".1", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = dst.ReadFrom(src)
	if err := errors.Join(err, dst.Close()); err != nil {
		return err
	}
	return os.Truncate(logFile, 0)
}

// ready reports whether the ready file of spec is there.
func ready(spec Spec) bool {
	_, err := os.Stat(readyPath(spec))
	return err == nil
}

func readyPath(spec Spec) string {
	return filepath.Join(spec.Root, filepath.FromSlash(spec.Manifest.ReadyFile))
}
