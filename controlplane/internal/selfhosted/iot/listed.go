package iot

import (
	"encoding/json"
	"slices"
	"strings"
	"unique"
)

// listed is what the list of things keeps of one in memory: no more than the list
// shows, and names that many things share only once.
type listed struct {
	Type       shared `json:"type"`
	Attributes packed `json:"attributes"`
	Version    int64  `json:"version"`
}

// is reports whether the thing is one of those that f names.
func (t *listed) is(f ThingFilter) bool {
	if f.Type != "" && t.Type.Value() != f.Type {
		return false
	}
	if f.Attribute == "" {
		return true
	}
	return slices.ContainsFunc(t.Attributes, func(a attribute) bool {
		return a.name.Value() == f.Attribute && (f.Value == "" || a.value == f.Value || f.Prefix && strings.HasPrefix(a.value, f.Value))
	})
}

// shared is a text of which there is one copy, however many things have it.
type shared struct{ unique.Handle[string] }

// UnmarshalJSON reads a string.
func (s *shared) UnmarshalJSON(raw []byte) error {
	var v string
	err := json.Unmarshal(raw, &v)
	s.Handle = unique.Make(v)
	return err
}

// Value is the text; that of the zero value is empty.
func (s shared) Value() string {
	if s == (shared{}) {
		return ""
	}
	return s.Handle.Value()
}

type attribute struct {
	name  shared
	value string
}

// packed are attributes in a quarter of the memory of a map.
type packed []attribute

// UnmarshalJSON reads an object of strings.
func (p *packed) UnmarshalJSON(raw []byte) error {
	var m map[string]string
	err := json.Unmarshal(raw, &m)
	*p = make(packed, 0, len(m))
	for n, v := range m {
		*p = append(*p, attribute{shared{unique.Make(n)}, v})
	}
	return err
}

func (p packed) unpack() map[string]string {
	out := make(map[string]string, len(p))
	for _, a := range p {
		out[a.name.Value()] = a.value
	}
	return out
}
