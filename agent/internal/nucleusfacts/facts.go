package nucleusfacts

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/ggfleet/ggfleet/installer/nucleus"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/protocol"
	"github.com/ggfleet/ggfleet/shared/run"
)

// Names of runtimes, as distributions have them.
const (
	Classic = "classic"
	Lite    = "lite"
)

// How often what costs something is looked at.
const (
	unitsEvery = time.Minute      // one call of systemctl
	logsEvery  = time.Minute      // a walk over the log folder and what was added to the log
	cliSoonest = 5 * time.Minute  // a JVM starts each time: only when the configuration changed
	cliEvery   = time.Hour        // and now and then, for states that change by themselves
	cliTime    = 30 * time.Second // one call
	unitsTime  = 10 * time.Second
	maxOutput  = 512 << 10 // bytes of a program's output
)

// System is the host as this package needs it.
type System interface {
	// Output runs a program to its end and returns what it printed, at most limit
	// bytes; more is an error.
	Output(ctx context.Context, limit int, argv ...string) ([]byte, error)
}

// Nucleus says what to look at.
type Nucleus struct {
	Runtime   string // Classic, Lite, or another
	Root      string // absolute; empty: there is none
	StateFile string // absolute; what the nucleus replaces when its components change
}

// Facts is what the nucleus knows. Zero values are unknown.
type Facts struct {
	Components   []protocol.LocalComponent // nil: not told
	Source       string                    // a protocol.ComponentsFrom… constant
	ConfigDigest string                    // lower-case hex SHA-256
	LogBytes     int64
	LogErrors    uint64 // since the Reader was made
}

// Config is what a Reader needs. The zero value is a good one.
type Config struct {
	System System // nil: this host
	Log    *slog.Logger
}

// Reader looks at one nucleus after the other. It is for one goroutine.
type Reader struct {
	system System
	log    *slog.Logger

	at       Nucleus // what the rest is of
	facts    Facts
	state    file // the state file as it was read last
	config   file // effectiveConfig.yaml as it was read last
	versions []protocol.LocalComponent
	cliDue   bool // the configuration changed since greengrass-cli was asked
	cliAt    time.Time
	unitsAt  time.Time
	logsAt   time.Time
	tail     tail
	errors   uint64
}

// file tells whether a file changed.
type file struct {
	size int64
	time time.Time
}

// New returns a Reader.
func New(cfg Config) *Reader {
	if cfg.System == nil {
		cfg.System = host{}
	}
	if cfg.Log == nil {
		cfg.Log = logx.Discard()
	}
	return &Reader{system: cfg.System, log: cfg.Log}
}

// Read returns what the nucleus knows now, as far as it is time to look again.
// The list of components is never changed afterwards.
func (r *Reader) Read(ctx context.Context, n Nucleus) Facts {
	if n != r.at {
		*r = Reader{system: r.system, log: r.log, at: n, errors: r.errors}
		r.facts.LogErrors = r.errors
	}
	switch {
	case n.StateFile != "":
		r.readState(ctx)
	case n.Root == "":
		return r.facts
	case n.Runtime == Lite:
		r.readUnits(ctx)
	case n.Runtime == Classic:
		r.readClassic(ctx)
	}
	r.readLogs()
	return r.facts
}

// changed tells whether the file is another than last time, and remembers it.
// A file that is not there never changed.
func (f *file) changed(path string) bool {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return false
	}
	now := file{info.Size(), info.ModTime()}
	// What was written within the clock's grain may be written again unseen.
	if now == *f && time.Since(now.time) > 2*time.Second {
		return false
	}
	*f = now
	return true
}

// load reads a file of at most limit bytes.
func load(path string, limit int64) ([]byte, bool) {
	f, err := nucleus.OpenFile(path)
	if err != nil {
		return nil, false
	}
	defer f.Close() //nolint:errcheck // read only
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	return b, err == nil && int64(len(b)) <= limit
}

// host is this machine.
type host struct{}

// Output implements System.
func (host) Output(ctx context.Context, limit int, argv ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(run.Environ(), "LC_ALL=C")
	cmd.WaitDelay = time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(out, int64(limit)+1))
	if err == nil && len(b) > limit {
		err = errTooMuch
		_ = cmd.Process.Kill()
	}
	if end := cmd.Wait(); err == nil {
		err = end
	}
	return b, err
}

// logFolder is where the runtime keeps its logs.
func logFolder(n Nucleus) string { return filepath.Join(n.Root, "logs") }
