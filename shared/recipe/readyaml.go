package recipe

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"strconv"

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
		return nil, at("", 0, "it is empty")
	case err != nil:
		return nil, at("", 0, "it is neither JSON nor YAML: %v", err)
	}
	if err := dec.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		return nil, at("", 0, "it holds more than one YAML document")
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		return nil, at("", 0, "it is empty")
	}
	r := &yamlReader{}
	return r.value(doc.Content[0], 0)
}

func (r *yamlReader) value(n *yaml.Node, depth int) (*value, error) {
	if err := r.take(n.Line, depth); err != nil {
		return nil, err
	}
	v := &value{line: n.Line}
	switch n.Kind {
	case yaml.AliasNode:
		return r.value(n.Alias, depth+1)
	case yaml.ScalarNode:
		return v, scalar(v, n)
	case yaml.SequenceNode:
		v.kind = array
		for _, c := range n.Content {
			it, err := r.value(c, depth+1)
			if err != nil {
				return nil, err
			}
			v.items = append(v.items, it)
		}
		return v, nil
	case yaml.MappingNode:
		v.kind = object
		return v, r.mapping(v, n, depth)
	}
	return nil, at("", n.Line, "it holds something that JSON has no word for")
}

func (r *yamlReader) mapping(v *value, n *yaml.Node, depth int) error {
	keys := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		if k.Kind == yaml.AliasNode {
			k = k.Alias
		}
		switch {
		case k.Kind != yaml.ScalarNode:
			return at("", k.Line, "a key is not a text")
		case k.Tag == "!!merge":
			return at("", k.Line, "merge keys (<<) are not supported: write the members out")
		case keys[k.Value]:
			return at("", k.Line, "the key %q is there twice", k.Value)
		}
		keys[k.Value] = true
		m, err := r.value(n.Content[i+1], depth+1)
		if err != nil {
			return err
		}
		v.members = append(v.members, member{k.Value, m})
	}
	return nil
}

// scalar gives plain YAML its JSON meaning. What JSON lacks (dates above all)
// stays the text that the author wrote.
func scalar(v *value, n *yaml.Node) error {
	v.kind, v.scalar = text, n.Value
	switch n.ShortTag() {
	case "!!null":
		v.kind, v.scalar = null, ""
	case "!!bool":
		var b bool
		if err := n.Decode(&b); err != nil {
			return at("", n.Line, "%q is not a boolean", n.Value)
		}
		v.kind, v.scalar = boolean, strconv.FormatBool(b)
	case "!!int", "!!float":
		v.kind = number
		return numeral(v, n)
	}
	return nil
}

func numeral(v *value, n *yaml.Node) error {
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
		return at("", n.Line, "%q is not a number that JSON can hold", n.Value)
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
