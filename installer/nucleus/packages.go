package nucleus

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// oldPackage is what was installed before, and the file to go back with.
type oldPackage struct {
	Version string `json:"version"`        // "": none
	File    string `json:"file,omitempty"` // on the host
}

// manager is a package manager of the host.
type manager struct {
	sys    System
	format string // FormatDeb or FormatRPM
}

func managerOf(sys System, file string) manager {
	return manager{sys, strings.TrimPrefix(path.Ext(file), ".")}
}

func (m manager) program() string {
	if m.format == FormatRPM {
		return "rpm"
	}
	return "dpkg"
}

// installed returns the version of lite's package that is installed whole, "" for none. A deb
// whose installation was cut off counts as none of its versions: broken says so.
func (m manager) installed(ctx context.Context) (version string, broken bool, err error) {
	argv := []string{"dpkg-query", "-W", "-f=${db:Status-Abbrev} ${Version}", litePackageName}
	if m.format == FormatRPM {
		argv = []string{"rpm", "-q", "--qf", "ii  %{VERSION}-%{RELEASE}", litePackageName}
	}
	r, err := m.sys.Run(ctx, Command{Argv: argv})
	if err != nil {
		return "", false, fmt.Errorf("asking %s what is installed: %w", argv[0], err)
	}
	if r.Code == 1 { // both say so of a package that they do not know
		return "", false, nil
	}
	if r.Code != 0 {
		return "", false, fault.New(fault.Unavailable, "%s ended with code %d: %s", strings.Join(argv, " "), r.Code, lastLines(r))
	}
	f := strings.Fields(string(r.Stdout))
	switch {
	case len(f) < 2 || strings.HasSuffix(f[0], "n") || strings.HasSuffix(f[0], "c"): // not installed, or only its configuration
		return "", false, nil
	case f[0] != "ii" && f[0] != "hi":
		return f[1], true, nil
	}
	return f[1], false, nil
}

// install puts the package of the file in the place of any other version.
// Configuration files of the administrator stay.
func (m manager) install(ctx context.Context, file string) error {
	c := Command{Argv: []string{"dpkg", "--force-confold", "--force-confdef", "-i", file}, Env: []string{"DEBIAN_FRONTEND=noninteractive"}}
	if m.format == FormatRPM {
		c = Command{Argv: []string{"rpm", "-U", "--oldpackage", "--replacepkgs", file}}
	}
	_, err := run(ctx, m.sys, c)
	return err
}

// remove takes the package away. Never dpkg --purge: lite's package would delete
// the core's configuration and data with it.
func (m manager) remove(ctx context.Context) error {
	argv := []string{"dpkg", "--remove", litePackageName}
	if m.format == FormatRPM {
		argv = []string{"rpm", "-e", litePackageName}
	}
	_, err := run(ctx, m.sys, Command{Argv: argv})
	return err
}

// architecture is what the host's packages are built for.
func (m manager) architecture(ctx context.Context) (string, error) {
	argv := []string{"dpkg", "--print-architecture"}
	if m.format == FormatRPM {
		argv = []string{"rpm", "--eval", "%{_arch}"}
	}
	out, err := run(ctx, m.sys, Command{Argv: argv})
	return strings.TrimSpace(out), err
}

// unmet returns the first dependency of a deb that the host does not meet, as
// the Depends field writes it. A package that is unpacked and cannot be
// configured would be the end of the version that ran before.
func (m manager) unmet(ctx context.Context, depends string) (string, error) {
	if m.format == FormatRPM || strings.TrimSpace(depends) == "" {
		return "", nil // rpm itself checks before it changes anything
	}
	out, err := run(ctx, m.sys, Command{Argv: []string{"dpkg-query", "-W", "-f=${db:Status-Abbrev}\t${Package}\t${Version}\t${Provides}\n"}})
	if err != nil {
		return "", err
	}
	have := map[string][]string{} // versions by name; "" for a name that is only provided
	for line := range strings.Lines(out) {
		f := strings.Split(strings.TrimRight(line, "\n"), "\t")
		if len(f) < 4 || len(f[0]) < 2 || f[0][1] != 'i' {
			continue
		}
		have[f[1]] = append(have[f[1]], f[2])
		for _, p := range parseDepends(f[3]) {
			for _, alt := range p {
				have[alt.name] = append(have[alt.name], alt.version)
			}
		}
	}
	for _, group := range parseDepends(depends) {
		ok, err := m.meets(ctx, group, have)
		if err != nil || !ok {
			return group.String(), err
		}
	}
	return "", nil
}

