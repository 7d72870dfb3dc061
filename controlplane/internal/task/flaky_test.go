package task_test

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/state/memory"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/run"
)

// flaky is a store whose commits can fail before or after they were applied, and
// whose leases stay behind when their holder ends, as after kill -9.
type flaky struct {
	*memory.Store
	away atomic.Bool
	slow bool

	mu     sync.Mutex
	fates  []byte // what happens to the next commits: 'l' lost, 'a' answer lost, else fine
	leases []int64
}

func newFlaky() *flaky { return &flaky{Store: memory.New()} }

var errAway = fault.New(fault.Unavailable, "the store is away")

func (f *flaky) fate() byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.fates) == 0 {
		return ' '
	}
	c := f.fates[0]
	f.fates = f.fates[1:]
	return c
}

func (f *flaky) Get(ctx context.Context, key string) (state.Entry, error) {
	if f.away.Load() {
		return state.Entry{}, errAway
	}
	return f.Store.Get(ctx, key)
}

func (f *flaky) Commit(ctx context.Context, b *state.Batch) (state.Rev, error) {
	fate := f.fate()
	if f.away.Load() || fate == 'l' {
		return 0, errAway
	}
	if f.slow {
		time.Sleep(time.Millisecond) // lets others in between what was read and this
	}
	rev, err := f.Store.Commit(ctx, b)
	if err == nil && fate == 'a' {
		return 0, errAway
	}
	return rev, err
}

func (f *flaky) NewLease(ctx context.Context, ttl time.Duration) (state.Lease, error) {
	l, err := f.Store.NewLease(ctx, ttl)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	f.leases = append(f.leases, l.ID())
	f.mu.Unlock()
	late := make(chan struct{})
	go func() {
		select {
		case <-l.Lost():
			_ = run.Sleep(ctx, 5*time.Second)
			close(late)
		case <-ctx.Done():
		}
	}()
	return zombie{l, late}, nil
}

// expire ends the n-th lease from the newest.
func (f *flaky) expire(n int) {
	f.mu.Lock()
	var id int64
	if n < len(f.leases) {
		id = f.leases[len(f.leases)-1-n]
	}
	f.mu.Unlock()
	f.Expire(id)
}

// zombie is a lease whose holder learns of its end only seconds later, and whose
// keys outlive an orderly end of the holder.
type zombie struct {
	state.Lease
	late chan struct{}
}

func (z zombie) Lost() <-chan struct{} { return z.late }

func (zombie) Close(context.Context) error { return nil }
