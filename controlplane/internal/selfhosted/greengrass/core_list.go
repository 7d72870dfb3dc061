package greengrass

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/jobs"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// CoreFilter selects core devices; all that is set must hold.
type CoreFilter struct {
	Status  string // HEALTHY, UNHEALTHY
	Runtime string // as RuntimeName says it
	// Group selects those that ever ended a deployment aimed at this group with
	// success, also if they are no members any more (greengrassv2-api §14).
	Group string
}

// RuntimeName is the runtime as the API names it: only lite reports its own.
func (c CoreDevice) RuntimeName() string {
	if c.Runtime == "" {
		return protocol.RuntimeClassic
	}
	return c.Runtime
}

// deployedKey says that the core ended a deployment aimed at the group with
// success. It lives as long as the core device and the group do.
func deployedKey(group, core string) string { return deployedPrefix + group + "/" + core }

// deployedBatch notes in b that e ended, if it is to be remembered.
func (s *Service) deployedBatch(b *state.Batch, e jobs.Execution) {
	if e.Kind == names.TargetThingGroup && e.Status == protocol.JobSucceeded {
		b.Put(deployedKey(e.Target, e.Thing), struct{}{})
	}
}

// forgetDeployed hands each the removal of what deployedBatch noted of the core:
// it has an ended execution for each of those groups.
func (s *Service) forgetDeployed(ctx context.Context, thing string, each func(*state.Batch) error) error {
	_, ended, err := s.jobs.Of(ctx, thing)
	if err != nil {
		return err
	}
	for _, e := range ended {
		if e.Kind != names.TargetThingGroup {
			continue
		}
		if err := each(state.NewBatch(state.StepDeprovision).Delete(deployedKey(e.Target, thing))); err != nil {
			return err
		}
	}
	return nil
}

// forgetGroup removes what deployedBatch noted for a group that is no more.
func (s *Service) forgetGroup(ctx context.Context, group string) error {
	for {
		page, err := s.store.List(ctx, deployedKey(group, ""), "", state.MaxBatch)
		if err != nil || len(page.Entries) == 0 {
			return err
		}
		b := state.NewBatch(state.StepDeployment)
		for _, e := range page.Entries {
			b.Delete(e.Key)
		}
		if _, err := s.store.Commit(ctx, b); err != nil {
			return err
		}
	}
}

// coreIndex has the records of the core devices by name: a list of a group looks up
// as many as the group has, and that in a mirror would take too long.
type coreIndex struct {
	mu sync.RWMutex // guards m; taken under the lock of cores and before that of deployed
	m  map[string]*CoreDevice
}

func (x *coreIndex) change(key string, _, after *CoreDevice) {
	x.mu.Lock()
	defer x.mu.Unlock()
	name := strings.TrimPrefix(key, corePrefix)
	if after == nil {
		delete(x.m, name)
	} else {
		x.m[name] = after
	}
}

// Cores returns up to limit core devices that f selects, whose name is greater
// than after, in name order, and whether there are more. It answers from memory
// and waits until that is complete. What it returns shares memory: it is
// read-only.
func (s *Service) Cores(ctx context.Context, f CoreFilter, after string, limit int) ([]CoreDevice, bool, error) {
	err := s.cores.Fresh(ctx)
	if err == nil && f.Group != "" {
		err = s.deployed.Fresh(ctx)
	}
	if err != nil {
		return nil, false, fmt.Errorf("list core devices: %w", err)
	}
	keep := func(c *CoreDevice) bool {
		return (f.Status == "" || c.Status == f.Status) && (f.Runtime == "" || c.RuntimeName() == f.Runtime)
	}
	var out []CoreDevice
	var more bool
	if f.Group == "" {
		var items []state.Item[CoreDevice]
		items, more = s.cores.Range(coreKey(after), limit, func(_ string, c *CoreDevice) bool { return keep(c) })
		for _, it := range items {
			out = append(out, *it.Value)
		}
	} else {
		under := deployedKey(f.Group, "")
		s.byName.mu.RLock()
		var items []state.Item[struct{}]
		items, more = s.deployed.RangeUnder(under, under+after, limit, func(key string, _ *struct{}) bool {
			c := s.byName.m[key[len(under):]]
			return c != nil && keep(c)
		})
		for _, it := range items {
			out = append(out, *s.byName.m[it.Key[len(under):]])
		}
		s.byName.mu.RUnlock()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range out {
		out[i].LastStatusAt = later(out[i].LastStatusAt, s.seen[out[i].Thing].at)
	}
	return out, more, nil
}

// Installed returns the components of the core device by name: its roots, or all.
// It is fault.NotFound for one that never reported.
func (s *Service) Installed(ctx context.Context, thing string, all bool) ([]InstalledComponent, error) {
	c, err := s.Core(ctx, thing)
	if err != nil {
		return nil, err
	}
	out := slices.DeleteFunc(c.Components, func(x InstalledComponent) bool { return !all && !x.IsRoot })
	ids := map[string]string{} // configuration ARN → deployment
	for i := range out {
		x := &out[i]
		for _, arn := range x.ARNs {
			if x.Source != "" {
				break
			}
			id, known := ids[arn]
			if !known {
				if id, err = s.deploymentOf(ctx, arn); err != nil {
					return nil, err
				}
				ids[arn] = id
			}
			x.Source = id
		}
		if x.ChangedAt.IsZero() { // stored by an older version
			x.ChangedAt = x.LastReportedAt
		}
	}
	return out, nil
}

// deploymentOf returns the deployment whose configuration has this ARN, or "" when
// it is not its target's current one.
func (s *Service) deploymentOf(ctx context.Context, arn string) (string, error) {
	kind, name, revision, ok := names.ParseConfigurationARN(arn)
	if !ok {
		return "", nil
	}
	t, err := state.Read[target](ctx, s.store, targetKey(kind, name))
	if errors.Is(err, fault.NotFound) || err == nil && t.Value.Revision != revision {
		return "", nil
	}
	return t.Value.DeploymentID, err
}
