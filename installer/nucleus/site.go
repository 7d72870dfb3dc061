package nucleus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/ggfleet/ggfleet/installer/durable"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// Names below a site's root.
const (
	versionsDir = "versions"
	currentLink = "current"

	ConfigFile = "config/config.yaml" // the installer configuration
)

// Version names one unpacked distribution.
type Version struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Digest  string `json:"digest"` // lower-case hex SHA-256 of the archive
}

var digestPattern = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Check returns a fault.Invalid error that names the member that is wrong.
func (v Version) Check() error {
	if err := (Manifest{Name: v.Name, Version: v.Version, Entrypoint: "x"}).check(); err != nil {
		return err
	}
	if !digestPattern.MatchString(v.Digest) {
		return fault.Field("digest", "%q is not a SHA-256 in lower-case hex", v.Digest)
	}
	return nil
}

// Dir is where the version lies below the root.
func (v Version) Dir() string {
	return path.Join(versionsDir, v.Name+"-"+v.Version+"-"+v.Digest[:8])
}

// Site is the folder of one core device.
type Site struct {
	path string
	root *os.Root
	lim  Limits
}

// OpenSite opens the folder at dir, which must exist. The caller closes it.
func OpenSite(dir string, lim Limits) (*Site, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(abs)
	if err != nil {
		return nil, err
	}
	return &Site{path: abs, root: root, lim: lim}, nil
}

// Close releases the folder.
func (s *Site) Close() error { return s.root.Close() }

// Path is the absolute path of the root.
func (s *Site) Path() string { return s.path }

// File is one file that the core needs, below the root.
type File struct {
	Name string
	Data []byte
	Mode fs.FileMode
}

// WriteStep returns the step that makes f so. It is not undone: certificates
// and configuration belong to the core, not to a version of the nucleus.
func (s *Site) WriteStep(f File) Step {
	return Step{
		Name: "write " + f.Name, Describe: "write " + filepath.Join(s.path, filepath.FromSlash(f.Name)),
		Done: func(context.Context) (bool, error) {
			got, err := s.root.ReadFile(f.Name)
			if errors.Is(err, fs.ErrNotExist) {
				return false, nil
			}
			if err != nil || !bytes.Equal(got, f.Data) {
				return false, err
			}
			info, err := s.root.Stat(f.Name)
			return err == nil && info.Mode().Perm() == f.Mode.Perm(), err
		},
		Do: func(context.Context) error {
			if err := s.root.MkdirAll(path.Dir(f.Name), 0o755); err != nil {
				return err
			}
			return durable.WriteFile(s.root, f.Name, f.Data, f.Mode)
		},
	}
}

// UnpackStep returns the step that puts v beside the other versions, from the
// archive at the given path. It needs the archive only when v is not there.
func (s *Site) UnpackStep(v Version, archive, format string) Step {
	return Step{
		Name: "unpack", Describe: "put the files of " + v.Name + " " + v.Version + " into " + filepath.Join(s.path, filepath.FromSlash(v.Dir())),
		Done: func(context.Context) (bool, error) {
			_, err := s.Manifest(v)
			if errors.Is(err, fs.ErrNotExist) {
				return false, nil
			}
			return err == nil, err
		},
		Do:   func(ctx context.Context) error { return s.unpack(ctx, v, archive, format) },
		Undo: func(context.Context) error { return s.remove(path.Base(v.Dir())) },
	}
}

func (s *Site) unpack(ctx context.Context, v Version, archive, format string) error {
	if err := v.Check(); err != nil {
		return err
	}
	if err := s.root.MkdirAll(versionsDir, 0o755); err != nil {
		return err
	}
	if err := durable.Sweep(s.root, versionsDir); err != nil {
		return err
	}
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // read only
	tmp := durable.TempName(v.Dir())
	if err := s.root.Mkdir(tmp, 0o755); err != nil {
		return err
	}
	files, err := s.fill(ctx, tmp, f, v.Digest, format)
	if err == nil {
		err = s.checkUnpacked(v, tmp)
	}
	if err == nil {
		err = files.write(s, tmp)
	}
	if err == nil {
		err = s.root.Rename(tmp, v.Dir())
	}
	if err != nil {
		return errors.Join(err, s.root.RemoveAll(tmp))
	}
	return durable.SyncDir(s.root, versionsDir)
}

// fill puts what the archive f holds into dir.
func (s *Site) fill(ctx context.Context, dir string, f *os.File, digest, format string) (digests, error) {
	size, err := verify(ctx, f, digest)
	if err != nil {
		return nil, err
	}
	if format != FormatDeb && format != FormatRPM {
		return unpackVerified(ctx, f, size, format, s.root, dir, s.lim)
	}
	// Only the package manager can unpack it.
	name := "package." + format
	return digests{name: digest}, s.store(ctx, f, path.Join(dir, name))
}

