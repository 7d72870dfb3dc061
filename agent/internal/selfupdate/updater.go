package selfupdate

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/protocol"
	"github.com/ggfleet/ggfleet/shared/run"
)

// Cloud is the control plane as this package needs it.
type Cloud interface {
	// Release appends what f lacks of the binary and syncs it.
	Release(ctx context.Context, r protocol.AgentRelease, f *os.File) error
}

// Config is what an Updater needs. Zero times get their defaults.
type Config struct {
	Dir      *localstate.Dir // required
	Cloud    Cloud           // required
	Running  Running         // what HandOver returned; required
	Version  string          // of this program; required
	Platform string          // GOOS/GOARCH; required

	// HandOver ends the agent in order, its nucleus running, and starts the
	// packaged agent in its place; required. Called once.
	HandOver func()
	// Busy says what must not be interrupted now, "" when nothing; nil: never.
	Busy func() string
	// Free returns the free bytes of the disk; nil: unknown.
	Free func() (bytes uint64, ok bool)

	Trial  time.Duration // a release on trial has so long in each round; default 10 min
	Settle time.Duration // and must run at least so long to be proven; default 1 min
	Retry  time.Duration // before a second round, four times that before a third and any later; default 10 min
	Tryout time.Duration // a release has so long to say its version; default 30 s
	Every  time.Duration // between looks when nobody wakes; default 1 min
	Log    *slog.Logger
}

// Updater does the work of self-update in the agent that runs.
type Updater struct {
	cfg     Config
	log     *slog.Logger
	started time.Time
	wake    run.Bell

	mu       sync.Mutex // guards all below
	assigned bool       // the control plane answered
	session  bool       // the broker did
	reached  time.Time  // when both had
	offer    *protocol.AgentRelease
	turnAt   time.Time // when it may be fetched
	nucleus  protocol.NucleusState
	update   protocol.AgentUpdate

	// Of the goroutine in Run.
	handed  bool                 // HandOver was called
	pause   map[string]time.Time // until when a release, by digest and signature, is let be
	backoff run.Backoff          // for what the device cannot take now
	short   shortage             // what was not taken for want of room
	steady  bool                 // the starts of the program that runs are forgotten
}

// New checks cfg and starts nothing.
func New(cfg Config) (*Updater, error) {
	if cfg.Dir == nil || cfg.Cloud == nil || cfg.Version == "" || cfg.Platform == "" || cfg.HandOver == nil {
		return nil, fault.New(fault.Invalid, "self-update needs a folder, a control plane, a version, a platform and a hand-over")
	}
	for _, d := range []struct {
		at   *time.Duration
		dflt time.Duration
	}{{&cfg.Trial, 10 * time.Minute}, {&cfg.Settle, time.Minute}, {&cfg.Retry, 10 * time.Minute}, {&cfg.Tryout, 30 * time.Second}, {&cfg.Every, time.Minute}} {
		if *d.at <= 0 {
			*d.at = d.dflt
		}
	}
	if cfg.Log == nil {
		cfg.Log = logx.Discard()
	}
	if cfg.Busy == nil {
		cfg.Busy = func() string { return "" }
	}
	if cfg.Free == nil {
		cfg.Free = func() (uint64, bool) { return 0, false }
	}
	u := &Updater{
		cfg: cfg, log: cfg.Log, started: time.Now(), wake: run.NewBell(), pause: map[string]time.Time{},
		backoff: run.Backoff{Min: cfg.Every, Max: time.Hour},
	}
	r, err := load(cfg.Dir)
	if err != nil {
		u.log.Error("record of updates is damaged and begun anew", logx.Err, err)
	}
	u.update = r.Last
	if t := r.Trial; t != nil && !t.Waiting && t.Digest != cfg.Running.Digest {
		// It was to be started before this process, and its start could not be counted.
		u.pause[t.Digest] = u.started.Add(letBe)
	}
	return u, nil
}

// About is what the control plane is told with each request for the assignment.
func (u *Updater) About() protocol.AgentAbout {
	u.mu.Lock()
	defer u.mu.Unlock()
	return protocol.AgentAbout{Version: u.cfg.Version, Update: u.update}
}

// Assigned tells that the control plane has answered, and what it offers. It
// never blocks.
func (u *Updater) Assigned(offer *protocol.AgentRelease) {
	u.tell(func() {
		if offer != nil {
			// The same answer may be told again and again: its time goes on.
			at := time.Now().Add(time.Duration(min(max(offer.WaitSeconds, 0), maxWait)) * time.Second)
			if u.offer == nil || u.offer.Digest != offer.Digest || at.Before(u.turnAt) {
				u.turnAt = at
			}
		}
		u.assigned, u.offer = true, offer
	})
}

