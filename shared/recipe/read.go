package recipe

import (
	"slices"
	"strings"

	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/recipe/semver"
)

// The spelling of the keys that runtimes know, by where they stand.
//
//nolint:gochecknoglobals // tables that never change
var (
	rootKeys = keySet("RecipeFormatVersion", "ComponentName", "ComponentVersion", "ComponentType", "ComponentDescription",
		"ComponentPublisher", "ComponentSource", "ComponentConfiguration", "ComponentDependencies", "Manifests", "Lifecycle")
	configurationKeys = keySet("DefaultConfiguration")
	dependencyKeys    = keySet("VersionRequirement", "DependencyType")
	manifestKeys      = keySet("Name", "Platform", "Selections", "Lifecycle", "Artifacts")
	artifactKeys      = keySet("Uri", "Digest", "Algorithm", "Unarchive", "Permission")
	permissionKeys    = keySet("Read", "Execute")
	phaseKeys         = keySet("bootstrap", "install", "startup", "run", "shutdown", "recover", "Setenv")
	stepKeys          = keySet("Script", "RequiresPrivilege", "SkipIf", "Timeout", "Setenv")
)

func keySet(keys ...string) map[string]string {
	m := make(map[string]string, len(keys))
	for _, k := range keys {
		m[strings.ToLower(k)] = k
	}
	return m
}

// fold gives known keys their canonical spelling and drops members that are
// null. Unknown members stay as they are.
func fold(v *value, path string, known map[string]string) error {
	if v.kind != object {
		return at(path, v.pos, "is %s, want an object", v.kind)
	}
	v.members = slices.DeleteFunc(v.members, func(m member) bool { return m.kind == null })
	seen := map[string]bool{}
	for i, m := range v.members {
		key, ok := known[strings.ToLower(m.key)]
		if !ok {
			continue
		}
		if seen[key] {
			return at(join(path, key), m.pos, "is there twice, in different spellings")
		}
		seen[key] = true
		v.members[i].key = key
	}
	return nil
}

// scalarText reads an optional text. Plain YAML scalars count as the text they
// were written as.
func scalarText(v *value, path, key string) (string, error) {
	m := v.get(key)
	switch {
	case m == nil:
		return "", nil
	case m.kind == object || m.kind == array:
		return "", at(join(path, key), m.pos, "is %s, want a text", m.kind)
	}
	m.kind = text
	return m.scalar, nil
}

// oneOf reads an optional word of a fixed set, in any case; absent gives def.
func oneOf(v *value, path, key, def string, words ...string) (string, error) {
	s, err := scalarText(v, path, key)
	if err != nil {
		return "", err
	}
	if s == "" {
		v.set(key, newText(def))
		return def, nil
	}
	for _, w := range words {
		if strings.EqualFold(s, w) {
			v.set(key, newText(w))
			return w, nil
		}
	}
	return "", at(join(path, key), v.get(key).pos, "is %q, want one of %s", short(s), strings.Join(words, ", "))
}

func short(s string) string {
	if len(s) > 120 {
		return s[:120] + "…"
	}
	return s
}

// reword puts the message of err about the member v.key at its path.
func reword(v *value, path, key string, err error) error {
	where := v.pos
	if m := v.get(key); m != nil {
		where = m.pos
	}
	return at(join(path, key), where, "%s", fault.Message(err))
}

func (r *Recipe) read(root *value) error {
	if err := fold(root, "", rootKeys); err != nil {
		return err
	}
	steps := []func(*value) error{r.readHead, r.readConfiguration, r.readDependencies, r.readBody}
	for _, step := range steps {
		if err := step(root); err != nil {
			return err
		}
	}
	r.root = root
	return nil
}

