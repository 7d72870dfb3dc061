package simulator

import (
	"encoding/base64"
	"encoding/json"
	"regexp"
	"runtime"
	"strings"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// recipe is what a core keeps of a component's recipe.
type recipe struct {
	Name         string            `json:"name"`
	Version      string            `json:"version"`
	ARN          string            `json:"arn"`
	Dependencies map[string]string `json:"dependencies,omitempty"` // name → range
	Default      json.RawMessage   `json:"default,omitempty"`
	Artifacts    []artifact        `json:"artifacts,omitempty"`
	Runs         bool              `json:"runs"` // it has a lifecycle
}

type artifact struct {
	URI       string `json:"Uri"`
	Digest    string `json:"Digest"`
	Algorithm string `json:"Algorithm"`
}

// wireRecipe is the recipe as it arrives. Members are raw where their absence,
// null and emptiness mean different things to lite (trap 49).
type wireRecipe struct {
	ComponentName          string
	ComponentVersion       string
	ComponentType          string
	ComponentConfiguration *struct{ DefaultConfiguration json.RawMessage }
	ComponentDependencies  json.RawMessage
	Manifests              []json.RawMessage
	Lifecycle              json.RawMessage
}

type wireManifest struct {
	Platform  map[string]any
	Lifecycle json.RawMessage
	Artifacts json.RawMessage
}

func isPhase(s string) bool {
	switch s {
	case "bootstrap", "install", "startup", "run", "shutdown", "recover":
		return true
	}
	return false
}

// readRecipe decodes the base64 recipe of a resolve answer and picks the
// manifest for this device, as strictly as the runtime does.
func readRecipe(rt Runtime, encoded string) (*recipe, error) {
	raw, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return nil, fault.New(fault.Invalid, "recipe is not base64: %v", err)
	}
	var w wireRecipe
	if err := json.Unmarshal(raw, &w); err != nil {
		return nil, fault.New(fault.Invalid, "recipe is not JSON (trap 31): %v", err)
	}
	r := &recipe{Name: w.ComponentName, Version: w.ComponentVersion}
	if w.ComponentConfiguration != nil {
		r.Default = w.ComponentConfiguration.DefaultConfiguration
		if _, err := decodeTree(r.Default); err != nil {
			return nil, err
		}
	}
	if r.Dependencies, err = dependencies(rt, w.ComponentDependencies); err != nil {
		return nil, err
	}
	m, err := pickManifest(rt, w)
	if err != nil {
		return nil, err
	}
	if m == nil {
		return r, nil
	}
	lifecycle := m.Lifecycle
	if emptyJSON(lifecycle) {
		lifecycle = w.Lifecycle
	}
	if r.Runs, err = hasLifecycle(rt, lifecycle); err != nil {
		return nil, err
	}
	if r.Artifacts, err = artifacts(rt, m.Artifacts); err != nil {
		return nil, err
	}
	return r, nil
}

func dependencies(rt Runtime, raw json.RawMessage) (map[string]string, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	if string(raw) == "null" && rt == Lite {
		return nil, fault.New(fault.Invalid, "ComponentDependencies is null (trap 49)")
	}
	var deps map[string]struct{ VersionRequirement, DependencyType string }
	if err := json.Unmarshal(raw, &deps); err != nil {
		return nil, fault.New(fault.Invalid, "ComponentDependencies: %v", err)
	}
	out := make(map[string]string, len(deps))
	for name, d := range deps {
		if d.VersionRequirement == "" {
			d.VersionRequirement = "*"
		}
		out[name] = d.VersionRequirement
	}
	return out, nil
}

// pickManifest returns the first that matches. Classic takes a recipe without
// manifests too (nil, nil).
func pickManifest(rt Runtime, w wireRecipe) (*wireManifest, error) {
	for _, raw := range w.Manifests {
		var m wireManifest
		if err := json.Unmarshal(raw, &m); err != nil {
			return nil, fault.New(fault.Invalid, "manifest: %v", err)
		}
		if rt == Lite && !liteManifest(m, w.Lifecycle) || rt == Classic && !classicManifest(m) {
			continue
		}
		return &m, nil
	}
	if rt == Classic && len(w.Manifests) == 0 {
		return nil, nil
	}
	return nil, fault.New(fault.Unsupported, "no manifest of %s-%s is for this device (trap 32)", w.ComponentName, w.ComponentVersion)
}

