package greengrass

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Core returns what the core device last reported, or fault.NotFound when it
// never did: a core appears by its first report, not by an API call
// (greengrassv2-api §14).
func (s *Service) Core(ctx context.Context, thing string) (CoreDevice, error) {
	c, err := state.Read[CoreDevice](ctx, s.store, coreKey(thing))
	if errors.Is(err, fault.NotFound) {
		return CoreDevice{}, fault.New(fault.NotFound, "%s is not a registered Greengrass core device: it has not reported yet", thing)
	}
	if err != nil {
		return CoreDevice{}, fmt.Errorf("read core device %s: %w", thing, err)
	}
	s.mu.Lock()
	heard := s.seen[thing]
	s.mu.Unlock()
	c.Value.LastStatusAt = later(c.Value.LastStatusAt, heard.at)
	for i := range c.Value.Components {
		x := &c.Value.Components[i]
		x.LastReportedAt = later(x.LastReportedAt, heard.all)
	}
	return c.Value, nil
}

// seen is when a core reported, in memory only: most reports change nothing.
type seen struct {
	at  time.Time // of the last report
	all time.Time // of the last one that listed every component
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// HasCore reports whether the core device ever reported.
func (s *Service) HasCore(ctx context.Context, thing string) (bool, error) {
	_, err := s.store.Get(ctx, coreKey(thing))
	if errors.Is(err, fault.NotFound) {
		return false, nil
	}
	return err == nil, err
}

// ForgetCore removes what the thing reported, and what was kept for it as a core
// device. The core device comes back with its next report. One that is not known
// is no error.
func (s *Service) ForgetCore(ctx context.Context, thing string) error {
	var err error
	for range 16 {
		if err = s.forgetCore(ctx, thing); !errors.Is(err, fault.Conflict) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("forget core device %s: %w", thing, err)
	}
	return nil
}

func (s *Service) forgetCore(ctx context.Context, thing string) error {
	c, err := state.ReadOr[CoreDevice](ctx, s.store, coreKey(thing))
	if err != nil || c.Rev == 0 {
		return err
	}
	p := parcels{store: s.store, b: state.NewBatch(state.StepFleetStatus)}
	if err := s.forgetDeployed(ctx, thing, func(b *state.Batch) error { return p.add(ctx, b) }); err != nil {
		return err
	}
	s.forgetBatch(p.b.If(coreKey(thing), c.Rev), thing)
	_, err = s.store.Commit(ctx, p.b)
	return err
}

func (s *Service) forgetBatch(b *state.Batch, thing string) {
	b.Delete(coreKey(thing)).Delete(statusKey(thing)).Delete(coreTagsKey(thing))
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.read, thing)
	delete(s.seen, thing)
	delete(s.chunks, thing)
}

// Report takes one fleet status message of the thing. A message that changes
// nothing touches memory only; what changes the record is committed when Report
// returns. Errors of kind fault.Invalid mean that the message cannot be read.
func (s *Service) Report(ctx context.Context, thing string, payload []byte) error {
	m, err := protocol.ParseFleetStatus(payload)
	if err != nil {
		return err
	}
	if m.Thing != thing {
		return fault.Field("thing", "is %q, but the certificate is of %s", m.Thing, thing)
	}
	m, whole, err := s.collect(thing, m)
	if !whole || err != nil {
		return err
	}
	now := s.now().UTC()
	if known, err := s.reportKnown(ctx, thing, m, now); known || err != nil {
		return err
	}
	c, err := state.Update(ctx, s.store, state.StepFleetStatus, coreKey(thing), func(c *CoreDevice, exists bool, b *state.Batch) error {
		next := merge(*c, m, now)
		if !exists {
			// The last words of a thing that was just deleted make no core device.
			if _, err := s.registry.ThingBatch(ctx, b, thing); err != nil {
				return err
			}
			next.CreatedAt = now
		} else if same(*c, next) {
			return state.ErrKeep
		}
		statusBatch(b, *c, next)
		*c = next
		return nil
	})
	if err != nil {
		return fmt.Errorf("store fleet status of %s: %w", thing, err)
	}
	s.heard(c.Value, m, now)
	s.log.DebugContext(ctx, "fleet status", logx.Thing, thing, "trigger", m.Trigger, "sequence", m.SequenceNumber, "status", m.OverallDeviceStatus)
	return nil
}

