package config

import (
	"bytes"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// MaxDocument is the largest installer configuration read, in bytes. The
// generated ones have less than 1 KiB; the rest is room for overlays.
const MaxDocument = 256 << 10

// System are the members of the system block that say who the core is and where
// its files lie. Members that the document does not have are empty.
type System struct {
	CertificateFilePath string
	PrivateKeyPath      string
	RootCAPath          string
	RootPath            string
	ThingName           string
}

// systemPaths are the members of the system block that hold paths.
func systemPaths() []string {
	return append(rootKeys(), "certificateFilePath", "privateKeyPath", "rootCaPath")
}

// rootKeys are the names of the root folder: classic's, and lite's.
func rootKeys() []string { return []string{"rootpath", "rootPath"} }

// ReadSystem returns the system block of an installer configuration. A document
// without one (provisioning by claim) gives an empty System. Errors are of kind
// fault.Invalid.
func ReadSystem(doc []byte) (System, error) {
	_, block, err := parse(doc)
	if err != nil {
		return System{}, err
	}
	return System{
		CertificateFilePath: block["certificateFilePath"].text(),
		PrivateKeyPath:      block["privateKeyPath"].text(),
		RootCAPath:          block["rootCaPath"].text(),
		RootPath:            rootPath(block),
		ThingName:           block["thingName"].text(),
	}, nil
}

// RewriteSystemPaths moves the paths of the system block below root, an
// absolute path: rootpath (rootPath for lite) becomes root, and the other paths keep their place
// below it (or their base name, where they were outside the old rootpath). All
// other bytes stay as they are, comments and order included. A document without
// a system block comes back unchanged. Errors are of kind fault.Invalid.
func RewriteSystemPaths(doc []byte, root string) ([]byte, error) {
	if !path.IsAbs(root) || !utf8.ValidString(root) {
		return nil, fault.Field("root", "%q is not an absolute path in UTF-8", root)
	}
	tree, block, err := parse(doc)
	if err != nil {
		return nil, err
	}
	type edit struct {
		from, to int
		text     string
	}
	var edits []edit
	old := rootPath(block)
	for _, key := range systemPaths() {
		m, ok := block[key]
		if !ok {
			continue
		}
		from, to, ok := span(doc, m.node)
		if !ok {
			return nil, fault.Field("system."+key, "is written in a way that cannot be changed in place; write it as plain or quoted text on one line")
		}
		moved := path.Clean(root)
		if !slices.Contains(rootKeys(), key) {
			name := below(old, m.node.Value)
			if strings.Trim(name, "./") == "" || path.Clean(m.node.Value) == path.Clean(old) {
				return nil, fault.Field("system."+key, "%q names no file", m.node.Value)
			}
			moved = path.Join(root, name)
		}
		edits = append(edits, edit{from, to, scalar(moved)})
		m.node.Value = moved
	}
	slices.SortFunc(edits, func(a, b edit) int { return a.from - b.from })
	var out bytes.Buffer
	at := 0
	for _, e := range edits {
		if e.from < at {
			return nil, fault.Field("system", "two of its members share one place in the document")
		}
		out.Write(doc[at:e.from])
		out.WriteString(e.text)
		at = e.to
	}
	out.Write(doc[at:])

	// The edit went by line and column. That it changed these values and nothing
	// else is checked on the result, so no odd notation can slip through.
	again, _, err := parse(out.Bytes())
	if err != nil || !same(tree, again) {
		return nil, fault.Field("system", "its paths are written in a way that cannot be changed in place; write each as plain or quoted text on one line")
	}
	return out.Bytes(), nil
}

func rootPath(block map[string]member) string {
	for _, key := range rootKeys() {
		if m, ok := block[key]; ok {
			return m.text()
		}
	}
	return ""
}

// below returns where p lies under old, or p's base name when it is not below.
func below(old, p string) string {
	p = path.Clean(p)
	if rest, ok := strings.CutPrefix(p, path.Clean(old)+"/"); ok && old != "" && !strings.HasPrefix(rest, "../") && rest != ".." {
		return rest
	}
	return path.Base(p)
}

type member struct{ node *yaml.Node }

func (m member) text() string {
	if m.node == nil {
		return ""
	}
	return m.node.Value
}

// parse returns the document's tree and the text members of its system block.
func parse(doc []byte) (*yaml.Node, map[string]member, error) {
	if len(doc) > MaxDocument {
		return nil, nil, fault.New(fault.Invalid, "the installer configuration has %d bytes, at most %d are read", len(doc), MaxDocument)
	}
	if !utf8.Valid(doc) {
		return nil, nil, fault.New(fault.Invalid, "the installer configuration is not UTF-8")
	}
	dec := yaml.NewDecoder(bytes.NewReader(doc))
	var tree yaml.Node
	if err := dec.Decode(&tree); err != nil {
		return nil, nil, fault.New(fault.Invalid, "the installer configuration is not YAML: %v", err)
	}
	if dec.Decode(new(yaml.Node)) == nil {
		return nil, nil, fault.New(fault.Invalid, "the installer configuration has more than one document")
	}
	if len(tree.Content) != 1 || tree.Content[0].Kind != yaml.MappingNode {
		return nil, nil, fault.New(fault.Invalid, "the installer configuration is not a mapping")
	}
	block := map[string]member{}
	sys, err := find(tree.Content[0], "system")
	if err != nil || sys == nil {
		return &tree, block, err
	}
	if sys.Kind != yaml.MappingNode {
		return nil, nil, fault.Field("system", "is not a mapping")
	}
	for _, key := range append(systemPaths(), "thingName") {
		n, err := find(sys, key)
		if err != nil {
			return nil, nil, fault.Under("system", err)
		}
		if n == nil {
			continue
		}
		if n.Kind != yaml.ScalarNode || n.Value == "" {
			return nil, nil, fault.Field("system."+key, "is not text")
		}
		block[key] = member{n}
	}
	return &tree, block, nil
}

// find returns the value of key, nil when absent, an error when it is there
// twice: readers differ in which one they take.
func find(m *yaml.Node, key string) (*yaml.Node, error) {
	var found *yaml.Node
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value != key {
			continue
		}
		if found != nil {
			return nil, fault.Field(key, "is there twice")
		}
		found = m.Content[i+1]
	}
	return found, nil
}

