package enrollment

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Action is what a rule does with a device that it is about.
type Action string

// The actions. To wait ends the search for another rule.
const (
	ActionApprove Action = "approve"
	ActionDeny    Action = "deny"
	ActionWait    Action = "wait"
)

// NewRule is what an operator says about devices that nobody has seen yet. Of the
// conditions all that are given must hold.
type NewRule struct {
	Description string `json:"description,omitempty"`
	Priority    int    `json:"priority"` // the lowest is asked first; then the name decides
	Action      Action `json:"action"`

	Names    []string        `json:"names,omitempty"`    // globs, or "re:" and an RE2 expression for the whole name
	Networks []string        `json:"networks,omitempty"` // in CIDR form
	Serials  bool            `json:"serials,omitempty"`  // the serial is in the rule's list
	Roles    []protocol.Role `json:"roles,omitempty"`
	Ways     []Way           `json:"ways,omitempty"` // claim, none

	Create Creation `json:"create,omitzero"` // for devices that do not exist yet
}

// Rule is a rule as it stands.
type Rule struct {
	NewRule

	Name      string    `json:"name"`
	Version   int       `json:"version"`
	CreatedAt time.Time `json:"createdAt"`
	UpdatedAt time.Time `json:"updatedAt"`

	SerialCount int    `json:"serialCount"`
	SerialList  string `json:"serialList,omitempty"` // the list that counts; empty: none was given
}

// Bounds of rules.
const (
	MaxRules      = 100
	maxPatterns   = 50
	maxPattern    = 256
	maxNetworks   = 100
	MaxPriority   = 1_000_000
	maxDescripton = 1024
	expression    = "re:"
)

const rulePrefix = prefix + "rule/"

func ruleKey(name string) string { return rulePrefix + name }

var ruleName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)

func checkRuleName(name string) error {
	if !ruleName.MatchString(name) {
		return fault.Field("name", "%q is not a rule's name: want 1 to 64 of letters, digits and _ . - and a letter or digit first", fault.Brief(name))
	}
	return nil
}

func (n NewRule) check() error {
	if !slices.Contains([]Action{ActionApprove, ActionDeny, ActionWait}, n.Action) {
		return fault.Field("action", "is %q, want %s, %s or %s", fault.Brief(string(n.Action)), ActionApprove, ActionDeny, ActionWait)
	}
	if n.Priority < 0 || n.Priority > MaxPriority {
		return fault.Field("priority", "is %d, want 0 to %d", n.Priority, MaxPriority)
	}
	if err := checkText("description", n.Description, maxDescripton); err != nil {
		return err
	}
	if len(n.Names) > maxPatterns {
		return fault.Field("names", "has %d patterns, at most %d are taken", len(n.Names), maxPatterns)
	}
	for i, p := range n.Names {
		if _, err := matches(p, ""); err != nil || p == "" || len(p) > maxPattern {
			return fault.Field(fmt.Sprintf("names[%d]", i), "%q is not a pattern: want a glob of * ? [a-z], or re: and an RE2 expression, of at most %d bytes", fault.Brief(p), maxPattern)
		}
	}
	if len(n.Networks) > maxNetworks {
		return fault.Field("networks", "has %d networks, at most %d are taken", len(n.Networks), maxNetworks)
	}
	for i, c := range n.Networks {
		if p, err := netip.ParsePrefix(c); err != nil || p != p.Masked() {
			return fault.Field(fmt.Sprintf("networks[%d]", i), "%q is not a network such as 10.1.0.0/16 or 2001:db8::/32", fault.Brief(c))
		}
	}
	for i, r := range n.Roles {
		if r != protocol.RoleCore && r != protocol.RoleClient {
			return fault.Field(fmt.Sprintf("roles[%d]", i), "is %q, want %s or %s", fault.Brief(string(r)), protocol.RoleCore, protocol.RoleClient)
		}
	}
	for i, w := range n.Ways {
		if w != WayClaim && w != WayNone {
			return fault.Field(fmt.Sprintf("ways[%d]", i), "is %q, want %s or %s; whoever has an activation or a thing's certificate needs no rule", fault.Brief(string(w)), WayClaim, WayNone)
		}
	}
	if n.Action == ActionApprove && len(n.Names) == 0 && len(n.Networks) == 0 && !n.Serials {
		return fault.Field("names", "is missing: a rule that approves needs names, networks or serials; the name * is every device")
	}
	return fault.Under("create", n.Create.check())
}

