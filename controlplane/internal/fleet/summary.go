package fleet

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
)

// counters is the running count behind the fleet summary. It follows the
// mirror of core records change by change, so it equals a recount of the mirror
// at every revision and a summary does not depend on the size of the fleet.
type counters struct {
	mu sync.Mutex // guards m
	m  map[TemplateRef]Counter
}

// change takes the old record out of its buckets and puts the new one in.
func (c *counters) change(_ string, before, now *Core) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil {
		c.m = map[TemplateRef]Counter{}
	}
	if before != nil {
		c.addLocked(*before, -1)
	}
	if now != nil {
		c.addLocked(*now, 1)
	}
}

func (c *counters) addLocked(core Core, n int) {
	if core.Desired.Name != "" {
		d := c.m[core.Desired]
		d.DesiredInUse += n
		switch core.DeploymentStatus {
		case DeploymentSuccess:
			d.LastDeploymentSuccess += n
		case DeploymentFailure:
			d.LastDeploymentFailed += n
		case DeploymentInProgress:
			d.LastDeploymentInProgress += n
		case DeploymentNone:
		}
		c.setLocked(core.Desired, d)
	}
	if core.Reported.Name != "" {
		r := c.m[core.Reported]
		r.ReportedInUse += n
		c.setLocked(core.Reported, r)
	}
}

func (c *counters) setLocked(t TemplateRef, v Counter) {
	if v == (Counter{}) {
		delete(c.m, t)
	} else {
		c.m[t] = v
	}
}

// users is how many times cores name the template, as desired or as reported.
func (c *counters) users(name string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for t, v := range c.m {
		if t.Name == name {
			n += max(v.DesiredInUse, v.ReportedInUse)
		}
	}
	return n
}

func (c *counters) snapshot() map[TemplateRef]Counter {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make(map[TemplateRef]Counter, len(c.m))
	for t, v := range c.m {
		out[t] = v
	}
	return out
}

// Summary counts the fleet by template version (cdf-services §3.10, strict
// meaning of success: the device reported it). Every version of every existing
// template has a row; of a template that is gone, those still in use.
func (s *Service) Summary(ctx context.Context) (Summary, error) {
	out := Summary{Templates: map[string]TemplateSummary{}}
	if s.cfg.Agents != nil {
		out.Agents = s.cfg.Agents.Counts()
	}
	err := state.All(ctx, s.cfg.Store, templatePrefix, func(key string, h state.Record[templateHead]) error {
		versions := make(map[int]Counter, h.Value.Latest)
		for v := 1; v <= h.Value.Latest; v++ {
			versions[v] = Counter{}
		}
		out.Templates[strings.TrimPrefix(key, templatePrefix)] = TemplateSummary{LatestVersion: h.Value.Latest, Versions: versions}
		return nil
	})
	if err != nil {
		return Summary{}, fmt.Errorf("summarise fleet: %w", err)
	}
	for t, v := range s.count.snapshot() {
		ts, ok := out.Templates[t.Name]
		if !ok {
			ts.Versions = map[int]Counter{}
		}
		ts.Versions[t.Version] = v
		out.Templates[t.Name] = ts
	}
	return out, nil
}
