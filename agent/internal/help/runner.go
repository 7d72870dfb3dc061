package help

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/ggfleet/ggfleet/agent/internal/consent"
	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/protocol"
	"github.com/ggfleet/ggfleet/shared/run"
)

// Config is what a Runner needs. Dir, Cloud and Device are required.
type Config struct {
	Dir    *localstate.Dir
	Cloud  Cloud
	Device Device

	// Every is the time between looks at what waits, spread by a fifth; default 5
	// min. A notice (Wake) makes it look at once.
	Every   time.Duration
	MinWait time.Duration // after the first failure, doubling up to a minute; default 1 s
	Log     *slog.Logger
}

// Runner does what is asked.
type Runner struct {
	cfg  Config
	log  *slog.Logger
	wake run.Bell

	mu      sync.Mutex
	working map[string]bool // requests under way
}

// New checks cfg. Nothing happens before Run.
func New(cfg Config) (*Runner, error) {
	if cfg.Dir == nil || cfg.Cloud == nil || cfg.Device == nil {
		return nil, fault.New(fault.Invalid, "remote help needs a folder, a control plane and a device")
	}
	if cfg.Every <= 0 {
		cfg.Every = 5 * time.Minute
	}
	if cfg.MinWait <= 0 {
		cfg.MinWait = time.Second
	}
	if cfg.Log == nil {
		cfg.Log = logx.Discard()
	}
	return &Runner{cfg: cfg, log: cfg.Log, wake: run.NewBell(), working: map[string]bool{}}, nil
}

// Wake tells that a request may wait. It never blocks.
func (r *Runner) Wake() { r.wake.Ring() }

// Run does what is asked until ctx is done, a few requests at once: a bundle on a
// thin line does not hold up the lines of a log.
func (r *Runner) Run(ctx context.Context) error {
	backoff := run.Backoff{Min: r.cfg.MinWait, Max: r.cfg.Every}
	var wg sync.WaitGroup
	defer wg.Wait()
	for ctx.Err() == nil {
		list, err := r.cfg.Cloud.Help(ctx)
		if err != nil {
			wait := backoff.Next()
			if ctx.Err() == nil {
				r.log.WarnContext(ctx, "requests for help wait, will try again", "after", wait, logx.Err, err)
			}
			_ = run.Sleep(ctx, wait) // a notice is no reason to hurry
			continue
		}
		backoff.Reset()
		for _, o := range list.Requests {
			if r.begin(o.ID) {
				wg.Go(func() {
					defer r.ended(o.ID)
					r.help(ctx, o.ID)
				})
			}
		}
		r.wake.Wait(ctx, run.Spread(r.cfg.Every))
	}
	return nil
}

// begin notes that a request is under way; false: it is already, or too many
// are.
func (r *Runner) begin(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.working[id] || len(r.working) >= protocol.MaxHelpOpen {
		return false
	}
	r.working[id] = true
	return true
}

func (r *Runner) ended(id string) {
	r.mu.Lock()
	full := len(r.working) >= protocol.MaxHelpOpen
	delete(r.working, id)
	r.mu.Unlock()
	if full {
		r.Wake() // another one may have had to wait
	}
}

// help does one request.
func (r *Runner) help(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(ctx, protocol.HelpPatience)
	defer cancel()
	var order protocol.HelpOrder
	runID := names.NewUUID()
	err := r.persist(ctx, "taking", func() error {
		return r.cfg.Dir.Do(localstate.HelpTake, func() (err error) {
			order, err = r.cfg.Cloud.TakeHelp(ctx, id, protocol.HelpTake{Run: runID})
			return err
		})
	})
	if err != nil {
		r.log.InfoContext(ctx, "request for help is over before it began", "request", id, logx.Err, err)
		return
	}
	result, err := r.carryOut(ctx, id, runID, order.HelpAsk)
	if err != nil {
		r.log.WarnContext(ctx, "request for help is given up", "request", id, logx.Err, err)
		return
	}
	err = r.persist(ctx, "reporting", func() error {
		return r.cfg.Dir.Do(localstate.HelpReport, func() error { return r.cfg.Cloud.ReportHelp(ctx, id, result) })
	})
	if err != nil {
		r.log.WarnContext(ctx, "end of a request for help not reported", "request", id, "outcome", string(result.Outcome), logx.Err, err)
		return
	}
	r.log.Log(ctx, level(order.HelpAsk), "request for help ended", "request", id, "outcome", string(result.Outcome), "bytes", result.Size)
	if result.Size > 0 {
		debug.FreeOSMemory() // a device that idles gives back what a bundle took
	}
}