// matches reports whether the pattern is about the whole name.
func matches(pattern, name string) (bool, error) {
	if e, ok := strings.CutPrefix(pattern, expression); ok {
		if _, err := syntax.Parse(e, syntax.Perl); err != nil { // e alone: "a)|(?:b" would be two that need not be whole
			return false, err
		}
		re, err := regexp.Compile("^(?:" + e + ")$")
		return err == nil && re.MatchString(name), err
	}
	return path.Match(pattern, name)
}

// PutRule makes or replaces a rule; its list of serials stays. ifVersion, unless 0,
// must be the version that is there, else fault.Stale.
func (s *Service) PutRule(ctx context.Context, name string, n NewRule, by string, ifVersion int) (Rule, error) {
	if err := checkRuleName(name); err != nil {
		return Rule{}, err
	}
	if err := n.check(); err != nil {
		return Rule{}, err
	}
	s.rules.Lock() // MaxRules holds in this process; two replicas may pass it by one
	defer s.rules.Unlock()
	list, err := s.Rules(ctx)
	if err != nil {
		return Rule{}, err
	}
	if len(list) >= MaxRules && !slices.ContainsFunc(list, func(r Rule) bool { return r.Name == name }) {
		return Rule{}, fault.New(fault.Exhausted, "there are %d enrolment rules, which is all that may be; delete one", len(list))
	}
	r, err := s.changeRule(ctx, name, ifVersion, true, func(r *Rule) { r.NewRule = n })
	if err != nil {
		return Rule{}, fmt.Errorf("store enrolment rule %s: %w", name, err)
	}
	s.log.InfoContext(ctx, "enrolment rule stored", "rule", name, "version", r.Version, "action", r.Action, logx.Actor, by)
	return r, nil
}

func (s *Service) changeRule(ctx context.Context, name string, ifVersion int, create bool, edit func(*Rule)) (Rule, error) {
	rec, err := state.Update(ctx, s.store, state.StepEnrollRule, ruleKey(name), func(r *Rule, exists bool, _ *state.Batch) error {
		if !exists && !create {
			return noRule(name)
		}
		if ifVersion != 0 && r.Version != ifVersion {
			return fault.New(fault.Stale, "enrolment rule %s has version %d, not %d; read it again", name, r.Version, ifVersion)
		}
		now := s.stamp()
		if !exists {
			*r = Rule{Name: name, CreatedAt: now}
		}
		edit(r)
		r.Version++
		r.UpdatedAt = now
		return nil
	})
	return rec.Value, err
}

func noRule(name string) error {
	return fault.New(fault.NotFound, "enrolment rule %s does not exist", fault.Brief(name))
}

// Rule returns a rule, or fault.NotFound.
func (s *Service) Rule(ctx context.Context, name string) (Rule, error) {
	if checkRuleName(name) != nil {
		return Rule{}, noRule(name)
	}
	r, err := state.Read[Rule](ctx, s.store, ruleKey(name))
	if errors.Is(err, fault.NotFound) {
		return Rule{}, noRule(name)
	}
	return r.Value, err
}

// Rules returns all rules in the order in which they are asked.
func (s *Service) Rules(ctx context.Context) ([]Rule, error) {
	out := []Rule{}
	err := state.All(ctx, s.store, rulePrefix, func(_ string, r state.Record[Rule]) error {
		out = append(out, r.Value)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list enrolment rules: %w", err)
	}
	slices.SortFunc(out, func(a, b Rule) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), strings.Compare(a.Name, b.Name))
	})
	return out, nil
}

