package nucleus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ggfleet/ggfleet/agent/internal/telemetry"
	"github.com/ggfleet/ggfleet/installer/nucleus"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/protocol"
	"github.com/ggfleet/ggfleet/shared/run"
)

// Installation is what the reconcile loop has to say about a version that does
// not run yet.
type Installation struct {
	Version nucleus.Version
	Err     string // why it does not go on; empty: it does
}

// request asks the owner for a change. Without a spec: the same again.
type request struct {
	spec    *Spec
	restart bool
	stop    bool // only end it
	reply   chan error
}

// Supervisor runs one nucleus. The goroutine in Run owns the fields below ask.
type Supervisor struct {
	cfg  Config
	ask  chan request
	hear chan Installation

	spec     *Spec
	by       runner
	run      running
	seen     int // ends that run itself told of
	proven   bool
	since    time.Time
	waiting  []chan error // callers of Use, until proven
	gate     time.Time    // when those callers have waited enough
	ends     int          // by itself since Use
	asked    int          // of those, to be started again
	restarts int
	backoff  run.Backoff
	again    <-chan time.Time // when to start it again; nil: not
	status   telemetry.Nucleus

	mu     sync.Mutex // guards health
	health Health
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
	return s.request(ctx, request{spec: &spec, restart: restart, reply: make(chan error, 1)})
}

// Restart restarts what runs and returns nil once it is proven again. Without a
// nucleus it is fault.NotFound.
func (s *Supervisor) Restart(ctx context.Context) error {
	return s.request(ctx, request{restart: true, reply: make(chan error, 1)})
}

// Stop ends the nucleus of spec, started by whomever, and keeps it so until the
// next Use.
func (s *Supervisor) Stop(ctx context.Context, spec Spec) error {
	return s.request(ctx, request{spec: &spec, restart: true, stop: true, reply: make(chan error, 1)})
}