func (r *Recipe) readHead(root *value) error {
	var formatVersion string
	for _, f := range []struct {
		key      string
		to       *string
		required bool
	}{
		{"RecipeFormatVersion", &formatVersion, true},
		{"ComponentName", &r.Name, true},
		{"ComponentVersion", &r.Version, true},
		{"ComponentPublisher", &r.Publisher, false},
		{"ComponentDescription", &r.Description, false},
		{"ComponentSource", new(string), false},
	} {
		s, err := scalarText(root, "", f.key)
		if err != nil {
			return err
		}
		if s == "" && f.required {
			return at(f.key, root.pos, "is missing")
		}
		*f.to = s
	}
	if formatVersion != FormatVersion {
		return at("RecipeFormatVersion", root.get("RecipeFormatVersion").pos, "is %q, want %s", short(formatVersion), FormatVersion)
	}
	if err := names.CheckComponent(r.Name); err != nil {
		return reword(root, "", "ComponentName", err)
	}
	if strings.Trim(r.Name, ".") == "" {
		return at("ComponentName", root.get("ComponentName").pos, "must not consist of dots")
	}
	if _, err := semver.Parse(r.Version); err != nil {
		return reword(root, "", "ComponentVersion", err)
	}
	var err error
	r.Type, err = oneOf(root, "", "ComponentType", "aws.greengrass.generic",
		"aws.greengrass.generic", "aws.greengrass.plugin", "aws.greengrass.lambda", "aws.greengrass.nucleus")
	return err
}

func (r *Recipe) readConfiguration(root *value) error {
	c := root.get("ComponentConfiguration")
	if c == nil {
		return nil
	}
	const path = "ComponentConfiguration"
	if err := fold(c, path, configurationKeys); err != nil {
		return err
	}
	if d := c.get("DefaultConfiguration"); d != nil && d.kind != object {
		return at(join(path, "DefaultConfiguration"), d.pos, "is %s, want an object", d.kind)
	}
	return nil
}

func (r *Recipe) readDependencies(root *value) error {
	const path = "ComponentDependencies"
	deps := root.get(path)
	if deps == nil {
		return nil
	}
	if err := fold(deps, path, nil); err != nil {
		return err
	}
	for _, d := range deps.members {
		at1 := join(path, d.key)
		if err := names.CheckComponent(d.key); err != nil {
			return at(at1, d.pos, "%s", fault.Message(err))
		}
		if err := fold(d.value, at1, dependencyKeys); err != nil {
			return err
		}
		req, err := scalarText(d.value, at1, "VersionRequirement")
		if err != nil {
			return err
		}
		if d.get("VersionRequirement") == nil {
			return at(join(at1, "VersionRequirement"), d.pos, "is missing")
		}
		if _, err := semver.ParseRange(req); err != nil {
			return reword(d.value, at1, "VersionRequirement", err)
		}
		typ, err := oneOf(d.value, at1, "DependencyType", "HARD", "HARD", "SOFT")
		if err != nil {
			return err
		}
		r.Dependencies = append(r.Dependencies, Dependency{d.key, req, typ})
	}
	slices.SortFunc(r.Dependencies, func(a, b Dependency) int { return strings.Compare(a.Name, b.Name) })
	return nil
}

// readBody reads manifests and lifecycles. Runtimes refuse a recipe without a
// manifest, so one with only a Lifecycle gets one that fits every platform.
func (r *Recipe) readBody(root *value) error {
	lifecycle, manifests := root.get("Lifecycle"), root.get("Manifests")
	if lifecycle != nil {
		if err := foldLifecycle(lifecycle, "Lifecycle"); err != nil {
			return err
		}
	}
	switch {
	case manifests != nil && manifests.kind != array:
		return at("Manifests", manifests.pos, "is %s, want a list", manifests.kind)
	case manifests == nil || len(manifests.items) == 0:
		if lifecycle == nil || len(lifecycle.members) == 0 {
			return at("Manifests", root.pos, "is missing: a recipe needs at least one entry in Manifests or a Lifecycle")
		}
		all := newObject(member{"os", newText("*")}, member{"runtime", newText("*")})
		manifests = &value{kind: array, items: []*value{newObject(member{"Platform", all})}}
		root.set("Manifests", manifests)
	case len(manifests.items) > MaxManifests:
		return at("Manifests", manifests.pos, "has %d entries, over the limit of %d", len(manifests.items), MaxManifests)
	}
	for i, m := range manifests.items {
		if err := r.readManifest(m, i); err != nil {
			return err
		}
	}
	return nil
}
