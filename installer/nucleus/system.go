package nucleus

import (
	"context"
	"io/fs"
)

// System is the host that a plan changes. NewHost makes the real one; tests
// have their own. Paths are absolute, as the host's programs see them. It may
// be used concurrently.
type System interface {
	// Path returns where this process finds the host's path name. It is name
	// itself on the real host, and a place below a folder in tests.
	Path(name string) string
	// Name is the reverse of Path: what the host's programs call the file that
	// this process knows as path.
	Name(path string) string

	// LookPath finds a program; exec.ErrNotFound when there is none.
	LookPath(program string) (string, error)
	// Run runs a program to its end. The error says that it could not be run or
	// was cut off by ctx; how it ended stands in the Result.
	Run(ctx context.Context, c Command) (Result, error)

	// User and Group find an account by name; fs.ErrNotExist when there is none.
	User(ctx context.Context, name string) (User, error)
	Group(ctx context.Context, name string) (Group, error)

	Lstat(name string) (fs.FileInfo, error)
	Owner(name string) (uid, gid int, err error)
	ReadFile(name string) ([]byte, error) // at most 4 MiB
	ReadDir(name string) ([]fs.DirEntry, error)
	Readlink(name string) (string, error)

	// WriteFile and Symlink replace what name was in one step that outlasts a
	// power cut: a reader finds the old or the new, never half of it.
	WriteFile(name string, data []byte, perm fs.FileMode) error
	Symlink(target, name string) error
	MkdirAll(name string, perm fs.FileMode) error
	Chmod(name string, perm fs.FileMode) error
	Chown(name string, uid, gid int) error
	Remove(name string) error    // a file, link or empty folder; what is not there is fine
	RemoveAll(name string) error // with what is in it
	// Writable returns an error when nothing can be changed in the folder: the
	// file system is read-only, or the permission is missing.
	Writable(dir string) error
}

// Command is one call of a program.
type Command struct {
	Argv []string // a program found by LookPath, and its arguments
	Env  []string // added to the agent's environment
	Dir  string   // "": the root
}

// Result is how a program ended. Of its output the last 64 KiB are kept.
type Result struct {
	Code   int
	Stdout []byte
	Stderr []byte
}

// User and Group are accounts of the host.
type User struct {
	Name     string
	UID, GID int
}

// Group is a group of the host.
type Group struct {
	Name string
	GID  int
}
