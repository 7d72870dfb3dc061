package nucleus

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	"github.com/ggfleet/ggfleet/agent/internal/marked"
	"github.com/ggfleet/ggfleet/installer/durable"
	"github.com/ggfleet/ggfleet/installer/nucleus"
	"github.com/ggfleet/ggfleet/shared/logx"
)

// pollEvery is how often a process that is not our child is looked at.
const pollEvery = 500 * time.Millisecond

// processes runs a nucleus as a process group of the agent's own.
type processes struct {
	cfg  *Config
	spec Spec
}

func newProcesses(cfg *Config, spec Spec) (runner, error) { return processes{cfg, spec}, nil }

func (p processes) upFor() time.Duration                   { return p.cfg.UpFor }
func (p processes) look() (unproven, proven time.Duration) { return p.cfg.Look, quietProcess }
func (p processes) remains() bool                          { return false }

// find takes up a process that an earlier agent has left, of whatever version.
func (p processes) find(ctx context.Context) (running, bool, error) {
	var r record
	if err := p.cfg.Dir.ReadJSON(recordName, &r); err != nil && !errors.Is(err, fs.ErrNotExist) {
		p.cfg.Log.WarnContext(ctx, "record of the nucleus process cannot be read", logx.Err, err)
	}
	pid, began, ok := r.alive()
	if !ok {
		if pid, began, ok = lost(p.cfg.Dir.Site()); !ok {
			killLeft(p.cfg.Dir.Site())
			return nil, false, nil
		}
		r = record{Digest: marked.Value(pid, digestVar), Boot: bootID()}
	}
	found := adopt(p, pid, began)
	if r.Digest != p.spec.Version.Digest {
		return found, false, nil
	}
	p.cfg.Log.InfoContext(ctx, "nucleus of an earlier agent is taken up", "pid", pid)
	r.PID, r.Start = pid, began
	return found, true, p.note(ctx, localstate.NucleusRecord, r)
}

// note stores r as the step at. A disk that takes nothing is no reason not to run a
// nucleus: the next agent finds the process by its environment.
func (p processes) note(ctx context.Context, at localstate.Point, r record) error {
	err := p.cfg.Dir.Do(at, func() error { return p.cfg.Dir.WriteJSON(recordName, r) })
	if durable.Full(err) {
		p.cfg.Log.WarnContext(ctx, "nucleus process cannot be noted", logx.Err, err)
		return nil
	}
	return err
}

// start stores that a start is about to happen, starts, and stores what was
// started.
func (p processes) start(ctx context.Context) (running, error) {
	logs := filepath.Join(p.spec.Root, "logs")
	if err := os.MkdirAll(logs, 0o750); err != nil && !durable.Full(err) {
		return nil, err
	}
	if p.spec.Manifest.ReadyFile != "" {
		if err := os.Remove(readyPath(p.spec)); err != nil && !errors.Is(err, fs.ErrNotExist) && !durable.Full(err) {
			return nil, err
		}
	}
	r := record{Token: rand.Text(), Digest: p.spec.Version.Digest, Boot: bootID()}
	err := p.cfg.Dir.Do(localstate.NucleusIntent, func() error { return p.cfg.Dir.WriteJSON(recordName, r) })
	if durable.Full(err) {
		p.cfg.Log.WarnContext(ctx, "nucleus is started without a note of it", logx.Err, err)
		err = nil
	}
	if err != nil {
		return nil, err
	}
	var proc *process
	err = p.cfg.Dir.Do(localstate.NucleusStart, func() (err error) {
		proc, err = begin(p, r, filepath.Join(logs, "nucleus.log"))
		return err
	})
	if proc == nil {
		return nil, err
	}
	if r.PID = proc.pid; err == nil {
		if r.Start, _ = startOf(proc.pid); r.Start != 0 { // else it has ended already; its end will be seen
			err = p.note(ctx, localstate.NucleusRecord, r)
		}
	}
	return proc, err
}

