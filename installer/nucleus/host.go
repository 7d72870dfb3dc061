package nucleus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/installer/durable"
	"github.com/ggfleet/ggfleet/shared/fault"
	sharedrun "github.com/ggfleet/ggfleet/shared/run"
)

const (
	maxHostFile = 4 << 20  // bytes of one file of the host that is read
	maxOutput   = 64 << 10 // bytes kept of a program's output
	waitDelay   = 10 * time.Second
)

// NewHost returns the host that this process runs on.
func NewHost() *Host { return &Host{} }

// NewHostAt returns a host whose files lie below prefix: a root file system that
// is being made, or a test's folder. Programs are those of this machine.
func NewHostAt(prefix string) *Host { return &Host{prefix: prefix} }

// Host is a System of files, of /etc/passwd and of programs that are run.
type Host struct{ prefix string }

var _ System = (*Host)(nil)

// Path implements System.
func (h *Host) Path(name string) string {
	if h.prefix == "" {
		return name
	}
	return filepath.Join(h.prefix, filepath.FromSlash(name))
}

// Name implements System.
func (h *Host) Name(path string) string {
	if rel, err := filepath.Rel(h.prefix, path); h.prefix != "" && err == nil && filepath.IsLocal(rel) {
		return filepath.ToSlash("/" + rel)
	}
	return path
}

// LookPath implements System. Unlike the shell it also looks where the system
// administrator's programs lie, which a service's PATH may lack.
func (h *Host) LookPath(program string) (string, error) {
	p, err := exec.LookPath(program)
	if err == nil || strings.ContainsRune(program, '/') {
		return p, err
	}
	for _, dir := range []string{"/usr/local/sbin", "/usr/sbin", "/sbin"} {
		if p, err := exec.LookPath(filepath.Join(dir, program)); err == nil {
			return p, nil
		}
	}
	return "", err
}

// Run implements System.
func (h *Host) Run(ctx context.Context, c Command) (Result, error) {
	if len(c.Argv) == 0 {
		return Result{}, fault.New(fault.Invalid, "no program to run")
	}
	program, err := h.LookPath(c.Argv[0])
	if err != nil {
		return Result{}, err
	}
	var out, errOut tail
	cmd := exec.CommandContext(ctx, program, c.Argv[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = c.Dir, &out, &errOut
	if cmd.Dir == "" {
		cmd.Dir = string(filepath.Separator)
	}
	cmd.Env = append(append(sharedrun.Environ(), "LC_ALL=C"), c.Env...)
	cmd.Cancel = func() error { return terminate(cmd.Process) }
	cmd.WaitDelay = waitDelay
	err = cmd.Run()
	r := Result{Stdout: out.b, Stderr: errOut.b}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && ctx.Err() == nil {
		r.Code = exit.ExitCode()
		return r, nil
	}
	if err != nil {
		return r, fmt.Errorf("running %s: %w", c.Argv[0], errors.Join(err, ctx.Err()))
	}
	return r, nil
}

// tail keeps the end of what is written to it.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if over := len(t.b) - maxOutput; over > 0 {
		t.b = append(t.b[:0], t.b[over:]...)
	}
	return len(p), nil
}

// User implements System.
func (h *Host) User(ctx context.Context, name string) (User, error) {
	f, err := h.account(ctx, "passwd", name)
	if err != nil {
		return User{}, err
	}
	u := User{Name: name}
	u.UID, u.GID, err = ids(f)
	return u, err
}

// Group implements System.
func (h *Host) Group(ctx context.Context, name string) (Group, error) {
	f, err := h.account(ctx, "group", name)
	if err != nil {
		return Group{}, err
	}
	g := Group{Name: name}
	g.GID, err = strconv.Atoi(f[2])
	return g, err
}

func ids(f []string) (uid, gid int, err error) {
	if len(f) < 4 {
		return 0, 0, fault.New(fault.Invalid, "the account %q has no group in /etc/passwd", f[0])
	}
	if uid, err = strconv.Atoi(f[2]); err == nil {
		gid, err = strconv.Atoi(f[3])
	}
	return uid, gid, err
}

// account reads a line of /etc/passwd or /etc/group, or asks getent, which also
// knows accounts that come over the network.
func (h *Host) account(ctx context.Context, database, name string) ([]string, error) {
	b, err := h.ReadFile("/etc/" + database)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if f := accountLine(b, name); f != nil {
		return f, nil
	}
	if h.prefix == "" {
		if r, err := h.Run(ctx, Command{Argv: []string{"getent", database, name}}); err == nil && r.Code == 0 {
			if f := accountLine(r.Stdout, name); f != nil {
				return f, nil
			}
		}
	}
	return nil, fmt.Errorf("%s in /etc/%s: %w", name, database, fs.ErrNotExist)
}

