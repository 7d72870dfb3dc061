package task

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/run"
)

// Config is what an Engine needs.
type Config struct {
	Store state.Store
	Kinds []Kind // tasks of other kinds are left to other replicas

	// Concurrency is how many items this process works on at once, default 16.
	Concurrency int
	// LeaseTTL is how long the claims of a dead process stand, default 10 s.
	LeaseTTL time.Duration
	// Worker names this process in claims, default host name and process id.
	Worker string
	Log    *slog.Logger // nil: none
}

// Engine creates tasks, answers questions about them and, in Run, works on them.
// Safe for concurrent use.
type Engine struct {
	cfg   Config
	store state.Store
	kinds map[string]*Kind
	log   *slog.Logger

	deleted run.Bell // a task was deleted here: sweep
}

// New checks cfg. It starts nothing: see Run.
func New(cfg Config) (*Engine, error) {
	if cfg.Store == nil {
		return nil, errors.New("task engine: Store is missing")
	}
	if cfg.Concurrency < 0 || cfg.LeaseTTL < 0 {
		return nil, errors.New("task engine: Concurrency and LeaseTTL must not be negative")
	}
	if cfg.Concurrency == 0 {
		cfg.Concurrency = 16
	}
	if cfg.LeaseTTL == 0 {
		cfg.LeaseTTL = 10 * time.Second
	}
	if cfg.Worker == "" {
		host, _ := os.Hostname() // a label for people; empty is fine
		cfg.Worker = host + ":" + strconv.Itoa(os.Getpid())
	}
	if cfg.Log == nil {
		cfg.Log = logx.Discard()
	}
	e := &Engine{cfg: cfg, store: cfg.Store, kinds: map[string]*Kind{}, log: cfg.Log, deleted: run.NewBell()}
	for _, k := range cfg.Kinds {
		if k.Name == "" || k.Do == nil {
			return nil, errors.New("task engine: a kind needs Name and Do")
		}
		if e.kinds[k.Name] != nil {
			return nil, fmt.Errorf("task engine: kind %q is given twice", k.Name)
		}
		if k.GiveUp <= 0 {
			k.GiveUp = 10 * time.Minute
		}
		if k.Timeout <= 0 {
			k.Timeout = 2 * time.Minute
		}
		e.kinds[k.Name] = &k
	}
	return e, nil
}

// Run works on tasks until ctx is done and then returns nil; it never gives up
// while the store is away. Items in hand when it stops are done by whoever claims
// their batch next.
func (e *Engine) Run(ctx context.Context) error {
	b := run.Backoff{Max: 5 * time.Second}
	for ctx.Err() == nil {
		began := time.Now()
		err := e.session(ctx)
		if ctx.Err() != nil {
			return nil
		}
		e.log.WarnContext(ctx, "task worker lost its lease or the store; starting over", logx.Err, err)
		if time.Since(began) > time.Minute {
			b.Reset()
		}
		_ = run.Sleep(ctx, b.Next()) // ctx is looked at above
	}
	return nil
}

// ReleaseAll removes every claim, so that work of a process that died is taken up
// at once instead of after its lease. Only for a process that knows that it is the
// only worker, before Run.
func (e *Engine) ReleaseAll(ctx context.Context) error {
	p, err := e.store.List(ctx, claimRoot, "", 0)
	if err != nil {
		return fmt.Errorf("list claims: %w", err)
	}
	b := state.NewBatch(state.StepTaskClaim)
	for i, c := range p.Entries {
		b.Delete(c.Key)
		if b.Len() == maxOps || i == len(p.Entries)-1 {
			if _, err := e.store.Commit(ctx, b); err != nil {
				return fmt.Errorf("release claims: %w", err)
			}
			b = state.NewBatch(state.StepTaskClaim)
		}
	}
	return nil
}

// insist calls step until it succeeds, ctx is done, or it fails for good: it is
// for reads and writes of the store of record, for which we always wait.
func (e *Engine) insist(ctx context.Context, what string, step func() error) error {
	b := run.Backoff{Min: 20 * time.Millisecond, Max: 5 * time.Second}
	for {
		err := step()
		if err == nil || fault.Permanent(err) || errors.Is(err, errClaimLost) {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !errors.Is(err, fault.Conflict) {
			e.log.WarnContext(ctx, "store of record does not answer; trying again", "what", what, logx.Err, err)
		}
		if run.Sleep(ctx, b.Next()) != nil {
			return err
		}
	}
}