// span returns where the source of a one-line scalar begins and ends.
func span(doc []byte, n *yaml.Node) (from, to int, ok bool) {
	for range n.Line - 1 {
		i := bytes.IndexByte(doc[from:], '\n')
		if i < 0 {
			return 0, 0, false
		}
		from += i + 1
	}
	for range n.Column - 1 {
		_, size := utf8.DecodeRune(doc[from:])
		from += size
	}
	rest := doc[min(from, len(doc)):]
	if i := bytes.IndexByte(rest, '\n'); i >= 0 {
		rest = rest[:i]
	}
	switch n.Style {
	case 0:
		if bytes.HasPrefix(rest, []byte(n.Value)) {
			return from, from + len(n.Value), true
		}
	case yaml.DoubleQuotedStyle:
		for i := 1; i < len(rest); i++ {
			if rest[i] == '\\' {
				i++
			} else if rest[i] == '"' && rest[0] == '"' {
				return from, from + i + 1, true
			}
		}
	case yaml.SingleQuotedStyle:
		for i := 1; i < len(rest); i++ {
			if rest[i] != '\'' {
				continue
			}
			if i+1 < len(rest) && rest[i+1] == '\'' {
				i++
			} else if rest[0] == '\'' {
				return from, from + i + 1, true
			}
		}
	}
	return 0, 0, false
}

// same compares two trees by what they say, comments included, and not by how
// the scalars are quoted.
func same(a, b *yaml.Node) bool {
	if a.Kind != b.Kind || a.Value != b.Value || a.Anchor != b.Anchor || len(a.Content) != len(b.Content) ||
		a.HeadComment != b.HeadComment || a.LineComment != b.LineComment || a.FootComment != b.FootComment {
		return false
	}
	for i := range a.Content {
		if !same(a.Content[i], b.Content[i]) {
			return false
		}
	}
	return a.Kind != yaml.ScalarNode || a.ShortTag() == b.ShortTag() || b.ShortTag() == "!!str"
}