// process is the nucleus, started by this agent or found.
type process struct {
	processes
	pid   int
	since time.Time     // when this agent started or found it
	ended chan struct{} // closed once it is gone
	err   error         // how it ended; set before ended is closed
	again bool          // it ended to be started again; set before ended is closed
}

func (p *process) gone() <-chan struct{} { return p.ended }

func (p *process) look(ctx context.Context) sight {
	logFile := filepath.Join(p.spec.Root, "logs", "nucleus.log")
	if err := rotate(logFile, p.cfg.LogSize); err != nil {
		p.cfg.Log.WarnContext(ctx, "nucleus log cannot be rotated", logx.Err, err)
	}
	s := sight{pid: p.pid, up: true, age: time.Since(p.since), silent: p.spec.Manifest.ReadyFile == ""}
	select {
	case <-p.ended:
		s.up, s.err, s.again = false, p.err, p.again
		_ = signalGroup(p.pid, syscall.SIGKILL) // what it left behind
		killLeft(p.cfg.Dir.Site())
	default:
		s.ready = !s.silent && ready(p.spec)
	}
	return s
}

// begin runs the program of spec. Its output goes straight to the log file, so
// that it does not depend on the agent.
func begin(by processes, r record, logFile string) (*process, error) {
	l := by.spec.Launch
	out, err := os.OpenFile(logFile, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if durable.Full(err) { // it runs without a log then
		out, err = os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	}
	if err != nil {
		return nil, err
	}
	defer out.Close()                         //nolint:errcheck // the process has its own
	cmd := exec.Command(l.Program, l.Args...) //nolint:noctx // outlives every context: it is stopped by signal, in order
	cmd.Dir = cmp.Or(l.Dir, by.spec.Root)
	cmd.Env = append(environment(by, r), l.Env...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", l.Program, err)
	}
	p := &process{processes: by, pid: cmd.Process.Pid, since: time.Now(), ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		if p.err = cmd.Wait(); p.err == nil {
			p.err = errors.New("exit status 0")
		}
		p.again = cmd.ProcessState != nil && cmd.ProcessState.ExitCode() == nucleus.ExitRestart
	}()
	return p, nil
}

// environment is what the nucleus gets to see: nothing of the agent's own.
func environment(by processes, r record) []string {
	path := os.Getenv("PATH")
	if path == "" {
		path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	}
	return []string{"PATH=" + path, "HOME=" + by.spec.Root, "LANG=C.UTF-8", tokenVar + "=" + r.Token, siteVar + "=" + by.cfg.Dir.Site(), digestVar + "=" + r.Digest}
}

// adopt watches a process that an earlier agent started.
func adopt(by processes, pid int, began uint64) *process {
	p := &process{processes: by, pid: pid, since: time.Now(), ended: make(chan struct{}), err: errors.New("it ended")}
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
func (p *process) stop(context.Context) error {
	if err := signalGroup(p.pid, syscall.SIGTERM); err != nil {
		return err
	}
	t := time.NewTimer(p.cfg.Stop)
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
	killLeft(p.cfg.Dir.Site())
	return nil
}

// rotate keeps the log file within about size bytes and one older copy of as many:
// the newest. The process has the file open for appending, so it is copied and cut,
// not renamed; what is written between the two is lost. A disk that has no room for
// the copy has the more need of the cut.
func rotate(logFile string, size int64) error {
	info, err := os.Stat(logFile)
	if err != nil || info.Size() <= size {
		return nil //nolint:nilerr // nothing written yet
	}
	err = copyEnd(logFile, logFile+".1", info.Size()-size, size)
	return errors.Join(err, os.Truncate(logFile, 0))
}

// copyEnd makes the file to of size bytes of the file from, beginning at an offset.
func copyEnd(from, to string, at, size int64) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close() //nolint:errcheck // read only
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, io.NewSectionReader(src, at, size))
	return errors.Join(err, dst.Close())
}

// ready reports whether the ready file of spec is there.
func ready(spec Spec) bool {
	_, err := os.Stat(readyPath(spec))
	return err == nil
}

func readyPath(spec Spec) string {
	return filepath.Join(spec.Root, filepath.FromSlash(spec.Manifest.ReadyFile))
}
