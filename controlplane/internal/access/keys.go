package access

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
)

// Sealer encrypts small secrets. What was sealed under one context opens only
// under the same, so that a record moved to another key does not open.
type Sealer interface {
	Seal(context string, plain []byte) ([]byte, error)
	Open(context string, sealed []byte) ([]byte, error)
}

// Key is one key of the AWS endpoint.
type Key struct {
	ID          string      // 20 characters: "GGFA" and 16 of A-Z, 2-7
	Secret      logx.Secret // 40 characters; List does not fill it
	Description string
	Role        Role // Viewer or Admin
	Created     time.Time
}

// KeysConfig is what Keys needs.
type KeysConfig struct {
	Store  state.Store
	Sealer Sealer
	Now    func() time.Time // nil: time.Now
}

// Keys keeps access keys. All methods are safe for concurrent use.
type Keys struct{ cfg KeysConfig }

// NewKeys checks cfg.
func NewKeys(cfg KeysConfig) (*Keys, error) {
	if cfg.Store == nil || cfg.Sealer == nil {
		return nil, errors.New("access keys: store and sealer are required")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Keys{cfg}, nil
}

const (
	keyPrefix = state.Root + "access/key/"
	rootKey   = state.Root + "access/root" // outside keyPrefix: not listed, not revocable

	idPrefix     = "GGFA"
	idLength     = 20
	secretLength = 40

	maxKeys        = 1000
	maxDescription = 256 // bytes
)

// keyRecord is stored as JSON: names stay as they are.
type keyRecord struct {
	ID          string    `json:"id,omitempty"` // of the root key, whose record is not named by it
	Sealed      []byte    `json:"sealed"`
	Description string    `json:"description,omitempty"`
	Role        Role      `json:"role,omitempty"` // keys from before there were roles are Admin
	Created     time.Time `json:"created"`
}

// Create makes a key with the role Viewer or Admin, which "" means. The secret
// cannot be read again by an operator. A description over 256 bytes and any
// other role are fault.Invalid, more than 1,000 keys Exhausted.
func (k *Keys) Create(ctx context.Context, description string, role Role) (Key, error) {
	role = cmp.Or(role, Admin)
	if role != Viewer && role != Admin {
		return Key{}, fault.Field("role", "is %.40q; use %s or %s", role, Viewer, Admin)
	}
	if len(description) > maxDescription || strings.ContainsFunc(description, func(r rune) bool { return r < ' ' }) {
		return Key{}, fault.Field("description", "has %d bytes; use at most %d, without control characters", len(description), maxDescription)
	}
	all, err := k.List(ctx)
	if err != nil {
		return Key{}, err
	}
	if len(all) >= maxKeys {
		return Key{}, fault.New(fault.Exhausted, "there are %d access keys, the limit; revoke one first", len(all))
	}
	key, rec, err := k.make(description, role)
	if err != nil {
		return Key{}, err
	}
	at := keyPrefix + key.ID
	if _, err := k.cfg.Store.Commit(ctx, state.NewBatch(state.StepAccess).If(at, 0).Put(at, rec)); err != nil {
		return Key{}, fmt.Errorf("store access key: %w", err)
	}
	return key, nil
}

func (k *Keys) make(description string, role Role) (Key, keyRecord, error) {
	key := Key{
		ID:          idPrefix + rand.Text()[:idLength-len(idPrefix)],
		Secret:      logx.NewSecret((rand.Text() + rand.Text())[:secretLength]),
		Description: description,
		Role:        role,
		Created:     k.cfg.Now().UTC().Truncate(time.Millisecond),
	}
	sealed, err := k.cfg.Sealer.Seal(sealContext(key.ID), []byte(key.Secret.Reveal()))
	if err != nil {
		return Key{}, keyRecord{}, fmt.Errorf("seal access key %s: %w", key.ID, err)
	}
	return key, keyRecord{Sealed: sealed, Description: description, Role: role, Created: key.Created}, nil
}

func sealContext(id string) string { return "access key " + id }

// Get returns the key named id with its secret, for verifying a signature. A
// key that never was or was revoked is fault.NotFound.
func (k *Keys) Get(ctx context.Context, id string) (Key, error) {
	if !validID(id) { // it comes from outside and must not reach another record
		return Key{}, fault.New(fault.NotFound, "there is no such access key")
	}
	rec, err := state.Read[keyRecord](ctx, k.cfg.Store, keyPrefix+id)
	if errors.Is(err, fault.NotFound) {
		return Key{}, fault.New(fault.NotFound, "there is no access key %s", id)
	}
	if err != nil {
		return Key{}, fmt.Errorf("read access key: %w", err)
	}
	plain, err := k.cfg.Sealer.Open(sealContext(id), rec.Value.Sealed)
	if err != nil {
		return Key{}, fmt.Errorf("open access key %s: %w", id, err)
	}
	key := rec.Value.key(id)
	key.Secret = logx.NewSecret(string(plain))
	return key, nil
}

// key is what the record of the key id says in clear.
func (r keyRecord) key(id string) Key {
	return Key{ID: id, Description: r.Description, Role: cmp.Or(r.Role, Admin), Created: r.Created}
}

// List returns all keys without their secrets, oldest first.
func (k *Keys) List(ctx context.Context) ([]Key, error) {
	var all []Key
	err := state.All(ctx, k.cfg.Store, keyPrefix, func(at string, r state.Record[keyRecord]) error {
		all = append(all, r.Value.key(strings.TrimPrefix(at, keyPrefix)))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list access keys: %w", err)
	}
	slices.SortStableFunc(all, func(a, b Key) int {
		return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.ID, b.ID))
	})
	return all, nil
}

