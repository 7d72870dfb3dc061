package nucleus

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/ggfleet/ggfleet/installer/config"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// classicRoot is where AWS's instructions have classic installed.
const classicRoot = "/greengrass/v2"

// Found is a nucleus that is on the device already.
type Found struct {
	Layout  Layout
	Version string // "" when it does not say
	Root    string // its root path, e.g. /greengrass/v2
	Unit    string // "" when no systemd unit runs it
	Config  string // the file that holds its configuration
	Package string // lite: name of the installed package, "" for plain files
}

// Find looks for a nucleus that is installed on the host, by whomever: classic
// in the root that its unit names or in /greengrass/v2, then lite. It only
// reads. The error is fs.ErrNotExist when there is none.
func Find(ctx context.Context, sys System) (Found, error) {
	f, ok, err := findClassic(sys)
	if !ok && err == nil {
		f, ok, err = findLite(ctx, sys)
	}
	if !ok && err == nil {
		err = fmt.Errorf("a nucleus on this device: %w", fs.ErrNotExist)
	}
	return f, err
}

// unitDirs are where systemd looks for units, in the order of precedence.
func unitDirs() []string {
	return []string{systemdDir, "/usr/lib/systemd/system", "/lib/systemd/system"}
}

func findClassic(sys System) (Found, bool, error) {
	f := Found{Layout: LayoutClassic, Root: classicRoot}
	root, err := classicUnitRoot(sys)
	if err != nil {
		return f, false, err
	}
	if root != "" {
		f.Root, f.Unit = root, ClassicUnit
	}
	if _, err := sys.Lstat(path.Join(f.Root, "alts/current")); missing(err) {
		return Found{}, false, nil
	} else if err != nil {
		return Found{}, false, err
	}
	f.Config = path.Join(f.Root, "config/effectiveConfig.yaml")
	b, err := ReadLinked(sys, path.Join(f.Root, "alts/current/distro", classicRecipe))
	if err == nil {
		_, f.Version, _ = parseRecipe(b) // an error: it does not say its version
	} else if !missing(err) {
		return f, false, err
	}
	return f, true, nil
}

// classicUnitRoot is the root of the nucleus that greengrass.service starts; ""
// when there is no such unit, or it starts something else.
func classicUnitRoot(sys System) (string, error) {
	for _, dir := range unitDirs() {
		b, err := sys.ReadFile(path.Join(dir, ClassicUnit))
		if err == nil {
			return unitRoot(b), nil
		}
		if !missing(err) {
			return "", err
		}
	}
	return "", nil
}

func findLite(ctx context.Context, sys System) (Found, bool, error) {
	f := Found{Layout: LayoutLiteFiles, Root: liteRoot, Unit: LiteTarget, Config: liteConfig}
	for _, m := range []manager{{sys, FormatDeb}, {sys, FormatRPM}} {
		if !has(sys, m.program()) {
			continue
		}
		version, _, err := m.installed(ctx)
		if err != nil {
			return f, false, err
		}
		if version != "" {
			f.Layout, f.Version, f.Package = LayoutLitePackage, pkg{version: version}.upstream(), litePackageName
		}
	}
	if f.Package == "" {
		there := false
		for _, dir := range unitDirs() {
			_, err := sys.Lstat(path.Join(dir, LiteTarget))
			if err != nil && !missing(err) {
				return f, false, err
			}
			there = there || err == nil
		}
		if !there {
			return Found{}, false, nil
		}
	}
	b, err := sys.ReadFile(liteConfig)
	if missing(err) {
		return f, true, nil
	}
	if err != nil {
		return f, false, err
	}
	if c, err := config.ReadSystem(b); err == nil && c.RootPath != "" {
		f.Root = c.RootPath
	}
	return f, true, nil
}

// maxLinks is how many links a path may lead through, as in the kernel.
const maxLinks = 40

// ReadLinked reads a file to which links lead, as the host's programs see them.
func ReadLinked(sys System, name string) ([]byte, error) {
	at, rest := "/", strings.TrimPrefix(name, "/")
	for links := 0; rest != ""; {
		part, after, _ := strings.Cut(rest, "/")
		next := path.Join(at, part)
		target, err := sys.Readlink(next)
		if err != nil { // no link, or not there: reading it will tell
			at, rest = next, after
			continue
		}
		if links++; links > maxLinks {
			return nil, fault.New(fault.Invalid, "%s leads through more than %d links", name, maxLinks)
		}
		if path.IsAbs(target) {
			at = "/"
		}
		rest = strings.Trim(path.Join(strings.TrimPrefix(target, "/"), after), "/")
	}
	return sys.ReadFile(at)
}
