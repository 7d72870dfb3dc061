package selfhosted

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/run"
)

// Sessions makes one control plane of several replicas where devices connect: a
// thing's session under its own name as client id is at one of them, where it began
// last, and all know where. A session costs one write when it begins and one when it
// ends; what is written goes with the process.
//
// A replica that has not heard of a newer session yet keeps the older one for so
// long. Make it with newSessions.
type Sessions struct {
	store   state.Store
	log     *slog.Logger
	mirror  *state.Mirror[session]
	end     func(clientID string) // the session began anew elsewhere
	moved   func(clientID string) // it has a session elsewhere; must be quick
	replica string                // no other process's
	work    run.Bell

	lease state.Lease // of the loop alone; nil: none yet

	mu    sync.Mutex            // guards all below
	own   map[string]*ownership // sessions here, by client id
	dirty map[string]struct{}   // client ids whose record is not as it should be, as far as known
	lost  map[string]*ownership // began anew elsewhere
}

// session is the record of a session at some replica.
type session struct {
	Replica string `json:"replica"`
	ID      string `json:"id"` // no other session's
}

// ownership is a session here.
type ownership struct {
	id     string
	stored bool // its record was there
}

const (
	sessionPrefix = state.Root + "session/"
	sessionTTL    = 10 * time.Second // how long the sessions of a replica outlive it
	storers       = 8                // sessions that are stored at once
)

func newSessions(store state.Store, end, moved func(clientID string), log *slog.Logger) *Sessions {
	if log == nil {
		log = logx.Discard()
	}
	s := &Sessions{
		store: store, log: log, end: end, moved: moved, replica: rand.Text(), work: run.NewBell(),
		own: map[string]*ownership{}, dirty: map[string]struct{}{}, lost: map[string]*ownership{},
	}
	s.mirror = state.NewMirror(store, sessionPrefix, s.changed)
	return s
}

// began tells of a session here.
func (s *Sessions) began(clientID string) {
	s.mu.Lock()
	s.own[clientID] = &ownership{id: rand.Text()}
	s.dirty[clientID] = struct{}{}
	s.mu.Unlock()
	s.work.Ring()
}

// ended tells that the session is over.
func (s *Sessions) ended(clientID string) {
	s.mu.Lock()
	delete(s.own, clientID)
	s.dirty[clientID] = struct{}{}
	s.mu.Unlock()
	s.work.Ring()
}

// elsewhere tells whether the thing has a session at another replica.
func (s *Sessions) elsewhere(thing string) bool {
	r, _, ok := s.mirror.Get(sessionPrefix + thing)
	return ok && r.Replica != s.replica
}

// changed looks at each record that comes, changes and goes.
func (s *Sessions) changed(key string, _, after *session) {
	clientID := strings.TrimPrefix(key, sessionPrefix)
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.own[clientID]
	switch {
	case o == nil:
		if after != nil && after.Replica != s.replica {
			s.moved(clientID)
		}
		return
	case after == nil: // with the lease
		o.stored = false
		s.dirty[clientID] = struct{}{}
	case after.ID == o.id:
		o.stored = true
		return
	case o.stored:
		s.lost[clientID] = o
	default:
		return // older than ours, which is being stored
	}
	s.work.Ring()
}

// Run keeps the records until ctx is done.
func (s *Sessions) Run(ctx context.Context) error {
	return run.All(ctx, run.Loop{Name: "mirror", Run: s.mirror.Run}, run.Loop{Name: "records", Run: s.records})
}

func (s *Sessions) records(ctx context.Context) error {
	defer func() {
		if s.lease != nil {
			stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
			defer cancel()
			_ = s.lease.Close(stop) // else it ends by itself
		}
	}()
	select {
	case <-s.mirror.Ready():
	case <-ctx.Done():
		return nil
	}
	wait := run.Backoff{Min: 20 * time.Millisecond, Max: 5 * time.Second}
	for ctx.Err() == nil {
		s.endLost()
		if err := s.storeAll(ctx); err != nil && ctx.Err() == nil {
			if !errors.Is(err, fault.Conflict) {
				s.log.WarnContext(ctx, "which replica has a session is not stored", logx.Err, err)
			}
			_ = run.Sleep(ctx, wait.Next()) // the loop looks at ctx
			continue
		}
		wait.Reset()
		s.work.Wait(ctx, time.Hour)
	}
	return nil
}

// endLost ends the sessions that began anew elsewhere.
func (s *Sessions) endLost() {
	s.mu.Lock()
	lost := s.lost
	s.lost = map[string]*ownership{}
	for clientID, o := range lost {
		if s.own[clientID] != o { // over by now
			delete(lost, clientID)
		}
	}
	s.mu.Unlock()
	for clientID := range lost {
		s.end(clientID)
	}
}

// storeAll makes the records of all client ids that are dirty as they should be.
func (s *Sessions) storeAll(ctx context.Context) error {
	s.mu.Lock()
	dirty := s.dirty
	s.dirty = map[string]struct{}{}
	s.mu.Unlock()
	if len(dirty) == 0 {
		return nil
	}
	lease, failed := s.leased(ctx)
	if failed != nil {
		s.again(dirty)
		return failed
	}
	next := make(chan string, len(dirty))
	for clientID := range dirty {
		next <- clientID
	}
	close(next)
	var all sync.WaitGroup
	for range min(storers, len(dirty)) {
		all.Go(func() {
			for clientID := range next {
				err := s.storeOne(ctx, clientID, lease)
				if err == nil {
					continue
				}
				s.again(map[string]struct{}{clientID: {}})
				s.mu.Lock()
				if failed == nil || errors.Is(failed, fault.Conflict) {
					failed = err
				}
				s.mu.Unlock()
			}
		})
	}
	all.Wait()
	return failed
}

func (s *Sessions) again(dirty map[string]struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.Copy(s.dirty, dirty)
}

// storeOne makes the record of a client id as it should be: of the session here, or
// none of here. fault.Conflict when the mirror is behind.
func (s *Sessions) storeOne(ctx context.Context, clientID string, lease int64) error {
	s.mu.Lock()
	o := s.own[clientID]
	s.mu.Unlock()
	key := sessionPrefix + clientID
	there, rev, exists := s.mirror.Get(key)
	b := state.NewBatch(state.StepSession).If(key, rev)
	switch {
	case o == nil && (!exists || there.Replica != s.replica):
		return nil
	case o == nil:
		b.Delete(key)
	case exists && there.ID == o.id:
		return nil
	default:
		b.PutLeased(key, session{Replica: s.replica, ID: o.id}, lease)
	}
	_, err := s.store.Commit(ctx, b)
	return err
}

// leased returns the lease that records of sessions are put under.
func (s *Sessions) leased(ctx context.Context) (int64, error) {
	if s.lease != nil {
		select {
		case <-s.lease.Lost():
			s.lease = nil
		default:
			return s.lease.ID(), nil
		}
	}
	lease, err := s.store.NewLease(ctx, sessionTTL)
	if err != nil {
		return 0, err
	}
	s.lease = lease
	return lease.ID(), nil
}
