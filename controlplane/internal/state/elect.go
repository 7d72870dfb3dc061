package state

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/run"
)

// Election is work that one replica does for all: whoever holds the record at
// Key leads.
type Election struct {
	Store Store
	Step  Step
	Key   string
	TTL   time.Duration // how long after the death of a leader the next one follows
}

// office is the record at the key of an Election.
type office struct {
	Lease int64 `json:"lease"`
}

var (
	errDeposed = errors.New("the leader's lease ended")
	errVacant  = errors.New("nobody leads")
)

// Run waits until this process is elected and then runs lead, until ctx is done
// or lead returns; it returns what lead returned, and lets another process lead.
// The context of lead ends when its lease is lost; Run then stands for election
// again. For a moment after that there may be two who lead: what lead commits
// must name the versions that it read.
func (e Election) Run(ctx context.Context, lead func(ctx context.Context) error) error {
	wait := run.Backoff{Max: 5 * time.Second} // an outage may last longer than anybody waits after it
	for ctx.Err() == nil {
		lease, err := e.win(ctx)
		if err != nil && fault.Permanent(err) {
			return fmt.Errorf("election %s: %w", e.Key, err)
		}
		if lease == nil {
			_ = run.Sleep(ctx, wait.Next()) // the loop looks at ctx
			continue
		}
		wait.Reset()
		if err := e.term(ctx, lease, lead); !errors.Is(err, errDeposed) {
			return err
		}
	}
	return nil
}

// Depose ends the term of whoever leads: for a process that knows itself to be
// the only one, so that it need not wait for the lease of the one before.
func (e Election) Depose(ctx context.Context) error {
	_, err := e.Store.Commit(ctx, NewBatch(e.Step).Delete(e.Key))
	return err
}

// win waits until nobody leads and takes the office. It returns no lease when
// ctx is done.
func (e Election) win(ctx context.Context) (Lease, error) {
	for ctx.Err() == nil {
		// A listing, for its revision: that of the record itself can be so old that
		// its history is compacted.
		p, err := e.Store.List(ctx, e.Key, "", 1)
		if err != nil {
			return nil, err
		}
		if len(p.Entries) > 0 && p.Entries[0].Key == e.Key {
			err = e.Store.Watch(ctx, e.Key, p.At, func(events []Event) error {
				if last := events[len(events)-1]; last.Key == e.Key && last.Deleted {
					return errVacant
				}
				return nil
			})
			if err == nil || errors.Is(err, errVacant) || errors.Is(err, ErrCompacted) {
				continue
			}
			return nil, err
		}
		lease, err := e.take(ctx)
		if !errors.Is(err, fault.Conflict) {
			return lease, err
		}
	}
	return nil, nil
}

// take puts the record that makes this process the leader under a new lease.
func (e Election) take(ctx context.Context) (Lease, error) {
	lease, err := e.Store.NewLease(ctx, e.TTL)
	if err != nil {
		return nil, err
	}
	_, err = e.Store.Commit(ctx, NewBatch(e.Step).If(e.Key, 0).PutLeased(e.Key, office{Lease: lease.ID()}, lease.ID()))
	if err != nil {
		// Our own commit, if its answer was lost, goes with the lease.
		return nil, errors.Join(err, closeLease(ctx, lease))
	}
	return lease, nil
}

// term runs lead for as long as the lease holds.
func (e Election) term(ctx context.Context, lease Lease, lead func(ctx context.Context) error) error {
	ctx, stop := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-lease.Lost():
			stop(errDeposed)
		case <-ctx.Done():
		}
	})
	err := lead(ctx)
	if cause := context.Cause(ctx); errors.Is(cause, errDeposed) {
		err = errDeposed
	}
	stop(nil)
	wg.Wait()
	_ = closeLease(ctx, lease) // else it ends by itself
	return err
}

func closeLease(ctx context.Context, l Lease) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	return l.Close(ctx)
}
