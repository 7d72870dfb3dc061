package iot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/names"
)

// Config is what New needs. Store, Realm and CA are required.
type Config struct {
	Store state.Store
	Realm names.Realm
	CA    *CA

	Log *slog.Logger     // nil: nothing is logged
	Now func() time.Time // nil: time.Now
}

// Registry is the registry. Safe for concurrent use.
type Registry struct {
	store state.Store
	realm names.Realm
	ca    *CA
	log   *slog.Logger
	now   func() time.Time

	mu       sync.Mutex // guards compiled
	compiled map[string]compiledPolicy
}

// New checks cfg; it starts nothing.
func New(cfg Config) (*Registry, error) {
	if cfg.Store == nil || cfg.CA == nil || cfg.Realm.Region == "" || cfg.Realm.Account == "" {
		return nil, errors.New("iot: Store, CA and Realm are required")
	}
	r := &Registry{store: cfg.Store, realm: cfg.Realm, ca: cfg.CA, log: cfg.Log, now: cfg.Now, compiled: map[string]compiledPolicy{}}
	if r.log == nil {
		r.log = logx.Discard()
	}
	if r.now == nil {
		r.now = time.Now
	}
	return r, nil
}

// Realm returns the region and account of this cloud.
func (r *Registry) Realm() names.Realm { return r.realm }

// CA returns the authority that signs device certificates.
func (r *Registry) CA() *CA { return r.ca }

// Thing returns the thing, or fault.NotFound.
func (r *Registry) Thing(ctx context.Context, name string) (state.Record[Thing], error) {
	t, err := state.Read[Thing](ctx, r.store, thingKey(name))
	if errors.Is(err, fault.NotFound) {
		return t, fault.New(fault.NotFound, "thing %s is not registered", name)
	}
	return t, err
}

// ThingBatch is Thing for a change that makes something refer to the thing: b is
// conditional on the thing being as it was read. A thing that is being deleted is
// fault.Conflict.
func (r *Registry) ThingBatch(ctx context.Context, b *state.Batch, name string) (state.Record[Thing], error) {
	t, err := r.Thing(ctx, name)
	if err != nil {
		return t, err
	}
	if t.Value.Deleting {
		return t, deleting(name)
	}
	b.If(thingKey(name), t.Rev)
	return t, nil
}

func deleting(thing string) error {
	return fault.New(fault.Conflict, "thing %s is being deleted; try again when it is gone", thing)
}

// Certificate returns the certificate, or fault.NotFound.
func (r *Registry) Certificate(ctx context.Context, id string) (state.Record[Certificate], error) {
	c, err := state.Read[Certificate](ctx, r.store, certKey(id))
	if errors.Is(err, fault.NotFound) {
		return c, fault.New(fault.NotFound, "certificate %s is not registered", id)
	}
	return c, err
}

// Change says that certificates may mean something else to live sessions now.
// With All set, any session may be concerned (a policy changed).
type Change struct {
	Certificate string
	All         bool
}

// Changes calls handle for each change after the call began, until ctx is done:
// first with All, as soon as no further change can be missed.
func (r *Registry) Changes(ctx context.Context, handle func(Change)) error {
	p, err := r.store.List(ctx, changedPrefix, "", 1)
	if err != nil {
		return fmt.Errorf("watch certificates: %w", err)
	}
	certs := changedKey("certificate", "")
	from := p.At
	handle(Change{All: true}) // what changed before the watch began was seen by nobody
	for {
		err := r.store.Watch(ctx, changedPrefix, from, func(events []state.Event) error {
			for _, e := range events {
				from = e.Rev
				if id, ok := cutPrefix(e.Key, certs); ok {
					handle(Change{Certificate: id})
				} else {
					handle(Change{All: true})
				}
			}
			return nil
		})
		if !errors.Is(err, state.ErrCompacted) {
			return err
		}
		// What was missed cannot be named any more: have every session looked at.
		if p, err = r.store.List(ctx, changedPrefix, "", 1); err != nil {
			return fmt.Errorf("watch certificates: %w", err)
		}
		from = p.At
		handle(Change{All: true})
	}
}

func cutPrefix(s, p string) (string, bool) {
	if len(s) > len(p) && s[:len(p)] == p {
		return s[len(p):], true
	}
	return "", false
}

func addTo(list []string, v string) []string {
	if slices.Contains(list, v) {
		return list
	}
	return append(slices.Clip(list), v)
}
