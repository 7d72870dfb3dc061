package provisioning

import (
	"bytes"
	"encoding/json"
	"errors"
	"unicode/utf8"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// node is one value of the document and where it stands.
type node struct {
	path string
	raw  json.RawMessage
}

func (n node) fail(format string, args ...any) error { return fault.Field(n.path, format, args...) }

// document checks that b is one JSON object of a bearable size. path is where it
// stands itself.
func document(path, what string, b []byte) (node, error) {
	if n := utf8.RuneCount(b); n > MaxTemplate {
		kind := fault.TooLarge
		if path != "" { // a member, not the body
			kind = fault.Invalid
		}
		return node{}, fault.New(kind, "%s has %d characters, more than %d", what, n, MaxTemplate)
	}
	if !utf8.Valid(b) {
		return node{}, fault.New(fault.Invalid, "%s is not UTF-8 text", what)
	}
	var raw json.RawMessage
	if err := json.Unmarshal(b, &raw); err != nil {
		if s, ok := errors.AsType[*json.SyntaxError](err); ok {
			return node{}, fault.New(fault.Invalid, "%s is not valid JSON: %s at byte %d", what, s.Error(), s.Offset)
		}
		return node{}, fault.New(fault.Invalid, "%s is not valid JSON: %s", what, err)
	}
	n := node{path: path, raw: raw}
	if !n.is('{') {
		return node{}, fault.New(fault.Invalid, "%s must be a JSON object", what)
	}
	return n, nil
}

// is reports whether the value begins with c: { [ " or other.
func (n node) is(c byte) bool {
	raw := bytes.TrimLeft(n.raw, " \t\r\n")
	return len(raw) > 0 && raw[0] == c
}

func (n node) child(name string) string {
	if n.path == "" {
		return name
	}
	return n.path + "." + name
}

type member struct {
	name string
	node
}

// members returns the members of an object in their order. A name that stands
// twice is an error: readers differ in which one they take.
func (n node) members() ([]member, error) {
	if !n.is('{') {
		return nil, n.fail("must be an object")
	}
	d := json.NewDecoder(bytes.NewReader(n.raw))
	if _, err := d.Token(); err != nil {
		return nil, n.fail("must be an object: %s", err)
	}
	var list []member
	seen := map[string]bool{}
	for d.More() {
		tok, err := d.Token()
		if err != nil {
			return nil, n.fail("cannot be read: %s", err)
		}
		name, _ := tok.(string) // a member's name always is
		m := member{name: name, node: node{path: n.child(name)}}
		if err := d.Decode(&m.raw); err != nil {
			return nil, m.fail("cannot be read: %s", err)
		}
		if seen[name] {
			return nil, m.fail("stands twice")
		}
		seen[name] = true
		list = append(list, m)
	}
	return list, nil
}

// elements returns the elements of an array.
func (n node) elements() ([]node, error) {
	if !n.is('[') {
		return nil, n.fail("must be an array")
	}
	var raws []json.RawMessage
	if err := json.Unmarshal(n.raw, &raws); err != nil {
		return nil, n.fail("must be an array: %s", err)
	}
	list := make([]node, len(raws))
	for i, raw := range raws {
		list[i] = node{path: n.path + index(i), raw: raw}
	}
	return list, nil
}

// str returns a literal text.
func (n node) str() (string, error) {
	var s string
	if !n.is('"') || json.Unmarshal(n.raw, &s) != nil {
		return "", n.fail("must be text")
	}
	return s, nil
}

// flag returns a boolean.
func (n node) flag() (bool, error) {
	switch string(bytes.TrimSpace(n.raw)) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, n.fail("must be true or false")
}
