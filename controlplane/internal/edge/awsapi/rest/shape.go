package rest

import (
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// shape is how values of a type are read and checked; it is made once from the
// type and its tags.
type shape struct {
	kind    kind
	rule    rule
	item    *shape // of a list; the value of a map
	key     *rule  // of a map
	members []member
}

type kind int

const (
	text kind = iota
	boolean
	integer
	decimal
	blob
	anything // json.RawMessage: kept as it came
	list
	dictionary
	structure
)

// member is one field of a structure.
type member struct {
	name     string // on the wire
	index    int
	required bool
	shape    *shape
}

// place is where a member of an input travels.
type place int

const (
	inBody place = iota
	inPath
	inQuery
	inHeader
)

// rule is what a value may be. Zero bounds are open.
type rule struct {
	required bool
	length   *bounds
	items    *bounds
	value    *bounds
	enum     []string
	pattern  *regexp.Regexp
}

// bounds are inclusive; an open end is nil. Numbers of tags are kept as text as
// well, since 9223372036854771712 is no float64.
type bounds struct {
	low, high *float64
	lowText   string
	highText  string
	lowInt    *int64
	highInt   *int64
}

// plan is a compiled input.
type plan struct {
	typ      reflect.Type
	byPlace  [4][]member
	hasBody  bool
	patterns map[string]*regexp.Regexp
}

func compile(t reflect.Type, patterns map[string]*regexp.Regexp) (*plan, error) {
	if t.Kind() != reflect.Struct {
		return nil, fmt.Errorf("input %s is no struct", t)
	}
	p := &plan{typ: t, patterns: patterns}
	for i := range t.NumField() {
		f := t.Field(i)
		at, name := placeOf(f)
		if name == "" {
			return nil, fmt.Errorf("%s.%s: no tag says where it travels", t, f.Name)
		}
		m, err := p.member(f, name, i)
		if err != nil {
			return nil, fmt.Errorf("%s.%s: %w", t, f.Name, err)
		}
		p.byPlace[at] = append(p.byPlace[at], m)
	}
	p.hasBody = len(p.byPlace[inBody]) > 0
	return p, nil
}

func placeOf(f reflect.StructField) (place, string) {
	for at, tag := range map[place]string{inPath: "path", inQuery: "query", inHeader: "header"} {
		if v := f.Tag.Get(tag); v != "" {
			return at, v
		}
	}
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return inBody, name
}

func (p *plan) member(f reflect.StructField, name string, index int) (member, error) {
	own, item, key, err := p.checks(f.Tag.Get("check"))
	if err != nil {
		return member{}, err
	}
	s, err := p.shape(f.Type)
	if err != nil {
		return member{}, err
	}
	s.rule = own
	if s.item != nil {
		s.item.rule, s.key = item, &key
	}
	return member{name: name, index: index, required: own.required, shape: s}, nil
}

func (p *plan) shape(t reflect.Type) (*shape, error) {
	if t.Kind() == reflect.Pointer {
		return p.shape(t.Elem())
	}
	if t == reflect.TypeFor[json.RawMessage]() {
		return &shape{kind: anything}, nil
	}
	switch t.Kind() { //nolint:exhaustive // no member has any of the others
	case reflect.String:
		return &shape{kind: text}, nil
	case reflect.Bool:
		return &shape{kind: boolean}, nil
	case reflect.Int, reflect.Int32, reflect.Int64:
		return &shape{kind: integer}, nil
	case reflect.Float64:
		return &shape{kind: decimal}, nil
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return &shape{kind: blob}, nil
		}
		item, err := p.shape(t.Elem())
		return &shape{kind: list, item: item}, err
	case reflect.Map:
		item, err := p.shape(t.Elem())
		return &shape{kind: dictionary, item: item, key: &rule{}}, err
	case reflect.Struct:
		s := &shape{kind: structure}
		for i := range t.NumField() {
			f := t.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if name == "" || name == "-" {
				continue
			}
			m, err := p.member(f, name, i)
			if err != nil {
				return nil, fmt.Errorf("%s.%s: %w", t, f.Name, err)
			}
			s.members = append(s.members, m)
		}
		return s, nil
	}
	return nil, fmt.Errorf("type %s cannot be a member", t)
}

// checks parses a check tag into the rules of the member itself, of what it
// holds, and of its keys.
func (p *plan) checks(tag string) (own, item, key rule, err error) {
	for part := range strings.SplitSeq(tag, ",") {
		if part == "" {
			continue
		}
		r, rest := &own, part
		for prefix, of := range map[string]*rule{"item.": &item, "value.": &item, "key.": &key} {
			if cut, ok := strings.CutPrefix(part, prefix); ok {
				r, rest = of, cut
			}
		}
		if err := p.check(r, rest); err != nil {
			return own, item, key, fmt.Errorf("check %q: %w", part, err)
		}
	}
	return own, item, key, nil
}

func (p *plan) check(r *rule, text string) error {
	name, value, _ := strings.Cut(text, "=")
	var err error
	switch name {
	case "required":
		r.required = true
	case "len":
		r.length, err = parseBounds(value)
	case "items":
		r.items, err = parseBounds(value)
	case "range":
		r.value, err = parseBounds(value)
	case "enum":
		r.enum = strings.Split(value, "|")
	case "pattern":
		if r.pattern = p.patterns[value]; r.pattern == nil {
			err = fmt.Errorf("the service has no pattern %s", value)
		}
	default:
		err = fmt.Errorf("unknown check")
	}
	return err
}

func parseBounds(text string) (*bounds, error) {
	low, high, ok := strings.Cut(text, "..")
	if !ok {
		return nil, fmt.Errorf("%q is no range", text)
	}
	b := &bounds{lowText: low, highText: high}
	for _, end := range []struct {
		text  string
		float **float64
		whole **int64
	}{{low, &b.low, &b.lowInt}, {high, &b.high, &b.highInt}} {
		if end.text == "" {
			continue
		}
		f, err := strconv.ParseFloat(end.text, 64)
		if err != nil {
			return nil, err
		}
		*end.float = &f
		if n, err := strconv.ParseInt(end.text, 10, 64); err == nil {
			*end.whole = &n
		}
	}
	return b, nil
}

// String words the bounds for a caller.
func (b *bounds) String() string {
	switch {
	case b.low == nil:
		return "at most " + b.highText
	case b.high == nil:
		return "at least " + b.lowText
	}
	return "between " + b.lowText + " and " + b.highText
}

func (b *bounds) holdsInt(n int64) bool {
	return (b.low == nil || b.lowInt != nil && n >= *b.lowInt || b.lowInt == nil && float64(n) >= *b.low) &&
		(b.high == nil || b.highInt != nil && n <= *b.highInt || b.highInt == nil && float64(n) <= *b.high)
}

func (b *bounds) holds(f float64) bool {
	return (b.low == nil || f >= *b.low) && (b.high == nil || f <= *b.high)
}

// Time is a moment in an answer: seconds since the epoch with milliseconds
// (greengrassv2-api §1.2). The zero Time is left out by omitzero.
type Time struct{ time.Time }

// At is t as an answer has it.
func At(t time.Time) Time { return Time{t} }

// MarshalJSON implements json.Marshaler.
func (t Time) MarshalJSON() ([]byte, error) {
	ms := t.UnixMilli()
	out := strconv.AppendInt(nil, ms/1000, 10)
	if part := ms % 1000; part > 0 {
		out = fmt.Appendf(out, ".%03d", part)
	}
	return out, nil
}
