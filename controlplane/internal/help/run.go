package help

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/event"
	"github.com/ggfleet/ggfleet/controlplane/internal/object"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/protocol"
	"github.com/ggfleet/ggfleet/shared/run"
)

const (
	sweepEvery  = 30 * time.Second
	orphanEvery = time.Hour
	// patience is after how long an object without a request is nobody's: a part
	// may be stored while its request is being removed.
	patience   = time.Hour
	sweepPage  = 100
	objectPage = 1000
)

// Run gives notice to devices, ends requests in time and removes old ones, until
// ctx is done.
func (s *Service) Run(ctx context.Context) error {
	warn := func(err error) { s.log.WarnContext(ctx, "help requests not swept", logx.Err, err) }
	return run.All(ctx,
		run.Loop{Name: "help notices", Run: s.notify},
		run.Loop{Name: "help sweep", Run: func(ctx context.Context) error { return run.Every(ctx, sweepEvery, s.Sweep, warn) }},
		run.Loop{Name: "help contents", Run: func(ctx context.Context) error { return run.Every(ctx, orphanEvery, s.SweepContents, warn) }},
	)
}

// notify tells devices of what comes to wait. What waited before they ask for when
// they connect.
func (s *Service) notify(ctx context.Context) error {
	if s.cfg.Notices == nil {
		<-ctx.Done()
		return nil
	}
	return state.Follow(ctx, s.store, waitingPrefix, s.noticed, func(err error) {
		s.log.WarnContext(ctx, "help requests not watched", logx.Err, err)
	})
}

func (s *Service) noticed(events []state.Event) error {
	for _, e := range events {
		device, err := url.PathUnescape(strings.TrimPrefix(e.Key, waitingPrefix))
		if e.Deleted || err != nil {
			continue
		}
		o, err := state.Decode[open](e.Entry)
		if err != nil {
			return err
		}
		s.cfg.Notices.HelpWaits(protocol.Subject{Role: protocol.Role(o.Value.Role), Name: device})
	}
	return nil
}

// Sweep ends the requests whose time is over and removes those that were kept
// long enough.
func (s *Service) Sweep(ctx context.Context) error {
	for {
		page, err := s.store.List(ctx, duePrefix, "", sweepPage)
		if err != nil {
			return err
		}
		for _, e := range page.Entries {
			if e.Key >= dueAt(s.cfg.Now())+"." { // "." follows "-": entries of this millisecond are due
				return nil
			}
			id, err := state.Decode[string](e)
			if err != nil {
				return err
			}
			if err := s.isDue(ctx, e.Key, id.Value); err != nil && !errors.Is(err, fault.Conflict) {
				return err
			}
		}
		if !page.More {
			return nil
		}
	}
}

func (s *Service) isDue(ctx context.Context, key, id string) error {
	r, err := s.read(ctx, id)
	if errors.Is(err, fault.NotFound) || err == nil && r.Value.Due != key {
		_, err := s.store.Commit(ctx, state.NewBatch(state.StepHelp).Delete(key))
		return err
	}
	if err != nil {
		return err
	}
	v := r.Value
	if v.Ended() {
		return s.remove(ctx, r)
	}
	v.Message = fmt.Sprintf("the device did not come within %s", v.ExpiresAt.Sub(v.CreatedAt).Round(time.Second))
	if v.Status == Taken {
		v.Message = fmt.Sprintf("the device took the request at %s and has not reported", v.UpdatedAt.Format(time.RFC3339))
	}
	v.Status = Expired
	return s.end(ctx, r, v)
}

// remove removes a request with its content. One that was open is withdrawn: the
// device finds that it is over.
func (s *Service) remove(ctx context.Context, r state.Record[record]) error {
	b := state.NewBatch(state.StepHelp)
	s.erase(b, r)
	if v := r.Value.Request; !v.Ended() {
		if err := s.leave(ctx, b, v); err != nil {
			return err
		}
		v.Status, v.UpdatedAt = Withdrawn, s.stamp()
		tell(b, event.HelpEnded, v)
	}
	if _, err := s.store.Commit(ctx, b); err != nil {
		return fmt.Errorf("remove help request %s: %w", r.Value.ID, err)
	}
	s.drop(ctx, r.Value.ID)
	return nil
}

// Delete removes a request with its content; one that is open is withdrawn.
func (s *Service) Delete(ctx context.Context, id string) error {
	for {
		r, err := s.read(ctx, id)
		if err != nil {
			return err
		}
		if err := s.remove(ctx, r); !errors.Is(err, fault.Conflict) {
			return err
		}
	}
}

// Forget removes all requests for a device that is being deleted. A device with
// none is no error.
func (s *Service) Forget(ctx context.Context, device string) error {
	return state.All(ctx, s.store, ofDevice(device), func(_ string, id state.Record[string]) error {
		if err := s.Delete(ctx, id.Value); !errors.Is(err, fault.NotFound) {
			return err
		}
		return nil
	})
}

// SweepContents removes parts that belong to no request.
func (s *Service) SweepContents(ctx context.Context) error {
	after, known := "", map[string]bool{}
	for {
		list, err := s.cfg.Objects.List(ctx, s.cfg.Prefix, after, objectPage)
		if err != nil {
			return err
		}
		for _, o := range list {
			after = o.Key
			if err := s.sweepObject(ctx, o, known); err != nil {
				return err
			}
		}
		if len(list) < objectPage {
			return nil
		}
	}
}

func (s *Service) sweepObject(ctx context.Context, o object.Info, known map[string]bool) error {
	if s.cfg.Now().Sub(o.ModTime) < patience {
		return nil
	}
	id, _, _ := strings.Cut(strings.TrimPrefix(o.Key, s.cfg.Prefix), "/")
	exists, seen := known[id]
	if !seen {
		_, err := s.read(ctx, id)
		if err != nil && !errors.Is(err, fault.NotFound) {
			return err
		}
		clear(known) // keys are in order: only the last one is asked for again
		exists = err == nil
		known[id] = exists
	}
	if exists {
		return nil
	}
	return s.cfg.Objects.Delete(ctx, o.Key)
}
