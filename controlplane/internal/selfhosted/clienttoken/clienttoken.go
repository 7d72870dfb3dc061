package clienttoken

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/run"
)

// Life is how long an answer is repeated.
const Life = 8 * time.Hour

const (
	prefix     = state.Root + "greengrass/token/" // <operation>/<token>
	pruneEvery = 10 * time.Minute
	pruneBatch = 100
)

// ErrInProgress says that the first request with the token still runs in this
// process. It is of kind fault.Conflict.
var ErrInProgress = fault.New(fault.Conflict, "a request with the same clientToken is in progress; wait for its answer")

// errUsed ends the work of a request whose token was used in this moment.
var errUsed = errors.New("client token used")

// record is what lies in the store.
type record struct {
	At      time.Time       `json:"at"`
	Request []byte          `json:"request"` // digest
	Answer  json.RawMessage `json:"answer"`
}

// Config is what New needs. Store is required.
type Config struct {
	Store state.Store
	Log   *slog.Logger     // nil: nothing is logged
	Now   func() time.Time // nil: time.Now
}

// Tokens remembers answers in the store of record. Safe for concurrent use, also
// by several replicas.
type Tokens struct {
	store state.Store
	log   *slog.Logger
	now   func() time.Time

	mu      sync.Mutex          // guards running
	running map[string]struct{} // keys of requests being carried out here
}

// New checks cfg; it starts nothing.
func New(cfg Config) (*Tokens, error) {
	if cfg.Store == nil {
		return nil, errors.New("clienttoken: Store is required")
	}
	t := &Tokens{store: cfg.Store, log: cfg.Log, now: cfg.Now, running: map[string]struct{}{}}
	if t.log == nil {
		t.log = logx.Discard()
	}
	if t.now == nil {
		t.now = time.Now
	}
	return t, nil
}

// Request is what tells one request from another.
type Request struct {
	Operation string // part of a key: letters
	Token     string // 1 to 64 of a-z A-Z 0-9 -; empty: nothing is remembered
	Body      any    // as JSON; another body with the same token is logged, the token wins
}

// Remember adds the answer to the batch that the request commits. Its error is to
// be returned as it is, and nothing committed.
type Remember[A any] func(ctx context.Context, b *state.Batch, answer A) error

// Once returns the answer that r got within the last eight hours, or what do
// returns. do calls remember for each batch with which it tries to commit the
// request's effect. While do runs, Once with the same token is ErrInProgress.
func Once[A any](ctx context.Context, t *Tokens, r Request, do func(ctx context.Context, remember Remember[A]) (A, error)) (A, error) {
	var none A
	if r.Token == "" {
		return do(ctx, func(context.Context, *state.Batch, A) error { return nil })
	}
	body, err := json.Marshal(r.Body)
	if err != nil {
		return none, fmt.Errorf("encode request of client token: %w", err)
	}
	digest := sha256.Sum256(body)
	key := prefix + r.Operation + "/" + r.Token
	if !t.begin(key) {
		return none, ErrInProgress
	}
	defer t.end(key)
	if a, ok, err := lookup[A](ctx, t, key, digest[:]); err != nil || ok {
		return a, err
	}
	a, err := do(ctx, func(ctx context.Context, b *state.Batch, answer A) error {
		return t.batch(ctx, b, key, digest[:], answer)
	})
	if errors.Is(err, errUsed) { // another replica was faster
		a, ok, err := lookup[A](ctx, t, key, digest[:])
		if err == nil && !ok {
			err = ErrInProgress
		}
		return a, err
	}
	return a, err
}

func (t *Tokens) begin(key string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, busy := t.running[key]; busy {
		return false
	}
	t.running[key] = struct{}{}
	return true
}

func (t *Tokens) end(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.running, key)
}

func lookup[A any](ctx context.Context, t *Tokens, key string, digest []byte) (answer A, ok bool, err error) {
	r, err := state.ReadOr[record](ctx, t.store, key)
	if err != nil {
		return answer, false, fmt.Errorf("look up client token: %w", err)
	}
	if r.Rev == 0 || !t.alive(r.Value) {
		return answer, false, nil
	}
	if err := json.Unmarshal(r.Value.Answer, &answer); err != nil {
		return answer, false, fmt.Errorf("decode answer of client token: %w", err)
	}
	t.log.InfoContext(ctx, "answer repeated for a client token", "same_request", bytes.Equal(digest, r.Value.Request))
	return answer, true, nil
}

func (t *Tokens) alive(r record) bool { return t.now().Before(r.At.Add(Life)) }

func (t *Tokens) batch(ctx context.Context, b *state.Batch, key string, digest []byte, answer any) error {
	old, err := state.ReadOr[record](ctx, t.store, key)
	if err != nil {
		return fmt.Errorf("read client token: %w", err)
	}
	if old.Rev != 0 && t.alive(old.Value) {
		return errUsed
	}
	raw, err := json.Marshal(answer)
	if err != nil {
		return fmt.Errorf("encode answer for client token: %w", err)
	}
	b.If(key, old.Rev).Put(key, record{At: t.now().UTC(), Request: digest, Answer: raw})
	return nil
}

// Prune removes the answers that are repeated no longer.
func (t *Tokens) Prune(ctx context.Context) error {
	b := state.NewBatch(state.StepAccount)
	commit := func() error {
		_, err := t.store.Commit(ctx, b)
		if errors.Is(err, fault.Conflict) {
			err = nil // another replica does the same, or one of the tokens was used anew
		}
		b = state.NewBatch(state.StepAccount)
		return err
	}
	err := state.All(ctx, t.store, prefix, func(key string, r state.Record[record]) error {
		if t.alive(r.Value) {
			return nil
		}
		if b.If(key, r.Rev).Delete(key); b.Len() < pruneBatch {
			return nil
		}
		return commit()
	})
	if err == nil {
		err = commit()
	}
	if err != nil {
		return fmt.Errorf("remove old client tokens: %w", err)
	}
	return nil
}

// Run prunes from time to time until ctx is done.
func (t *Tokens) Run(ctx context.Context) error {
	return run.Every(ctx, pruneEvery, t.Prune, func(err error) {
		t.log.WarnContext(ctx, "removing old client tokens failed", logx.Err, err)
	})
}
