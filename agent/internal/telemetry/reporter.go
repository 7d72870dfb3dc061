package telemetry

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"time"

	"github.com/ggfleet/ggfleet/agent/internal/inventory"
	"github.com/ggfleet/ggfleet/agent/internal/nucleusfacts"
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
	StateFile string // absolute; empty when the runtime does not tell what it runs in one
	Runtime   string // simulated, classic or lite; empty: not known
	Root      string // absolute
	Adopted   bool   // it was there before the agent
}

// Publish sends one report and returns once it is acknowledged. An error of
// kind fault.Invalid says that it can never be sent.
type Publish func(ctx context.Context, topic string, payload []byte) error

// Config is what a Reporter needs.
type Config struct {
	Subject      protocol.Subject // required
	AgentVersion string           // required
	Spool        *Spool           // required
	Publish      Publish          // required
	DiskPath     string           // whose file system is reported; required

	Host  *inventory.Reader    // nil: this machine
	Facts *nucleusfacts.Reader // nil: of this machine

	// ClockOffset tells how far the device's clock is ahead of the control plane's;
	// false when that is not known. Nil: it never is.
	ClockOffset func() (time.Duration, bool)
	// Certificates tells when the agent's certificate and that of its device's
	// thing end; zero: not known. Nil: they never are.
	Certificates func() (agent, device time.Time)

	// TakenOver tells when another agent with this identity last took the session;
	// zero: never. Nil: that is not known.
	TakenOver func() time.Time

	Health     time.Duration // between health reports when nothing changes, spread by a tenth; default 5 min
	Components time.Duration // between looks at what the nucleus knows; default 5 s
	Log        *slog.Logger
}

// looks is how often the host is looked at between two heartbeats, not more
// often than every 30 s: a device that idles should sleep.
const looks = 10

// Reporter writes reports to the spool and sends them from there.
type Reporter struct {
	cfg     Config
	log     *slog.Logger
	up      run.Bell // a session has begun; one birth says it all
	nucleus chan Nucleus
	stored  run.Bell // something new is in the spool
}

// New returns a reporter. It does nothing before Run.
func New(cfg Config) (*Reporter, error) {
	if cfg.Subject.Name == "" || cfg.AgentVersion == "" || cfg.Spool == nil || cfg.Publish == nil || cfg.DiskPath == "" {
		return nil, fault.New(fault.Invalid, "a reporter needs a subject, an agent version, a spool, a publisher and a disk")
	}
	if cfg.Host == nil {
		cfg.Host = inventory.New("/")
	}
	if cfg.Facts == nil {
		cfg.Facts = nucleusfacts.New(nucleusfacts.Config{Log: cfg.Log})
	}
	if cfg.Health <= 0 {
		cfg.Health = 5 * time.Minute
	}
	if cfg.Components <= 0 {
		cfg.Components = 5 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = logx.Discard()
	}
	return &Reporter{
		cfg: cfg, log: cfg.Log, up: run.NewBell(), nucleus: make(chan Nucleus, 64), stored: run.NewBell(),
	}, nil
}

// ConnectionUp tells that a session has begun. It never blocks.
func (r *Reporter) ConnectionUp() { r.up.Ring() }

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
	h := r.cfg.Subject.Header(0, time.Now())
	b, _ := json.Marshal(protocol.ConnectionReport{ReportHeader: h, AgentVersion: r.cfg.AgentVersion}) //nolint:errchkjson // texts and a time always encode
	return r.cfg.Subject.ReportTopic(protocol.ReportConnection), b
}

// Run reports until ctx is done. A disk that cannot be written is logged and
// told; the device's work goes on.
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

// store appends a report to the spool and returns its sequence.
func (r *Reporter) store(ctx context.Context, kind string, report func(protocol.ReportHeader, Condition) any) (sequence uint64) {
	before := r.cfg.Spool.Condition().Trouble
	err := r.cfg.Spool.Append(kind, func(q uint64, c Condition) ([]byte, error) {
		sequence = q
		return json.Marshal(report(r.cfg.Subject.Header(q, time.Now()), c))
	})
	if err != nil {
		r.log.ErrorContext(ctx, "report is lost", "kind", kind, logx.Err, err)
		return sequence
	}
	switch now := r.cfg.Spool.Condition().Trouble; {
	case now != nil && before == nil:
		r.log.ErrorContext(ctx, "reports are kept in memory, the disk takes none", logx.Err, now)
	case now == nil && before != nil:
		r.log.InfoContext(ctx, "reports are kept on disk again")
	}
	r.stored.Ring()
	return sequence
}

// unreadable is how often a report that the disk does not give is asked for
// before it is given up.
const unreadable = 5

// send takes reports from the spool, oldest first, one at a time: the next one
// goes out when the broker has the one before. Several at once would be faster
// after weeks without a line, and would come out of order after each loss of it.
func (r *Reporter) send(ctx context.Context) error {
	backoff := run.Backoff{Min: time.Second, Max: time.Minute}
	for failures := 0; ; {
		rec, ok, err := r.cfg.Spool.Next()
		if err == nil && !ok {
			select {
			case <-ctx.Done():
				return nil
			case <-r.stored:
			}
			continue
		}
		if err != nil {
			if failures++; failures >= unreadable {
				err = fault.New(fault.Invalid, "%v", err)
			}
		} else {
			failures = 0
			err = r.cfg.Publish(ctx, r.cfg.Subject.ReportTopic(rec.Kind), rec.Payload)
		}
		switch {
		case err == nil:
			backoff.Reset()
			r.cfg.Spool.Ack(rec.Sequence)
		case errors.Is(err, fault.Invalid):
			r.log.ErrorContext(ctx, "report is given up", "sequence", rec.Sequence, logx.Err, err)
			r.cfg.Spool.Skip(rec.Sequence)
			err, failures = nil, 0
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
