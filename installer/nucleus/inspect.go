package nucleus

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// Paths inside distributions.
const (
	classicRecipe   = "conf/recipe.yaml"
	classicJar      = "lib/Greengrass.jar"
	classicLoader   = "bin/loader"
	classicTemplate = "bin/greengrass.service.template"

	liteConfigd     = "bin/ggconfigd"
	liteVersionFile = "VERSION"
	litePackagePre  = "aws-greengrass-lite-"
)

const (
	maxRecipe     = 1 << 20 // bytes of conf/recipe.yaml
	maxPackages   = 16      // packages in one archive
	maxInspection = 4 << 30 // bytes that an archive may unpack to while it is inspected
)

// Sniff tells the format of an archive by its first bytes and leaves f at its
// start. The error is of kind fault.Unsupported.
func Sniff(f io.ReadSeeker) (string, error) {
	var b [8]byte
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	n, err := io.ReadFull(f, b[:])
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return "", fmt.Errorf("reading the archive: %w", err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	for _, m := range []struct{ magic, format string }{
		{"\x1f\x8b", FormatTarGz},
		{"PK\x03\x04", FormatZip},
		{arMagic, FormatDeb},
		{"\xed\xab\xee\xdb", FormatRPM},
	} {
		if strings.HasPrefix(string(b[:n]), m.magic) {
			return m.format, nil
		}
	}
	return "", fault.New(fault.Unsupported, "the file is no archive of a known format; want tar.gz, zip, deb or rpm")
}

// Inspect reads what an archive holds without unpacking it and leaves f at its
// start. format "" means Sniff. For every layout but LayoutProgram name and
// version are read from what the nucleus itself carries (recipe.yaml, the
// package's control data). Errors are of kind fault.Invalid, fault.TooLarge or
// fault.Unsupported and say what was looked for.
func Inspect(f *os.File, format string) (Manifest, error) {
	if format == "" {
		var err error
		if format, err = Sniff(f); err != nil {
			return Manifest{}, err
		}
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return Manifest{}, err
	}
	c := contents{names: map[string]bool{}, left: Limits{}.withDefaults().Entries}
	var err error
	switch format {
	case FormatTarGz:
		err = c.readTarGz(f)
	case FormatZip:
		err = c.readZip(f)
	case FormatDeb, FormatRPM:
		err = c.add("package."+format, f)
	default:
		err = fault.New(fault.Unsupported, "archive format %q is not known; want tar.gz, zip, deb or rpm", format)
	}
	if err != nil {
		return Manifest{}, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return Manifest{}, err
	}
	return c.manifest()
}

// contents is what is known of a distribution, from its archive or its folder.
type contents struct {
	names    map[string]bool // files
	program  []byte          // distribution.json
	recipe   []byte
	version  string // VERSION
	packages []pkg
	left     int
}

// add takes note of one file; name is relative to the distribution's top.
func (c *contents) add(name string, r io.Reader) error {
	if c.left--; c.left < 0 {
		return fault.New(fault.TooLarge, "the archive has more entries than the limit")
	}
	name = strings.TrimPrefix(name, "./")
	c.names[name] = true
	var err error
	switch {
	case name == ManifestName:
		c.program, err = atMost(r, name, maxManifest)
	case name == classicRecipe:
		c.recipe, err = atMost(r, name, maxRecipe)
	case path.Base(name) == liteVersionFile && strings.Count(name, "/") <= 1:
		var b []byte
		b, err = atMost(r, name, 256)
		c.version = strings.TrimSpace(string(b))
	case strings.Count(name, "/") <= 1 && (strings.HasSuffix(name, ".deb") || strings.HasSuffix(name, ".rpm")):
		if len(c.packages) == maxPackages {
			return fault.New(fault.TooLarge, "the archive has more than %d packages", maxPackages)
		}
		var p pkg
		if strings.HasSuffix(name, ".deb") {
			p, err = readDeb(r)
		} else {
			p, err = readRPM(r)
		}
		p.file = name
		c.packages = append(c.packages, p)
	}
	return err
}

func atMost(r io.Reader, name string, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fault.New(fault.Invalid, "the archive is damaged at %q: %v", name, err)
	}
	if int64(len(b)) > limit {
		return nil, fault.New(fault.TooLarge, "%s has more than %d bytes", name, limit)
	}
	return b, nil
}

func (c *contents) readTarGz(f io.Reader) error {
	gz, err := gzip.NewReader(f)
	if err != nil {
		return fault.New(fault.Invalid, "the archive is not gzip: %v", err)
	}
	tr := tar.NewReader(io.LimitReader(gz, maxInspection))
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fault.New(fault.Invalid, "the archive is damaged: %v", err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if err := c.add(h.Name, tr); err != nil {
			return err
		}
	}
}

