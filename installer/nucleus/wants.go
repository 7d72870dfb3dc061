package nucleus

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"syscall"

	"github.com/ggfleet/ggfleet/installer/durable"
)

// want is one name of the host as a step makes it: a link when target is set, a
// folder when dir, else a file. Owner -1 leaves the owner alone.
type want struct {
	name   string
	target string
	dir    bool
	keep   bool // a file or folder that is there: only owner and mode are made so
	gone   bool // nothing is to be there
	data   []byte
	mode   fs.FileMode
	uid    int
	gid    int
}

func fileWant(name string, data []byte, mode fs.FileMode) want {
	return want{name: name, data: data, mode: mode, uid: -1, gid: -1}
}

func linkWant(name, target string) want { return want{name: name, target: target, uid: -1, gid: -1} }

func dirWant(name string, mode fs.FileMode, uid, gid int) want {
	return want{name: name, dir: true, mode: mode, uid: uid, gid: gid}
}

// state is what a name of the host was before a step changed it.
type state struct {
	Name   string      `json:"name"`
	Kind   string      `json:"kind"` // "": nothing there, else file, link, dir
	Target string      `json:"target,omitempty"`
	Data   []byte      `json:"data,omitempty"`
	Mode   fs.FileMode `json:"mode,omitempty"`
	UID    int         `json:"uid"`
	GID    int         `json:"gid"`
}

const (
	kindFile = "file"
	kindLink = "link"
	kindDir  = "dir"
	kindKept = "kept" // only owner and mode are known: the content is another's affair, and may be secret
)

// missing reports whether err says that a name is not there, also because what
// should be its folder is a file.
func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

func notEmpty(err error) bool {
	return errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, syscall.EEXIST)
}

func look(sys System, name string) (state, error) {
	st := state{Name: name}
	info, err := sys.Lstat(name)
	if missing(err) {
		return st, nil
	}
	if err != nil {
		return st, err
	}
	st.Mode = info.Mode().Perm() | info.Mode()&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky)
	if st.UID, st.GID, err = sys.Owner(name); err != nil {
		return st, err
	}
	switch {
	case info.IsDir():
		st.Kind = kindDir
	case info.Mode()&fs.ModeSymlink != 0:
		st.Kind, st.Mode = kindLink, 0
		st.Target, err = sys.Readlink(name)
	default:
		st.Kind = kindFile
		st.Data, err = sys.ReadFile(name)
	}
	return st, err
}

// restore makes the name what it was.
func (st state) restore(sys System) error {
	now, err := look(sys, st.Name)
	if err != nil {
		return err
	}
	if now.Kind == kindDir && st.Kind != kindDir && st.Kind != kindKept {
		// A folder of ours that something else was put into stays.
		if err := sys.Remove(st.Name); notEmpty(err) {
			return nil
		} else if err != nil {
			return err
		}
	}
	switch st.Kind {
	case "":
		return sys.Remove(st.Name)
	case kindKept:
		if now.Kind == "" || now.Kind == kindLink {
			return nil
		}
		err = sys.Chmod(st.Name, st.Mode)
	case kindLink:
		err = sys.Symlink(st.Target, st.Name)
	case kindDir:
		if err = sys.MkdirAll(st.Name, st.Mode); err == nil {
			err = sys.Chmod(st.Name, st.Mode)
		}
	default:
		err = sys.WriteFile(st.Name, st.Data, st.Mode)
	}
	if err != nil {
		return err
	}
	return own(sys, st.Name, st.UID, st.GID)
}

func own(sys System, name string, uid, gid int) error {
	u, g, err := sys.Owner(name)
	if err != nil || (uid < 0 || uid == u) && (gid < 0 || gid == g) {
		return err
	}
	return sys.Chown(name, uid, gid)
}

func (w want) holds(sys System) (bool, error) {
	st, err := look(sys, w.name)
	if err != nil {
		return false, err
	}
	owned := (w.uid < 0 || w.uid == st.UID) && (w.gid < 0 || w.gid == st.GID)
	switch {
	case w.gone:
		return st.Kind == "", nil
	case w.target != "":
		return st.Kind == kindLink && st.Target == w.target, nil
	case w.keep:
		return st.Kind == "" || st.Kind == kindLink || owned && st.Mode == w.mode, nil
	case w.dir:
		return (st.Kind == kindDir || st.Kind == kindLink) && (st.Kind == kindLink || owned && st.Mode.Perm() == w.mode), nil
	default:
		return st.Kind == kindFile && st.Mode == w.mode && owned && bytes.Equal(st.Data, w.data), nil
	}
}

func (w want) make(sys System) error {
	if ok, err := w.holds(sys); err != nil || ok {
		return err
	}
	var err error
	switch {
	case w.gone:
		return sys.Remove(w.name)
	case w.target != "":
		return sys.Symlink(w.target, w.name)
	case w.keep:
		err = sys.Chmod(w.name, w.mode)
	case w.dir:
		if err = sys.MkdirAll(w.name, w.mode); err == nil {
			err = sys.Chmod(w.name, w.mode)
		}
	default:
		err = sys.WriteFile(w.name, w.data, w.mode)
	}
	if err != nil {
		return err
	}
	return own(sys, w.name, w.uid, w.gid)
}

