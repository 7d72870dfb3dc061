// Package durable changes files so that a power cut leaves either the old or
// the new state, never half of one. All paths go through an os.Root, so no name
// and no link leads out of the folder that the caller opened.
package durable

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// tempMark is part of the name of every temporary file; Sweep finds them by it.
const tempMark = ".tmp-"

// WriteFileAt is WriteFile for a file named by its path.
func WriteFileAt(file string, data []byte, perm os.FileMode) error {
	root, err := os.OpenRoot(filepath.Dir(file))
	if err != nil {
		return fmt.Errorf("writing %s: %w", file, err)
	}
	return errors.Join(WriteFile(root, filepath.Base(file), data, perm), root.Close())
}

// WriteFile puts data at name with mode perm: written beside it, synced,
// renamed over it, and the folder synced. The folder must exist.
func WriteFile(root *os.Root, name string, data []byte, perm os.FileMode) (err error) {
	tmp := TempName(name)
	f, err := root.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("writing %s: %w", name, err)
			_ = root.Remove(tmp)
		}
	}()
	if _, err := f.Write(data); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Chmod(perm); err != nil { // the umask may have taken bits
		return errors.Join(err, f.Close())
	}
	if err := f.Sync(); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil { // some file systems report a full disk only here
		return err
	}
	if err := root.Rename(tmp, name); err != nil {
		return err
	}
	return SyncDir(root, path.Dir(name))
}

// Symlink makes name a symbolic link to target, replacing what name was in one
// step: a reader finds the old or the new target, never none.
func Symlink(root *os.Root, target, name string) error {
	tmp := TempName(name)
	if err := root.Symlink(target, tmp); err != nil {
		return fmt.Errorf("linking %s to %s: %w", name, target, err)
	}
	if err := root.Rename(tmp, name); err != nil {
		_ = root.Remove(tmp)
		return fmt.Errorf("linking %s to %s: %w", name, target, err)
	}
	return SyncDir(root, path.Dir(name))
}

// SyncDir makes creations, renames and removals in dir last.
func SyncDir(root *os.Root, dir string) error {
	d, err := root.Open(dir)
	if err != nil {
		return err
	}
	if err := d.Sync(); err != nil {
		return errors.Join(fmt.Errorf("syncing folder %s: %w", dir, err), d.Close())
	}
	return d.Close()
}

// TempName returns a fresh name beside name that Sweep removes.
func TempName(name string) string { return name + tempMark + rand.Text() }

// Sweep removes what an interrupted WriteFile, Symlink or other user of
// TempName left in dir. It must not run beside them. A missing dir is fine.
func Sweep(root *os.Root, dir string) error {
	entries, err := fs.ReadDir(root.FS(), dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.Contains(e.Name(), tempMark) {
			continue
		}
		if err := root.RemoveAll(path.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("removing leftover %s: %w", e.Name(), err)
		}
	}
	return nil
}
