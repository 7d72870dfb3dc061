package recipe

import (
	"encoding/base64"
	"path"
	"strings"
	"unicode"

	"github.com/ggfleet/ggfleet/shared/fault"
)

const (
	algorithm       = "SHA-256"
	maxArtifactName = 255 // bytes
)

// Artifact is a file that a manifest needs.
type Artifact struct {
	Manifest int    // index of the manifest
	Path     string // of the artifact in the recipe, for messages
	URI      string // as the author wrote it
	Scheme   string // greengrass, s3 or docker
	Name     string // greengrass: all after the colon; s3: bucket/key
	Digest   string // base64 of SHA-256; "" if the author gave none
}

// File is the name that the artifact gets on the device.
func (a Artifact) File() string { return path.Base(a.Name) }

func (r *Recipe) readManifest(m *value, i int) error {
	p := index("Manifests", i)
	if err := fold(m, p, manifestKeys); err != nil {
		return err
	}
	name, err := scalarText(m, p, "Name")
	if err != nil {
		return err
	}
	attrs, err := readPlatform(m, p)
	if err != nil {
		return err
	}
	r.platforms = append(r.platforms, Platform{Name: name, Attributes: attrs})
	if err := readSelections(m, p); err != nil {
		return err
	}
	if m.get("Lifecycle") == nil {
		m.set("Lifecycle", newObject())
	}
	if err := foldLifecycle(m.get("Lifecycle"), join(p, "Lifecycle")); err != nil {
		return err
	}
	return r.readArtifacts(m, p, i)
}

// readPlatform also writes an absent Platform out: lite refuses the whole recipe
// when it meets a manifest without one.
func readPlatform(m *value, p string) (map[string]string, error) {
	if m.get("Platform") == nil {
		m.set("Platform", newObject())
	}
	v, p := m.get("Platform"), join(p, "Platform")
	if err := fold(v, p, nil); err != nil {
		return nil, err
	}
	attrs := make(map[string]string, len(v.members))
	for _, a := range v.members {
		s, err := scalarText(v, p, a.key)
		if err != nil {
			return nil, err
		}
		if _, err := compilePattern(s); err != nil {
			return nil, at(join(p, a.key), a.pos, "%s", fault.Message(err))
		}
		attrs[a.key] = s
	}
	return attrs, nil
}

func readSelections(m *value, p string) error {
	s := m.get("Selections")
	if s == nil {
		return nil
	}
	if s.kind != array {
		return at(join(p, "Selections"), s.pos, "is %s, want a list", s.kind)
	}
	for i, it := range s.items {
		if it.kind != text {
			return at(index(join(p, "Selections"), i), it.pos, "is %s, want a text", it.kind)
		}
	}
	return nil
}

