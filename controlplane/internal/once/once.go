package once

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/seal"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/run"
)

const (
	life       = 24 * time.Hour   // how long an answer is kept
	stale      = time.Minute      // how long an intent keeps others away
	sweepEvery = 10 * time.Minute // removal of what is kept no longer

	// MaxWork is how long a request may be carried out: after it, others may do so.
	MaxWork = stale - 10*time.Second

	// MaxBody is the largest body that is kept, in bytes. A request with a larger
	// answer is carried out again.
	MaxBody = 256 << 10

	prefix = state.Root + "once/"
)

// Request is what tells one request from another.
type Request struct {
	Principal string // keys of different principals have nothing to do with each other
	Key       string // the Idempotency-Key
	Method    string
	Path      string // with the query
	Body      [sha256.Size]byte
}

// Answer is what a request was answered.
type Answer struct {
	Status int               `json:"status"`
	Header map[string]string `json:"header,omitempty"`
	Body   []byte            `json:"body,omitempty"`
}

// Ticket is the right to carry a request out, for MaxWork.
type Ticket struct {
	key     string
	content content
	rev     state.Rev
}

// record is what lies in the store.
type record struct {
	Expires time.Time `json:"expires"`
	Sealed  []byte    `json:"sealed"` // content
}

// content is what only this server can read.
type content struct {
	Request []byte    `json:"request"` // digest
	Begun   time.Time `json:"begun"`
	Answer  *Answer   `json:"answer,omitempty"` // nil: an intent
}

// Config is what New needs. Store and Sealer are required.
type Config struct {
	Store  state.Store
	Sealer seal.Sealer
	// Alone says that no other process shares the store: whoever left an intent
	// before New is dead, and its request is carried out again at once.
	Alone bool
	Log   *slog.Logger     // nil: nothing is logged
	Now   func() time.Time // nil: time.Now
}

// Store remembers answers in the store of record. Safe for concurrent use, also
// by several replicas.
type Store struct {
	cfg   Config
	since time.Time // intents from before keep nobody away; zero: only their age counts
}

// New checks cfg; it starts nothing.
func New(cfg Config) (*Store, error) {
	if cfg.Store == nil || cfg.Sealer == nil {
		return nil, errors.New("once: Store and Sealer are required")
	}
	if cfg.Log == nil {
		cfg.Log = logx.Discard()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Store{cfg: cfg}
	if cfg.Alone {
		s.since = cfg.Now()
	}
	return s, nil
}

// Begin returns the answer that r got before, or, when r is to be carried out
// now, a ticket for Finish or Forget. It returns fault.Invalid if the key was
// used for another request and fault.Conflict while r is being carried out.
func (s *Store) Begin(ctx context.Context, r Request) (*Answer, *Ticket, error) {
	t := &Ticket{key: storeKey(r), content: content{Request: r.digest(), Begun: s.cfg.Now().UTC()}}
	old, err := state.ReadOr[record](ctx, s.cfg.Store, t.key)
	if err != nil {
		return nil, nil, fmt.Errorf("reading an idempotency record: %w", err)
	}
	if old.Rev != 0 && t.content.Begun.Before(old.Value.Expires) {
		c, err := s.open(t.key, old.Value)
		switch {
		case err != nil:
			return nil, nil, err
		case string(c.Request) != string(t.content.Request):
			return nil, nil, fault.Field("Idempotency-Key", "was used for another request; send a new key, or the same request")
		case c.Answer != nil:
			return c.Answer, nil, nil
		case !c.Begun.Before(s.since) && t.content.Begun.Sub(c.Begun) < stale:
			return nil, nil, errInProgress
		}
	}
	t.rev, err = s.put(ctx, t, old.Rev)
	if errors.Is(err, fault.Conflict) { // another one with this key was faster
		return nil, nil, errInProgress
	}
	if err != nil {
		return nil, nil, fmt.Errorf("writing an idempotency record: %w", err)
	}
	return nil, t, nil
}

var errInProgress = fault.New(fault.Conflict, "a request with this Idempotency-Key is being worked on; send it again in a moment")

// Finish keeps the answer for the same request. It is no error if another one
// took over meanwhile: that one's answer counts.
func (s *Store) Finish(ctx context.Context, t *Ticket, a Answer) error {
	if len(a.Body) > MaxBody {
		return s.Forget(ctx, t)
	}
	t.content.Answer = &a
	_, err := s.put(ctx, t, t.rev)
	if err != nil && !errors.Is(err, fault.Conflict) {
		return fmt.Errorf("keeping the answer for an idempotency key: %w", err)
	}
	return nil
}

// Forget lets the request be carried out again.
func (s *Store) Forget(ctx context.Context, t *Ticket) error {
	_, err := s.cfg.Store.Commit(ctx, state.NewBatch(state.StepOnce).If(t.key, t.rev).Delete(t.key))
	if err != nil && !errors.Is(err, fault.Conflict) {
		return fmt.Errorf("forgetting an idempotency key: %w", err)
	}
	return nil
}

// Run removes records that are kept no longer, until ctx is done.
func (s *Store) Run(ctx context.Context) error {
	return run.Every(ctx, sweepEvery, s.sweep, func(err error) {
		s.cfg.Log.WarnContext(ctx, "idempotency records not swept", logx.Err, err)
	})
}

func (s *Store) sweep(ctx context.Context) error {
	now := s.cfg.Now()
	b := state.NewBatch(state.StepOnce)
	commit := func() error {
		defer func() { b = state.NewBatch(state.StepOnce) }()
		// A conflict is a key that is used again in this moment: the next round.
		if _, err := s.cfg.Store.Commit(ctx, b); err != nil && !errors.Is(err, fault.Conflict) {
			return fmt.Errorf("removing idempotency records: %w", err)
		}
		return nil
	}
	err := state.All(ctx, s.cfg.Store, prefix, func(key string, r state.Record[record]) error {
		if now.Before(r.Value.Expires) {
			return nil
		}
		b.If(key, r.Rev).Delete(key)
		if b.Len() < state.MaxBatch {
			return nil
		}
		return commit()
	})
	return errors.Join(err, commit())
}

func (s *Store) put(ctx context.Context, t *Ticket, rev state.Rev) (state.Rev, error) {
	plain, err := json.Marshal(t.content)
	if err != nil {
		return 0, fmt.Errorf("encoding an idempotency record: %w", err)
	}
	r := record{Expires: t.content.Begun.Add(life)}
	if r.Sealed, err = s.cfg.Sealer.Seal(t.key, plain); err != nil {
		return 0, fmt.Errorf("sealing an idempotency record: %w", err)
	}
	return s.cfg.Store.Commit(ctx, state.NewBatch(state.StepOnce).If(t.key, rev).Put(t.key, r))
}

func (s *Store) open(key string, r record) (content, error) {
	var c content
	plain, err := s.cfg.Sealer.Open(key, r.Sealed)
	if err != nil {
		// Not the caller's doing, so without the kind that a Sealer gives.
		return c, fmt.Errorf("opening idempotency record %s: %s", key, err.Error())
	}
	if err := json.Unmarshal(plain, &c); err != nil {
		return c, fmt.Errorf("decoding idempotency record %s: %w", key, err)
	}
	return c, nil
}

// storeKey does not show the key that a caller chose.
func storeKey(r Request) string {
	h := sha256.Sum256([]byte(r.Principal + "\x00" + r.Key))
	return prefix + hex.EncodeToString(h[:])
}

func (r Request) digest() []byte {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q ", r.Method, r.Path)
	h.Write(r.Body[:])
	return h.Sum(nil)
}