func (s *Supervisor) request(ctx context.Context, req request) error {
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

// Run supervises until ctx is done. It then stops a nucleus that is a process of
// the agent, unless the cause is ErrHandOver; services go on.
func (s *Supervisor) Run(ctx context.Context) error {
	look := time.NewTimer(s.cfg.Look)
	defer look.Stop()
	s.cfg.OnStatus(s.status)
	for {
		var gone <-chan struct{}
		if s.run != nil {
			gone = s.run.gone()
		}
		select {
		case <-ctx.Done():
			return s.shutdown(context.WithoutCancel(ctx), context.Cause(ctx))
		case req := <-s.ask:
			if err := s.use(ctx, req); err != nil {
				req.reply <- err
			}
		case i := <-s.hear:
			s.tell(i)
		case <-gone:
			s.look(ctx)
		case <-s.again:
			s.again = nil
			s.launch(ctx)
		case <-look.C:
			s.look(ctx)
		}
		look.Reset(s.pause())
		s.note()
	}
}

// pause is how long until the next look.
func (s *Supervisor) pause() time.Duration {
	if s.by == nil {
		return quietService
	}
	unproven, proven := s.by.look()
	if s.proven || s.run == nil && len(s.waiting) == 0 {
		return proven
	}
	return unproven
}

func (s *Supervisor) use(ctx context.Context, req request) error {
	if req.spec == nil {
		if s.spec == nil {
			return fault.New(fault.NotFound, "there is no nucleus to restart on this device")
		}
		req.spec = s.spec
	}
	same := s.spec != nil && s.spec.Version == req.spec.Version && s.spec.Launch.Unit == req.spec.Launch.Unit
	if same && !req.restart {
		if s.proven {
			req.reply <- nil
			return nil
		}
		s.await(req.reply)
		return nil
	}
	if err := s.replace(ctx, *req.spec, req.restart); err != nil {
		return err
	}
	s.backoff.Reset()
	if req.stop {
		s.set(*s.spec, protocol.NucleusStopped, 0, "")
		s.spec, s.by = nil, nil
		req.reply <- nil
		return nil
	}
	s.await(req.reply)
	if s.run == nil {
		s.launch(ctx)
	}
	return nil
}

func (s *Supervisor) await(reply chan error) {
	s.waiting = append(s.waiting, reply)
	s.gate = time.Now().Add(s.cfg.Gate)
}

// replace stops what runs, unless it is the nucleus of spec that an earlier agent
// or the host has started: that one is taken up.
func (s *Supervisor) replace(ctx context.Context, spec Spec, restart bool) error {
	s.answer(ErrUnproven)
	by, err := s.runner(spec)
	if err != nil {
		return err
	}
	s.again, s.proven, s.ends, s.asked, s.seen = nil, false, 0, 0, 0
	if s.run != nil {
		err := s.run.stop(ctx)
		if s.run = nil; err != nil {
			return err
		}
	}
	s.spec, s.by = &spec, by
	if s.cfg.System != nil && len(spec.Instead) > 0 {
		if err := (services{&s.cfg, spec}).stopUnits(ctx, spec.Instead); err != nil {
			return err
		}
	}
	if spec.Launch.Unit != "" { // a process that was left must not run beside the services
		if err := s.stopLeft(ctx); err != nil {
			return err
		}
	}
	found, same, err := by.find(ctx)
	if err != nil || found == nil {
		return err
	}
	if same && !restart {
		s.run = found
		s.set(spec, protocol.NucleusStarting, found.look(ctx).pid, "")
		return nil
	}
	return found.stop(ctx)
}

func (s *Supervisor) runner(spec Spec) (runner, error) {
	if spec.Launch.Unit == "" {
		return newProcesses(&s.cfg, spec)
	}
	if s.cfg.System == nil {
		return nil, fault.New(fault.Unsupported, "unit %s cannot be run: this host has no systemd", spec.Launch.Unit)
	}
	return services{&s.cfg, spec}, nil
}

// launch starts the nucleus; a failure counts as an end.
func (s *Supervisor) launch(ctx context.Context) {
	r, err := s.by.start(ctx)
	if err == nil {
		st := r.look(ctx)
		s.run, s.proven, s.seen = r, false, 0
		s.cfg.Log.InfoContext(ctx, "nucleus started", "pid", st.pid, "version", s.spec.Version.Version)
		s.set(*s.spec, protocol.NucleusStarting, st.pid, s.status.LastError)
		return
	}
	if r != nil {
		err = errors.Join(err, r.stop(ctx)) // an unrecorded nucleus could be started twice
	}
	s.ended(ctx, sight{err: err})
}

// look sees how the nucleus is: whether it has ended, was brought back, or is
// proven.
func (s *Supervisor) look(ctx context.Context) {
	if s.run != nil {
		st := s.run.look(ctx)
		if n := st.ends - s.seen; n > 0 {
			s.broughtBack(ctx, st, n)
		}
		switch {
		case !st.up:
			s.ended(ctx, st)
		case !s.proven:
			s.prove(ctx, st)
		}
	}
	if len(s.waiting) > 0 && !time.Now().Before(s.gate) {
		s.answer(fmt.Errorf("%w: it was not ready after %s", ErrUnproven, s.cfg.Gate))
	}
}

// prove passes the health gate when what is seen is proof.
func (s *Supervisor) prove(ctx context.Context, st sight) {
	if !st.ready && (!st.silent || st.err != nil || st.age < s.by.upFor()) {
		return
	}
	if s.spec.Intact != nil {
		if err := s.spec.Intact(ctx); err != nil {
			s.answer(fmt.Errorf("%w: %w", ErrUnproven, err))
			return
		}
	}
	s.proven, s.since = true, time.Now()
	s.set(*s.spec, protocol.NucleusRunning, st.pid, "")
	s.answer(nil)
}

// broughtBack notes that something else started the nucleus again n times.
func (s *Supervisor) broughtBack(ctx context.Context, st sight, n int) {
	s.seen, s.proven = st.ends, false
	s.ends += n
	s.restarts += n
	s.cfg.Log.WarnContext(ctx, "nucleus was restarted by the service manager", "times", s.ends)
	s.set(*s.spec, protocol.NucleusFailed, st.pid, fmt.Sprintf("the service manager has restarted it %d times", s.ends))
	s.tooOften(errors.New("the service manager restarted it"))
}

// ended notes that the nucleus ended and when it starts again.
func (s *Supervisor) ended(ctx context.Context, st sight) {
	if s.proven && time.Since(s.since) > s.cfg.MaxWait {
		s.backoff.Reset()
	}
	s.run, s.proven, s.seen = nil, false, 0
	s.restarts++
	if st.again && s.asked < maxEnds { // it wants to be started again: that is no failure
		s.asked++
		s.again = time.After(0)
		s.set(*s.spec, protocol.NucleusStarting, 0, s.status.LastError)
		return
	}
	s.ends++
	wait := s.backoff.Next()
	s.again = time.After(wait)
	s.cfg.Log.WarnContext(ctx, "nucleus ended, will be started again", "after", wait, "times", s.ends, logx.Err, st.err)
	text := fmt.Sprintf("ended: %v", st.err)
	if s.ends > maxEnds {
		text = fmt.Sprintf("ended %d times, last: %v; it is started again after %s", s.ends, st.err, wait.Round(time.Second))
	}
	s.set(*s.spec, protocol.NucleusFailed, 0, text)
	s.tooOften(st.err)
}

func (s *Supervisor) tooOften(cause error) {
	if s.ends >= maxEnds {
		s.answer(fmt.Errorf("%w: it ended %d times, last with %w", ErrUnproven, s.ends, cause))
	}
}

// answer tells everyone who waits for the proof.
func (s *Supervisor) answer(err error) {
	for _, w := range s.waiting {
		w <- err
	}
	s.waiting = nil
}

// shutdown stops the nucleus because the agent was told to stop, or leaves it.
func (s *Supervisor) shutdown(ctx context.Context, cause error) error {
	s.answer(context.Canceled)
	if errors.Is(cause, ErrHandOver) {
		return nil
	}
	if s.spec == nil { // told to stop before it took up what an agent before has left
		return s.stopLeft(ctx)
	}
	if s.run == nil || s.by.remains() {
		return nil
	}
	err := s.run.stop(ctx)
	s.run = nil
	s.set(*s.spec, protocol.NucleusStopped, 0, "")
	return err
}
