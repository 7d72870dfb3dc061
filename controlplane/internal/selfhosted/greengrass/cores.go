package greengrass

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
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
	defer s.mu.Unlock()
	if at := s.seen[thing]; at.After(c.Value.LastStatusAt) {
		c.Value.LastStatusAt = at
	}
	return c.Value, nil
}

// HasCore reports whether the core device ever reported.
func (s *Service) HasCore(ctx context.Context, thing string) (bool, error) {
	_, err := s.store.Get(ctx, coreKey(thing))
	if errors.Is(err, fault.NotFound) {
		return false, nil
	}
	return err == nil, err
}

// ForgetCore removes what the thing reported. The core device comes back with
// its next report. One that is not known is no error.
func (s *Service) ForgetCore(ctx context.Context, thing string) error {
	for range 16 {
		c, err := state.ReadOr[CoreDevice](ctx, s.store, coreKey(thing))
		if err != nil {
			return fmt.Errorf("read core device %s: %w", thing, err)
		}
		if c.Rev == 0 {
			return nil
		}
		b := state.NewBatch(state.StepFleetStatus).If(coreKey(thing), c.Rev)
		s.forgetBatch(b, thing)
		if _, err = s.store.Commit(ctx, b); !errors.Is(err, fault.Conflict) {
			return err
		}
	}
	return fmt.Errorf("forget core device %s: %w", thing, fault.Conflict)
}

func (s *Service) forgetBatch(b *state.Batch, thing string) {
	b.Delete(coreKey(thing)).Delete(statusKey(thing))
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
	m, whole := s.collect(thing, m)
	if !whole {
		return nil
	}
	if len(m.Components) > maxComponents {
		return fault.Field("components", "has %d entries, over the limit of %d", len(m.Components), maxComponents)
	}
	now := s.now().UTC()
	if known, err := s.reportKnown(ctx, thing, m, now); known || err != nil {
		return err
	}
	_, err = state.Update(ctx, s.store, state.StepFleetStatus, coreKey(thing), func(c *CoreDevice, exists bool, b *state.Batch) error {
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
	s.heard(thing, now)
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
	s.heard(thing, now)
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

// heard notes a report whose record is known to be what the store has.
func (s *Service) heard(thing string, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen[thing] = at
	s.read[thing] = struct{}{}
}

// same reports whether two records differ in nothing but when they were made.
func same(a, b CoreDevice) bool {
	if !slices.EqualFunc(a.Components, b.Components, sameComponent) {
		return false
	}
	a.LastStatusAt, b.LastStatusAt = time.Time{}, time.Time{}
	a.Components, b.Components = nil, nil
	return reflect.DeepEqual(a, b)
}

func sameComponent(a, b InstalledComponent) bool {
	return a.Name == b.Name && a.Version == b.Version && a.State == b.State && a.Reason == b.Reason && a.IsRoot == b.IsRoot &&
		slices.Equal(a.Codes, b.Codes) && slices.Equal(a.ARNs, b.ARNs)
}

// merge reads a message as nucleus-contract §2.4 says: COMPLETE replaces the
// list, PARTIAL is merged by name, UNINSTALLED removes. A smaller sequence
// number is no reason to refuse: a core set up anew starts over.
func merge(c CoreDevice, m protocol.FleetStatus, now time.Time) CoreDevice {
	next := CoreDevice{
		Thing: m.Thing, Status: m.OverallDeviceStatus, Version: m.GGCVersion, Platform: m.Platform, Architecture: m.Architecture,
		Runtime: m.Runtime, LastStatusAt: now, CreatedAt: c.CreatedAt, Results: c.Results,
	}
	if m.MessageType == protocol.StatusPartial {
		next.Components = slices.Clone(c.Components)
	}
	for _, r := range m.Components {
		i := slices.IndexFunc(next.Components, func(x InstalledComponent) bool { return x.Name == r.ComponentName })
		if r.Status == "UNINSTALLED" || i >= 0 && dropped(next.Components[i], r, m) {
			if i >= 0 {
				next.Components = slices.Delete(next.Components, i, i+1)
			}
			continue
		}
		x := installed(r, now)
		if i >= 0 {
			next.Components[i] = x
		} else {
			next.Components = append(next.Components, x)
		}
	}
	slices.SortFunc(next.Components, func(a, b InstalledComponent) int { return strings.Compare(a.Name, b.Name) })
	if d := m.Deployment; d != nil && d.Status != "" {
		next.Results = withResult(c.Results, d)
	}
	return next
}

// dropped reports whether a deployment removed the component: older classic
// versions then send it once more with its last state and no configuration. The
// runtime's own services never had one.
func dropped(before InstalledComponent, r protocol.ComponentStatus, m protocol.FleetStatus) bool {
	byDeployment := m.Trigger == protocol.TriggerThingDeployment || m.Trigger == protocol.TriggerThingGroupDeployment || m.Trigger == protocol.TriggerLocalDeployment
	return m.Runtime != protocol.RuntimeLite && m.MessageType == protocol.StatusPartial && byDeployment && len(before.ARNs) > 0 && len(r.FleetConfigARNs) == 0
}

func installed(r protocol.ComponentStatus, now time.Time) InstalledComponent {
	x := InstalledComponent{
		Name: r.ComponentName, Version: r.Version, State: r.Status, IsRoot: r.IsRoot, ARNs: r.FleetConfigARNs, LastReportedAt: now,
	}
	if len(x.ARNs) == 0 {
		x.ARNs = nil // [] and absent are stored alike
	}
	if r.Details != nil {
		x.Reason, x.Codes = cut(r.Details.StatusReason), r.Details.StatusCodes
	}
	return x
}

func withResult(results []Result, d *protocol.DeploymentInformation) []Result {
	r := Result{DeploymentID: d.DeploymentID, Status: d.Status}
	if x := d.StatusDetails; x != nil {
		r.Detailed, r.Cause, r.ErrorStack, r.ErrorTypes = x.DetailedStatus, cut(x.FailureCause), x.ErrorStack, x.ErrorTypes
	}
	out := slices.DeleteFunc(slices.Clone(results), func(o Result) bool { return o.DeploymentID == r.DeploymentID })
	out = append(out, r)
	if len(out) > maxResults {
		out = out[len(out)-maxResults:]
	}
	return out
}

func cut(s string) string {
	if len(s) > maxReasonLength {
		return strings.ToValidUTF8(s[:maxReasonLength], "")
	}
	return s
}

// chunked collects the parts of one message.
type chunked struct {
	sequence int64
	parts    map[int]protocol.FleetStatus
}

// collect returns the message when all its chunks are there, joined.
func (s *Service) collect(thing string, m protocol.FleetStatus) (protocol.FleetStatus, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.ChunkInfo == nil || m.ChunkInfo.TotalChunks == 1 {
		delete(s.chunks, thing)
		return m, true
	}
	c := s.chunks[thing]
	if c == nil || c.sequence != m.SequenceNumber {
		c = &chunked{sequence: m.SequenceNumber, parts: map[int]protocol.FleetStatus{}}
		s.chunks[thing] = c
	}
	c.parts[m.ChunkInfo.ChunkID] = m
	if len(c.parts) < m.ChunkInfo.TotalChunks {
		return m, false
	}
	delete(s.chunks, thing)
	out := m
	out.ChunkInfo, out.Components = nil, nil
	for _, id := range sortedInts(c.parts) {
		p := c.parts[id]
		out.Components = append(out.Components, p.Components...)
		if p.Deployment != nil {
			out.Deployment = p.Deployment
		}
	}
	return out, true
}

func sortedInts[V any](m map[int]V) []int {
	out := make([]int, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
