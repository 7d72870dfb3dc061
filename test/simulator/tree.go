package simulator

import (
	"bytes"
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// node is a component's configuration: a leaf with the time of its last change,
// or a map of nodes. Both runtimes merge by these times (trap 47).
type node struct {
	Children map[string]*node `json:"c,omitempty"`
	Value    any              `json:"v,omitempty"`
	Time     int64            `json:"t,omitempty"` // milliseconds; 0: a default of the recipe
}

// double is a number of a job document on classic, which reads every number as
// a double and shows 8080 as 8080.0 (trap 15).
type double float64

func (d double) text() string {
	s := strconv.FormatFloat(float64(d), 'g', -1, 64)
	if !strings.ContainsAny(s, ".eNI") {
		s += ".0"
	}
	return s
}

// MarshalJSON writes the number with a fraction.
func (d double) MarshalJSON() ([]byte, error) { return []byte(d.text()), nil }

// MarshalYAML writes the number with a fraction.
func (d double) MarshalYAML() (any, error) {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!float", Value: d.text()}, nil
}

// decodeTree reads a JSON object; integers stay integers.
func decodeTree(raw json.RawMessage) (map[string]any, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var m map[string]any
	if err := d.Decode(&m); err != nil {
		return nil, fault.New(fault.Invalid, "configuration is not a JSON object: %v", err)
	}
	return m, nil
}

// scalar gives a decoded leaf its Go value.
func scalar(v any, doubles bool) any {
	switch v := v.(type) {
	case json.Number:
		f, _ := v.Float64()
		if doubles {
			return double(f)
		}
		if i, err := v.Int64(); err == nil {
			return i
		}
		return f
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = scalar(v[i], doubles)
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for k := range v {
			out[k] = scalar(v[k], doubles)
		}
		return out
	case float64: // from our own state file
		if doubles {
			return double(v)
		}
		if i := int64(v); float64(i) == v && math.Abs(v) < 1<<53 {
			return i
		}
		return v
	}
	return v
}

// restore gives leaves that were read back from a file their Go values again.
// Defaults have no time and never were doubles.
func (n *node) restore(doubles bool) {
	n.Value = scalar(n.Value, doubles && n.Time > 0)
	for _, c := range n.Children {
		c.restore(doubles)
	}
}

// merge puts m over n; a leaf that changed later than t stays.
func (n *node) merge(m map[string]any, t int64, doubles bool) {
	if n.Children == nil {
		if n.Value != nil && n.Time > t {
			return
		}
		*n = node{Children: map[string]*node{}}
	}
	for k, v := range m {
		child := n.Children[k]
		if sub, ok := v.(map[string]any); ok {
			if child == nil {
				child = &node{}
				n.Children[k] = child
			}
			child.merge(sub, t, doubles)
			continue
		}
		if child != nil && child.newest() > t {
			continue
		}
		n.Children[k] = &node{Value: scalar(v, doubles), Time: t}
	}
}

// fill adds the defaults that are not set.
func (n *node) fill(defaults map[string]any) {
	if n.Children == nil {
		if n.Value != nil {
			return
		}
		n.Children = map[string]*node{}
	}
	for k, v := range defaults {
		child := n.Children[k]
		if sub, ok := v.(map[string]any); ok {
			if child == nil {
				child = &node{}
				n.Children[k] = child
			}
			child.fill(sub)
			continue
		}
		if child == nil {
			n.Children[k] = &node{Value: scalar(v, false)}
		}
	}
}

// reset takes what pointer names back to the recipe's default, unless it changed
// later than t.
func (n *node) reset(pointer string, t int64) error {
	if pointer == "" {
		if n.newest() <= t {
			*n = node{}
		}
		return nil
	}
	if !strings.HasPrefix(pointer, "/") {
		return fault.New(fault.Invalid, "reset %q is not a JSON pointer", pointer)
	}
	at := n
	path := strings.Split(pointer[1:], "/")
	for i, key := range path {
		key = strings.ReplaceAll(strings.ReplaceAll(key, "~1", "/"), "~0", "~")
		child := at.Children[key]
		if child == nil {
			return nil
		}
		if i == len(path)-1 && child.newest() <= t {
			delete(at.Children, key)
		}
		at = child
	}
	return nil // fill puts the default in its place
}

func (n *node) newest() int64 {
	t := n.Time
	for _, c := range n.Children {
		t = max(t, c.newest())
	}
	return t
}

func (n *node) plain() any {
	if n.Children == nil {
		return n.Value
	}
	m := make(map[string]any, len(n.Children))
	for k, c := range n.Children {
		m[k] = c.plain()
	}
	return m
}

func (n *node) clone() *node {
	c := &node{Value: n.Value, Time: n.Time}
	if n.Children != nil {
		c.Children = make(map[string]*node, len(n.Children))
		for k, v := range n.Children {
			c.Children[k] = v.clone()
		}
	}
	return c
}

// largestLeaf returns the path and the size in bytes of the largest leaf as JSON.
func largestLeaf(m map[string]any) (string, int) {
	name, size := "", 0
	for _, k := range slices.Sorted(maps.Keys(m)) {
		path, n := "/"+k, len(compact(m[k]))
		if sub, ok := m[k].(map[string]any); ok {
			var rest string
			rest, n = largestLeaf(sub)
			path += rest
		}
		if n > size {
			name, size = path, n
		}
	}
	return name, size
}
