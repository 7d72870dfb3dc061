package nucleus

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/ggfleet/ggfleet/installer/durable"
)

// controlFiles are what a deb may bring besides its control file, with their
// modes.
func controlFiles() map[string]fs.FileMode {
	return map[string]fs.FileMode{"preinst": 0o755, "postinst": 0o755, "prerm": 0o755, "postrm": 0o755, "conffiles": 0o644, "triggers": 0o644, "shlibs": 0o644}
}

// repack makes the deb of the lite package that is installed, from its files and
// what dpkg knows of it, and puts it into keepDir. An older one there goes: one
// way back is enough.
func (s *Site) repack(ctx context.Context, sys System, version string) error {
	if err := s.root.MkdirAll(keepDir, 0o700); err != nil {
		return err
	}
	if err := durable.Sweep(s.root, keepDir); err != nil {
		return err
	}
	tmp := durable.TempName(keepDir + "/repack")
	tree := path.Join(sys.Name(s.path), tmp)
	defer s.root.RemoveAll(tmp) //nolint:errcheck // swept next time
	if err := copyPackage(ctx, sys, tree); err != nil {
		return fmt.Errorf("making a package of the installed %s %s: %w", litePackageName, version, err)
	}
	file := durable.TempName(keepDir+"/"+litePackageName) + ".deb"
	if _, err := run(ctx, sys, Command{Argv: []string{"dpkg-deb", "-Zgzip", "--build", tree, path.Join(sys.Name(s.path), file)}}); err != nil {
		return err
	}
	old, err := fs.ReadDir(s.root.FS(), keepDir)
	if err != nil {
		return err
	}
	final := path.Join(keepDir, litePackageName+"_"+strings.ReplaceAll(version, ":", "%3a")+".deb")
	if err := s.root.Rename(file, final); err != nil {
		return err
	}
	for _, e := range old {
		if n := path.Join(keepDir, e.Name()); n != final && n != tmp {
			if err := s.root.RemoveAll(n); err != nil {
				return err
			}
		}
	}
	return durable.SyncDir(s.root, keepDir)
}

// copyPackage lays the files of the installed package out as dpkg-deb wants them.
func copyPackage(ctx context.Context, sys System, tree string) error {
	list, err := run(ctx, sys, Command{Argv: []string{"dpkg-query", "-L", litePackageName}})
	if err != nil {
		return err
	}
	if err := sys.MkdirAll(tree+"/DEBIAN", 0o755); err != nil {
		return err
	}
	for name := range strings.Lines(list) {
		if name = strings.TrimSpace(name); !path.IsAbs(name) || name == "/." {
			continue
		}
		info, err := sys.Lstat(name)
		if missing(err) {
			continue // deleted by the administrator
		}
		if err != nil {
			return err
		}
		to := path.Join(tree, name)
		if info.IsDir() {
			err = sys.MkdirAll(to, info.Mode().Perm())
		} else if _, err = sys.Lstat(path.Dir(to)); err == nil {
			_, err = run(ctx, sys, Command{Argv: []string{"cp", "-a", name, to}})
		}
		if err != nil {
			return err
		}
	}
	for name, mode := range controlFiles() {
		b, err := sys.ReadFile("/var/lib/dpkg/info/" + litePackageName + "." + name)
		if missing(err) {
			continue
		}
		if err == nil {
			err = sys.WriteFile(path.Join(tree, "DEBIAN", name), b, mode)
		}
		if err != nil {
			return err
		}
	}
	status, err := run(ctx, sys, Command{Argv: []string{"dpkg-query", "-s", litePackageName}})
	if err != nil {
		return err
	}
	return sys.WriteFile(tree+"/DEBIAN/control", []byte(controlOf(status)), 0o644)
}

// controlOf is a package's status without what only an installed one has.
func controlOf(status string) string {
	var out strings.Builder
	skip := false
	for line := range strings.Lines(status) {
		if strings.TrimSpace(line) == "" {
			break
		}
		if line[0] != ' ' && line[0] != '\t' {
			key, _, _ := strings.Cut(line, ":")
			skip = key == "Status" || key == "Conffiles" || key == "Config-Version"
		}
		if !skip {
			out.WriteString(strings.TrimRight(line, "\n") + "\n")
		}
	}
	return out.String()
}
