package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/ggfleet/ggfleet/controlplane/internal/task"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
)

// AssetLibrary turns what an Asset Library knows into things (cdf-services §8).
//
// Each look-up returns the names of the things in the order found, each once,
// and beside them in words what it left out: devices that are unknown, have no
// thing, or whose thing is in another region. An error means that nothing is
// known: fault.NotFound names the group that does not exist, fault.Invalid the
// member of the input; others pass, and the same call may succeed later.
type AssetLibrary interface {
	// Devices returns the things of devices.
	Devices(ctx context.Context, ids []string) (things, skipped []string, err error)
	// Group returns the things of the devices of a group, direct members only.
	Group(ctx context.Context, path string) (things, skipped []string, err error)
	// Query returns the things of what a query finds: devices, and the members of
	// groups. query is an assetLibraryQuery as submitted.
	Query(ctx context.Context, query json.RawMessage) (things, skipped []string, err error)
	// CheckQuery refuses a query that can never be carried out with fault.Invalid
	// and the path of the member.
	CheckQuery(query json.RawMessage) error
}

// Bounds of the targets of one request.
const (
	maxTargets    = 100_000 // names in one list
	maxGroups     = 1000    // groups of either kind
	maxTargetName = 2048    // bytes of an Asset Library id or path
)

// ParseTargets reads the targets of a request, older spellings included
// (cdf-services D-10). Unknown members are kept in Raw and not looked at.
func ParseTargets(raw json.RawMessage) (Targets, error) {
	var in struct {
		Targets
		ThingGroups []string `json:"thingGroups"`
	}
	if err := json.Unmarshal(raw, &in); err != nil {
		return Targets{}, fault.Under("targets", decodeFault(err))
	}
	t := in.Targets
	t.ThingGroupNames = append(t.ThingGroupNames, in.ThingGroups...)
	if string(t.Query) == "null" {
		t.Query = nil
	}
	t.Raw = raw
	return t, nil
}

// checkTargets refuses targets that can never be carried out.
func (s *Service) checkTargets(t Targets) error {
	if len(t.ThingNames)+len(t.ThingGroupNames)+len(t.DeviceIDs)+len(t.GroupPaths) == 0 && len(t.Query) == 0 {
		return fault.Field("targets", "names nothing; want thingNames, thingGroupNames or an assetLibrary member with at least one entry")
	}
	for _, l := range []struct {
		name  string
		list  []string
		most  int
		check func(string) error
	}{
		{"thingNames", t.ThingNames, maxTargets, names.CheckThing},
		{"thingGroupNames", t.ThingGroupNames, maxGroups, names.CheckThingGroup},
		{"assetLibraryDeviceIds", t.DeviceIDs, maxTargets, s.checkAsset},
		{"assetLibraryGroupPaths", t.GroupPaths, maxGroups, s.checkAsset},
	} {
		if len(l.list) > l.most {
			return fault.Field("targets."+l.name, "has %d entries, over the limit of %d", len(l.list), l.most)
		}
		for i, n := range l.list {
			if err := l.check(n); err != nil {
				return fault.Field(fmt.Sprintf("targets.%s[%d]", l.name, i), "%s", fault.Message(err))
			}
		}
	}
	if len(t.Query) == 0 {
		return nil
	}
	if s.cfg.Assets == nil {
		return fault.Field("targets.assetLibraryQuery", "%s", noAssetLibrary)
	}
	err := s.cfg.Assets.CheckQuery(t.Query)
	if err != nil && fault.FieldOf(err) == "" {
		return fault.Field("targets.assetLibraryQuery", "%s", fault.Message(err))
	}
	return fault.Under("targets.assetLibraryQuery", err)
}

const noAssetLibrary = "needs an Asset Library and none is connected (setting asset-library-url); name things or thing groups"

func (s *Service) checkAsset(name string) error {
	if s.cfg.Assets == nil {
		return fault.New(fault.Invalid, "%s", noAssetLibrary)
	}
	if name == "" || len(name) > maxTargetName {
		return fault.New(fault.Invalid, "must have 1 to %d bytes", maxTargetName)
	}
	return nil
}

// expansion collects the things that a task is aimed at, each once.
type expansion struct {
	s       *Service
	item    deploymentItem
	items   []task.NewItem
	skipped int      // names from groups and queries that are no cores of this fleet
	noThing []string // what the Asset Library left out, and why
}

// add takes what groups and queries found: what is no core of this fleet is left
// out and counted (cdf-services §8).
func (x *expansion) add(thing string) error {
	if _, _, ok := x.s.cores.Get(coreKey(thing)); !ok {
		x.skipped++
		return nil
	}
	x.items = append(x.items, task.NewItem{Name: thing, Spec: x.item})
	return nil
}

func (x *expansion) addAll(things, skipped []string, err error) error {
	for _, t := range things {
		_ = x.add(t) // never fails
	}
	x.noThing = append(x.noThing, skipped...)
	return err
}

// run goes through the targets in the order of cdf-services §8. Names given
// explicitly are taken as they are: one that is no core fails its item.
func (x *expansion) run(ctx context.Context, t Targets) error {
	for _, n := range t.ThingNames {
		x.items = append(x.items, task.NewItem{Name: n, Spec: x.item})
	}
	a := x.s.cfg.Assets
	if a == nil && (len(t.Query) > 0 || len(t.GroupPaths) > 0 || len(t.DeviceIDs) > 0) {
		return fault.New(fault.Invalid, "the targets %s", noAssetLibrary)
	}
	if len(t.Query) > 0 {
		if err := x.addAll(a.Query(ctx, t.Query)); err != nil {
			return fmt.Errorf("query the asset library: %w", err)
		}
	}
	for _, p := range t.GroupPaths {
		if err := x.addAll(a.Group(ctx, p)); err != nil {
			return fmt.Errorf("members of asset library group %s: %w", p, err)
		}
	}
	if len(t.DeviceIDs) > 0 {
		if err := x.addAll(a.Devices(ctx, t.DeviceIDs)); err != nil {
			return fmt.Errorf("devices of the asset library: %w", err)
		}
	}
	for _, g := range t.ThingGroupNames {
		if err := x.s.cfg.Cloud.Members(ctx, g, x.add); err != nil {
			return fmt.Errorf("members of thing group %s: %w", g, err)
		}
	}
	return nil
}

// namedSkips is how many of the things left out the task's message names.
const namedSkips = 10

// result is the items and what the task says of names left out.
func (x *expansion) result() ([]task.NewItem, string, error) {
	var said []string
	if x.skipped > 0 {
		said = append(said, fmt.Sprintf("%d names found by groups and queries are no cores of this fleet and were left out", x.skipped))
	}
	if n := len(x.noThing); n > 0 {
		text := fmt.Sprintf("%d left out by the Asset Library: %s", n, strings.Join(x.noThing[:min(n, namedSkips)], ", "))
		if n > namedSkips {
			text += fmt.Sprintf(", and %d more", n-namedSkips)
		}
		said = append(said, text)
	}
	message := strings.Join(said, "; ")
	if len(x.items) > 0 {
		return x.items, message, nil
	}
	if message == "" {
		return nil, "", fault.New(fault.Invalid, "the targets name no core of this fleet: the groups and queries are empty")
	}
	return nil, "", fault.New(fault.Invalid, "the targets name no core of this fleet (%s)", message)
}
