package hosttest

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"strings"
	"sync"

	"github.com/ggfleet/ggfleet/installer/nucleus"
)

// Program plays a program.
type Program func(ctx context.Context, c nucleus.Command) nucleus.Result

// Host is a nucleus.System. Its exported fields are set before it is used.
type Host struct {
	*nucleus.Host

	Programs map[string]Program // by base name; others are not found

	// Change is called before and after everything that changes the host, with
	// what it is ("run dpkg -i ...", "write /etc/x"). An error is what the change
	// ends with: before it nothing has happened, after it all has.
	Change func(what string, done bool) error

	mu     sync.Mutex
	owners map[string][2]int
	active map[string]bool
	calls  []string
}

// New returns a host in dir with systemd, shadow's account tools and Java 17.
func New(dir string) (*Host, error) {
	h := &Host{Host: nucleus.NewHostAt(dir), owners: map[string][2]int{}, active: map[string]bool{}}
	h.Programs = map[string]Program{
		"systemctl": h.systemctl, "java": h.java,
		"groupadd": h.groupadd, "useradd": h.useradd, "groupdel": h.groupdel, "userdel": h.userdel,
	}
	for _, d := range []string{"/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system", "/usr/bin", "/var/lib"} {
		if err := os.MkdirAll(h.Path(d), 0o755); err != nil {
			return nil, err
		}
	}
	for name, text := range map[string]string{"/etc/passwd": "root:x:0:0:root:/root:/bin/sh\n", "/etc/group": "root:x:0:\n", "/usr/bin/sh": "", "/usr/lib/systemd/system/multi-user.target": "[Unit]\n"} {
		if err := os.WriteFile(h.Path(name), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// Again returns the host as a new process finds it.
func (h *Host) Again() *Host {
	again := &Host{Host: h.Host, owners: h.owners, active: h.active, Programs: map[string]Program{}}
	for name, p := range h.Programs {
		again.Programs[name] = p
	}
	return again
}

// Calls are the programs that were run, with their arguments.
func (h *Host) Calls() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.calls...)
}

// SetActive says whether a unit runs.
func (h *Host) SetActive(unit string, on bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.active[unit] = on
}

func (h *Host) change(what string, do func() error) error {
	if h.Change == nil {
		return do()
	}
	if err := h.Change(what, false); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	return h.Change(what, true)
}

// LookPath implements nucleus.System.
func (h *Host) LookPath(program string) (string, error) {
	if h.Programs[path.Base(program)] == nil {
		return "", &exec.Error{Name: program, Err: exec.ErrNotFound}
	}
	return program, nil
}

// asks are the calls that change nothing.
var asks = []string{"systemctl is-", "dpkg-query", "dpkg --print-architecture", "dpkg --compare-versions", "java -version"}

// Run implements nucleus.System.
func (h *Host) Run(ctx context.Context, c nucleus.Command) (nucleus.Result, error) {
	p := h.Programs[path.Base(c.Argv[0])]
	if p == nil {
		return nucleus.Result{}, &exec.Error{Name: c.Argv[0], Err: exec.ErrNotFound}
	}
	call := strings.Join(append([]string{path.Base(c.Argv[0])}, c.Argv[1:]...), " ")
	h.mu.Lock()
	h.calls = append(h.calls, call)
	h.mu.Unlock()
	var r nucleus.Result
	do := func() error { r = p(ctx, c); return ctx.Err() }
	for _, prefix := range asks {
		if strings.HasPrefix(call, prefix) {
			return r, errOf(do, &r)
		}
	}
	err := h.change("run "+call, do)
	return r, err
}

// WriteFile implements nucleus.System.
func (h *Host) WriteFile(name string, data []byte, perm fs.FileMode) error {
	return h.change("write "+name, func() error {
		h.disown(name)
		return h.Host.WriteFile(name, data, perm)
	})
}

// Symlink implements nucleus.System.
func (h *Host) Symlink(target, name string) error {
	return h.change("link "+name, func() error {
		h.disown(name)
		return h.Host.Symlink(target, name)
	})
}

// MkdirAll implements nucleus.System.
func (h *Host) MkdirAll(name string, perm fs.FileMode) error {
	return h.change("mkdir "+name, func() error { return h.Host.MkdirAll(name, perm) })
}

// Chmod implements nucleus.System.
func (h *Host) Chmod(name string, perm fs.FileMode) error {
	return h.change("chmod "+name, func() error { return h.Host.Chmod(name, perm) })
}

// Chown implements nucleus.System; it is only noted, so that a test needs not
// be root.
func (h *Host) Chown(name string, uid, gid int) error {
	return h.change("chown "+name, func() error {
		h.mu.Lock()
		defer h.mu.Unlock()
		old := h.owners[name]
		if uid >= 0 {
			old[0] = uid
		}
		if gid >= 0 {
			old[1] = gid
		}
		h.owners[name] = old
		return nil
	})
}

// Owner implements nucleus.System.
func (h *Host) Owner(name string) (uid, gid int, err error) {
	if _, err := h.Lstat(name); err != nil {
		return 0, 0, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	o := h.owners[name]
	return o[0], o[1], nil
}

func (h *Host) disown(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.owners, name)
}

// Remove implements nucleus.System.
func (h *Host) Remove(name string) error {
	return h.change("remove "+name, func() error {
		err := h.Host.Remove(name)
		if err == nil {
			h.disown(name)
		}
		return err
	})
}

// RemoveAll implements nucleus.System.
func (h *Host) RemoveAll(name string) error {
	return h.change("remove "+name, func() error {
		h.mu.Lock()
		for n := range h.owners {
			if n == name || strings.HasPrefix(n, name+"/") {
				delete(h.owners, n)
			}
		}
		h.mu.Unlock()
		return h.Host.RemoveAll(name)
	})
}

// Tree describes every file of the host: its mode, owner and content. Two trees
// are equal when nothing is different. Names for which skip is true are left out,
// with what is below them.
func (h *Host) Tree(skip func(name string) bool) (map[string]string, error) {
	out := map[string]string{}
	top := h.Path("/")
	err := fs.WalkDir(os.DirFS(top), ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := path.Join("/", p)
		if skip != nil && skip(name) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		uid, gid, err := h.Owner(name)
		if err != nil {
			return err
		}
		content := ""
		switch {
		case info.Mode()&fs.ModeSymlink != 0:
			content, err = os.Readlink(h.Path(name))
			out[name] = "-> " + content
			return err
		case info.Mode().IsRegular():
			b, err := os.ReadFile(h.Path(name))
			if err != nil {
				return err
			}
			content = string(b)
		}
		out[name] = fmt.Sprintf("%s %d:%d %s", info.Mode(), uid, gid, content)
		return nil
	})
	return out, err
}

func errOf(do func() error, _ *nucleus.Result) error { return do() }