// before is what a step found, kept until Prune so that its Undo restores it
// also in a later process.
type before struct {
	States   []state         `json:"states,omitempty"`
	Absent   []string        `json:"absent,omitempty"`   // names that were not there
	Accounts []string        `json:"accounts,omitempty"` // user:NAME and group:NAME that were not there
	Enabled  map[string]bool `json:"enabled,omitempty"`  // units
	Package  *oldPackage     `json:"package,omitempty"`
}

// beforeDir holds the records, one folder for each version.
const beforeDir = versionsDir + "/.before"

func recordName(v Version, step string) string {
	return path.Join(beforeDir, path.Base(v.Dir()), step+".json")
}

// recall reads a step's record; nil when there is none: the step has changed
// nothing.
func (s *Site) recall(v Version, step string) (*before, error) {
	b, err := s.ReadFile(recordName(v, step), 64<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // no record is an answer
	}
	var r before
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		return nil, fmt.Errorf("reading what was before the step %q: %w", step, err)
	}
	return &r, nil
}

// remember stores a step's record once: what a repeated Do would find is its own
// work.
func (s *Site) remember(v Version, step string, find func() (before, error)) error {
	if r, err := s.recall(v, step); err != nil || r != nil {
		return err
	}
	r, err := find()
	if err != nil {
		return err
	}
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	name := recordName(v, step)
	if err := s.root.MkdirAll(versionsDir, 0o755); err != nil {
		return err
	}
	if err := s.root.MkdirAll(path.Dir(name), 0o700); err != nil {
		return err
	}
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if err := durable.SyncDir(s.root, dir); err != nil {
			return err
		}
	}
	return durable.WriteFile(s.root, name, b, 0o600)
}

// forget drops a step's record, and its folder with the last one.
func (s *Site) forget(v Version, step string) error {
	if err := s.root.Remove(recordName(v, step)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, dir := range []string{path.Dir(recordName(v, step)), beforeDir} {
		if err := s.root.Remove(dir); err != nil {
			return nil //nolint:nilerr // not empty: other steps' records
		}
	}
	return durable.SyncDir(s.root, versionsDir)
}

// hostStep returns a step that makes names of the host what wants says, in that
// order, and then calls after, also after an undo. Both may be nil or repeated.
func (s *Site) hostStep(v Version, sys System, name, describe string, wants func(ctx context.Context) ([]want, error), after func(ctx context.Context) error) Step {
	if after == nil {
		after = func(context.Context) error { return nil }
	}
	return Step{
		Name: name, Describe: describe,
		Done: func(ctx context.Context) (bool, error) {
			list, err := wants(ctx)
			if err != nil {
				return false, err
			}
			for _, w := range list {
				if ok, err := w.holds(sys); err != nil || !ok {
					return false, err
				}
			}
			return true, nil
		},
		Do: func(ctx context.Context) error {
			list, err := wants(ctx)
			if err != nil {
				return err
			}
			if err := s.remember(v, name, func() (before, error) { return looks(sys, list) }); err != nil {
				return err
			}
			for _, w := range list {
				if !w.dir && !w.keep && !w.gone {
					if err := sys.MkdirAll(path.Dir(w.name), 0o755); err != nil {
						return err
					}
				}
				if err := w.make(sys); err != nil {
					return err
				}
			}
			return after(ctx)
		},
		Undo: func(ctx context.Context) error {
			r, err := s.recall(v, name)
			if r == nil || err != nil {
				return err
			}
			for _, st := range slices.Backward(r.States) {
				if err := st.restore(sys); err != nil {
					return err
				}
			}
			if err := after(ctx); err != nil {
				return err
			}
			return s.forget(v, name)
		},
	}
}

// looks records the names of list, and the folders that will be made for them.
func looks(sys System, list []want) (before, error) {
	var r before
	seen := map[string]bool{}
	var add func(name string) error
	add = func(name string) error {
		if seen[name] {
			return nil
		}
		seen[name] = true
		if parent := path.Dir(name); parent != name {
			if info, err := sys.Lstat(parent); missing(err) || err == nil && info.Mode()&fs.ModeType == 0 {
				if err := add(parent); err != nil {
					return err
				}
			}
		}
		st, err := look(sys, name)
		if err == nil {
			r.States = append(r.States, st)
		}
		return err
	}
	for _, w := range list {
		if !w.keep {
			if err := add(w.name); err != nil {
				return r, err
			}
			continue
		}
		st, err := look(sys, w.name)
		if err != nil {
			return r, err
		}
		if st.Kind == kindFile || st.Kind == kindDir {
			r.States = append(r.States, state{Name: st.Name, Kind: kindKept, Mode: st.Mode, UID: st.UID, GID: st.GID})
		}
	}
	return r, nil
}