// Revoke removes the key named id at once; fault.NotFound if there is none.
func (k *Keys) Revoke(ctx context.Context, id string) error {
	missing := fault.New(fault.NotFound, "there is no access key %q", id)
	if !validID(id) {
		return missing
	}
	at := keyPrefix + id
	_, err := k.cfg.Store.Commit(ctx, state.NewBatch(state.StepAccess).IfExists(at).Delete(at))
	if errors.Is(err, fault.Conflict) {
		return missing
	}
	if err != nil {
		return fmt.Errorf("revoke access key %s: %w", id, err)
	}
	return nil
}

// Root returns the key that the control plane itself uses with the embedded
// artifact store. The first call makes it; it is not listed and not revocable.
func (k *Keys) Root(ctx context.Context) (Key, error) {
	rec, err := state.Read[keyRecord](ctx, k.cfg.Store, rootKey)
	if errors.Is(err, fault.NotFound) {
		key, fresh, err := k.make("", Admin)
		if err != nil {
			return Key{}, err
		}
		fresh.ID = key.ID
		_, err = k.cfg.Store.Commit(ctx, state.NewBatch(state.StepSetup).If(rootKey, 0).Put(rootKey, fresh))
		if err == nil {
			return key, nil
		}
		if !errors.Is(err, fault.Conflict) {
			return Key{}, fmt.Errorf("store root key: %w", err)
		}
		rec, err = state.Read[keyRecord](ctx, k.cfg.Store, rootKey)
		if err != nil {
			return Key{}, fmt.Errorf("read root key: %w", err)
		}
	} else if err != nil {
		return Key{}, fmt.Errorf("read root key: %w", err)
	}
	plain, err := k.cfg.Sealer.Open(sealContext(rec.Value.ID), rec.Value.Sealed)
	if err != nil {
		return Key{}, fmt.Errorf("open root key: %w", err)
	}
	key := rec.Value.key(rec.Value.ID)
	key.Secret = logx.NewSecret(string(plain))
	return key, nil
}

func validID(id string) bool {
	return len(id) == idLength && strings.HasPrefix(id, idPrefix) &&
		!strings.ContainsFunc(id, func(r rune) bool { return (r < 'A' || r > 'Z') && (r < '2' || r > '7') })
}
