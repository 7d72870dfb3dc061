package recipe

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"

	yaml "go.yaml.in/yaml/v3"
)

type yamlReader struct{ budget }

// readYAML reads the one document in src. Aliases are followed within the
// budget, so text that multiplies itself ends in an error, not in memory.
func readYAML(src []byte) (*value, error) {
	var doc yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(src))
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil, at("", pos{}, "it is empty")
	case err != nil:
		return nil, yamlError(err)
	}
	var second yaml.Node
	switch err := dec.Decode(&second); {
	case err == nil:
		return nil, at("", place(&second), "it holds more than one YAML document")
	case !errors.Is(err, io.EOF):
		return nil, yamlError(err)
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		return nil, at("", pos{}, "it is empty")
	}
	r := &yamlReader{}
	return r.value(doc.Content[0], nil, 0)
}

// yamlError takes the line out of the library's text, which has no other place
// for it.
func yamlError(err error) error {
	why := strings.TrimPrefix(err.Error(), "yaml: ")
	var where pos
	if rest, ok := strings.CutPrefix(why, "line "); ok {
		if line, text, ok := strings.Cut(rest, ": "); ok {
			if n, err := strconv.Atoi(line); err == nil {
				where, why = pos{line: n}, text
			}
		}
	}
	return at("", where, "it is neither JSON nor YAML: %s", why)
}

func place(n *yaml.Node) pos { return pos{n.Line, n.Column} }

func (r *yamlReader) value(n *yaml.Node, t *trail, depth int) (*value, error) {
	v := &value{pos: place(n)}
	if err := r.take(v.pos, t, depth); err != nil {
		return nil, err
	}
	switch n.Kind {
	case yaml.AliasNode:
		return r.value(n.Alias, t, depth+1)
	case yaml.ScalarNode:
		return v, scalar(v, n, t)
	case yaml.SequenceNode:
		v.kind = array
		for i, c := range n.Content {
			it, err := r.value(c, t.item(i), depth+1)
			if err != nil {
				return nil, err
			}
			v.items = append(v.items, it)
		}
		return v, nil
	case yaml.MappingNode:
		v.kind = object
		return v, r.mapping(v, n, t, depth)
	}
	return nil, at(t.String(), v.pos, "it holds something that JSON has no word for")
}

func (r *yamlReader) mapping(v *value, n *yaml.Node, t *trail, depth int) error {
	keys := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		where := place(k)
		if k.Kind == yaml.AliasNode {
			k = k.Alias
		}
		switch {
		case k.Kind != yaml.ScalarNode:
			return at(t.String(), where, "a key is not a text")
		case k.Tag == "!!merge":
			return at(t.String(), where, "merge keys (<<) are not supported: write the members out")
		case keys[k.Value]:
			return at(t.member(k.Value).String(), where, "the key is there twice")
		}
		keys[k.Value] = true
		m, err := r.value(n.Content[i+1], t.member(k.Value), depth+1)
		if err != nil {
			return err
		}
		v.members = append(v.members, member{k.Value, m})
	}
	return nil
}

// scalar gives plain YAML its JSON meaning. What JSON lacks (dates above all)
// stays the text that the author wrote.
func scalar(v *value, n *yaml.Node, t *trail) error {
	v.kind, v.scalar = text, n.Value
	switch n.ShortTag() {
	case "!!null":
		v.kind, v.scalar = null, ""
	case "!!bool":
		var b bool
		if err := n.Decode(&b); err != nil {
			return at(t.String(), place(n), "%q is not a boolean", n.Value)
		}
		v.kind, v.scalar = boolean, strconv.FormatBool(b)
	case "!!int", "!!float":
		v.kind = number
		return numeral(v, n, t)
	}
	return nil
}

func numeral(v *value, n *yaml.Node, t *trail) error {
	if json.Valid([]byte(n.Value)) {
		return nil
	}
	var i int64
	var u uint64
	var f float64
	switch {
	case n.Decode(&i) == nil:
		v.scalar = strconv.FormatInt(i, 10)
	case n.Decode(&u) == nil:
		v.scalar = strconv.FormatUint(u, 10)
	case n.Decode(&f) == nil && !math.IsInf(f, 0) && !math.IsNaN(f):
		v.scalar = strconv.FormatFloat(f, 'g', -1, 64)
	default:
		return at(t.String(), place(n), "%q is not a number that JSON can hold", n.Value)
	}
	return nil
}

// writeYAML writes v in block style, in the order of its members.
func writeYAML(v *value) ([]byte, error) { return yaml.Marshal(v.yaml()) }

func (v *value) yaml() *yaml.Node {
	switch v.kind {
	case object:
		n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
		for _, m := range v.members {
			n.Content = append(n.Content, newText(m.key).yaml(), m.yaml())
		}
		return n
	case array:
		n := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
		for _, it := range v.items {
			n.Content = append(n.Content, it.yaml())
		}
		return n
	case text:
		n := &yaml.Node{}
		n.SetString(v.scalar)
		return n
	case boolean:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: v.scalar}
	case number:
		tag := "!!int"
		if _, err := strconv.ParseInt(v.scalar, 10, 64); err != nil {
			tag = "!!float"
		}
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: v.scalar}
	case null:
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Value: "null"}
}
