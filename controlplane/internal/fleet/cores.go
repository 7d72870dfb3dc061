package fleet

import (
	"context"
	"errors"
	"fmt"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
)

// StatusUnknown is the device status of a core that never reported.
const StatusUnknown = "UNKNOWN"

// Core returns the core with what cloud and agent know of its device, or
// fault.NotFound when this service does not know the core, even if the cloud
// does (cdf-services §2.3 E13).
func (s *Service) Core(ctx context.Context, name string) (CoreView, error) {
	c, err := s.record(ctx, name)
	if errors.Is(err, fault.NotFound) && names.CheckThing(name) == nil {
		return CoreView{}, s.stranger(ctx, name, err)
	}
	if err != nil {
		return CoreView{}, err
	}
	v := CoreView{Core: c.Value}
	v.Device, err = s.cfg.Cloud.Core(ctx, name)
	if errors.Is(err, fault.NotFound) {
		v.Device, err = CoreDevice{Status: StatusUnknown}, nil
	}
	if err != nil {
		return CoreView{}, fmt.Errorf("read core device %s: %w", name, err)
	}
	v.Agent = s.Agent(name)
	return v, nil
}

// stranger is err, of a core without record, or how a core comes into the fleet whose
// device the cloud knows: somebody prepared it without a core task.
func (s *Service) stranger(ctx context.Context, name string, err error) error {
	if known, look := s.cfg.Cloud.HasCore(ctx, name); look != nil || !known {
		return err
	}
	return fault.New(fault.NotFound, "core %s is not in the fleet, though its device reports to this server; a core task of type Create takes it in and leaves thing and certificate as they are", name)
}

func (s *Service) record(ctx context.Context, name string) (state.Record[Core], error) {
	if names.CheckThing(name) != nil {
		return state.Record[Core]{}, fault.New(fault.NotFound, "core %s does not exist", name)
	}
	c, err := state.Read[Core](ctx, s.cfg.Store, coreKey(name))
	if errors.Is(err, fault.NotFound) {
		return c, fault.New(fault.NotFound, "core %s does not exist", name)
	}
	return c, err
}

// Cores returns the cores that the filter selects, by name, and the name to
// continue after ("" at the end).
func (s *Service) Cores(_ context.Context, f CoreFilter, p Page) ([]Core, string, error) {
	if f.TemplateVersion != 0 && f.TemplateName == "" {
		return nil, "", fault.Field("templateVersion", "goes with templateName")
	}
	if f.Agent != "" {
		return s.coresByAgent(f, p)
	}
	if f == (CoreFilter{}) {
		return s.allCores(p)
	}
	out, limit, last, more := []Core{}, count(p), p.After, true
	for more && len(out) < limit {
		var names []string
		names, more = s.index.names(f, last, limit-len(out))
		for _, n := range names {
			last = n
			// A core that changed in this moment is not there; the next takes its place.
			if c, _, ok := s.cores.Get(coreKey(n)); ok && f.selects(bucketOf(c)) {
				out = append(out, *c)
			}
		}
	}
	if !more {
		last = ""
	}
	return out, last, nil
}

func (s *Service) allCores(p Page) ([]Core, string, error) {
	items, more := s.cores.Range(after(corePrefix, p.After), count(p), nil)
	out := make([]Core, len(items))
	for i, it := range items {
		out[i] = *it.Value
	}
	if !more {
		return out, "", nil
	}
	return out, out[len(out)-1].Name, nil
}

// Recount counts the core records of the store afresh, to check the running
// count against.
func (s *Service) Recount(ctx context.Context) (map[TemplateRef]Counter, error) {
	var c counters
	err := state.All(ctx, s.cfg.Store, corePrefix, func(key string, r state.Record[Core]) error {
		c.change(key, nil, &r.Value)
		return nil
	})
	return c.snapshot(), err
}

// Count is the number of cores.
func (s *Service) Count() int { return s.cores.Len() }
