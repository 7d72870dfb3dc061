package patch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"time"

	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	"github.com/ggfleet/ggfleet/agent/internal/marked"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/protocol"
	"github.com/ggfleet/ggfleet/shared/run"
)

// Cloud is the control plane as this package needs it. fault.Conflict and
// fault.NotFound say that a patch is over.
type Cloud interface {
	Patches(ctx context.Context) (protocol.PatchList, error)
	TakePatch(ctx context.Context, id string, t protocol.PatchTake) (protocol.PatchOrder, error)
	PatchPlaybook(ctx context.Context, id string) ([]byte, error)
	ReportPatch(ctx context.Context, id string, r protocol.PatchResult) error
}

// Config is what a Runner needs.
type Config struct {
	Dir   *localstate.Dir // required
	Cloud Cloud           // required
	CAPEM string          // what links of the control plane are to be trusted by, beside the system's own

	// Every is the time between looks at what waits, spread by a fifth; default 5
	// min. A notice (Wake) makes it look at once.
	Every   time.Duration
	MinWait time.Duration // after the first failure, doubling up to Every; default 1 s
	// Grace is the time between asking a playbook to stop and killing it; default 10 s.
	Grace time.Duration
	Log   *slog.Logger
}

// Runner runs patches.
type Runner struct {
	cfg  Config
	log  *slog.Logger
	wake run.Bell
}

// New checks cfg. Nothing happens before Run.
func New(cfg Config) (*Runner, error) {
	if cfg.Dir == nil || cfg.Cloud == nil {
		return nil, fault.New(fault.Invalid, "patches need a folder and a control plane")
	}
	if cfg.Every <= 0 {
		cfg.Every = 5 * time.Minute
	}
	if cfg.MinWait <= 0 {
		cfg.MinWait = time.Second
	}
	if cfg.Grace <= 0 {
		cfg.Grace = 10 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = logx.Discard()
	}
	return &Runner{cfg: cfg, log: cfg.Log, wake: run.NewBell()}, nil
}

// Wake tells that a patch may wait. It never blocks.
func (r *Runner) Wake() { r.wake.Ring() }

// Run runs what waits until ctx is done. A playbook that runs then is stopped.
func (r *Runner) Run(ctx context.Context) error {
	backoff := run.Backoff{Min: r.cfg.MinWait, Max: r.cfg.Every}
	for ctx.Err() == nil {
		if err := r.round(ctx); err != nil {
			wait := backoff.Next()
			if ctx.Err() == nil {
				r.log.WarnContext(ctx, "patches wait, will try again", "after", wait, logx.Err, err)
			}
			_ = run.Sleep(ctx, wait) // a notice is no reason to hurry
			continue
		}
		backoff.Reset()
		r.wake.Wait(ctx, run.Spread(r.cfg.Every))
	}
	return nil
}

// round finishes what was begun, then runs what waits.
func (r *Runner) round(ctx context.Context) error {
	j, err := r.load()
	if err != nil {
		return err
	}
	if j.ID != "" {
		if j.State == running {
			r.interrupted(ctx, &j)
		}
		if _, err := r.carryOn(ctx, j); err != nil {
			return err
		}
	}
	for ended := true; ended; {
		ended = false // a list of which nothing could be taken is not asked for again at once
		list, err := r.cfg.Cloud.Patches(ctx)
		if err != nil {
			return fmt.Errorf("asking what waits: %w", err)
		}
		for _, p := range list.Patches {
			j := journal{ID: p.ID, Attempt: p.Attempt, Run: names.NewUUID(), State: taking}
			if err := r.cfg.Dir.Do(localstate.PatchIntent, func() error { return r.store(j) }); err != nil {
				return err
			}
			reported, err := r.carryOn(ctx, j)
			if err != nil {
				return err
			}
			ended = ended || reported
		}
	}
	return nil
}

// carryOn brings the patch of j to its end and tells whether there was a result
// to report. It is repeated after an error.
func (r *Runner) carryOn(ctx context.Context, j journal) (reported bool, err error) {
	if j.State == taking {
		done, err := r.work(ctx, &j)
		if err != nil || done {
			return false, err
		}
	}
	err = r.cfg.Dir.Do(localstate.PatchReport, func() error { return r.cfg.Cloud.ReportPatch(ctx, j.ID, *j.Result) })
	if slices.Contains([]fault.Kind{fault.Invalid, fault.NotFound, fault.Conflict, fault.TooLarge}, fault.KindOf(err)) {
		r.log.ErrorContext(ctx, "patch result is given up", "patch", j.ID, logx.Err, err)
	} else if err != nil {
		return false, fmt.Errorf("reporting patch %s: %w", j.ID, err)
	}
	r.log.InfoContext(ctx, "patch ended", "patch", j.ID, "success", j.Result.Success)
	return true, r.forget()
}

