package iot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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

	things *state.Mirror[listed]

	mu       sync.Mutex // guards compiled
	compiled map[string]compiledPolicy

	ordered atomic.Bool // see completeOrder
	bare    atomic.Bool // it is known that no thing group has a policy
}

// New checks cfg; it starts nothing.
func New(cfg Config) (*Registry, error) {
	if cfg.Store == nil || cfg.CA == nil || cfg.Realm.Region == "" || cfg.Realm.Account == "" {
		return nil, errors.New("iot: Store, CA and Realm are required")
	}
	r := &Registry{store: cfg.Store, realm: cfg.Realm, ca: cfg.CA, log: cfg.Log, now: cfg.Now, compiled: map[string]compiledPolicy{}}
	r.things = state.NewMirror[listed](cfg.Store, thingKey(""), nil)
	if r.log == nil {
		r.log = logx.Discard()
	}
	if r.now == nil {
		r.now = time.Now
	}
	return r, nil
}

// Run follows the things until ctx is done: Things answers from what it knows.
func (r *Registry) Run(ctx context.Context) error { return r.things.Run(ctx) }

// Loaded is closed once Run has every thing in memory.
func (r *Registry) Loaded() <-chan struct{} { return r.things.Ready() }

// Realm returns the region and account of this cloud.
func (r *Registry) Realm() names.Realm { return r.realm }

// CA returns the authority that signs device certificates.
func (r *Registry) CA() *CA { return r.ca }

// Thing returns the thing, or fault.NotFound.
func (r *Registry) Thing(ctx context.Context, name string) (state.Record[Thing], error) {
	t, err := state.Read[Thing](ctx, r.store, thingKey(name))
	if errors.Is(err, fault.NotFound) {
		return t, noThing(name)
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
		return c, noCertificate(id)
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
	defer r.bare.Store(false) // nobody follows any more
	for {
		from, err := r.changesBegin(ctx)
		if err != nil {
			return fmt.Errorf("watch certificates: %w", err)
		}
		// What changed before the watch began, or was missed, was seen by nobody.
		handle(Change{All: true})
		err = r.store.Watch(ctx, changedPrefix, from, func(events []state.Event) error {
			for _, e := range events {
				if id, ok := strings.CutPrefix(e.Key, changedKey("certificate", "")); ok {
					handle(Change{Certificate: id})
					continue
				}
				if strings.HasPrefix(e.Key, changedKey("group", "")) {
					r.bare.Store(false) // before anybody looks again
				}
				handle(Change{All: true})
			}
			return nil
		})
		if !errors.Is(err, state.ErrCompacted) {
			return err
		}
	}
}

// changesBegin returns the revision to watch from, and notes whether thing groups
// have policies: most fleets have none, and then no request need ask.
func (r *Registry) changesBegin(ctx context.Context) (state.Rev, error) {
	p, err := r.store.List(ctx, changedKey("group", ""), "", 1)
	if err != nil {
		return 0, err
	}
	r.bare.Store(len(p.Entries) == 0)
	return p.At, nil
}

func addTo(list []string, v string) []string {
	if slices.Contains(list, v) {
		return list
	}
	return append(slices.Clip(list), v)
}
