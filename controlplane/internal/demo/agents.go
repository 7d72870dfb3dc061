package demo

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// agents runs one agent process for each core.
type agents struct {
	program string
	dir     string

	mu      sync.Mutex // guards failed
	failed  error
	running sync.WaitGroup
}

// stopGrace is how long an agent may take to stop its nucleus and itself.
const stopGrace = 15 * time.Second

func (a *agents) root(core string) string { return filepath.Join(a.dir, core) }

func (a *agents) mark(core string) string { return filepath.Join(a.root(core), ".enrolled-by-demo") }

func (a *agents) enrolled(core string) bool {
	_, err := os.Stat(a.mark(core))
	return err == nil
}

// enroll hands the string over on standard input: it is a secret, and arguments
// can be read by every user of the machine.
func (a *agents) enroll(ctx context.Context, core, enrollment string) error {
	if err := os.MkdirAll(a.root(core), 0o700); err != nil {
		return fmt.Errorf("make root of the agent of %s: %w", core, err)
	}
	c := exec.CommandContext(ctx, a.program, "enroll", "-", "--root", a.root(core))
	c.Stdin = strings.NewReader(enrollment)
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("enrol the agent of %s: %w: %s", core, err, bytes.TrimSpace(out))
	}
	return os.WriteFile(a.mark(core), nil, 0o600)
}

// start runs the agent of core until ctx is done.
func (a *agents) start(ctx context.Context, core string) error {
	log, err := os.OpenFile(filepath.Join(a.root(core), "agent.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("log of the agent of %s: %w", core, err)
	}
	c := exec.CommandContext(ctx, a.program, "run", "--root", a.root(core))
	c.Stdout, c.Stderr = log, log
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C comes to us alone; we stop it in order
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	c.WaitDelay = stopGrace
	if err := c.Start(); err != nil {
		_ = log.Close() // nothing was written
		return fmt.Errorf("start the agent of %s: %w", core, err)
	}
	a.running.Go(func() {
		err := c.Wait()
		_ = log.Close() // the agent wrote it
		if ctx.Err() == nil {
			a.mu.Lock()
			a.failed = fmt.Errorf("the agent of %s ended by itself (%w); its log is %s", core, err, log.Name())
			a.mu.Unlock()
		}
	})
	return nil
}

// failure is why an agent ended by itself, or nil.
func (a *agents) failure() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.failed
}

func (a *agents) wait() { a.running.Wait() }