// work takes the patch and runs it; j has its result then. done tells that there
// was nothing to run any more.
func (r *Runner) work(ctx context.Context, j *journal) (done bool, err error) {
	var order protocol.PatchOrder
	err = r.cfg.Dir.Do(localstate.PatchCall, func() (err error) {
		order, err = r.cfg.Cloud.TakePatch(ctx, j.ID, protocol.PatchTake{Attempt: j.Attempt, Run: j.Run})
		return err
	})
	if over(err) {
		r.log.InfoContext(ctx, "patch is over before it began", "patch", j.ID, logx.Err, err)
		return true, r.forget()
	}
	if err != nil {
		return false, fmt.Errorf("taking patch %s: %w", j.ID, err)
	}
	prepared, problem, err := r.prepare(ctx, order, *j)
	if over(err) {
		problem, err = protocol.PatchNotRun+": the control plane has no playbook any more", nil
	}
	if err != nil {
		return false, fmt.Errorf("preparing patch %s: %w", j.ID, err)
	}
	if problem != "" {
		return false, r.end(j, false, problem)
	}
	j.State = running
	if err := r.cfg.Dir.Do(localstate.PatchStart, func() error { return r.store(*j) }); err != nil {
		return false, err
	}
	var success bool
	var message string
	r.log.InfoContext(ctx, "patch runs", "patch", j.ID, "attempt", j.Attempt)
	err = r.cfg.Dir.Do(localstate.PatchRun, func() error {
		success, message = prepared.run(ctx)
		return nil
	})
	return false, errors.Join(err, r.end(j, success, message))
}

func over(err error) bool {
	return errors.Is(err, fault.Conflict) || errors.Is(err, fault.NotFound) || errors.Is(err, fault.Invalid)
}

// end stores how the patch ended.
func (r *Runner) end(j *journal, success bool, message string) error {
	j.State = ended
	j.Result = &protocol.PatchResult{Attempt: j.Attempt, Run: j.Run, Success: success, Message: message}
	return r.cfg.Dir.Do(localstate.PatchEnd, func() error { return r.store(*j) })
}

// interrupted ends a patch that ran when an earlier agent did.
func (r *Runner) interrupted(ctx context.Context, j *journal) {
	marked.Kill(runVar, j.Run) // what it left
	r.log.WarnContext(ctx, "the agent was stopped while a patch ran", "patch", j.ID)
	j.State = ended
	j.Result = &protocol.PatchResult{
		Attempt: j.Attempt, Run: j.Run,
		Message: protocol.PatchInterrupted + ": the agent or the device stopped while the playbook ran; what it has done is not known",
	}
}

// State of a patch in the journal.
const (
	taking  = "taking"  // the playbook has not begun
	running = "running" // it may have
	ended   = "ended"   // the result is to be reported
)

const journalName = "patch.json"

// journal is the patch in hand.
type journal struct {
	ID      string                `json:"patchId"`
	Attempt int                   `json:"attempt"`
	Run     string                `json:"run"`
	State   string                `json:"state"`
	Result  *protocol.PatchResult `json:"result,omitempty"`
}

// load returns the zero journal when no patch is in hand. A damaged one is
// forgotten: the control plane gives no second run of what it names.
func (r *Runner) load() (j journal, err error) {
	err = r.cfg.Dir.ReadJSON(journalName, &j)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return journal{}, nil
	case errors.Is(err, fault.Invalid), err == nil && (j.State == ended) != (j.Result != nil):
		r.log.Error("journal of patches is damaged and put aside", logx.Err, err)
		return journal{}, r.forget()
	}
	return j, err
}

func (r *Runner) store(j journal) error { return r.cfg.Dir.WriteJSON(journalName, j) }

// forget removes what belongs to the patch; its variables are secrets.
func (r *Runner) forget() error {
	return r.cfg.Dir.Do(localstate.PatchForget, func() error {
		if err := r.cfg.Dir.Root().RemoveAll(workName); err != nil {
			return err
		}
		if err := r.cfg.Dir.Root().Remove(journalName); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
}