// liteManifest: runtime and os must be named, and a lifecycle be there (§8).
func liteManifest(m wireManifest, global json.RawMessage) bool {
	rt, _ := m.Platform["runtime"].(string)
	os, _ := m.Platform["os"].(string)
	if rt != "*" && rt != "aws_nucleus_lite" || os != "linux" && os != "*" && os != "all" {
		return false
	}
	if arch, ok := m.Platform["architecture"].(string); ok && arch != "*" && arch != architecture() {
		return false
	}
	if len(m.Lifecycle) > 0 {
		return true
	}
	var g map[string]json.RawMessage
	return json.Unmarshal(global, &g) == nil && (g["all"] != nil || g["linux"] != nil)
}

func classicManifest(m wireManifest) bool {
	attributes := map[string]string{"os": "linux", "architecture": architecture(), "runtime": "classic"}
	for key, v := range m.Platform {
		want, _ := v.(string)
		switch have := attributes[key]; {
		case want == "*", key == "os" && want == "all", key == "runtime" && want == "":
		case len(want) > 1 && want[0] == '/' && want[len(want)-1] == '/':
			re, err := regexp.Compile("^(?:" + want[1:len(want)-1] + ")$")
			if err != nil || !re.MatchString(have) {
				return false
			}
		case want != have:
			return false
		}
	}
	return true
}

// hasLifecycle reports whether there is a phase. Lite knows the lower-case names
// only (trap 49).
func hasLifecycle(rt Runtime, raw json.RawMessage) (bool, error) {
	if emptyJSON(raw) {
		return false, nil
	}
	var l map[string]json.RawMessage
	if err := json.Unmarshal(raw, &l); err != nil {
		return false, fault.New(fault.Invalid, "Lifecycle: %v", err)
	}
	found := false
	for key, v := range l {
		lower := strings.ToLower(key)
		if !isPhase(lower) {
			if nested, err := hasLifecycle(rt, v); err == nil && nested {
				found = true // a global lifecycle by platform
			}
			continue
		}
		if rt == Lite && key != lower {
			return false, fault.New(fault.Invalid, "lifecycle phase %q is capitalised (trap 49)", key)
		}
		found = true
	}
	return found, nil
}

func artifacts(rt Runtime, raw json.RawMessage) ([]artifact, error) {
	if len(raw) == 0 || string(raw) == "null" {
		if rt == Lite {
			return nil, fault.New(fault.Invalid, "a manifest has no Artifacts (trap 49)")
		}
		return nil, nil
	}
	var members []map[string]json.RawMessage
	if err := json.Unmarshal(raw, &members); err != nil {
		return nil, fault.New(fault.Invalid, "Artifacts: %v", err)
	}
	for _, m := range members {
		if rt == Lite && m["Uri"] == nil {
			return nil, fault.New(fault.Invalid, "an artifact has no Uri (trap 49)")
		}
	}
	var out []artifact
	if err := json.Unmarshal(raw, &out); err != nil {
		return nil, fault.New(fault.Invalid, "Artifacts: %v", err)
	}
	for _, a := range out {
		if !strings.HasPrefix(a.URI, "greengrass:") {
			return nil, fault.New(fault.Unsupported, "artifact %q: only greengrass: is fetched here", a.URI)
		}
		if rt == Classic && (a.Digest == "" || a.Algorithm != "SHA-256") {
			return nil, fault.New(fault.Invalid, "artifact %q has no Digest with Algorithm SHA-256 (trap 27)", a.URI)
		}
	}
	return out, nil
}

func emptyJSON(raw json.RawMessage) bool {
	s := strings.TrimSpace(string(raw))
	return s == "" || s == "null" || s == "{}"
}

// architecture is this machine's in the runtimes' words.
func architecture() string {
	switch runtime.GOARCH {
	case "arm64":
		return "aarch64"
	case "386":
		return "x86"
	}
	return runtime.GOARCH
}
