package recipe

import (
	"bytes"
	"slices"
	"unicode/utf8"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// Limits of one recipe. Bytes is AWS's quota; the others keep what a recipe
// expands to (aliases, lists) in proportion to it.
const (
	MaxBytes     = 16 << 10
	MaxDepth     = 32
	MaxNodes     = 8192
	MaxManifests = 64
	MaxArtifacts = 256 // of all manifests together
)

// FormatVersion is the one recipe format that exists.
const FormatVersion = "2020-01-25"

// Format is how a recipe was written.
type Format string

// The formats, with the names of the Greengrass V2 API.
const (
	JSON Format = "JSON"
	YAML Format = "YAML"
)

// Recipe is a valid recipe. It does not change; make it with Parse.
type Recipe struct {
	Format       Format
	Name         string
	Version      string // exact semantic version
	Type         string // such as aws.greengrass.generic
	Publisher    string
	Description  string
	Dependencies []Dependency // sorted by name

	root      *value // normalised
	platforms []Platform
	artifacts []Artifact
}

// Dependency is a component that a recipe needs.
type Dependency struct {
	Name        string `json:"name"`
	Requirement string `json:"requirement"` // npm range
	Type        string `json:"type"`        // HARD or SOFT
}

// Platform is what one manifest claims to run on.
type Platform struct {
	Name       string            `json:"name,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"`
}

// Parse reads a recipe, JSON or YAML as the text itself tells, and checks it.
// Errors are of kind Invalid (TooLarge over MaxBytes), name the member by its
// path and its line and column; of YAML that cannot be read only the line is
// known.
func Parse(src []byte) (*Recipe, error) {
	if len(src) > MaxBytes {
		return nil, fault.New(fault.TooLarge, "recipe: %d bytes is over the limit of %d", len(src), MaxBytes)
	}
	src = bytes.TrimPrefix(src, []byte("\xef\xbb\xbf"))
	if err := checkText(src); err != nil {
		return nil, err
	}
	r := &Recipe{Format: JSON}
	root, err := readJSON(src)
	if err != nil {
		jsonErr := err
		r.Format = YAML
		if root, err = readYAML(src); err != nil {
			if bytes.HasPrefix(bytes.TrimSpace(src), []byte("{")) {
				return nil, jsonErr
			}
			return nil, err
		}
	}
	if root.kind != object {
		return nil, at("", root.pos, "it is %s, not an object", root.kind)
	}
	if err := r.read(root); err != nil {
		return nil, err
	}
	return r, nil
}

// checkText refuses bytes that are no text, which JSON would read as something
// else and YAML would refuse without saying where they are.
func checkText(src []byte) error {
	for i := 0; i < len(src); {
		c, size := utf8.DecodeRune(src[i:])
		switch {
		case c == utf8.RuneError && size == 1:
			return at("", posOf(src, i), "it is not UTF-8")
		case c < ' ' && c != '\t' && c != '\n' && c != '\r':
			return at("", posOf(src, i), "it holds the control character %U", c)
		}
		i += size
	}
	return nil
}

// Platforms returns what each manifest claims, in the order of the manifests.
func (r *Recipe) Platforms() []Platform { return slices.Clone(r.platforms) }

// Artifacts returns every artifact of every manifest. The same URI may stand in
// several manifests; it then means the same bytes.
func (r *Recipe) Artifacts() []Artifact { return slices.Clone(r.artifacts) }

// Placed says what devices are told about an artifact in place of what its
// author wrote.
type Placed struct {
	URI    string // "": as written
	Digest string // base64 of SHA-256; "": as written
}

// Normalized returns the recipe as JSON in the form that every runtime reads:
// canonical keys, lower-case phases, Platform, Artifacts and Lifecycle in every
// manifest, defaults written out, no null outside of configuration.
func (r *Recipe) Normalized() []byte { return r.root.json() }

// Render is Normalized with the artifacts replaced as place says, keyed by the
// URI in the recipe.
func (r *Recipe) Render(place map[string]Placed) []byte {
	root := r.root.clone()
	for _, m := range root.get("Manifests").items {
		for _, a := range m.get("Artifacts").items {
			p := place[a.get("Uri").scalar]
			if p.URI != "" {
				a.set("Uri", newText(p.URI))
			}
			if p.Digest != "" {
				a.set("Digest", newText(p.Digest))
				a.set("Algorithm", newText(algorithm))
			}
		}
	}
	return root.json()
}

// ToYAML rewrites a JSON recipe as YAML with its members in the same order.
func ToYAML(src []byte) ([]byte, error) {
	v, err := readJSON(src)
	if err != nil {
		return nil, err
	}
	return writeYAML(v)
}