func accountLine(b []byte, name string) []string {
	for line := range bytes.Lines(b) {
		if f := strings.Split(strings.TrimRight(string(line), "\r\n"), ":"); len(f) >= 3 && f[0] == name {
			return f
		}
	}
	return nil
}

// Lstat implements System.
func (h *Host) Lstat(name string) (fs.FileInfo, error) { return os.Lstat(h.Path(name)) }

// Owner implements System.
func (h *Host) Owner(name string) (uid, gid int, err error) {
	info, err := os.Lstat(h.Path(name))
	if err != nil {
		return 0, 0, err
	}
	uid, gid = ownerOf(info)
	return uid, gid, nil
}

// ReadFile implements System.
func (h *Host) ReadFile(name string) ([]byte, error) {
	f, err := OpenFile(h.Path(name))
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	b, err := io.ReadAll(io.LimitReader(f, maxHostFile+1))
	if err == nil && len(b) > maxHostFile {
		err = fault.New(fault.TooLarge, "%s has more than %d bytes", name, maxHostFile)
	}
	return b, err
}

// OpenFile opens a file for reading where other accounts may write, as below the
// root of a nucleus: it never waits for the other end of a pipe. What is no
// regular file is of kind fault.Invalid.
func OpenFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|nonBlock, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fault.New(fault.Invalid, "%s is no file", path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// ReadDir implements System.
func (h *Host) ReadDir(name string) ([]fs.DirEntry, error) { return os.ReadDir(h.Path(name)) }

// Readlink implements System.
func (h *Host) Readlink(name string) (string, error) { return os.Readlink(h.Path(name)) }

// WriteFile implements System.
func (h *Host) WriteFile(name string, data []byte, perm fs.FileMode) error {
	return h.inFolder(name, func(dir *os.Root, base string) error { return durable.WriteFile(dir, base, data, perm) })
}

// Symlink implements System.
func (h *Host) Symlink(target, name string) error {
	return h.inFolder(name, func(dir *os.Root, base string) error { return durable.Symlink(dir, target, base) })
}

// MkdirAll implements System.
func (h *Host) MkdirAll(name string, perm fs.FileMode) error {
	p := h.Path(name)
	if info, err := os.Stat(p); err == nil && info.IsDir() {
		return nil
	}
	if parent := filepath.Dir(p); parent != p {
		if err := h.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
	}
	return h.inFolder(name, func(dir *os.Root, base string) error {
		if err := dir.Mkdir(base, perm); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := dir.Chmod(base, perm); err != nil { // the umask may have taken bits
			return err
		}
		return durable.SyncDir(dir, ".")
	})
}

// Chmod implements System. A link that leads out of its folder is an error: who
// owns the folder may have put it there since somebody looked.
func (h *Host) Chmod(name string, perm fs.FileMode) error {
	return h.inFolder(name, func(dir *os.Root, base string) error { return dir.Chmod(base, perm) })
}

// Chown implements System. A link is changed itself, not what it points to.
func (h *Host) Chown(name string, uid, gid int) error {
	return h.inFolder(name, func(dir *os.Root, base string) error { return dir.Lchown(base, uid, gid) })
}

// Remove implements System.
func (h *Host) Remove(name string) error {
	err := h.inFolder(name, func(dir *os.Root, base string) error {
		if err := dir.Remove(base); err != nil {
			return err
		}
		return durable.SyncDir(dir, ".")
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// RemoveAll implements System.
func (h *Host) RemoveAll(name string) error {
	err := h.inFolder(name, func(dir *os.Root, base string) error { return dir.RemoveAll(base) })
	if missing(err) {
		return nil
	}
	return err
}

// Writable implements System.
func (h *Host) Writable(dir string) error { return writable(h.Path(dir)) }

// inFolder hands the folder of name to do. A link on the way there that another
// account than root may have put is not followed (openFolder).
func (h *Host) inFolder(name string, do func(dir *os.Root, base string) error) error {
	name = path.Clean(filepath.ToSlash(name))
	dir, err := openFolder(h.prefix, path.Dir(name))
	if err != nil {
		return fmt.Errorf("the folder of %s: %w", name, err)
	}
	return errors.Join(do(dir, path.Base(name)), dir.Close())
}
