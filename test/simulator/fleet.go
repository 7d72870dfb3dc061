package simulator

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// FleetConfig describes many cores in one process.
type FleetConfig struct {
	Cores             []Config
	ConnectsPerSecond int // how fast the cores are started; 0: all at once
}

// Stats is what happened in a fleet so far.
type Stats struct {
	Cores        int    `json:"cores"`
	Connected    int64  `json:"connected"`   // now
	Ready        int64  `json:"ready"`       // cores that came up at least once
	Disconnects  int64  `json:"disconnects"` // and failed attempts to connect
	Jobs         int64  `json:"jobs"`        // taken up
	Succeeded    int64  `json:"succeeded"`   // deployments, by their own result
	Failed       int64  `json:"failed"`      //
	Rejected     int64  `json:"rejected"`    //
	Canceled     int64  `json:"canceled"`    //
	Reported     int64  `json:"reported"`    // results that the cloud accepted
	Refused      int64  `json:"refused"`     // answers not as a runtime needs them
	Statuses     int64  `json:"statuses"`    // fleet status messages sent
	FirstRefusal string `json:"firstRefusal,omitempty"`
	FirstFailure string `json:"firstFailure,omitempty"`
}

// Fleet runs many cores. Its methods are safe for concurrent use.
type Fleet struct {
	cores []*Core
	pace  time.Duration

	connected, disconnects, jobs, succeeded, failed, rejected, canceled, reported, refused, statuses atomic.Int64

	mu           sync.Mutex
	up           map[string]bool
	firstRefusal string
	firstFailure string
}

// NewFleet checks every Config and starts nothing. Events reach the OnEvent of
// each Config too.
func NewFleet(cfg FleetConfig) (*Fleet, error) {
	f := &Fleet{up: map[string]bool{}}
	if cfg.ConnectsPerSecond < 0 {
		return nil, fault.Field("ConnectsPerSecond", "is %d", cfg.ConnectsPerSecond)
	}
	if cfg.ConnectsPerSecond > 0 {
		f.pace = time.Second / time.Duration(cfg.ConnectsPerSecond)
	}
	for _, cc := range cfg.Cores {
		next := cc.OnEvent
		cc.OnEvent = func(e Event) {
			f.count(e)
			if next != nil {
				next(e)
			}
		}
		c, err := New(cc)
		if err != nil {
			return nil, err
		}
		f.cores = append(f.cores, c)
	}
	return f, nil
}

// Cores returns the cores, in the order of the Config.
func (f *Fleet) Cores() []*Core { return f.cores }

// Run runs all cores until ctx is done or one cannot go on.
func (f *Fleet) Run(parent context.Context) error {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	var wg sync.WaitGroup
	var start <-chan time.Time
	if f.pace > 0 {
		t := time.NewTicker(f.pace)
		defer t.Stop()
		start = t.C
	}
	for _, c := range f.cores {
		if start != nil {
			select {
			case <-start:
			case <-ctx.Done():
			}
		}
		if ctx.Err() != nil {
			break
		}
		wg.Go(func() {
			if err := c.Run(ctx); err != nil {
				cancel(fmt.Errorf("core %s: %w", c.Thing(), err))
			}
		})
	}
	wg.Wait()
	if parent.Err() != nil {
		return nil
	}
	return context.Cause(ctx)
}

// Stats returns the counts so far.
func (f *Fleet) Stats() Stats {
	f.mu.Lock()
	defer f.mu.Unlock()
	return Stats{
		Cores: len(f.cores), Connected: f.connected.Load(), Ready: int64(len(f.up)), Disconnects: f.disconnects.Load(), Jobs: f.jobs.Load(),
		Succeeded: f.succeeded.Load(), Failed: f.failed.Load(), Rejected: f.rejected.Load(), Canceled: f.canceled.Load(),
		Reported: f.reported.Load(), Refused: f.refused.Load(), Statuses: f.statuses.Load(), FirstRefusal: f.firstRefusal, FirstFailure: f.firstFailure,
	}
}

func (f *Fleet) count(e Event) {
	switch e.Kind {
	case EventConnected:
		f.connected.Add(1)
	case EventLost:
		f.connected.Add(-1)
	case EventDisconnected:
		f.disconnects.Add(1)
	case EventReady:
		f.mu.Lock()
		f.up[e.Thing] = true
		f.mu.Unlock()
	case EventJob:
		f.jobs.Add(1)
	case EventFinished:
		f.finished(e)
	case EventReported:
		f.reported.Add(1)
	case EventCanceled:
		f.canceled.Add(1)
	case EventRefused:
		f.refused.Add(1)
		f.first(&f.firstRefusal, e)
	case EventStatus:
		f.statuses.Add(1)
	case EventIgnored:
	}
}

func (f *Fleet) finished(e Event) {
	switch protocol.JobStatus(e.Detail) { //nolint:exhaustive // the rest counts as failed
	case protocol.JobSucceeded:
		f.succeeded.Add(1)
		return
	case protocol.JobRejected:
		f.rejected.Add(1)
	default:
		f.failed.Add(1)
	}
	f.first(&f.firstFailure, e)
}

func (f *Fleet) first(where *string, e Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if *where == "" {
		*where = fmt.Sprintf("%s: %s: %v", e.Thing, e.Detail, e.Err)
	}
}

// SpreadIP returns the source address of the n-th core, from 127.16.0.0 on: one
// address has about 28,000 ports towards one server.
func SpreadIP(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{127, byte(16 + n>>16&0x7f), byte(n >> 8), byte(n)}) //nolint:gosec // the low bytes are meant
}
