package nucleus

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	"github.com/ggfleet/ggfleet/agent/internal/telemetry"
	"github.com/ggfleet/ggfleet/installer/nucleus"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/protocol"
	"github.com/ggfleet/ggfleet/shared/run"
)

// ErrUnproven is the error of a nucleus that did not pass the health gate.
var ErrUnproven = errors.New("the nucleus did not pass the health gate")

// quiet is the time between looks at a nucleus that is proven, when only its
// log may grow: a device that idles should sleep.
const quiet = 10 * time.Second

// maxEnds is how often a nucleus on trial may end by itself.
const maxEnds = 3

// Spec is one nucleus that can run.
type Spec struct {
	Version  nucleus.Version
	Manifest nucleus.Manifest
	Program  string // absolute
	Args     []string
	Root     string // absolute; working folder, logs and state lie below it
}

// Config is what a Supervisor needs. Zero times get their defaults.
type Config struct {
	Dir      *localstate.Dir         // required
	OnStatus func(telemetry.Nucleus) // required; called on the supervisor's goroutine, must not block

	UpFor   time.Duration // without a ready file: proven when up so long; default 10 s
	Gate    time.Duration // a nucleus on trial has so long to be proven; default 2 min
	Stop    time.Duration // between SIGTERM and SIGKILL; default 15 s
	MinWait time.Duration // before a nucleus that ended is started again; default 1 s
	MaxWait time.Duration // default 5 min
	Look    time.Duration // between looks at a nucleus that is not proven; default 250 ms
	LogSize int64         // bytes of nucleus.log before it is rotated; default 5 MiB
	Log     *slog.Logger
}

func (c Config) withDefaults() (Config, error) {
	if c.Dir == nil || c.OnStatus == nil {
		return c, fault.New(fault.Invalid, "a supervisor needs a state folder and somebody to tell")
	}
	for _, d := range []struct {
		at   *time.Duration
		dflt time.Duration
	}{
		{&c.UpFor, 10 * time.Second},
		{&c.Gate, 2 * time.Minute},
		{&c.Stop, 15 * time.Second},
		{&c.MinWait, time.Second},
		{&c.MaxWait, 5 * time.Minute},
		{&c.Look, 250 * time.Millisecond},
	} {
		if *d.at <= 0 {
			*d.at = d.dflt
		}
	}
	if c.LogSize <= 0 {
		c.LogSize = 5 << 20
	}
	if c.Log == nil {
		c.Log = logx.Discard()
	}
	return c, nil
}

// Installation is what the reconcile loop has to say about a version that does
// not run yet.
type Installation struct {
	Version nucleus.Version
	Err     string // why it does not go on; empty: it does
}

// request asks the owner for a change.
type request struct {
	spec    Spec
	restart bool
	reply   chan error
}

// Supervisor runs one nucleus. The goroutine in Run owns all fields below ask.
type Supervisor struct {
	cfg  Config
	ask  chan request
	hear chan Installation

	spec     *Spec
	proc     *process
	proven   bool
	waiting  []chan error // callers of Use, until proven
	gate     time.Time    // when those callers have waited enough
	ends     int          // ends by itself since Use
	restarts int
	backoff  run.Backoff
	again    <-chan time.Time // when to start it again; nil: not
	status   telemetry.Nucleus
}

// New returns a supervisor. It does nothing before Run.
func New(cfg Config) (*Supervisor, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Supervisor{
		cfg: cfg, ask: make(chan request), hear: make(chan Installation), backoff: run.Backoff{Min: cfg.MinWait, Max: cfg.MaxWait},
		status: telemetry.Nucleus{State: protocol.NucleusAbsent},
	}, nil
}

