package recipe

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"

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

// value is a JSON value that remembers the order of its members and where it
// stood.
type value struct {
	kind    kind
	scalar  string // the text; the literal of a number or boolean
	members []member
	items   []*value
	pos     pos
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

// pos is a place in the text, counted from 1; column counts characters. Zero
// means that it is not known.
type pos struct{ line, column int }

// posOf is the place of the byte at off.
func posOf(src []byte, off int) pos {
	before := src[:max(0, min(off, len(src)))]
	start := bytes.LastIndexByte(before, '\n') + 1
	return pos{1 + bytes.Count(before, []byte{'\n'}), 1 + utf8.RuneCount(before[start:])}
}

func (p pos) String() string {
	s := "line " + strconv.Itoa(p.line)
	if p.column > 0 {
		s += ", column " + strconv.Itoa(p.column)
	}
	return s
}

// at builds the error about the member at path, which stood at where.
func at(path string, where pos, format string, args ...any) error {
	if where.line > 0 {
		format += " (" + where.String() + ")"
	}
	if path == "" {
		return fault.New(fault.Invalid, "recipe: "+format, args...)
	}
	return fault.Field(fault.Clip(path, maxPath), format, args...)
}

const maxPath = 300 // bytes of a path in an error

// trail is the way to a value while it is read; it is written out only for an
// error.
type trail struct {
	up    *trail // nil: the root
	key   string
	index int // in a list; -1: key counts
}

func (t *trail) String() string {
	switch {
	case t == nil:
		return ""
	case t.index >= 0:
		return index(t.up.String(), t.index)
	}
	return join(t.up.String(), t.key)
}

func (t *trail) member(key string) *trail { return &trail{t, key, -1} }
func (t *trail) item(i int) *trail        { return &trail{t, "", i} }

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

func (b *budget) take(where pos, t *trail, depth int) error {
	if b.nodes++; b.nodes > MaxNodes {
		return at(t.String(), where, "the recipe has more than %d values", MaxNodes)
	}
	if depth > MaxDepth {
		return at(t.String(), where, "the recipe is nested deeper than %d levels", MaxDepth)
	}
	return nil
}
