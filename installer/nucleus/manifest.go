package nucleus

import (
	"encoding/json"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
)

// ManifestName is where the manifest lies in a distribution archive.
const ManifestName = "distribution.json"

// maxManifest bounds the manifest in bytes, maxArgs its arguments.
const (
	maxManifest = 64 << 10
	maxArgs     = 64
)

// Placeholders that a manifest's arguments may hold.
const (
	PlaceRoot = "{root}" // the folder that the nucleus works in
	PlaceDist = "{dist}" // the folder of this version's files
)

// Manifest says what a distribution is and how it is started.
type Manifest struct {
	Name       string   `json:"name"`                // component name of the nucleus
	Version    string   `json:"version"`             // semantic version
	Runtime    string   `json:"runtime"`             // what kind of runtime this is: classic, lite, simulated
	Entrypoint string   `json:"entrypoint"`          // program, relative to the archive's top
	Args       []string `json:"args"`                // with PlaceRoot and PlaceDist
	StateFile  string   `json:"stateFile,omitempty"` // relative to the root: State as JSON, rewritten on change
	ReadyFile  string   `json:"readyFile,omitempty"` // relative to the root: made by the nucleus once it works

	Layout Layout `json:"-"` // found, never said by the manifest

	// Of LayoutLitePackage only.
	Package        string `json:"-"` // the package file, relative to the archive's top
	PackageVersion string `json:"-"` // as the package manager calls it: [epoch:]version[-revision]
	Architecture   string `json:"-"` // as the package manager calls it
	Depends        string `json:"-"` // of a deb: its Depends field
}

var versionPattern = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z.+-]{0,63}$`)

// ParseManifest reads a manifest. Unknown members are ignored. Errors are of
// kind fault.Invalid and name the member.
func ParseManifest(b []byte) (Manifest, error) {
	var m Manifest
	if len(b) > maxManifest {
		return m, fault.New(fault.Invalid, "%s has %d bytes, at most %d are read", ManifestName, len(b), maxManifest)
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return Manifest{}, fault.New(fault.Invalid, "%s is not what a manifest looks like: %v", ManifestName, err)
	}
	m.Layout = LayoutProgram
	return m, m.check()
}

func (m Manifest) check() error {
	if err := names.CheckComponent(m.Name); err != nil || strings.Trim(m.Name, ".") == "" {
		return fault.Field("name", "%q is not a component name", m.Name)
	}
	if !versionPattern.MatchString(m.Version) {
		return fault.Field("version", "%q is not a version", m.Version)
	}
	if !local(m.Entrypoint) {
		return fault.Field("entrypoint", "%q is not a path inside the archive", m.Entrypoint)
	}
	if len(m.Args) > maxArgs {
		return fault.Field("args", "has %d members, at most %d are allowed", len(m.Args), maxArgs)
	}
	for _, a := range m.Args {
		if strings.ContainsRune(a, 0) {
			return fault.Field("args", "%q holds a zero byte", a)
		}
	}
	for _, f := range []struct{ name, value string }{{"stateFile", m.StateFile}, {"readyFile", m.ReadyFile}} {
		if f.value != "" && !local(f.value) {
			return fault.Field(f.name, "%q is not a path inside the root", f.value)
		}
	}
	return nil
}

// local reports whether p names something inside the folder it is relative to.
func local(p string) bool {
	return p != "" && p != "." && len(p) <= maxName && !strings.ContainsAny(p, "\\\x00\n") && filepath.IsLocal(p) && path.Clean(p) == p
}

// Command returns the program and arguments that start the nucleus, where root
// is the absolute folder it works in and dist the absolute folder of its files.
func (m Manifest) Command(root, dist string) (string, []string) {
	args := make([]string, len(m.Args))
	fill := strings.NewReplacer(PlaceRoot, root, PlaceDist, dist)
	for i, a := range m.Args {
		args[i] = fill.Replace(a)
	}
	return filepath.Join(dist, filepath.FromSlash(m.Entrypoint)), args
}