// Use makes spec the nucleus that runs: another one is stopped first, the same
// one is left alone unless restart. It returns nil once the nucleus is proven,
// and ErrUnproven when it ended too often or took too long; it then still is
// kept running as well as can be, until the next Use.
func (s *Supervisor) Use(ctx context.Context, spec Spec, restart bool) error {
	req := request{spec: spec, restart: restart, reply: make(chan error, 1)}
	select {
	case s.ask <- req:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-req.reply:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Installing makes the status tell of an installation: as its state while there
// is no nucleus, else only what went wrong.
func (s *Supervisor) Installing(ctx context.Context, i Installation) {
	select {
	case s.hear <- i:
	case <-ctx.Done():
	}
}

// ErrHandOver, as the cause of the end of Run's context, says that another agent
// is about to take this one's place.
var ErrHandOver = errors.New("another agent takes over")

// Run supervises until ctx is done, then stops the nucleus; it leaves it to the
// next agent when the cause is ErrHandOver.
func (s *Supervisor) Run(ctx context.Context) error {
	look := time.NewTimer(s.cfg.Look)
	defer look.Stop()
	s.cfg.OnStatus(s.status)
	for {
		var ended <-chan struct{}
		if s.proc != nil {
			ended = s.proc.ended
		}
		select {
		case <-ctx.Done():
			return s.shutdown(context.Cause(ctx))
		case req := <-s.ask:
			if err := s.use(ctx, req); err != nil {
				req.reply <- err
			}
		case i := <-s.hear:
			s.tell(i)
		case <-ended:
			s.fail(ctx, s.proc.err)
		case <-s.again:
			s.again = nil
			s.launch(ctx)
		case <-look.C:
			s.look(ctx)
		}
		if s.proven || s.proc == nil && len(s.waiting) == 0 {
			look.Reset(quiet)
		} else {
			look.Reset(s.cfg.Look)
		}
	}
}

func (s *Supervisor) use(ctx context.Context, req request) error {
	same := s.spec != nil && s.spec.Version == req.spec.Version
	if same && !req.restart {
		if s.proven {
			req.reply <- nil
			return nil
		}
		s.await(req.reply)
		return nil
	}
	s.spec, s.ends = &req.spec, 0
	if err := s.replace(req.spec, req.restart); err != nil {
		return err
	}
	s.backoff.Reset()
	s.await(req.reply)
	if s.proc == nil {
		s.launch(ctx)
	}
	return nil
}

func (s *Supervisor) await(reply chan error) {
	s.waiting = append(s.waiting, reply)
	s.gate = time.Now().Add(s.cfg.Gate)
}

// replace stops what runs, unless it is a process of spec that an earlier agent
// has left: that one is taken up.
func (s *Supervisor) replace(spec Spec, restart bool) error {
	s.answer(ErrUnproven)
	s.again, s.proven = nil, false
	if s.proc == nil {
		var r record
		if err := s.cfg.Dir.ReadJSON(recordName, &r); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.cfg.Log.Warn("record of the nucleus process cannot be read", logx.Err, err)
		}
		pid, began, ok := r.alive()
		if !ok {
			return nil
		}
		s.proc = adopt(pid, began)
		if r.Digest == spec.Version.Digest && !restart {
			s.cfg.Log.Info("nucleus of an earlier agent is taken up", "pid", pid)
			r.PID, r.Start = pid, began
			s.set(spec, protocol.NucleusStarting, pid, "")
			return s.cfg.Dir.Do(localstate.NucleusRecord, func() error { return s.cfg.Dir.WriteJSON(recordName, r) })
		}
	}
	err := s.proc.stop(s.cfg.Stop)
	s.proc = nil
	return err
}

// launch starts the nucleus; a failure counts as an end.
func (s *Supervisor) launch(ctx context.Context) {
	p, err := s.begin()
	if p != nil {
		s.proc, s.proven = p, false
		s.cfg.Log.InfoContext(ctx, "nucleus started", "pid", p.pid, "version", s.spec.Version.Version)
		s.set(*s.spec, protocol.NucleusStarting, p.pid, s.status.LastError)
	}
	if err == nil {
		return
	}
	if p != nil {
		err = errors.Join(err, p.stop(s.cfg.Stop)) // an unrecorded nucleus could be started twice
	}
	s.fail(ctx, err)
}

// begin stores that a start is about to happen, starts, and stores what was
// started.
func (s *Supervisor) begin() (p *process, err error) {
	logs := filepath.Join(s.spec.Root, "logs")
	if err := os.MkdirAll(logs, 0o750); err != nil {
		return nil, err
	}
	if s.spec.Manifest.ReadyFile != "" {
		if err := os.Remove(readyPath(*s.spec)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	r := record{Token: rand.Text(), Digest: s.spec.Version.Digest, Boot: bootID()}
	write := func() error { return s.cfg.Dir.WriteJSON(recordName, r) }
	if err := s.cfg.Dir.Do(localstate.NucleusIntent, write); err != nil {
		return nil, err
	}
	err = s.cfg.Dir.Do(localstate.NucleusStart, func() error {
		p, err = start(*s.spec, r.Token, filepath.Join(logs, "nucleus.log"))
		return err
	})
	if err != nil {
		return p, err
	}
	r.PID = p.pid
	r.Start, _ = startOf(p.pid)
	if r.Start == 0 {
		return p, nil // it has ended already; the loop will see
	}
	return p, s.cfg.Dir.Do(localstate.NucleusRecord, write)
}

// fail notes that the nucleus ended by itself and when it starts again.
func (s *Supervisor) fail(ctx context.Context, cause error) {
	if s.proc != nil {
		if err := signalGroup(s.proc.pid, 9); err != nil { // what it left behind
			cause = errors.Join(cause, err)
		}
		if s.proven && time.Since(s.proc.since) > s.cfg.MaxWait {
			s.backoff.Reset()
		}
	}
	s.proc, s.proven = nil, false
	s.ends++
	s.restarts++
	wait := s.backoff.Next()
	s.again = time.After(wait)
	s.cfg.Log.WarnContext(ctx, "nucleus ended, will be started again", "after", wait, logx.Err, cause)
	s.set(*s.spec, protocol.NucleusFailed, 0, fmt.Sprintf("ended: %v", cause))
	if s.ends >= maxEnds {
		s.answer(fmt.Errorf("%w: it ended %d times, last with %w", ErrUnproven, s.ends, cause))
	}
}

// look is the health gate, and keeps the log small.
func (s *Supervisor) look(ctx context.Context) {
	if s.spec == nil {
		return
	}
	if err := rotate(filepath.Join(s.spec.Root, "logs", "nucleus.log"), s.cfg.LogSize); err != nil {
		s.cfg.Log.WarnContext(ctx, "nucleus log cannot be rotated", logx.Err, err)
	}
	if s.proc != nil && !s.proven && s.works() {
		s.proven = true
		s.set(*s.spec, protocol.NucleusRunning, s.proc.pid, "")
		s.answer(nil)
	}
	if len(s.waiting) > 0 && !time.Now().Before(s.gate) {
		s.answer(fmt.Errorf("%w: it was not ready after %s", ErrUnproven, s.cfg.Gate))
	}
}

func (s *Supervisor) works() bool {
	if s.spec.Manifest.ReadyFile != "" {
		return ready(*s.spec)
	}
	return time.Since(s.proc.since) >= s.cfg.UpFor
}

// answer tells everyone who waits for the proof.
func (s *Supervisor) answer(err error) {
	for _, w := range s.waiting {
		w <- err
	}
	s.waiting = nil
}

func (s *Supervisor) set(spec Spec, state protocol.NucleusState, pid int, lastError string) {
	s.status = telemetry.Nucleus{
		State: state, Name: spec.Version.Name, Version: spec.Version.Version, PID: pid, Restarts: s.restarts, LastError: lastError,
	}
	if f := spec.Manifest.StateFile; f != "" {
		s.status.StateFile = filepath.Join(spec.Root, filepath.FromSlash(f))
	}
	s.cfg.OnStatus(s.status)
}

func (s *Supervisor) tell(i Installation) {
	if s.spec == nil {
		s.status = telemetry.Nucleus{State: protocol.NucleusInstalling, Name: i.Version.Name, Version: i.Version.Version, LastError: i.Err}
	} else if i.Err != "" {
		s.status.LastError = i.Err
	}
	s.cfg.OnStatus(s.status)
}

// shutdown stops the nucleus because the agent was told to stop, or leaves it.
func (s *Supervisor) shutdown(cause error) error {
	s.answer(context.Canceled)
	if s.proc == nil || errors.Is(cause, ErrHandOver) {
		return nil
	}
	err := s.proc.stop(s.cfg.Stop)
	s.proc = nil
	s.set(*s.spec, protocol.NucleusStopped, 0, "")
	return err
}
