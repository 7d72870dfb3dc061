package rest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// Problem is what is wrong with one member of a request.
type Problem struct {
	Name    string // its path: components.com.example.App.componentVersion
	Message string
}

// InvalidError says that members of a request do not hold what they may.
type InvalidError struct{ Problems []Problem }

func (e *InvalidError) Error() string {
	all := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		all[i] = p.Name + " " + p.Message
	}
	return strings.Join(all, "; ")
}

// UnparsableError says that a request's body is not a JSON object.
type UnparsableError struct{ Text string }

func (e *UnparsableError) Error() string { return e.Text }

// maxProblems is how many are told at once.
const maxProblems = 20

type problems struct{ list []Problem }

func (p *problems) add(path, format string, args ...any) {
	if len(p.list) < maxProblems {
		p.list = append(p.list, Problem{path, fmt.Sprintf(format, args...)})
	}
}

// bind reads a request into a new value of the plan's type and returns a
// pointer to it, *InvalidError or *UnparsableError.
func (p *plan) bind(r *http.Request, labels map[string]string, body []byte) (any, error) {
	in := reflect.New(p.typ)
	v, bad := in.Elem(), &problems{}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, &UnparsableError{"the query of the request is malformed"}
	}
	for _, m := range p.byPlace[inPath] {
		m.shape.readText([]string{labels[m.name]}, v.Field(m.index), m.name, bad)
	}
	for _, m := range p.byPlace[inQuery] {
		m.readTexts(query[m.name], v, bad)
	}
	for _, m := range p.byPlace[inHeader] {
		m.readTexts(r.Header.Values(m.name), v, bad)
	}
	if p.hasBody {
		object, err := parseBody(body)
		if err != nil {
			return nil, err
		}
		readMembers(p.byPlace[inBody], object, v, "", bad)
	}
	if len(bad.list) > 0 {
		return nil, &InvalidError{bad.list}
	}
	return in.Interface(), nil
}

func (m member) readTexts(values []string, v reflect.Value, bad *problems) {
	switch {
	case len(values) > 0:
		m.shape.readText(values, v.Field(m.index), m.name, bad)
	case m.required:
		bad.add(m.name, "is required")
	}
}

func parseBody(body []byte) (map[string]any, error) {
	if len(bytes.TrimSpace(body)) == 0 {
		return nil, nil
	}
	if !utf8.Valid(body) {
		return nil, &UnparsableError{"the request body is not UTF-8"}
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber() // a number is judged by the member that it is for
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, &UnparsableError{"the request body is not JSON: " + err.Error()}
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, &UnparsableError{"something follows the JSON object of the request body"}
	}
	if v == nil {
		return nil, nil
	}
	object, ok := v.(map[string]any)
	if !ok {
		return nil, &UnparsableError{"the request body is " + wordOf(v) + ", want a JSON object"}
	}
	return object, nil
}