func (c *contents) readZip(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	zr, err := zip.NewReader(f, info.Size())
	if err != nil {
		return fault.New(fault.Invalid, "the archive is not zip: %v", err)
	}
	for _, e := range zr.File {
		if !e.Mode().IsRegular() {
			continue
		}
		r, err := e.Open()
		if err != nil {
			return fault.New(fault.Invalid, "the archive is damaged at %q: %v", e.Name, err)
		}
		if err := errors.Join(c.add(e.Name, r), r.Close()); err != nil {
			return err
		}
	}
	return nil
}

// readDir takes note of what lies in a folder.
func (c *contents) readDir(fsys fs.FS, dir string) error {
	return fs.WalkDir(fsys, dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		f, err := fsys.Open(p)
		if err != nil {
			return err
		}
		return errors.Join(c.add(strings.TrimPrefix(p, dir+"/"), f), f.Close())
	})
}

// manifest tells the layout and says what a manifest would.
func (c *contents) manifest() (Manifest, error) {
	switch {
	case c.program != nil:
		return ParseManifest(c.program)
	case c.names[classicJar] || c.names[classicRecipe]:
		return c.classic()
	case len(c.packages) > 0:
		return c.litePackage()
	}
	if m, ok, err := c.liteFiles(); ok || err != nil {
		return m, err
	}
	return Manifest{}, fault.New(fault.Invalid, "the archive is no nucleus: it has neither %s, nor %s with %s (classic), nor a deb or rpm or %s (lite)",
		ManifestName, classicJar, classicRecipe, liteConfigd)
}

func (c *contents) classic() (Manifest, error) {
	for _, need := range []string{classicJar, classicRecipe, classicLoader, classicTemplate} {
		if !c.names[need] {
			return Manifest{}, fault.New(fault.Invalid, "the archive looks like the classic nucleus but has no %s; take AWS's zip as it is, without a folder around it", need)
		}
	}
	name, version, err := parseRecipe(c.recipe)
	if err != nil {
		return Manifest{}, err
	}
	m := Manifest{Name: name, Version: version, Runtime: "classic", Entrypoint: classicLoader, Layout: LayoutClassic}
	return m, m.check()
}

// parseRecipe reads name and version of conf/recipe.yaml.
func parseRecipe(b []byte) (name, version string, err error) {
	var r struct {
		Name    string    `yaml:"ComponentName"`
		Version yaml.Node `yaml:"ComponentVersion"` // 2.10 without quotes is a number to YAML
	}
	if err := yaml.Unmarshal(b, &r); err != nil {
		return "", "", fault.New(fault.Invalid, "%s is not YAML: %v", classicRecipe, err)
	}
	if r.Name != ClassicName {
		return "", "", fault.New(fault.Invalid, "%s is the recipe of %q, want %s", classicRecipe, r.Name, ClassicName)
	}
	return r.Name, r.Version.Value, nil
}

func (c *contents) litePackage() (Manifest, error) {
	i := slices.IndexFunc(c.packages, func(p pkg) bool { return p.name == litePackageName })
	if i < 0 {
		return Manifest{}, fault.New(fault.Invalid, "the archive has the package %q, want %s", c.packages[0].name, litePackageName)
	}
	for _, other := range c.packages[i+1:] {
		if other.name == litePackageName {
			return Manifest{}, fault.New(fault.Invalid, "the archive has the packages %s and %s; want one, for one architecture", c.packages[i].file, other.file)
		}
	}
	p := c.packages[i]
	m := Manifest{
		Name: LiteName, Version: p.upstream(), Runtime: "lite", Entrypoint: p.file,
		Layout: LayoutLitePackage, Package: p.file, Architecture: p.arch, PackageVersion: p.version, Depends: p.depends,
	}
	return m, m.check()
}

var liteTop = regexp.MustCompile(`^aws-greengrass-lite-([0-9][0-9A-Za-z.+]*)(-[^/]*)?/`)

// liteFiles recognises a tree with bin/ggconfigd in it, at the top or in the
// folder that CPack puts around it.
func (c *contents) liteFiles() (Manifest, bool, error) {
	for name := range c.names {
		if path.Base(name) != path.Base(liteConfigd) || path.Base(path.Dir(name)) != "bin" || strings.Count(name, "/") > 4 {
			continue
		}
		version := c.version
		if m := liteTop.FindStringSubmatch(name); version == "" && m != nil {
			version = m[1]
		}
		if version == "" {
			return Manifest{}, false, fault.New(fault.Invalid, "the archive of nucleus lite does not say its version; want a folder %sVERSION-... around it, or a file %s", litePackagePre, liteVersionFile)
		}
		if !c.hasBase(LiteTarget) {
			return Manifest{}, false, fault.New(fault.Invalid, "the archive has nucleus lite's programs but not the unit %s", LiteTarget)
		}
		m := Manifest{Name: LiteName, Version: version, Runtime: "lite", Entrypoint: name, Layout: LayoutLiteFiles}
		return m, true, m.check()
	}
	return Manifest{}, false, nil
}

func (c *contents) hasBase(base string) bool {
	for name := range c.names {
		if path.Base(name) == base {
			return true
		}
	}
	return false
}
