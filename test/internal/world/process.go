package world

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"time"
)

// readyIn bounds how long a start may take; recovery of a large store is in it.
const readyIn = patience

var errRuns = errors.New("ggfleet still runs")

type process struct {
	cmd   *exec.Cmd
	ended chan struct{}
	err   error // once ended
}

// start starts the process and waits for its "ready".
func (w *World) start(env []string) error {
	cmd := exec.Command(w.bin, w.args()...)
	cmd.Env = append(environment(w.opts.Env), env...)
	ready := w.log.expectReady()
	cmd.Stdout, cmd.Stderr = w.log, w.log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", w.bin, err)
	}
	p := &process{cmd: cmd, ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		p.err = cmd.Wait()
	}()
	limit := time.NewTimer(readyIn)
	defer limit.Stop()
	select {
	case <-ready:
		w.proc = p
		return nil
	case <-p.ended:
		return fmt.Errorf("ggfleet ended before it was ready: %w\n%s", errors.Join(p.err), w.log.text())
	case <-limit.C:
		_ = cmd.Process.Kill()
		<-p.ended
		return fmt.Errorf("ggfleet was not ready after %s\n%s", readyIn, w.log.text())
	}
}

func (p *process) wait(d time.Duration) error {
	limit := time.NewTimer(d)
	defer limit.Stop()
	select {
	case <-p.ended:
		return p.err
	case <-limit.C:
		return fmt.Errorf("%w after %s", errRuns, d)
	}
}

// logFile keeps what the processes log and sees when one is ready.
type logFile struct {
	mu    sync.Mutex // guards all below
	f     *os.File
	line  []byte
	ready chan struct{} // nil: nobody waits
}

func newLogFile(path string) (*logFile, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	return &logFile{f: f}, err
}

func (l *logFile) expectReady() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ready, l.line = make(chan struct{}), nil
	return l.ready
}

// Write implements io.Writer.
func (l *logFile) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ready != nil {
		l.line = append(l.line, b...)
		for {
			line, rest, whole := bytes.Cut(l.line, []byte("\n"))
			if !whole {
				break
			}
			if l.line = rest; bytes.Contains(line, []byte(`"msg":"ready"`)) {
				close(l.ready)
				l.ready, l.line = nil, nil
				break
			}
		}
	}
	return l.f.Write(b)
}

func (l *logFile) text() string {
	b, err := os.ReadFile(l.f.Name())
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func (l *logFile) close() error { return l.f.Close() }