// reportKnown is Report for a core whose record is in memory: no read of the
// store. known is false where only the store knows the record for sure.
func (s *Service) reportKnown(ctx context.Context, thing string, m protocol.FleetStatus, now time.Time) (known bool, err error) {
	c, rev := s.current(thing)
	if c == nil {
		return false, nil
	}
	next := merge(*c, m, now)
	if !same(*c, next) {
		b := state.NewBatch(state.StepFleetStatus).If(coreKey(thing), rev).Put(coreKey(thing), next)
		statusBatch(b, *c, next)
		_, err := s.store.Commit(ctx, b)
		if errors.Is(err, fault.Conflict) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("store fleet status of %s: %w", thing, err)
		}
	}
	s.heard(next, m, now)
	return true, nil
}

// current returns the record of a core from memory, read-only, or nil.
func (s *Service) current(thing string) (*CoreDevice, state.Rev) {
	select {
	case <-s.cores.Ready():
	default:
		return nil, 0
	}
	s.mu.Lock()
	_, ok := s.read[thing]
	s.mu.Unlock()
	if !ok {
		return nil, 0
	}
	c, rev, _ := s.cores.Get(coreKey(thing))
	return c, rev
}

// heard notes a report after which c is known to be what the store has.
func (s *Service) heard(c CoreDevice, m protocol.FleetStatus, at time.Time) {
	all := m.MessageType == protocol.StatusComplete || lists(m.Components, c.Components)
	s.mu.Lock()
	defer s.mu.Unlock()
	h := seen{at: at, all: s.seen[c.Thing].all}
	if all {
		h.all = at
	}
	s.seen[c.Thing] = h
	s.read[c.Thing] = struct{}{}
}

// lists reports whether a message tells of every installed component, as each of
// lite's does.
func lists(told []protocol.ComponentStatus, installed []InstalledComponent) bool {
	if len(told) < len(installed) {
		return false
	}
	names := make(map[string]struct{}, len(told))
	for _, r := range told {
		names[r.ComponentName] = struct{}{}
	}
	return !slices.ContainsFunc(installed, func(x InstalledComponent) bool {
		_, ok := names[x.Name]
		return !ok
	})
}

// chunked collects the parts of one message.
type chunked struct {
	sequence int64
	parts    map[int]protocol.FleetStatus
}

// collect returns the message when all its chunks are there, joined. Chunks of a
// message that has too many components are forgotten.
func (s *Service) collect(thing string, m protocol.FleetStatus) (out protocol.FleetStatus, whole bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &chunked{sequence: m.SequenceNumber, parts: map[int]protocol.FleetStatus{}}
	if m.ChunkInfo == nil {
		m.ChunkInfo = &protocol.ChunkInfo{ChunkID: 1, TotalChunks: 1}
	}
	if last := s.chunks[thing]; last != nil && last.sequence == m.SequenceNumber && m.ChunkInfo.TotalChunks > 1 {
		c = last
	}
	delete(s.chunks, thing)
	c.parts[m.ChunkInfo.ChunkID] = m
	out = m
	out.ChunkInfo, out.Components = nil, nil
	for _, id := range slices.Sorted(maps.Keys(c.parts)) {
		p := c.parts[id]
		out.Components = append(out.Components, p.Components...)
		if p.Deployment != nil {
			out.Deployment = p.Deployment
		}
	}
	if n := len(out.Components); n > maxComponents {
		return out, false, fault.Field("components", "has %d entries, over the limit of %d", n, maxComponents)
	}
	if len(c.parts) < m.ChunkInfo.TotalChunks {
		s.chunks[thing] = c
		return out, false, nil
	}
	return out, true, nil
}