// DeleteRule removes a rule and its list of serials. What it decided stays decided.
func (s *Service) DeleteRule(ctx context.Context, name, by string, ifVersion int) error {
	if checkRuleName(name) != nil {
		return noRule(name)
	}
	_, err := state.Update(ctx, s.store, state.StepEnrollRule, ruleKey(name), func(r *Rule, exists bool, b *state.Batch) error {
		if !exists {
			return noRule(name)
		}
		if ifVersion != 0 && r.Version != ifVersion {
			return fault.New(fault.Stale, "enrolment rule %s has version %d, not %d; read it again", name, r.Version, ifVersion)
		}
		b.Delete(ruleKey(name))
		return nil
	})
	if err != nil {
		return fmt.Errorf("delete enrolment rule %s: %w", name, err)
	}
	s.log.InfoContext(ctx, "enrolment rule deleted", "rule", name, logx.Actor, by)
	return s.dropSerials(ctx, name, "")
}

// rule lets the first rule decide that is about the request.
func (r *asked) rule(ctx context.Context) error {
	list, err := r.s.Rules(ctx)
	if err != nil {
		return err
	}
	v := &r.Value
	for _, rule := range list {
		name, about, err := r.s.about(ctx, rule, *v)
		if err != nil {
			return err
		}
		version := fmt.Sprintf("%s@%d", rule.Name, rule.Version)
		if !about || version == v.Failed {
			continue
		}
		d := Decision{At: r.s.stamp(), Rule: rule.Name, Version: version}
		switch rule.Action {
		case ActionDeny:
			v.Status, v.Decision, v.Message = Denied, &d, ""
		case ActionApprove:
			return r.ruleApproves(ctx, rule, name, d)
		case ActionWait:
			return r.warn(ctx)
		}
		return nil
	}
	return r.warn(ctx)
}

// warn tells whoever is to decide that another device is at this name. It must not
// be taken for a new one.
func (r *asked) warn(ctx context.Context) error {
	v := &r.Value
	if v.Name == "" || v.Message != "" {
		return nil
	}
	taken, err := r.s.hasAgent(ctx, v.Name)
	if taken {
		v.Message = v.Name + " has an agent already; approving this gives its place to another device"
	}
	return err
}

// hasAgent reports whether the device of this name has an agent.
func (s *Service) hasAgent(ctx context.Context, name string) (bool, error) {
	_, err := s.cfg.Things.Thing(ctx, protocol.AgentThing(name))
	if err == nil || errors.Is(err, fault.NotFound) {
		return err == nil, nil
	}
	return false, fmt.Errorf("look up agent of %s: %w", name, err)
}

// ruleApproves lets the device in unless that takes a person: somebody else has the
// name, or there is none.
func (r *asked) ruleApproves(ctx context.Context, rule Rule, name string, d Decision) error {
	v := &r.Value
	if name == "" {
		v.Message = fmt.Sprintf("rule %s approves it, but it has no name; approve it with one, or give the rule a list of serials with names", rule.Name)
		return nil
	}
	taken, err := r.s.hasAgent(ctx, name)
	if err != nil {
		return err
	}
	if taken {
		v.Message = fmt.Sprintf("rule %s approves it, but %s has an agent already; only an operator can let another take its place", rule.Name, name)
		return nil
	}
	v.Assigned = v.Name == ""
	v.Name = name
	d.Create = &rule.Create
	v.approve(d)
	return nil
}

// about reports whether a rule is about a request, and the name that it then has:
// its own, or the one beside its serial in the rule's list.
func (s *Service) about(ctx context.Context, rule Rule, r Request) (name string, yes bool, _ error) {
	if len(rule.Roles) > 0 && !slices.Contains(rule.Roles, r.Role) || len(rule.Ways) > 0 && !slices.Contains(rule.Ways, r.Way) {
		return "", false, nil
	}
	if len(rule.Networks) > 0 {
		a, err := netip.ParseAddr(r.Address)
		if err != nil || !slices.ContainsFunc(rule.Networks, func(c string) bool {
			p, err := netip.ParsePrefix(c)
			return err == nil && p.Contains(a.WithZone(""))
		}) {
			return "", false, nil
		}
	}
	name = r.Name
	if rule.Serials {
		given, found, err := s.serial(ctx, rule, r.Serial)
		if err != nil || !found || given != "" && name != "" && given != name {
			return "", false, err
		}
		if name == "" {
			name = given
		}
	}
	if len(rule.Names) > 0 && !slices.ContainsFunc(rule.Names, func(p string) bool {
		ok, err := matches(p, name)
		return err == nil && ok
	}) {
		return "", false, nil
	}
	return name, true, nil
}