func under(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func readMembers(members []member, object map[string]any, v reflect.Value, path string, bad *problems) {
	for _, m := range members {
		at := under(path, m.name)
		value := object[m.name]
		switch {
		case value != nil:
			m.shape.read(value, v.Field(m.index), at, bad)
		case m.required:
			bad.add(at, "is required")
		}
	}
}

// read puts a decoded JSON value into v.
func (s *shape) read(value any, v reflect.Value, path string, bad *problems) {
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	switch s.kind {
	case text:
		if t, ok := value.(string); ok {
			s.rule.text(t, path, bad)
			v.SetString(t)
			return
		}
	case boolean:
		if b, ok := value.(bool); ok {
			v.SetBool(b)
			return
		}
	case integer, decimal:
		if n, ok := value.(json.Number); ok {
			s.number(string(n), v, path, bad)
			return
		}
	case blob:
		if t, ok := value.(string); ok {
			s.blob(t, v, path, bad)
			return
		}
	case anything:
		raw, err := json.Marshal(value)
		if err != nil { // it was just decoded
			bad.add(path, "cannot be read")
		}
		v.SetBytes(raw)
		return
	case list:
		if l, ok := value.([]any); ok {
			s.list(l, v, path, bad)
			return
		}
	case dictionary:
		if m, ok := value.(map[string]any); ok {
			s.dictionary(m, v, path, bad)
			return
		}
	case structure:
		if m, ok := value.(map[string]any); ok {
			readMembers(s.members, m, v, path, bad)
			return
		}
	}
	bad.add(path, "is %s, want %s", wordOf(value), s.kind)
}

func (s *shape) list(l []any, v reflect.Value, path string, bad *problems) {
	s.rule.count(len(l), path, bad)
	out := reflect.MakeSlice(v.Type(), len(l), len(l))
	for i, x := range l {
		if len(bad.list) >= maxProblems {
			return
		}
		at := path + "[" + strconv.Itoa(i) + "]"
		if x == nil {
			bad.add(at, "is null")
			continue
		}
		s.item.read(x, out.Index(i), at, bad)
	}
	v.Set(out)
}

func (s *shape) dictionary(m map[string]any, v reflect.Value, path string, bad *problems) {
	s.rule.count(len(m), path, bad)
	out := reflect.MakeMapWithSize(v.Type(), len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if len(bad.list) >= maxProblems {
			return
		}
		at := under(path, cut(k))
		s.key.text(k, at, bad)
		if m[k] == nil {
			bad.add(at, "is null")
			continue
		}
		x := reflect.New(v.Type().Elem()).Elem()
		s.item.read(m[k], x, at, bad)
		out.SetMapIndex(reflect.ValueOf(k).Convert(v.Type().Key()), x)
	}
	v.Set(out)
}

// readText puts values of a path, query or header into v.
func (s *shape) readText(values []string, v reflect.Value, path string, bad *problems) {
	if s.kind == list {
		s.rule.count(len(values), path, bad)
		out := reflect.MakeSlice(v.Type(), len(values), len(values))
		for i, x := range values {
			s.item.readText([]string{x}, out.Index(i), path, bad)
		}
		v.Set(out)
		return
	}
	if len(values) > 1 {
		bad.add(path, "is given %d times, want once", len(values))
		return
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	value := values[0]
	switch s.kind {
	case text:
		s.rule.text(value, path, bad)
		v.SetString(value)
	case boolean:
		if value != "true" && value != "false" {
			bad.add(path, "is %q, want true or false", cut(value))
		}
		v.SetBool(value == "true")
	case integer, decimal:
		s.number(value, v, path, bad)
	case blob, anything, list, dictionary, structure:
		bad.add(path, "cannot stand here")
	}
}

func (s *shape) number(text string, v reflect.Value, path string, bad *problems) {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
		bad.add(path, "is %q, want a number", cut(text))
		return
	}
	if s.kind == decimal {
		if b := s.rule.value; b != nil && !b.holds(f) {
			bad.add(path, "is %s, must be %s", cut(text), b)
		}
		v.SetFloat(f)
		return
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil && f == math.Trunc(f) && math.Abs(f) < 1<<53 {
		n, err = int64(f), nil // 1.0 and 1E3
	}
	b := s.rule.value
	switch {
	case b != nil && (err != nil && f == math.Trunc(f) || err == nil && !b.holdsInt(n)):
		bad.add(path, "is %s, must be %s", cut(text), b)
	case err != nil || v.OverflowInt(n):
		bad.add(path, "is %s, want a whole number of %d bits", cut(text), v.Type().Bits())
	default:
		v.SetInt(n)
	}
}

func (s *shape) blob(text string, v reflect.Value, path string, bad *problems) {
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		bad.add(path, "is not base64")
		return
	}
	if b := s.rule.length; b != nil && !b.holdsInt(int64(len(raw))) {
		bad.add(path, "has %d bytes, must have %s", len(raw), b)
	}
	v.SetBytes(raw)
}

func (r *rule) text(t, path string, bad *problems) {
	if b := r.length; b != nil {
		if n := utf8.RuneCountInString(t); !b.holdsInt(int64(n)) {
			bad.add(path, "has %d characters, must have %s", n, b)
			return
		}
	}
	if r.enum != nil && !slices.Contains(r.enum, t) {
		bad.add(path, "is %q, must be one of %v", cut(t), r.enum)
	}
	if r.pattern != nil && !r.pattern.MatchString(t) {
		bad.add(path, "is %q, must match %s", cut(t), r.pattern)
	}
}

func (r *rule) count(n int, path string, bad *problems) {
	if r.items != nil && !r.items.holdsInt(int64(n)) {
		bad.add(path, "has %d entries, must have %s", n, r.items)
	}
}

func (k kind) String() string {
	return [...]string{"a string", "true or false", "a whole number", "a number", "a base64 string", "anything", "a list", "an object", "an object"}[k]
}

func wordOf(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case string:
		return "a string"
	case bool:
		return "a boolean"
	case json.Number:
		return "a number"
	case []any:
		return "a list"
	}
	return "an object"
}

// cut bounds what an answer repeats of its request.
func cut(s string) string { return fault.Clip(s, 128) }
