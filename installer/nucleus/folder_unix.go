//go:build unix

package nucleus

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// openFolder opens the folder dir of the host whose files lie below prefix, so that
// root can write in it: on the way a link is followed only where nobody but root can
// have put it. Another is of kind fault.Denied: below the root of a nucleus its account
// may have put one that leads anywhere. An agent that is not root gives nothing away.
func openFolder(prefix, dir string) (*os.Root, error) {
	if os.Geteuid() != 0 {
		return os.OpenRoot(filepath.Join("/", prefix, dir))
	}
	for range maxLinks {
		root, to, err := descend(prefix, dir)
		if root != nil || err != nil {
			return root, err
		}
		dir = to
	}
	return nil, &fs.PathError{Op: "open", Path: dir, Err: syscall.ELOOP}
}

// descend opens dir name by name; or it returns where to go on, since a link leads
// there.
func descend(prefix, dir string) (at *os.Root, to string, err error) {
	if at, err = os.OpenRoot(filepath.Join("/", prefix)); err != nil {
		return nil, "", err
	}
	defer func() {
		if err != nil || to != "" {
			err = errors.Join(err, at.Close())
			at = nil
		}
	}()
	names, done := strings.FieldsFunc(dir, func(r rune) bool { return r == '/' }), "/"
	for i, name := range names {
		info, err := at.Lstat(name)
		if err != nil {
			return at, "", err
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			to, err := follow(at, name, done, info)
			return at, path.Join(append([]string{to}, names[i+1:]...)...), err
		}
		next, err := at.OpenRoot(name)
		if err != nil {
			return at, "", err
		}
		now, err := next.Stat(".")
		if err == nil && !os.SameFile(info, now) {
			err = fault.New(fault.Denied, "%s was exchanged while it was opened", path.Join(done, name))
		}
		err = errors.Join(err, at.Close())
		if at = next; err != nil {
			return at, "", err
		}
		done = path.Join(done, name)
	}
	return at, "", nil
}

// follow returns where a link in the folder at, which is done, leads.
func follow(at *os.Root, name, done string, link fs.FileInfo) (string, error) {
	folder, err := at.Stat(".")
	if err != nil {
		return "", err
	}
	if uid, _ := ownerOf(link); uid != 0 || others(folder) {
		return "", fault.New(fault.Denied, "the link %s is not followed: accounts other than root may have put it there. Make %s root's alone, or put a folder in its place",
			path.Join(done, name), done)
	}
	to, err := at.Readlink(name)
	if !path.IsAbs(to) {
		to = path.Join(done, to)
	}
	return to, err
}

// others reports whether accounts other than root may change what is at a path: it
// is theirs, or they may write to it. In a folder such as /tmp each may change only
// what is its own.
func others(info fs.FileInfo) bool {
	uid, gid := ownerOf(info)
	write := info.Mode()&0o002 != 0 || info.Mode()&0o020 != 0 && gid != 0
	sticky := info.IsDir() && info.Mode()&fs.ModeSticky != 0
	return uid != 0 || write && !sticky
}
