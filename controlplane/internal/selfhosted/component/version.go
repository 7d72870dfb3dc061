package component

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/recipe"
)

// State is where a version stands, with the words of the Greengrass V2 API.
type State string

// The states. Only a DEPLOYABLE version is offered to cores.
const (
	Requested  State = "REQUESTED"  // artifacts are awaited, or not checked yet
	Initiated  State = "INITIATED"  // some artifacts are there, or they are being checked
	Deployable State = "DEPLOYABLE" // complete
	Failed     State = "FAILED"     // artifacts were refused; Errors says why
)

// Version is one version of a component. Values that this package hands out
// share memory with its index: they are read-only.
type Version struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	ARN     string `json:"arn"`

	State   State             `json:"state"`
	Errors  map[string]string `json:"errors,omitempty"`  // artifact URI → reason
	Public  bool              `json:"public,omitempty"`  // in the place of what AWS provides
	Stub    bool              `json:"stub,omitempty"`    // a recipe only, to be replaced by an import
	Private bool              `json:"private,omitempty"` // a stub that cores are never offered

	Type         string              `json:"type"`
	Publisher    string              `json:"publisher,omitempty"`
	Description  string              `json:"description,omitempty"`
	Dependencies []recipe.Dependency `json:"dependencies,omitempty"`
	Platforms    []recipe.Platform   `json:"platforms,omitempty"`
	Tags         map[string]string   `json:"tags,omitempty"`
	CreatedAt    time.Time           `json:"createdAt"`

	Source     []byte        `json:"source"` // the recipe as its author wrote it
	Format     recipe.Format `json:"format"` // of Source
	Normalized []byte        `json:"normalized,omitempty"`
	Artifacts  []Artifact    `json:"artifacts,omitempty"`

	// Deleting is set between the decision to delete and the end of the clean-up;
	// such a version does not exist for anybody else.
	Deleting bool `json:"deleting,omitempty"`
}

// Artifact is a file of a version.
type Artifact struct {
	Name     string `json:"name"`               // what devices ask for: the text after greengrass:; "" until an s3: object was read
	URI      string `json:"uri"`                // as the author wrote it
	Key      string `json:"key,omitempty"`      // of the object; "" until uploaded
	Size     int64  `json:"size,omitempty"`     // bytes
	SHA256   string `json:"sha256,omitempty"`   // hex; from the recipe or from the bytes
	Digest   string `json:"digest,omitempty"`   // the same in base64, as recipes have it
	Uploaded bool   `json:"uploaded,omitempty"` // the bytes are there
	Declared bool   `json:"declared,omitempty"` // the recipe gives the digest
	External bool   `json:"external,omitempty"` // an s3: object of the author: not ours to delete
}

// Missing returns the names of the artifacts that await their upload.
func (v Version) Missing() []string {
	var names []string
	for _, a := range v.Artifacts {
		if !a.Uploaded && !a.External {
			names = append(names, a.Name)
		}
	}
	return names
}

// awaits says what a version that is not DEPLOYABLE is waiting for.
func (v Version) awaits() string {
	switch missing := v.Missing(); {
	case v.State == Failed:
		return "its artifacts were refused, delete it and create it again"
	case len(missing) > 0:
		return fmt.Sprintf("it awaits the artifacts %v", missing)
	}
	return "its artifacts are being checked"
}

// RecipeAs returns the recipe for people, in format: normal form, the author's
// artifact URIs, digests filled in as far as they are known.
func (v Version) RecipeAs(format recipe.Format) ([]byte, error) {
	r, err := recipe.Parse(v.Source)
	if err != nil {
		return nil, fmt.Errorf("stored recipe of %s %s: %w", v.Name, v.Version, err)
	}
	place := map[string]recipe.Placed{}
	for _, a := range v.Artifacts {
		place[a.URI] = recipe.Placed{Digest: a.Digest}
	}
	out := r.Render(place)
	if format == recipe.YAML {
		return recipe.ToYAML(out)
	}
	return out, nil
}

// settle sets the state from the artifacts and, once all are there, the recipe
// that devices get.
func (v *Version) settle() error {
	there := 0
	for _, a := range v.Artifacts {
		if a.Uploaded {
			there++
		}
	}
	switch {
	case there == len(v.Artifacts):
		v.State = Deployable
	case there > 0 || v.State == Initiated:
		v.State = Initiated
	default:
		v.State = Requested
	}
	if v.State != Deployable {
		return nil
	}
	r, err := recipe.Parse(v.Source)
	if err != nil {
		return fmt.Errorf("stored recipe of %s %s: %w", v.Name, v.Version, err)
	}
	place := map[string]recipe.Placed{}
	for _, a := range v.Artifacts {
		place[a.URI] = recipe.Placed{URI: "greengrass:" + a.Name, Digest: a.Digest}
	}
	v.Normalized = r.Render(place)
	return nil
}

// Message is what to tell people beside the state: why a version FAILED, else
// NONE, AWS's word for nothing.
func (v Version) Message() string {
	if len(v.Errors) == 0 {
		return "NONE"
	}
	return wordErrors(v.Errors)
}

// wordErrors words the refusal of artifacts as AWS does.
func wordErrors(wrong map[string]string) string {
	var parts []string
	for _, uri := range slices.Sorted(maps.Keys(wrong)) {
		parts = append(parts, uri+" = "+wrong[uri])
	}
	return "Invalid Input: Encountered following errors in Artifacts: {" + strings.Join(parts, ", ") + "}"
}

const prefix = state.Root + "greengrass/component/"

func keyOf(name, version string) string { return prefix + name + "/" + version }
