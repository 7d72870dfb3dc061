package telemetry

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"time"

	"github.com/ggfleet/ggfleet/agent/internal/inventory"
	"github.com/ggfleet/ggfleet/installer/nucleus"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/protocol"
	"github.com/ggfleet/ggfleet/shared/run"
)

// Nucleus is what the supervisor knows of the nucleus.
type Nucleus struct {
	State     protocol.NucleusState
	Name      string
	Version   string
	PID       int
	Restarts  int
	LastError string
	StateFile string // absolute; empty when the runtime does not tell what it runs
}

func (n Nucleus) report(h protocol.ReportHeader) any {
	return protocol.NucleusReport{
		ReportHeader: h, State: n.State, Name: n.Name, Version: n.Version, PID: n.PID, Restarts: n.Restarts, LastError: n.LastError,
	}
}

// Publish sends one report and returns once it is acknowledged. An error of
// kind fault.Invalid says that it can never be sent.
type Publish func(ctx context.Context, topic string, payload []byte) error

// Config is what a Reporter needs.
type Config struct {
	Core         string  // required
	AgentVersion string  // required
	Spool        *Spool  // required
	Publish      Publish // required
	DiskPath     string  // whose file system is reported; required

	Health     time.Duration // between health reports, spread by a tenth; default 60 s
	Components time.Duration // between looks at the state file; default 5 s
	Log        *slog.Logger
}

// Reporter writes reports to the spool and sends them from there.
type Reporter struct {
	cfg     Config
	log     *slog.Logger
	up      chan struct{}
	nucleus chan Nucleus
	stored  chan struct{} // something new is in the spool
}

// New returns a reporter. It does nothing before Run.
func New(cfg Config) (*Reporter, error) {
	if cfg.Core == "" || cfg.AgentVersion == "" || cfg.Spool == nil || cfg.Publish == nil || cfg.DiskPath == "" {
		return nil, fault.New(fault.Invalid, "a reporter needs a core, an agent version, a spool, a publisher and a disk")
	}
	if cfg.Health <= 0 {
		cfg.Health = time.Minute
	}
	if cfg.Components <= 0 {
		cfg.Components = 5 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = logx.Discard()
	}
	return &Reporter{
		cfg: cfg, log: cfg.Log, up: make(chan struct{}, 1), nucleus: make(chan Nucleus, 64), stored: make(chan struct{}, 1),
	}, nil
}

// ConnectionUp tells that a session has begun. It never blocks.
func (r *Reporter) ConnectionUp() {
	select {
	case r.up <- struct{}{}:
	default: // one birth says it all
	}
}

// Nucleus tells what the nucleus does now. It never blocks: when the disk is so
// slow that many changes wait, the oldest of them is left out.
func (r *Reporter) Nucleus(n Nucleus) {
	for {
		select {
		case r.nucleus <- n:
			return
		default:
		}
		select {
		case <-r.nucleus:
		default:
		}
	}
}

// Will returns the report that the broker is to publish when the session ends.
// Its sequence is 0: it is not one of the spool's, and its time is when the
// session began.
func (r *Reporter) Will() (topic string, payload []byte) {
	h := r.header(0)
	b, _ := json.Marshal(protocol.ConnectionReport{ReportHeader: h, AgentVersion: r.cfg.AgentVersion}) //nolint:errchkjson // texts and a time always encode
	return protocol.AgentTopic(r.cfg.Core, protocol.ReportConnection), b
}

// Run reports until ctx is done. A disk that cannot be written is logged and
// the report lost; the device's work goes on.
func (r *Reporter) Run(ctx context.Context) error {
	return run.All(ctx, run.Loop{Name: "observe", Run: r.observe}, run.Loop{Name: "send", Run: r.send})
}

// Flush waits until everything that was told is sent, or ctx is done.
func (r *Reporter) Flush(ctx context.Context) {
	for quiet := 0; quiet < 2; { // twice, for what is between hand and disk
		if run.Sleep(ctx, 20*time.Millisecond) != nil {
			return
		}
		_, waiting, _ := r.cfg.Spool.Next()
		if waiting || len(r.nucleus) > 0 {
			quiet = 0
		} else {
			quiet++
		}
	}
}

