package svc

import (
	"context"
	"log/slog"
	"os"
	"runtime/pprof"
	"strconv"
	"sync"
	"time"

	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/run"
)

// lookEvery is how often loops are looked at when the service manager asks for
// nothing.
const lookEvery = 30 * time.Second

// WatchdogConfig is what a Watchdog needs. The zero value is the real one.
type WatchdogConfig struct {
	Log *slog.Logger

	Notify func(state string) error // default Notify
	Period time.Duration            // default what systemd asked for; negative: nobody asked
	Abort  func()                   // ends this process; default prints every goroutine and exits
}

// Watchdog tells systemd that this process works, as long as it does: as long as
// each watched loop says that it goes on (run.Progress). When one does not,
// systemd kills and starts the process again. Under a manager without a watchdog
// the process ends itself, and the manager starts it again.
type Watchdog struct {
	cfg WatchdogConfig

	mu    sync.Mutex // guards loops
	loops map[*watched]bool
}

// watched is one loop that runs.
type watched struct {
	name  string
	limit time.Duration
	last  time.Time // guarded by the watchdog's mu
}

// NewWatchdog returns a watchdog that watches nothing yet.
func NewWatchdog(cfg WatchdogConfig) *Watchdog {
	if cfg.Log == nil {
		cfg.Log = logx.Discard()
	}
	if cfg.Notify == nil {
		cfg.Notify = Notify
	}
	if cfg.Period == 0 {
		usec, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
		if err == nil && usec >= 3 {
			cfg.Period = time.Duration(usec) * time.Microsecond
		}
	}
	if cfg.Abort == nil {
		cfg.Abort = func() {
			_ = pprof.Lookup("goroutine").WriteTo(os.Stderr, 2)
			os.Exit(1)
		}
	}
	return &Watchdog{cfg: cfg, loops: map[*watched]bool{}}
}

// Watch returns l, which counts as hanging while it runs and is not heard of for
// longer than limit.
func (w *Watchdog) Watch(l run.Loop, limit time.Duration) run.Loop {
	return run.Loop{Name: l.Name, Run: func(ctx context.Context) error {
		it := &watched{name: l.Name, limit: limit}
		heard := func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			it.last = time.Now()
		}
		heard()
		w.mu.Lock()
		w.loops[it] = true
		w.mu.Unlock()
		defer func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			delete(w.loops, it)
		}()
		return l.Run(run.WithProgress(ctx, heard))
	}}
}

// hanging returns a loop that hangs and for how long nothing was heard of it.
func (w *Watchdog) hanging() (name string, since time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for l := range w.loops {
		if d := time.Since(l.last); d > l.limit {
			return l.name, d
		}
	}
	return "", 0
}

// Run watches until ctx is done. systemd is told three times in each period that
// it asked for.
func (w *Watchdog) Run(ctx context.Context) error {
	every := lookEvery
	if w.cfg.Period > 0 {
		every = w.cfg.Period / 3
	}
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		if name, since := w.hanging(); name != "" {
			w.cfg.Log.ErrorContext(ctx, "a loop hangs, the agent is to be started again", "loop", name, "silent_for", since)
			if w.cfg.Period <= 0 {
				w.cfg.Abort()
			}
			continue
		}
		if w.cfg.Period <= 0 {
			continue
		}
		if err := w.cfg.Notify("WATCHDOG=1"); err != nil {
			w.cfg.Log.WarnContext(ctx, "service manager cannot be told", logx.Err, err)
		}
	}
}