// checkUnpacked refuses an archive that is not what was offered, before it gets
// its final name.
func (s *Site) checkUnpacked(v Version, dir string) error {
	m, err := s.manifest(dir)
	if err != nil {
		return err
	}
	if m.Name != v.Name || m.Version != v.Version {
		return fault.New(fault.Invalid, "the archive holds %s %s, but %s %s was offered", m.Name, m.Version, v.Name, v.Version)
	}
	if m.Layout == LayoutLitePackage {
		return nil
	}
	if m.Layout != LayoutProgram { // a zip may have been made where modes are unknown
		if err := s.executable(path.Join(dir, path.Dir(m.Entrypoint))); err != nil {
			return err
		}
	}
	info, err := s.root.Stat(path.Join(dir, m.Entrypoint))
	if err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
		return fault.Field("entrypoint", "%q is not a program in the archive", m.Entrypoint)
	}
	return nil
}

// executable makes the files of a folder of programs so.
func (s *Site) executable(dir string) error {
	entries, err := fs.ReadDir(s.root.FS(), dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Type().IsRegular() {
			if err := s.root.Chmod(path.Join(dir, e.Name()), 0o755); err != nil {
				return err
			}
		}
	}
	return nil
}

// store copies f to name.
func (s *Site) store(ctx context.Context, f *os.File, name string) error {
	to, err := s.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, reader{ctx, f})
	if err == nil {
		err = to.Sync()
	}
	if err := errors.Join(err, to.Close()); err != nil {
		return fmt.Errorf("storing the package: %w", err)
	}
	return durable.SyncDir(s.root, path.Dir(name))
}

// SwitchStep returns the step that makes v the current version. Undo goes back
// to previous, or to none when previous is nil.
func (s *Site) SwitchStep(v Version, previous *Version) Step {
	return Step{
		Name: "switch", Describe: "point " + filepath.Join(s.path, currentLink) + " to " + v.Dir(),
		Done: func(context.Context) (bool, error) {
			to, err := s.current()
			return to == v.Dir(), err
		},
		Do: func(context.Context) error { return durable.Symlink(s.root, v.Dir(), currentLink) },
		Undo: func(context.Context) error {
			if previous != nil {
				return durable.Symlink(s.root, previous.Dir(), currentLink)
			}
			if err := s.root.Remove(currentLink); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			return durable.SyncDir(s.root, ".")
		},
	}
}

// current returns what the link points to, "" for no link.
func (s *Site) current() (string, error) {
	to, err := s.root.Readlink(currentLink)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return to, err
}

// Manifest says what an unpacked version is: what its manifest says, or what its
// layout shows. The error is fs.ErrNotExist when v is not there.
func (s *Site) Manifest(v Version) (Manifest, error) {
	if err := v.Check(); err != nil {
		return Manifest{}, err
	}
	return s.manifest(v.Dir())
}

func (s *Site) manifest(dir string) (Manifest, error) {
	if _, err := s.root.Stat(dir); err != nil {
		return Manifest{}, fmt.Errorf("the unpacked archive: %w", err)
	}
	c := contents{names: map[string]bool{}, left: s.lim.withDefaults().Entries}
	if err := c.readDir(s.root.FS(), dir); err != nil {
		return Manifest{}, err
	}
	return c.manifest()
}

// Command returns the program and arguments that start v here.
func (s *Site) Command(v Version, m Manifest) (string, []string) {
	return m.Command(s.path, filepath.Join(s.path, filepath.FromSlash(v.Dir())))
}

// Prune removes every unpacked version except those in keep and the current
// one, and what interrupted work left. It settles what was done: from then on no
// step can be undone.
func (s *Site) Prune(keep ...Version) error {
	entries, err := fs.ReadDir(s.root.FS(), versionsDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == path.Base(keepDir) || e.Name() == path.Base(initConfig) {
			continue
		}
		if slices.ContainsFunc(keep, func(v Version) bool { return path.Base(v.Dir()) == e.Name() }) {
			continue
		}
		if err := s.remove(e.Name()); err != nil {
			return err
		}
	}
	return nil
}

// remove deletes one version unless it is current. It goes through a rename, so
// that a version that is there is there whole.
func (s *Site) remove(name string) error {
	dir := path.Join(versionsDir, name)
	if to, err := s.current(); err != nil || to == dir || strings.HasPrefix(to, dir+"/") || s.used()[name] {
		return err
	}
	gone := dir
	if !strings.Contains(name, ".tmp-") {
		gone = durable.TempName(dir)
		if err := s.root.Rename(dir, gone); errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return err
		}
	}
	return s.root.RemoveAll(gone)
}

// Sweep removes what interrupted writes left in dir.
func (s *Site) Sweep(dir string) error { return durable.Sweep(s.root, dir) }

// ReadFile reads a file of at most limit bytes below the root.
func (s *Site) ReadFile(name string, limit int64) ([]byte, error) {
	f, err := s.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fault.New(fault.TooLarge, "%s has more than %d bytes", name, limit)
	}
	return b, err
}