func (m manager) meets(ctx context.Context, group alternatives, have map[string][]string) (bool, error) {
	for _, alt := range group {
		for _, version := range have[alt.name] {
			if alt.relation == "" {
				return true, nil
			}
			if version == "" {
				continue
			}
			r, err := m.sys.Run(ctx, Command{Argv: []string{"dpkg", "--compare-versions", version, alt.relation, alt.version}})
			if err != nil {
				return false, err
			}
			if r.Code == 0 {
				return true, nil
			}
		}
	}
	return false, nil
}

// dependency is name (relation version); alternatives are separated by bars.
type dependency struct{ name, relation, version string }

type alternatives []dependency

func (a alternatives) String() string {
	var out []string
	for _, d := range a {
		if d.relation == "" {
			out = append(out, d.name)
		} else {
			out = append(out, d.name+" ("+d.relation+" "+d.version+")")
		}
	}
	return strings.Join(out, " | ")
}

// parseDepends reads a Depends or Provides field.
func parseDepends(field string) []alternatives {
	var out []alternatives
	for part := range strings.SplitSeq(field, ",") {
		var group alternatives
		for alt := range strings.SplitSeq(part, "|") {
			name, rest, _ := strings.Cut(strings.TrimSpace(alt), "(")
			name, _, _ = strings.Cut(strings.TrimSpace(name), ":") // the architecture
			name, _, _ = strings.Cut(name, " ")
			if name == "" {
				continue
			}
			rest, _, _ = strings.Cut(rest, ")")
			d := dependency{name: name}
			if i := strings.LastIndexAny(rest, "<=> "); i >= 0 {
				d.relation, d.version = strings.TrimSpace(rest[:i+1]), strings.TrimSpace(rest[i+1:])
			}
			group = append(group, d)
		}
		if len(group) > 0 {
			out = append(out, group)
		}
	}
	return out
}

// findPackage looks for the file of a package that is installed: among the versions
// and the packages kept in dir, and where apt keeps what it fetched.
func (s *Site) findPackage(ctx context.Context, m manager, version string) (string, error) {
	var dirs []string
	entries, err := fs.ReadDir(s.root.FS(), versionsDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	for _, e := range entries {
		if e.IsDir() && !strings.Contains(e.Name(), ".tmp-") {
			dirs = append(dirs, path.Join(m.sys.Name(s.path), versionsDir, e.Name()))
		}
	}
	for _, dir := range append(dirs, "/var/cache/apt/archives") {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		if file := m.among(dir, version); file != "" {
			return file, nil
		}
	}
	return "", nil
}

// among returns the lite package of the version in a folder, "" for none.
func (m manager) among(dir, version string) string {
	entries, err := m.sys.ReadDir(dir)
	if err != nil {
		return ""
	}
	for _, e := range entries {
		if path.Ext(e.Name()) != "."+m.format {
			continue
		}
		file := path.Join(dir, e.Name())
		if p, err := readPackage(m.sys.Path(file)); err == nil && p.name == litePackageName && p.version == version {
			return file
		}
	}
	return ""
}

// keepDir is where the packages lie that lead back to what was installed by
// somebody else.
const keepDir = versionsDir + "/.kept"

// keepStep sees to it that the installed package can be put back: it finds its
// file, or makes it anew from what is installed.
func (s *Site) keepStep(m manager, pkgVersion string) Step {
	way := func(ctx context.Context) (old oldPackage, repack bool, err error) {
		version, broken, err := m.installed(ctx)
		if err != nil || version == "" || version == pkgVersion {
			return oldPackage{}, false, err
		}
		file, err := s.findPackage(ctx, m, version)
		return oldPackage{Version: version, File: file}, file == "" && !broken, err
	}
	return Step{
		Name: "keep", Describe: "keep the package that is installed now, for the way back",
		Done: func(ctx context.Context) (bool, error) {
			_, repack, err := way(ctx)
			return !repack, err
		},
		Do: func(ctx context.Context) error {
			old, repack, err := way(ctx)
			if err != nil || !repack {
				return err
			}
			if m.format == FormatRPM {
				return fault.New(fault.Unsupported, "%s %s is installed and its rpm is not on this device, so there would be no way back; put the rpm into %s", litePackageName, old.Version, path.Join(m.sys.Name(s.path), keepDir))
			}
			return s.repack(ctx, m.sys, old.Version)
		},
	}
}
