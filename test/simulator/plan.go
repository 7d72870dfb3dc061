package simulator

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// plan is what a deployment will make of the device.
type plan struct {
	doc      protocol.DeploymentDocument
	group    string
	groups   []string // as the cloud listed them
	targets  map[string]*target
	chosen   map[string]*recipe
	fresh    map[string]bool // chosen, and not installed in that version
	rootARNs map[string][]string
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// groupName is the key that the runtime files a deployment under: classic takes
// kind and name, lite the text between the last / and the last : (§3).
func (c *Core) groupName(arn string) string {
	if c.lite() {
		slash, colon := strings.LastIndex(arn, "/"), strings.LastIndex(arn, ":")
		if slash < 0 || colon < slash {
			return ""
		}
		return arn[slash+1 : colon]
	}
	rest, ok := strings.CutPrefix(arn, "arn:")
	if i := strings.Index(rest, ":configuration:"); ok && i >= 0 {
		rest = rest[i+len(":configuration:"):]
		if colon := strings.LastIndex(rest, ":"); colon > 0 {
			return rest[:colon]
		}
	}
	return arn
}

// newPlan asks the cloud for the thing groups and resolves every component.
func (c *Core) newPlan(ctx context.Context, cl *cloud, doc protocol.DeploymentDocument) (*plan, error) {
	p := &plan{doc: doc, group: c.groupName(doc.ConfigurationARN), chosen: map[string]*recipe{}, fresh: map[string]bool{}}
	c.mu.Lock()
	dev := c.dev.clone()
	c.mu.Unlock()
	if old := dev.Targets[p.group]; old != nil && !c.lite() && doc.CreationTimestamp < old.Created {
		return p, errStale
	}
	groups, err := cl.thingGroups(ctx)
	if status(err) == 403 && !c.lite() {
		groups, err = dev.Groups, nil
	}
	if err != nil {
		return p, fmt.Errorf("listing thing groups: %w", err)
	}
	p.groups = groups
	p.targets = c.keptTargets(dev.Targets, p.group, groups)
	roots := map[string]string{}
	for name, comp := range doc.Components {
		roots[name] = comp.Version
	}
	p.targets[p.group] = &target{ARN: doc.ConfigurationARN, Roots: roots, Created: doc.CreationTimestamp}
	requirements, err := c.rootRequirements(p.targets)
	if err != nil {
		return p, err
	}
	p.rootARNs = map[string][]string{}
	for _, name := range sortedKeys(p.targets) {
		for root := range p.targets[name].Roots {
			p.rootARNs[root] = append(p.rootARNs[root], p.targets[name].ARN)
		}
	}
	return p, c.resolveAll(ctx, cl, p, &dev, requirements)
}

// keptTargets drops what the cloud no longer lists: lite looks for the name alone
// and so needs its own thing in the list (trap 20), classic keeps thing targets.
func (c *Core) keptTargets(old map[string]*target, group string, groups []string) map[string]*target {
	kept := map[string]*target{}
	for name, t := range old {
		listed := slices.Contains(groups, name)
		if !c.lite() {
			listed = strings.HasPrefix(name, "thing/") || slices.Contains(groups, strings.TrimPrefix(name, "thinggroup/"))
		}
		if name != group && listed {
			kept[name] = t
		}
	}
	return kept
}

// rootRequirements joins the roots of all targets. The same root in two versions
// is an error on lite at once, on classic when no version meets both (trap 48).
func (c *Core) rootRequirements(targets map[string]*target) (map[string]map[string]string, error) {
	req := map[string]map[string]string{}
	for _, group := range sortedKeys(targets) {
		for name, version := range targets[group].Roots {
			if name == nucleusLite && c.lite() && version != c.cfg.Version {
				return nil, fault.New(fault.Unsupported, "%s %s is asked for, %s runs", name, version, c.cfg.Version)
			}
			if req[name] == nil {
				req[name] = map[string]string{}
			}
			for other, v := range req[name] {
				if c.lite() && v != version {
					return nil, fault.New(fault.Conflict, "%s is wanted as %s by %s and as %s by %s (trap 48)", name, v, other, version, group)
				}
			}
			req[name][group] = version
		}
	}
	return req, nil
}

// builtIn reports whether the runtime settles a component by itself.
func (c *Core) builtIn(name string, isRoot bool, requirements map[string]string) bool {
	if c.lite() {
		return name == tokenExchange || !isRoot && (name == nucleus || name == nucleusLite || name == cli)
	}
	return name == nucleus && satisfies(c.cfg.Version, requirements)
}

// resolveAll walks the dependencies breadth-first, one component at a time with
// all requirements known so far (§8).
func (c *Core) resolveAll(ctx context.Context, cl *cloud, p *plan, dev *device, req map[string]map[string]string) error {
	queue := sortedKeys(req)
	for steps := 0; len(queue) > 0; steps++ {
		if steps > 1000 {
			return fault.New(fault.Invalid, "the dependencies do not come to an end")
		}
		name := queue[0]
		queue = queue[1:]
		if len(req[name]) == 0 || c.builtIn(name, p.rootARNs[name] != nil, req[name]) {
			continue
		}
		if r := p.chosen[name]; r != nil && satisfies(r.Version, req[name]) {
			continue
		}
		r, err := c.choose(ctx, cl, dev, name, req[name])
		if err != nil {
			return fmt.Errorf("resolving %s: %w", name, err)
		}
		if old := p.chosen[name]; old != nil {
			for dep := range old.Dependencies {
				delete(req[dep], name)
			}
		}
		p.chosen[name] = r
		for _, dep := range sortedKeys(r.Dependencies) {
			if req[dep] == nil {
				req[dep] = map[string]string{}
			}
			req[dep][name] = r.Dependencies[dep]
			queue = append(queue, dep)
		}
	}
	for name, r := range p.chosen {
		if len(req[name]) == 0 {
			delete(p.chosen, name) // only an abandoned version needed it
			continue
		}
		have := dev.component(name)
		p.fresh[name] = have == nil || have.Recipe.Version != r.Version
	}
	return nil
}

// choose takes the installed version or asks the cloud: lite asks for what it
// cannot satisfy itself, classic always, with its own version as a proposal.
func (c *Core) choose(ctx context.Context, cl *cloud, dev *device, name string, requirements map[string]string) (*recipe, error) {
	var local *recipe
	have := ""
	if comp := dev.component(name); comp != nil && satisfies(comp.Recipe.Version, requirements) {
		local, have = &comp.Recipe, comp.Recipe.Version
	}
	if c.lite() && local != nil {
		return local, nil
	}
	r, err := cl.resolve(ctx, name, have, requirements)
	if err != nil && local != nil {
		return local, nil
	}
	return r, err
}

// fetch gets credentials (lite) and every artifact that is not there yet.
func (c *Core) fetch(ctx context.Context, cl *cloud, p *plan) error {
	fresh := slices.DeleteFunc(sortedKeys(p.chosen), func(n string) bool { return !p.fresh[n] })
	if c.lite() {
		if err := cl.credentials(ctx); err != nil && len(fresh) > 0 {
			return fmt.Errorf("token exchange (trap 22): %w", err)
		}
	}
	for _, name := range fresh {
		r := p.chosen[name]
		for _, a := range r.Artifacts {
			if err := cl.download(ctx, r, a); err != nil {
				return fmt.Errorf("artifact of %s: %w", name, err)
			}
		}
	}
	return nil
}
