package distribution

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// anyPlatform stands in keys for a distribution that runs everywhere.
const anyPlatform = "any"

// slot is where one current distribution has its place: each runtime has one for
// each platform, and one for all others.
func slotKey(runtime, platform string) string {
	if platform == "" {
		platform = anyPlatform
	}
	return slotPrefix + runtime + "/" + platform
}

// choice names a distribution but for its platform.
type choice struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// Activate makes a stored archive the one that agents of its runtime and platform
// install. Without a platform it is each archive of that version.
func (s *Store) Activate(ctx context.Context, name, version, platform string) error {
	list, err := s.versions(ctx, name, version)
	if err != nil {
		return err
	}
	if platform != "" {
		list = slices.DeleteFunc(list, func(r Record) bool { return r.Platform != platform })
	}
	if len(list) == 0 {
		return missing(name, version, platform)
	}
	b := state.NewBatch(state.StepDistribution)
	for _, r := range list {
		b.Put(slotKey(r.Runtime, r.Platform), choice{name, version})
	}
	_, err = s.records.Commit(ctx, b)
	return err
}

// Offer returns the archive that the agent of core is to install, or nil. That is
// the version that the core is pinned to, else the current one of the runtime that
// q names: built for q's platform if there is one, else for any. A simulated
// nucleus stands in for every runtime that has none. Without a runtime in q only
// what leaves no choice is offered.
func (s *Store) Offer(ctx context.Context, core string, q protocol.AssignmentQuery) (*protocol.Distribution, error) {
	pin, err := s.Pin(ctx, core)
	if err != nil {
		return nil, err
	}
	if pin.Name != "" {
		for _, platform := range platforms(q) {
			r, err := state.ReadOr[Record](ctx, s.records, recordKey(pin.Name, pin.Version, platform))
			if err != nil {
				return nil, err
			}
			if r.Rev != 0 && (q.Runtime == "" || fits(r.Value.Runtime, q.Runtime)) {
				return &r.Value.Distribution, nil
			}
		}
		return nil, nil // pinned to what its device cannot run: it keeps what it has
	}
	runtimes := []string{q.Runtime, simulated}
	if q.Runtime == "" {
		if runtimes, err = s.sole(ctx); err != nil {
			return nil, err
		}
	}
	for _, runtime := range runtimes {
		for _, platform := range platforms(q) {
			c, err := state.ReadOr[choice](ctx, s.records, slotKey(runtime, platform))
			if err != nil {
				return nil, err
			}
			if c.Rev == 0 {
				continue
			}
			r, err := s.Get(ctx, c.Value.Name, c.Value.Version, platform)
			return &r.Distribution, err
		}
	}
	return nil, nil
}

// fits reports whether a distribution of one runtime may be installed where want
// is asked for.
func fits(runtime, want string) bool { return runtime == want || runtime == simulated }

func platforms(q protocol.AssignmentQuery) []string {
	if q.Platform == "" {
		return []string{""}
	}
	return []string{q.Platform, ""}
}

// sole returns the only runtime that has a current distribution, or simulated,
// which takes every configuration.
func (s *Store) sole(ctx context.Context) ([]string, error) {
	var out []string
	err := state.All(ctx, s.records, slotPrefix, func(key string, _ state.Record[choice]) error {
		runtime, _, _ := strings.Cut(strings.TrimPrefix(key, slotPrefix), "/")
		if !slices.Contains(out, runtime) {
			out = append(out, runtime)
		}
		return nil
	})
	switch {
	case slices.Contains(out, simulated):
		return []string{simulated}, err
	case len(out) > 1:
		return nil, err
	}
	return out, err
}

// Pin returns the version that core stays on; the zero value for none.
func (s *Store) Pin(ctx context.Context, core string) (Pin, error) {
	r, err := state.ReadOr[Pin](ctx, s.records, pinPrefix+core)
	return r.Value, err
}

// Pin names the version that one core is offered whatever is current: to stay
// behind the fleet, or to go before it.
type Pin struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// SetPin pins core to a stored version. Whether the core exists is the caller's to
// know.
func (s *Store) SetPin(ctx context.Context, core string, p Pin) error {
	if _, err := s.versions(ctx, p.Name, p.Version); err != nil {
		return err
	}
	_, err := s.records.Commit(ctx, state.NewBatch(state.StepDistribution).Put(pinPrefix+core, p))
	return err
}

// Forget takes back the pin of core; none is no error.
func (s *Store) Forget(ctx context.Context, core string) error {
	r, err := state.ReadOr[Pin](ctx, s.records, pinPrefix+core)
	if err != nil || r.Rev == 0 {
		return err
	}
	if _, err = s.records.Commit(ctx, state.NewBatch(state.StepDistribution).Delete(pinPrefix+core)); err != nil {
		return fmt.Errorf("forget the nucleus version of %s: %w", core, err)
	}
	return nil
}

// versions returns the archives of one version, one for each platform, or
// fault.NotFound.
func (s *Store) versions(ctx context.Context, name, version string) ([]Record, error) {
	all, err := s.List(ctx)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(r Record) bool { return r.Name != name || r.Version != version })
	if len(all) == 0 {
		return nil, missing(name, version, "")
	}
	return all, nil
}

func missing(name, version, platform string) error {
	if platform != "" {
		version += " for " + platform
	}
	return fault.New(fault.NotFound, "distribution %s %s is not stored", name, version)
}
