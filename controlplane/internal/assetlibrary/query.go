package assetlibrary

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// Bounds of a query.
const (
	maxQuery   = 64 << 10 // bytes
	maxFilters = 100      // of all kinds together
	maxEncoded = 8000     // bytes of the query string; front doors take 8 to 10 KiB
)

// operators are the kinds of filter, in the order in which they are written.
func operators() []string {
	return []string{"eq", "neq", "lt", "lte", "gt", "gte", "startsWith", "endsWith", "contains", "exist", "nexist"}
}

type filter struct {
	Traversals []traversal `json:"traversals"`
	Field      string      `json:"field"`
	Value      any         `json:"value"` // string, json.Number or bool
}

type traversal struct {
	Relation  string `json:"relation"`
	Direction string `json:"direction"` // in or out
}

// query is an assetLibraryQuery that was checked.
type query struct {
	types, ntypes   []string
	ancestorPath    string
	includeAncestor bool
	sort            string
	filters         map[string][]filter
}

// CheckQuery refuses a query that can never be carried out with fault.Invalid
// and the path of the member below the query.
func (c *Client) CheckQuery(raw json.RawMessage) error {
	_, err := parseQuery(raw)
	return err
}

func parseQuery(raw json.RawMessage) (query, error) {
	var q query
	if len(raw) > maxQuery {
		return q, fault.New(fault.Invalid, "the query has %d bytes, at most %d are allowed", len(raw), maxQuery)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(raw, &members); err != nil || members == nil {
		return q, fault.New(fault.Invalid, "the query is not a JSON object")
	}
	q.filters = map[string][]filter{}
	n := 0
	for _, name := range append(operators(), "types", "ntypes", "ancestorPath", "includeAncestor", "sort", "summarize", "facetField") {
		value, ok := members[name]
		delete(members, name)
		if !ok || string(value) == "null" {
			continue
		}
		if err := q.member(name, value); err != nil {
			return q, err
		}
		n += len(q.filters[name])
	}
	for name := range members {
		return q, fault.Field(name, "is no member of a query")
	}
	if n > maxFilters {
		return q, fault.New(fault.Invalid, "the query has %d filters, at most %d are allowed", n, maxFilters)
	}
	if n == 0 && len(q.types) == 0 && len(q.ntypes) == 0 && q.ancestorPath == "" {
		return q, fault.New(fault.Invalid, "the query is empty: give types, ntypes, ancestorPath or a filter")
	}
	if size := len(q.encode()); size > maxEncoded {
		return q, fault.New(fault.Invalid, "the query has %d bytes as part of a URL, at most %d are allowed", size, maxEncoded)
	}
	return q, nil
}

// member reads one member into q.
func (q *query) member(name string, raw json.RawMessage) error {
	switch name {
	case "types":
		return texts(name, raw, &q.types)
	case "ntypes":
		return texts(name, raw, &q.ntypes)
	case "ancestorPath":
		return decode(name, raw, &q.ancestorPath, "text")
	case "sort":
		return decode(name, raw, &q.sort, "text")
	case "includeAncestor":
		return decode(name, raw, &q.includeAncestor, "true or false")
	case "summarize":
		var on bool
		if err := decode(name, raw, &on, "true or false"); err != nil || !on {
			return err
		}
		return fault.Field(name, "counts devices and names none; leave it out")
	case "facetField":
		return fault.Field(name, "counts values and names no device; leave it out")
	}
	var list []json.RawMessage
	if err := decode(name, raw, &list, "an array of filters"); err != nil {
		return err
	}
	for i, one := range list {
		f, err := parseFilter(one)
		if err != nil {
			return fault.Under(name, fault.Under("["+strconv.Itoa(i)+"]", err))
		}
		q.filters[name] = append(q.filters[name], f)
	}
	return nil
}

func parseFilter(raw json.RawMessage) (filter, error) {
	var members map[string]json.RawMessage
	var f filter
	if err := json.Unmarshal(raw, &members); err != nil || members == nil {
		return f, fault.Field("field", "is missing: a filter is an object of field, value and perhaps traversals")
	}
	for name := range members {
		if name != "field" && name != "value" && name != "traversals" {
			return f, fault.Field(name, "is no member of a filter")
		}
	}
	if err := decode("field", members["field"], &f.Field, "text"); err != nil {
		return f, err
	}
	if f.Field == "" || strings.Contains(f.Field, ":") {
		return f, fault.Field("field", "%q is no name of a field: not empty, no colon", f.Field)
	}
	if err := f.value(members["value"]); err != nil {
		return f, err
	}
	var hops []json.RawMessage
	if err := decode("traversals", members["traversals"], &hops, "an array"); err != nil {
		return f, err
	}
	for i, hop := range hops {
		var t traversal
		at := fmt.Sprintf("traversals[%d]", i)
		if err := decode(at, hop, &t, "an object of relation and direction"); err != nil {
			return f, err
		}
		if t.Relation == "" || strings.Contains(t.Relation, ":") {
			return f, fault.Field(at+".relation", "%q is no name of a relation: not empty, no colon", t.Relation)
		}
		if t.Direction != "in" && t.Direction != "out" {
			return f, fault.Field(at+".direction", "%q must be in or out", t.Direction)
		}
		f.Traversals = append(f.Traversals, t)
	}
	return f, nil
}

func (f *filter) value(raw json.RawMessage) error {
	if len(raw) == 0 {
		return fault.Field("value", "is missing")
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if err := dec.Decode(&f.Value); err != nil && err != io.EOF {
		return fault.Field("value", "is not JSON")
	}
	switch f.Value.(type) {
	case string, json.Number, bool:
		return nil
	}
	return fault.Field("value", "must be text, a number, true or false")
}

func texts(name string, raw json.RawMessage, into *[]string) error {
	if err := decode(name, raw, into, "an array of text"); err != nil {
		return err
	}
	for i, s := range *into {
		if s == "" {
			return fault.Field(fmt.Sprintf("%s[%d]", name, i), "is empty")
		}
	}
	return nil
}

// decode reads a member; one that is absent or null stays as it is.
func decode(name string, raw json.RawMessage, into any, want string) error {
	if len(raw) == 0 {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return fault.Field(name, "must be %s", want)
	}
	return nil
}

// encode writes q as the query string of a search. The value of a filter is
// encoded for itself, and the whole filter again (cdf-services §8).
func (q query) encode() string {
	var parts []string
	add := func(name, value string) { parts = append(parts, name+"="+escape(value)) }
	for _, t := range q.types {
		add("type", t)
	}
	for _, t := range q.ntypes {
		add("ntype", t)
	}
	if q.ancestorPath != "" {
		add("ancestorPath", q.ancestorPath)
	}
	if q.includeAncestor {
		add("includeAncestor", "true")
	}
	for _, op := range operators() {
		for _, f := range q.filters[op] {
			var b strings.Builder
			for _, t := range f.Traversals {
				b.WriteString(t.Relation + ":" + t.Direction + ":")
			}
			b.WriteString(f.Field + ":" + escape(fmt.Sprint(f.Value)))
			add(op, b.String())
		}
	}
	if q.sort != "" {
		add("sort", q.sort)
	}
	return strings.Join(parts, "&")
}
