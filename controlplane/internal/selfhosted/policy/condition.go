package policy

import (
	"encoding/json"
	"net/netip"
	"strings"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// condition is one operator on one key.
type condition struct {
	op     string // without "Not"
	negate bool
	key    variable
	values []pattern      // of the string operators and Bool
	nets   []netip.Prefix // of IpAddress
}

// operators are the condition operators that are understood.
var operators = map[string]condition{ //nolint:gochecknoglobals // a table that never changes
	"StringEquals":              {op: "equals"},
	"StringNotEquals":           {op: "equals", negate: true},
	"StringEqualsIgnoreCase":    {op: "fold"},
	"StringNotEqualsIgnoreCase": {op: "fold", negate: true},
	"StringLike":                {op: "like"},
	"StringNotLike":             {op: "like", negate: true},
	"Bool":                      {op: "fold"},
	"IpAddress":                 {op: "ip"},
	"NotIpAddress":              {op: "ip", negate: true},
}

// parseConditions reads {"Operator": {"key": value or [values]}}.
func parseConditions(raw json.RawMessage, vars bool) ([]condition, error) {
	ops, err := members(raw)
	if err != nil {
		return nil, err
	}
	var out []condition
	for _, op := range ops {
		proto, ok := operators[op.name]
		if !ok {
			return nil, fault.Field(op.name, "is not a condition operator of this server (StringEquals, StringLike, their Not and IgnoreCase forms, Bool, IpAddress, NotIpAddress)")
		}
		keys, err := members(op.value)
		if err != nil {
			return nil, at(op.name, err)
		}
		for _, k := range keys {
			c := proto
			if c.key = parseVariable(k.name); c.key.kind == varUnknown {
				return nil, at(op.name, fault.Field(k.name, "is not a condition key of this server"))
			}
			if err := c.parseValues(k.value, vars); err != nil {
				return nil, at(op.name, at(k.name, err))
			}
			out = append(out, c)
		}
	}
	return out, nil
}

func (c *condition) parseValues(raw json.RawMessage, vars bool) error {
	values, err := list(raw, conditionValue)
	if err != nil {
		return err
	}
	for _, s := range values {
		if c.op != "ip" {
			c.values = append(c.values, c.compileValue(s, vars))
			continue
		}
		n, err := parsePrefix(s)
		if err != nil {
			return wrong("%q is neither an IP address nor a CIDR block", s)
		}
		c.nets = append(c.nets, n)
	}
	return nil
}

// conditionValue reads a string; true and false stand for theirs, since Bool
// conditions are written both ways.
func conditionValue(raw json.RawMessage) (string, error) {
	if s := string(raw); s == "true" || s == "false" {
		return s, nil
	}
	return text(raw)
}

// compileValue keeps * and ? plain unless the operator is a Like.
func (c *condition) compileValue(s string, vars bool) pattern {
	p := compile(s, vars)
	if c.op == "like" || !strings.ContainsAny(s, "*?") {
		return p
	}
	var flat []part
	for i, chunk := range p.chunks {
		if i > 0 {
			flat = append(flat, part{text: "*"})
		}
		for _, q := range chunk {
			if q.kind == anyOne {
				q = part{text: "?"}
			}
			flat = append(flat, q)
		}
	}
	return pattern{chunks: [][]part{flat}}
}

func parsePrefix(s string) (netip.Prefix, error) {
	if strings.Contains(s, "/") {
		p, err := netip.ParsePrefix(s)
		return p.Masked(), err
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, err
	}
	return netip.PrefixFrom(a, a.BitLen()), nil
}

// holds evaluates the condition. A key without a value satisfies the negated
// operators only, as in IAM.
func (c *condition) holds(v *Vars) bool {
	s, ok := v.value(c.key)
	if !ok {
		return c.negate
	}
	return c.anyMatches(s, v) != c.negate
}

func (c *condition) anyMatches(s string, v *Vars) bool {
	if c.op == "ip" {
		a, err := netip.ParseAddr(s)
		for _, n := range c.nets {
			if err == nil && n.Contains(a.Unmap()) {
				return true
			}
		}
		return false
	}
	for i := range c.values {
		if c.valueMatches(&c.values[i], s, v) {
			return true
		}
	}
	return false
}

func (c *condition) valueMatches(p *pattern, s string, v *Vars) bool {
	if c.op != "fold" {
		return p.match(s, v)
	}
	text, ok := p.render(v)
	return ok && strings.EqualFold(text, s)
}
