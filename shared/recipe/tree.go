package recipe

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/ggfleet/ggfleet/shared/fault"
)

type kind int

const (
	null kind = iota
	object
	array
	text
	number
	boolean
)

func (k kind) String() string {
	return [...]string{"null", "an object", "a list", "a text", "a number", "a boolean"}[k]
}

// value is a JSON value that remembers the order of its members and the line it
// stood on.
type value struct {
	kind    kind
	scalar  string // the text; the literal of a number or boolean
	members []member
	items   []*value
	line    int
}

type member struct {
	key string
	*value
}

func newText(s string) *value      { return &value{kind: text, scalar: s} }
func newObject(m ...member) *value { return &value{kind: object, members: m} }

func (v *value) get(key string) *value {
	for _, m := range v.members {
		if m.key == key {
			return m.value
		}
	}
	return nil
}

// set replaces or appends a member.
func (v *value) set(key string, to *value) {
	for i, m := range v.members {
		if m.key == key {
			v.members[i].value = to
			return
		}
	}
	v.members = append(v.members, member{key, to})
}

func (v *value) clone() *value {
	c := *v
	c.members, c.items = make([]member, len(v.members)), make([]*value, len(v.items))
	for i, m := range v.members {
		c.members[i] = member{m.key, m.clone()}
	}
	for i, it := range v.items {
		c.items[i] = it.clone()
	}
	return &c
}

func (v *value) json() []byte {
	var b bytes.Buffer
	v.write(&b)
	return b.Bytes()
}

func (v *value) write(b *bytes.Buffer) {
	switch v.kind {
	case null:
		b.WriteString("null")
	case text:
		writeText(b, v.scalar)
	case number, boolean:
		b.WriteString(v.scalar)
	case array:
		b.WriteByte('[')
		for i, it := range v.items {
			if i > 0 {
				b.WriteByte(',')
			}
			it.write(b)
		}
		b.WriteByte(']')
	case object:
		b.WriteByte('{')
		for i, m := range v.members {
			if i > 0 {
				b.WriteByte(',')
			}
			writeText(b, m.key)
			b.WriteByte(':')
			m.write(b)
		}
		b.WriteByte('}')
	}
}

// writeText leaves < > & as they are: scripts are full of them, and the answer
// to lite is bounded.
func writeText(b *bytes.Buffer, s string) {
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string always encodes
	b.Truncate(b.Len() - 1)
}

// at builds the error about the member at path, which stood on line.
func at(path string, line int, format string, args ...any) error {
	if line > 0 {
		format += " (line " + strconv.Itoa(line) + ")"
	}
	if path == "" {
		return fault.New(fault.Invalid, "recipe: "+format, args...)
	}
	return fault.Field(path, format, args...)
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	if strings.ContainsAny(key, ".[]") {
		return path + "[" + strconv.Quote(key) + "]"
	}
	return path + "." + key
}

func index(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// budget bounds what one recipe may expand to.
type budget struct{ nodes int }

func (b *budget) take(line, depth int) error {
	if b.nodes++; b.nodes > MaxNodes {
		return at("", line, "it has more than %d values", MaxNodes)
	}
	if depth > MaxDepth {
		return at("", line, "it is nested deeper than %d levels", MaxDepth)
	}
	return nil
}