// persist calls f until it succeeds, or fails in a way that stays, or ctx is
// done.
func (r *Runner) persist(ctx context.Context, what string, f func() error) error {
	backoff := run.Backoff{Min: r.cfg.MinWait, Max: time.Minute}
	for {
		err := f()
		if err == nil || errors.Is(err, errRefused) || stays(err) {
			return err
		}
		wait := backoff.Next()
		r.log.InfoContext(ctx, "help waits for the control plane", "step", what, "after", wait, logx.Err, err)
		if run.Sleep(ctx, wait) != nil {
			return err
		}
	}
}

func stays(err error) bool {
	return slices.Contains([]fault.Kind{fault.Invalid, fault.NotFound, fault.Conflict, fault.TooLarge}, fault.KindOf(err))
}

// level is how loud a request is: somebody who follows the agent's own log must
// not be told of that all the time.
func level(a protocol.HelpAsk) slog.Level {
	if a.Kind == protocol.HelpLogsRange {
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// permission is what the owner must allow for a kind.
func permission(k protocol.HelpKind) consent.Permission {
	switch k {
	case protocol.HelpLogsTail, protocol.HelpLogsRange:
		return consent.Logs
	case protocol.HelpBundle:
		return consent.Bundle
	case protocol.HelpRestart:
		return consent.Restart
	case protocol.HelpDiagnose:
	}
	return consent.Diagnostics
}

// carryOut does what is asked and says how it ended. An error says that the
// control plane does not want to know.
func (r *Runner) carryOut(ctx context.Context, id, runID string, ask protocol.HelpAsk) (protocol.HelpResult, error) {
	result := protocol.HelpResult{Run: runID}
	failed := func(outcome protocol.HelpOutcome, message string) (protocol.HelpResult, error) {
		return protocol.HelpResult{Run: runID, Outcome: outcome, Message: fault.Clip(text(message), protocol.MaxHelpMessage)}, nil
	}
	if err := ask.Check(); err != nil {
		return failed(protocol.HelpFailed, "this agent does not do what was asked: "+err.Error())
	}
	p := permission(ask.Kind)
	may := func() bool { return consent.Allowed(r.cfg.Dir.Path(""), p) }
	if !may() {
		return failed(protocol.HelpRefused, r.refusal(p))
	}
	r.log.Log(ctx, level(ask), "help is given", "request", id, "kind", string(ask.Kind), "of", ask.Of+ask.Diagnostic, "component", ask.Component)
	out := r.sending(ctx, id, runID, may)
	err := r.do(ctx, ask, out, &result)
	if err == nil {
		err = out.end(&result)
	}
	switch {
	case err == nil:
		result.Outcome = protocol.HelpDone
		return result, nil
	case errors.Is(err, errRefused):
		return failed(protocol.HelpRefused, r.refusal(p))
	case ctx.Err() != nil:
		return result, ctx.Err()
	case errors.Is(err, errOver):
		return result, err
	}
	return failed(protocol.HelpFailed, err.Error())
}

// errOver marks errors of the control plane that say that nobody waits any more.
var errOver = errors.New("the request is over")

func (r *Runner) refusal(p consent.Permission) string {
	root := ""
	if site := r.cfg.Dir.Site(); site != localstate.DefaultRoot {
		root = " --root " + site
	}
	return fmt.Sprintf("the owner of this device does not allow %s; on the device, 'ggfleet-agent allow %s%s' does", p, p, root)
}

func (r *Runner) do(ctx context.Context, ask protocol.HelpAsk, out *sending, result *protocol.HelpResult) error {
	var m Mark
	var err error
	switch ask.Kind {
	case protocol.HelpLogsTail, protocol.HelpLogsRange:
		var l Log
		if l, err = r.cfg.Device.Log(ask.Of, ask.Component); err != nil {
			return err
		}
		if ask.Kind == protocol.HelpLogsTail {
			m, err = l.Tail(ctx, out, ask.Lines, ask.Since)
		} else {
			m, err = l.Range(ctx, out, ask.From, ask.Length, time.Duration(ask.WaitSeconds)*time.Second)
		}
		result.Next, result.Lost, result.More = m.Next, m.Lost, m.More
	case protocol.HelpBundle:
		err = r.cfg.Device.Bundle(ctx, out)
	case protocol.HelpRestart:
		err = r.cfg.Dir.Do(localstate.HelpRestart, func() error { return r.cfg.Device.Restart(ctx, ask.Of, ask.Component) })
	case protocol.HelpDiagnose:
		err = r.cfg.Device.Diagnose(ctx, ask.Diagnostic, out)
	}
	return err
}