// maxWait bounds AgentRelease.WaitSeconds.
const maxWait = 60 * 24 * 3600

// SessionUp tells that there is a session with the broker. It never blocks.
func (u *Updater) SessionUp() { u.tell(func() { u.session = true }) }

// Nucleus tells the state of the nucleus. It never blocks.
func (u *Updater) Nucleus(s protocol.NucleusState) { u.tell(func() { u.nucleus = s }) }

func (u *Updater) tell(change func()) {
	u.mu.Lock()
	change()
	if u.assigned && u.session && u.reached.IsZero() {
		u.reached = time.Now()
	}
	u.mu.Unlock()
	u.wake.Ring()
}

// seen is what the updater was told.
type seen struct {
	reached time.Time // zero: not yet
	offer   *protocol.AgentRelease
	turnAt  time.Time
	nucleus protocol.NucleusState
}

func (u *Updater) look() seen {
	u.mu.Lock()
	defer u.mu.Unlock()
	return seen{u.reached, u.offer, u.turnAt, u.nucleus}
}

func (u *Updater) say(x protocol.AgentUpdate) {
	x.Reason = fault.Clip(x.Reason, protocol.MaxUpdateReason)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.update = x
}

// Run carries trials to their end and takes what is offered, until ctx is done.
func (u *Updater) Run(ctx context.Context) error {
	if err := Supported(); err != nil {
		u.say(protocol.AgentUpdate{State: protocol.UpdateOff, Reason: err.Error()})
		<-ctx.Done()
		return nil
	}
	if err := u.prune(); err != nil {
		u.log.WarnContext(ctx, "old releases are not removed", logx.Err, err)
	}
	for ctx.Err() == nil {
		run.Progress(ctx)
		if err := u.turn(ctx); err != nil && ctx.Err() == nil {
			u.log.WarnContext(ctx, "self-update", logx.Err, err)
		}
		u.wake.Wait(ctx, u.next())
	}
	return nil
}

// next is when to look though nothing happened.
func (u *Updater) next() time.Duration {
	up := time.Since(u.started)
	for _, at := range []time.Duration{u.cfg.Settle, u.cfg.Trial} {
		if up < at {
			return min(u.cfg.Every, at-up)
		}
	}
	return u.cfg.Every
}

// turn does what is to be done now.
func (u *Updater) turn(ctx context.Context) error {
	if u.handed {
		return nil
	}
	r, err := load(u.cfg.Dir)
	if err != nil {
		r = Record{} // it is told at the start, and written anew with the next change
	}
	t := r.Trial
	switch {
	case t != nil && t.Digest == u.cfg.Running.Digest && !t.Waiting:
		return u.prove(ctx, r)
	case t != nil && t.Waiting:
		return u.judge(ctx, r)
	case t != nil: // staged, or a start that could not be counted
		return u.begin(ctx, r)
	}
	if err := u.settle(ctx, r); err != nil {
		return err
	}
	if inbox, ok := u.inbox(ctx); ok {
		return u.take(ctx, r, inbox)
	}
	if now := u.look(); now.offer != nil {
		if time.Now().Before(now.turnAt) {
			return nil
		}
		return u.take(ctx, r, u.offered(*now.offer))
	}
	return u.off()
}

// off tells the control plane when this device will never take a release.
func (u *Updater) off() error {
	keys, err := Keys(u.cfg.Dir.Site())
	if len(keys) == 0 {
		u.say(protocol.AgentUpdate{State: protocol.UpdateOff, Reason: noKeys})
	}
	return err
}

// settle forgets the starts of a proven release that has run for long enough.
func (u *Updater) settle(ctx context.Context, r Record) error {
	c := r.Committed
	if u.steady || c == nil || c.Digest != u.cfg.Running.Digest || c.Starts == 0 || time.Since(u.started) < u.cfg.Settle {
		return nil
	}
	u.steady = true
	c.Starts = 0
	return u.store(ctx, localstate.UpdateSettle, r)
}

func (u *Updater) store(_ context.Context, p localstate.Point, r Record) error {
	err := u.cfg.Dir.Do(p, func() error { return u.cfg.Dir.WriteJSON(RecordName, r) })
	if err == nil {
		u.say(r.Last)
	}
	return err
}

func (u *Updater) handOver(ctx context.Context, why string) {
	u.handed = true
	u.log.InfoContext(ctx, "another agent takes over", "why", why)
	u.cfg.HandOver()
}
