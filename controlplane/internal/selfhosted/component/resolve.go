package component

import (
	"context"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/recipe"
	"github.com/ggfleet/ggfleet/shared/recipe/semver"
)

const (
	maxCandidates   = 100
	maxRequirements = 200
	// maxLiteAnswer is the largest answer that lite reads, less the most that surrounds
	// the recipe in it.
	maxLiteAnswer = 16384 - 768
)

// Candidate is a component that a core asks a version for.
type Candidate struct {
	Name         string
	Version      string            // what the core has already; it does not influence the choice
	Requirements map[string]string // who asks → npm range; all must hold
}

// Platform is how a core describes itself.
type Platform struct {
	Name       string
	Attributes map[string]string
}

// Resolved is the version that a core is to run.
type Resolved struct {
	ARN, Name, Version string
	Recipe             []byte // JSON in normal form
	VendorGuidance     string
}

// Resolve chooses for each candidate the highest DEPLOYABLE version that meets
// all requirements and has a manifest for platform. A candidate without one is
// fault.NotFound; the text holds "claim platform" if only the platform is in the
// way, else "no usable version", because classic tells the two apart by these
// words (nucleus-contract §4.1). So is a requirement that cannot be read: lite
// would repeat a request that was called invalid.
func (s *Service) Resolve(ctx context.Context, candidates []Candidate, platform Platform) ([]Resolved, error) {
	if len(candidates) == 0 || len(candidates) > maxCandidates {
		return nil, fault.Field("componentCandidates", "has %d entries, want 1 to %d", len(candidates), maxCandidates)
	}
	// Cores ask, thousands at once: nothing is asked of the store but before a "no".
	all, err := s.known(ctx)
	if err != nil {
		return nil, fmt.Errorf("look for versions of components: %w", err)
	}
	out := make([]Resolved, len(candidates))
	for i, c := range candidates {
		v, err := s.choose(ctx, all, c, platform)
		if err != nil {
			return nil, err
		}
		out[i] = Resolved{ARN: v.ARN, Name: v.Name, Version: v.Version.Version, Recipe: v.Normalized, VendorGuidance: "ACTIVE"}
	}
	return out, nil
}

// Deployable returns nil if the version may stand in a deployment: complete, or
// a stub. Else the error names it: fault.NotFound if it is not in the store,
// fault.Invalid if it is not DEPLOYABLE.
func (s *Service) Deployable(ctx context.Context, name, version string) error {
	v, err := s.Get(ctx, name, version)
	if err != nil {
		return err
	}
	if v.State != Deployable {
		return fault.New(fault.Invalid, "component %s %s is %s and cannot be deployed: %s", name, version, v.State, v.awaits())
	}
	return nil
}

func (s *Service) choose(ctx context.Context, all *catalog, c Candidate, p Platform) (*indexed, error) {
	if err := names.CheckComponent(c.Name); err != nil {
		return nil, fault.Under("componentCandidates", fault.Field("componentName", "%s", fault.Message(err)))
	}
	ranges, err := parseRequirements(c)
	if err != nil {
		return nil, err
	}
	v, refusal := best(all.of(c.Name), c, ranges, p)
	if refusal == nil {
		return v, nil
	}
	// "No" ends a deployment at once, and another replica may have just created
	// the version: ask the store itself before saying so.
	if all, err = s.read(ctx, prefix+c.Name+"/"); err != nil {
		return nil, fmt.Errorf("read versions of component %s: %w", c.Name, err)
	}
	return best(all.of(c.Name), c, ranges, p)
}

func parseRequirements(c Candidate) ([]semver.Range, error) {
	if len(c.Requirements) > maxRequirements {
		return nil, fault.New(fault.NotFound, "component %s: no usable version: %d requirements is over the limit of %d", c.Name, len(c.Requirements), maxRequirements)
	}
	release, err := semver.ParseRange("") // a pre-release is chosen only where one is named
	if err != nil || len(c.Requirements) == 0 {
		return []semver.Range{release}, err
	}
	var ranges []semver.Range
	for _, who := range slices.Sorted(maps.Keys(c.Requirements)) {
		r, err := semver.ParseRange(c.Requirements[who])
		if err != nil {
			return nil, fault.New(fault.NotFound, "component %s: no usable version: the requirement of %.128s: %s", c.Name, who, fault.Message(err))
		}
		ranges = append(ranges, r)
	}
	return ranges, nil
}

// best takes the first of versions, the highest first, that fits.
func best(versions []*indexed, c Candidate, ranges []semver.Range, p Platform) (*indexed, error) {
	var otherPlatform, incomplete, stub *indexed
	for _, v := range versions {
		if slices.ContainsFunc(ranges, func(r semver.Range) bool { return !r.Contains(v.number) }) {
			continue
		}
		switch {
		case v.Private:
			stub = v
		case v.State != Deployable:
			incomplete = v
		case !claims(v, p):
			otherPlatform = v
		case recipe.IsLite(p.Attributes) && base64.StdEncoding.EncodedLen(len(v.Normalized)) > maxLiteAnswer:
			return nil, fault.New(fault.NotFound, "component %s has no usable version for the lite runtime: the recipe of %s is over the 16 KB that it reads", c.Name, v.Version.Version)
		default:
			return v, nil
		}
	}
	asked := "version " + describe(c.Requirements)
	switch {
	case otherPlatform != nil:
		return nil, fault.New(fault.NotFound, "component %s %s does not claim platform compatibility with %s", c.Name, otherPlatform.Version.Version, describe(p.Attributes))
	case incomplete != nil:
		return nil, fault.New(fault.NotFound, "component %s has no usable version: %s is %s, %s", c.Name, incomplete.Version.Version, incomplete.State, incomplete.awaits())
	case stub != nil:
		return nil, fault.New(fault.NotFound, "component %s has no usable version: %s is only a stub, import the real one", c.Name, stub.Version.Version)
	case len(versions) == 0:
		return nil, fault.New(fault.NotFound, "component %s has no usable version: it is not in the store", c.Name)
	}
	return nil, fault.New(fault.NotFound, "component %s has no usable version: none of %d meets %s", c.Name, len(versions), asked)
}

func claims(v *indexed, p Platform) bool {
	_, ok := recipe.Match(v.Platforms, p.Attributes)
	return ok
}

// describe writes a map in a fixed order, in bounds.
func describe(m map[string]string) string {
	var parts []string
	for i, k := range slices.Sorted(maps.Keys(m)) {
		if i == 10 {
			parts = append(parts, "…")
			break
		}
		parts = append(parts, fmt.Sprintf("%.128s: %.128s", k, m[k]))
	}
	return "{" + strings.Join(parts, ", ") + "}"
}