// foldLifecycle spells phases and their members as runtimes read them. A
// lifecycle may be divided by selections (linux, all) above the phases or below
// them, so what is no phase and no member of one is searched for more.
func foldLifecycle(v *value, p string) error {
	if err := fold(v, p, phaseKeys); err != nil {
		return err
	}
	for _, m := range v.members {
		at1 := join(p, m.key)
		var err error
		switch {
		case m.key == "Setenv":
			err = foldSetenv(m.value, at1)
		case phaseKeys[m.key] == m.key:
			err = foldStep(m.value, at1)
		case m.kind == object:
			err = foldLifecycle(m.value, at1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func foldStep(v *value, p string) error {
	switch v.kind {
	case object:
	case array:
		return at(p, v.pos, "is a list, want a text or an object with Script")
	case null, text, number, boolean:
		v.kind = text
		return nil
	}
	if err := fold(v, p, stepKeys); err != nil {
		return err
	}
	if _, err := scalarText(v, p, "Script"); err != nil {
		return err
	}
	for _, m := range v.members {
		var err error
		switch {
		case m.key == "Setenv":
			err = foldSetenv(m.value, join(p, m.key))
		case m.kind == object:
			err = foldStep(m.value, join(p, m.key))
		case stepKeys[strings.ToLower(m.key)] != "" && m.kind == array:
			err = at(join(p, m.key), m.pos, "is a list")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func foldSetenv(v *value, p string) error {
	if err := fold(v, p, nil); err != nil {
		return err
	}
	for _, m := range v.members {
		if m.kind == array {
			return at(join(p, m.key), m.pos, "is a list, want a text")
		}
		if m.kind != object { // a selection
			m.kind = text
		}
	}
	return nil
}

func (r *Recipe) readArtifacts(m *value, p string, manifest int) error {
	p = join(p, "Artifacts")
	list := m.get("Artifacts")
	if list == nil {
		m.set("Artifacts", &value{kind: array})
		return nil
	}
	if list.kind != array {
		return at(p, list.pos, "is %s, want a list", list.kind)
	}
	files := map[string]string{}
	for i, v := range list.items {
		a, err := readArtifact(v, index(p, i))
		if err != nil {
			return err
		}
		a.Manifest = manifest
		if a.Scheme != "docker" {
			if other, ok := files[a.File()]; ok {
				return at(join(a.Path, "Uri"), v.pos, "%q ends in the same file name as %q: on the device one would overwrite the other", short(a.URI), short(other))
			}
			files[a.File()] = a.URI
		}
		for _, o := range r.artifacts {
			if o.URI == a.URI && o.Digest != a.Digest {
				return at(join(a.Path, "Digest"), v.pos, "differs from the one of the same Uri at %s", o.Path)
			}
		}
		if r.artifacts = append(r.artifacts, a); len(r.artifacts) > MaxArtifacts {
			return at(p, v.pos, "the recipe has more than %d artifacts", MaxArtifacts)
		}
	}
	return nil
}

func readArtifact(v *value, p string) (Artifact, error) {
	a := Artifact{Path: p}
	if err := fold(v, p, artifactKeys); err != nil {
		return a, err
	}
	var err error
	if a.URI, err = scalarText(v, p, "Uri"); err != nil {
		return a, err
	}
	if a.URI == "" {
		return a, at(join(p, "Uri"), v.pos, "is missing")
	}
	if a.Scheme, a.Name, err = splitURI(a.URI); err != nil {
		return a, reword(v, p, "Uri", err)
	}
	a.URI = a.Scheme + a.URI[len(a.Scheme):]
	v.set("Uri", newText(a.URI))
	if a.Digest, err = scalarText(v, p, "Digest"); err != nil {
		return a, err
	}
	if a.Digest != "" {
		if raw, err := base64.StdEncoding.DecodeString(a.Digest); err != nil || len(raw) != 32 {
			return a, at(join(p, "Digest"), v.get("Digest").pos, "is not the base64 of a SHA-256 (44 characters)")
		}
	}
	if alg := v.get("Algorithm"); alg != nil || a.Digest != "" {
		if _, err := oneOf(v, p, "Algorithm", algorithm, algorithm); err != nil {
			return a, err
		}
	}
	if _, err := oneOf(v, p, "Unarchive", "NONE", "NONE", "ZIP"); err != nil {
		return a, err
	}
	return a, readPermission(v, p)
}

func readPermission(v *value, p string) error {
	perm := v.get("Permission")
	if perm == nil {
		return nil
	}
	p = join(p, "Permission")
	if err := fold(perm, p, permissionKeys); err != nil {
		return err
	}
	if _, err := oneOf(perm, p, "Read", "OWNER", "NONE", "OWNER", "ALL"); err != nil {
		return err
	}
	_, err := oneOf(perm, p, "Execute", "NONE", "NONE", "OWNER", "ALL")
	return err
}

// splitURI checks an artifact URI. Runtimes fetch no other schemes
// (nucleus-contract §5.2).
func splitURI(uri string) (scheme, name string, err error) {
	scheme, name, ok := strings.Cut(uri, ":")
	switch scheme = strings.ToLower(scheme); {
	case !ok || name == "":
		return "", "", fault.New(fault.Invalid, "%q is not a URI: want greengrass:NAME or s3://BUCKET/KEY", short(uri))
	case scheme == "docker":
		return scheme, name, nil
	case scheme == "s3":
		name = strings.TrimPrefix(name, "//")
		if bucket, key, _ := strings.Cut(name, "/"); bucket == "" || key == "" || strings.HasSuffix(key, "/") {
			return "", "", fault.New(fault.Invalid, "%q does not have the form s3://BUCKET/KEY", short(uri))
		}
		return scheme, name, nil
	case scheme == "greengrass":
		if err := checkArtifactName(name); err != nil {
			return "", "", err
		}
		return scheme, name, nil
	}
	return "", "", fault.New(fault.Invalid, "%q: no runtime fetches artifacts by the scheme %q; want greengrass:NAME, s3://BUCKET/KEY or docker:IMAGE", short(uri), short(scheme))
}

func checkArtifactName(name string) error {
	if len(name) > maxArtifactName {
		return fault.New(fault.Invalid, "artifact name %q is longer than %d bytes", short(name), maxArtifactName)
	}
	if strings.ContainsFunc(name, func(c rune) bool { return unicode.IsControl(c) || c == '\\' || c == unicode.ReplacementChar }) {
		return fault.New(fault.Invalid, "artifact name %q has a control character or a backslash", short(name))
	}
	for seg := range strings.SplitSeq(name, "/") {
		if seg == "" || seg == "." || seg == ".." {
			return fault.New(fault.Invalid, "artifact name %q has an empty, . or .. part between slashes", short(name))
		}
	}
	return nil
}
