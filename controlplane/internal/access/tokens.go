package access

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
)

// Role is what a principal may do. Each includes the ones before it.
type Role string

// The roles, the least first.
const (
	Viewer   Role = "viewer"   // reads
	Operator Role = "operator" // and changes the fleet
	Admin    Role = "admin"    // and changes who has access
)

func (r Role) rank() int { return slices.Index([]Role{Viewer, Operator, Admin}, r) }

// Valid reports whether r is one of the roles.
func (r Role) Valid() bool { return r.rank() >= 0 }

// Includes reports whether whoever has r may do what needs the role need.
func (r Role) Includes(need Role) bool { return r.Valid() && need.Valid() && r.rank() >= need.rank() }

// Principal is who a request comes from.
type Principal struct {
	Name string
	Role Role
}

// Token describes a token; the token itself is shown once, by Create.
type Token struct {
	Name    string
	Role    Role
	Created time.Time
}

// TokensConfig is what Tokens needs.
type TokensConfig struct {
	Store state.Store
	Now   func() time.Time // nil: time.Now
}

// Tokens keeps the bearer tokens of the fleet API. All methods are safe for
// concurrent use.
type Tokens struct {
	cfg TokensConfig

	mu         sync.Mutex // guards the two below
	cache      map[string]cached
	generation int // grows with each revocation here
}

type cached struct {
	Principal
	until time.Time
}

// NewTokens checks cfg.
func NewTokens(cfg TokensConfig) (*Tokens, error) {
	if cfg.Store == nil {
		return nil, errors.New("tokens: store is required")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Tokens{cfg: cfg, cache: map[string]cached{}}, nil
}

const (
	// A token is found by its hash, so that a request costs one read; the name
	// record keeps names unique and finds the hash to revoke.
	tokenPrefix = state.Root + "access/token/"     // <hex SHA-256 of the token>
	namePrefix  = state.Root + "access/tokenname/" // <name>

	tokenMark  = "ggft_"
	tokenBytes = 32
	tokenChars = len(tokenMark) + (tokenBytes*8+5)/6

	maxTokens = 1000
	maxName   = 64 // bytes

	// cacheFor bounds how long another replica accepts a token revoked here.
	cacheFor = 5 * time.Second
)

type tokenRecord struct {
	Name    string    `json:"name"`
	Role    Role      `json:"role"`
	Created time.Time `json:"created"`
}

type nameRecord struct {
	Hash string `json:"hash"`
}

// Create makes a token for name. A name in use is fault.Exists, a bad name or
// role Invalid, more than 1,000 tokens Exhausted.
func (t *Tokens) Create(ctx context.Context, name string, role Role) (logx.Secret, error) {
	if err := checkName(name); err != nil {
		return logx.Secret{}, err
	}
	if !role.Valid() {
		return logx.Secret{}, fault.Field("role", "is %q; use %s, %s or %s", role, Viewer, Operator, Admin)
	}
	all, err := t.List(ctx)
	if err != nil {
		return logx.Secret{}, err
	}
	if len(all) >= maxTokens {
		return logx.Secret{}, fault.New(fault.Exhausted, "there are %d tokens, the limit; revoke one first", len(all))
	}
	token := newToken()
	b := state.NewBatch(state.StepAccess).If(namePrefix+name, 0)
	t.put(b, name, role, token)
	_, err = t.cfg.Store.Commit(ctx, b)
	if errors.Is(err, fault.Conflict) {
		return logx.Secret{}, fault.New(fault.Exists, "there is a token named %s; revoke it first", name)
	}
	if err != nil {
		return logx.Secret{}, fmt.Errorf("store token %s: %w", name, err)
	}
	return logx.NewSecret(token), nil
}

func (t *Tokens) put(b *state.Batch, name string, role Role, token string) {
	hash := hashOf(token)
	b.Put(namePrefix+name, nameRecord{hash})
	b.Put(tokenPrefix+hash, tokenRecord{Name: name, Role: role, Created: t.cfg.Now().UTC().Truncate(time.Millisecond)})
}

// Authenticate returns whose token it is, or fault.Unauthenticated. An answer
// is remembered for five seconds, or until Revoke on this replica.
//
// The token is looked up by its hash: what the time of the search could tell is
// about the hash, from which nobody finds the token.
func (t *Tokens) Authenticate(ctx context.Context, token string) (Principal, error) {
	refused := fault.New(fault.Unauthenticated, "the bearer token is not known")
	if len(token) != tokenChars || !strings.HasPrefix(token, tokenMark) {
		return Principal{}, refused
	}
	hash, now := hashOf(token), t.cfg.Now()

	t.mu.Lock()
	hit, ok := t.cache[hash]
	generation := t.generation
	t.mu.Unlock()
	if ok && now.Before(hit.until) {
		return hit.Principal, nil
	}

	rec, err := state.Read[tokenRecord](ctx, t.cfg.Store, tokenPrefix+hash)
	if errors.Is(err, fault.NotFound) {
		t.mu.Lock()
		delete(t.cache, hash)
		t.mu.Unlock()
		return Principal{}, refused
	}
	if err != nil {
		return Principal{}, fmt.Errorf("read token: %w", err)
	}
	p := Principal{Name: rec.Value.Name, Role: rec.Value.Role}
	t.mu.Lock()
	defer t.mu.Unlock()
	if generation == t.generation { // else what was read may be revoked by now
		t.cache[hash] = cached{p, now.Add(cacheFor)}
	}
	return p, nil
}

// List returns all tokens, oldest first.
func (t *Tokens) List(ctx context.Context) ([]Token, error) {
	var all []Token
	err := state.All(ctx, t.cfg.Store, tokenPrefix, func(_ string, r state.Record[tokenRecord]) error {
		all = append(all, Token(r.Value))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list tokens: %w", err)
	}
	slices.SortStableFunc(all, func(a, b Token) int {
		return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.Name, b.Name))
	})
	return all, nil
}

// Revoke ends the token of name; fault.NotFound if there is none.
func (t *Tokens) Revoke(ctx context.Context, name string) error {
	missing := fault.New(fault.NotFound, "there is no token named %q", name)
	if checkName(name) != nil {
		return missing
	}
	rec, err := state.Read[nameRecord](ctx, t.cfg.Store, namePrefix+name)
	if errors.Is(err, fault.NotFound) {
		return missing
	}
	if err != nil {
		return fmt.Errorf("read token %s: %w", name, err)
	}
	b := state.NewBatch(state.StepAccess).If(namePrefix+name, rec.Rev)
	b.Delete(namePrefix + name).Delete(tokenPrefix + rec.Value.Hash)
	if _, err := t.cfg.Store.Commit(ctx, b); err != nil {
		return fmt.Errorf("revoke token %s: %w", name, err)
	}
	t.forget(rec.Value.Hash)
	return nil
}

func (t *Tokens) forget(hash string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.generation++
	delete(t.cache, hash)
}

func newToken() string {
	b := make([]byte, tokenBytes)
	rand.Read(b)
	return tokenMark + base64.RawURLEncoding.EncodeToString(b)
}

func hashOf(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

func checkName(name string) error {
	ok := name != "" && len(name) <= maxName && !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._@:-", r)
	})
	if !ok {
		return fault.Field("name", "is %.80q; use 1 to %d of a-z A-Z 0-9 . _ @ : -", name, maxName)
	}
	return nil
}