// observe owns what was last reported.
func (r *Reporter) observe(ctx context.Context) error {
	var (
		last       Nucleus
		components []protocol.LocalComponent
		known      bool // components were reported for this nucleus

		saidNucleus, saidComponents, saidHealth uint64 // sequences; 0: never
	)
	sayNucleus := func() { saidNucleus = r.store(ctx, protocol.ReportNucleus, last.report) }
	sayComponents := func() {
		saidComponents = r.store(ctx, protocol.ReportComponents, func(h protocol.ReportHeader) any {
			return protocol.ComponentsReport{ReportHeader: h, Components: components}
		})
	}
	health := time.NewTimer(0)
	defer health.Stop()
	look := time.NewTicker(r.cfg.Components)
	defer look.Stop()
	for {
		run.Progress(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-r.up:
			r.store(ctx, protocol.ReportConnection, func(h protocol.ReportHeader) any {
				return protocol.ConnectionReport{ReportHeader: h, Connected: true, AgentVersion: r.cfg.AgentVersion}
			})
			// Whoever listens may have forgotten all it was told. What still waits in
			// the spool is said anyhow: a line that comes and goes does not fill it.
			if saidNucleus > 0 && !r.cfg.Spool.Waiting(saidNucleus) {
				sayNucleus()
			}
			if known && !r.cfg.Spool.Waiting(saidComponents) {
				sayComponents()
			}
			if saidHealth > 0 && !r.cfg.Spool.Waiting(saidHealth) {
				health.Reset(0)
			}
		case n := <-r.nucleus:
			if n == last {
				continue
			}
			known = known && n.StateFile == last.StateFile
			last = n
			sayNucleus()
		case <-health.C:
			saidHealth = r.store(ctx, protocol.ReportHealth, r.health)
			tenth := r.cfg.Health / 10
			health.Reset(r.cfg.Health - tenth/2 + rand.N(tenth+1))
		case <-look.C:
			now, ok := r.readComponents(ctx, last.StateFile)
			if !ok || known && slices.Equal(now, components) {
				continue
			}
			components, known = now, true
			sayComponents()
		}
	}
}

func (r *Reporter) header(sequence uint64) protocol.ReportHeader {
	return protocol.ReportHeader{V: protocol.AgentVersion, Core: r.cfg.Core, Sequence: sequence, Time: time.Now().UTC()}
}

func (r *Reporter) health(h protocol.ReportHeader) any {
	host := inventory.Read(r.cfg.DiskPath)
	return protocol.HealthReport{
		ReportHeader: h, AgentVersion: r.cfg.AgentVersion, UptimeSeconds: host.UptimeSeconds, Load1: host.Load1,
		MemoryUsedBytes: host.MemoryUsedBytes, MemoryBytes: host.MemoryBytes, DiskFreeBytes: host.DiskFreeBytes, DiskBytes: host.DiskBytes,
		DroppedReports: r.dropped(),
	}
}

// dropped is asked for while the spool is locked by Append, which builds the
// report; hence not Spool.Dropped.
func (r *Reporter) dropped() uint64 { return r.cfg.Spool.dropped }

// readComponents returns what the nucleus says it runs. ok is false when it does
// not say, or nothing that can be read.
func (r *Reporter) readComponents(ctx context.Context, file string) (list []protocol.LocalComponent, ok bool) {
	if file == "" {
		return nil, false
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, false // not written yet
	}
	defer f.Close() //nolint:errcheck // read only
	b, err := io.ReadAll(io.LimitReader(f, nucleus.MaxState+1))
	if err != nil {
		return nil, false
	}
	s, err := nucleus.ParseState(b)
	if err != nil {
		r.log.DebugContext(ctx, "nucleus state cannot be read", logx.Err, err)
		return nil, false
	}
	if s.Components == nil {
		s.Components = []protocol.LocalComponent{}
	}
	return s.Components, true
}

// store appends a report to the spool and returns its sequence.
func (r *Reporter) store(ctx context.Context, kind string, report func(protocol.ReportHeader) any) (sequence uint64) {
	err := r.cfg.Spool.Append(kind, func(q uint64) ([]byte, error) {
		sequence = q
		return json.Marshal(report(r.header(q)))
	})
	if err != nil {
		r.log.ErrorContext(ctx, "report is lost", "kind", kind, logx.Err, err)
		return sequence
	}
	select {
	case r.stored <- struct{}{}:
	default:
	}
	return sequence
}

// send takes reports from the spool, oldest first, one at a time: the next one
// goes out when the broker has the one before.
func (r *Reporter) send(ctx context.Context) error {
	backoff := run.Backoff{Min: time.Second, Max: time.Minute}
	for {
		rec, ok, err := r.cfg.Spool.Next()
		if err == nil && !ok {
			select {
			case <-ctx.Done():
				return nil
			case <-r.stored:
			}
			continue
		}
		if err == nil {
			err = r.cfg.Publish(ctx, protocol.AgentTopic(r.cfg.Core, rec.Kind), rec.Payload)
		}
		switch {
		case err == nil:
			backoff.Reset()
			err = r.cfg.Spool.Ack(rec.Sequence)
		case errors.Is(err, fault.Invalid):
			r.log.ErrorContext(ctx, "report is given up", "sequence", rec.Sequence, logx.Err, err)
			err = r.cfg.Spool.Skip(rec.Sequence)
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			r.log.WarnContext(ctx, "reports wait", logx.Err, err)
			if run.Sleep(ctx, backoff.Next()) != nil {
				return nil
			}
		}
	}
}
