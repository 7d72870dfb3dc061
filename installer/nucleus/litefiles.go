package nucleus

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// tmpfilesDir says which folders of /run are made at a boot.
const tmpfilesDir = "/etc/tmpfiles.d"

var (
	execStart = regexp.MustCompile(`(?m)^ExecStart=[-@:+!]*(/\S+)/ggconfigd\b`)
	wantedBy  = regexp.MustCompile(`(?m)^(WantedBy|RequiredBy)=(.*)$`)
	unitName  = regexp.MustCompile(`^(greengrass-lite\.target|ggl\.[A-Za-z0-9_.@-]+\.(service|socket|target))$`)
	unitRef   = regexp.MustCompile(`^[A-Za-z0-9_@-][A-Za-z0-9_.@-]*$`)
)

const maxUnit = 200 // bytes of a unit's name

func isUnit(name string) bool { return len(name) <= maxUnit && unitName.MatchString(name) }

// top is what the link current leads to: the version's folder, or the one that
// its archive has around everything.
func (l *lite) top() string {
	first, _, _ := strings.Cut(l.m.Entrypoint, "/")
	if first == "bin" || first == "usr" {
		return l.v.Dir()
	}
	return path.Join(l.v.Dir(), first)
}

// current is the link, as the host's programs see it.
func (l *lite) current() string { return path.Join(l.sys.Name(l.s.path), currentLink) }

// programsStep links lite's programs to where its units look for them, through
// the link current: the links lead nowhere until the switch, and from then on to
// the version that runs.
func (l *lite) programsStep() Step {
	return l.s.hostStep(l.v, l.sys, "programs", "link lite's programs through "+l.current(), func(context.Context) ([]want, error) {
		list, err := l.programs()
		if errors.Is(err, fs.ErrNotExist) { // dry run: not unpacked yet
			return []want{linkWant("/usr/local/bin/ggconfigd", path.Join(l.current(), liteConfigd))}, nil
		}
		return list, err
	}, nil)
}

func (l *lite) programs() ([]want, error) {
	files, err := l.files()
	if err != nil {
		return nil, err
	}
	bin := path.Dir(path.Join(l.v.Dir(), l.m.Entrypoint))
	there := path.Join(l.current(), strings.TrimPrefix(bin, l.top()+"/"))
	m := execStart.FindSubmatch(files["ggl.core.ggconfigd.service"])
	if m == nil || path.Clean(string(m[1])) != string(m[1]) {
		return nil, fault.New(fault.Invalid, "the archive's unit ggl.core.ggconfigd.service does not say where the programs belong (ExecStart=/.../ggconfigd)")
	}
	if prefix := string(m[1]); prefix != there { // else the units name the link already
		entries, err := fs.ReadDir(l.s.root.FS(), bin)
		if err != nil {
			return nil, err
		}
		var list []want
		for _, e := range entries {
			list = append(list, linkWant(path.Join(prefix, e.Name()), path.Join(there, e.Name())))
		}
		return list, l.free(list)
	}
	return nil, nil
}

// files are the units and tmpfiles.d files of the version, by their names.
func (l *lite) files() (map[string][]byte, error) {
	out := map[string][]byte{}
	err := fs.WalkDir(l.s.root.FS(), l.top(), func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		base := path.Base(p)
		if isUnit(base) || path.Base(path.Dir(p)) == path.Base(tmpfilesDir) && path.Ext(base) == ".conf" {
			out[base], err = l.s.ReadFile(p, maxRecipe)
		}
		return err
	})
	return out, err
}

// free is an error when one of the links would take the place of something that
// is not ours, or of a link that the version that runs needs.
func (l *lite) free(list []want) error {
	for _, w := range list {
		st, err := look(l.sys, w.name)
		switch {
		case err != nil:
			return err
		case st.Kind == "" || st.Kind == kindLink && st.Target == w.target:
		case st.Kind == kindLink && strings.HasPrefix(st.Target, l.current()+"/"):
			return fault.New(fault.Conflict, "this archive has %s at another place than the version that is installed; remove that one first", path.Base(w.name))
		default:
			return fault.New(fault.Conflict, "%s is there and is not ours; is lite installed as a package? Remove that first, or take the package", w.name)
		}
	}
	return nil
}

// unitFiles are what the switch makes, but for the link: the units, as files of
// their own, because systemd reads them before /var may be mounted; and the links
// that have them start with the device, which systemctl enable would resolve to
// this version's folder.
func (l *lite) unitFiles() ([]want, error) {
	files, err := l.files()
	if err != nil {
		return nil, err
	}
	var list []want
	starts := map[string]bool{}
	for _, base := range slices.Sorted(mapKeys(files)) {
		if !isUnit(base) {
			list = append(list, fileWant(path.Join(tmpfilesDir, base), files[base], 0o644))
			continue
		}
		unit := path.Join(systemdDir, base)
		list = append(list, fileWant(unit, files[base], 0o644))
		for _, m := range wantedBy.FindAllSubmatch(files[base], 16) {
			kind := map[string]string{"WantedBy": ".wants", "RequiredBy": ".requires"}[string(m[1])]
			for by := range strings.FieldsSeq(string(m[2])) {
				if len(by) > maxUnit || !unitRef.MatchString(by) {
					return nil, fault.New(fault.Invalid, "the archive's unit %s is wanted by %q, which is no unit", base, by)
				}
				link := path.Join(systemdDir, by+kind, base)
				starts[link] = true
				list = append(list, linkWant(link, unit))
			}
		}
	}
	// What another version had started and this one does not have.
	for _, dir := range []string{LiteTarget + ".wants", "sockets.target.wants"} {
		entries, err := l.sys.ReadDir(path.Join(systemdDir, dir))
		if err != nil && !missing(err) {
			return nil, err
		}
		for _, e := range entries {
			link := path.Join(systemdDir, dir, e.Name())
			if to, err := l.sys.Readlink(link); err == nil && strings.HasPrefix(e.Name(), "ggl.core.") && !starts[link] && to == path.Join(systemdDir, e.Name()) {
				list = append(list, want{name: link, gone: true})
			}
		}
	}
	return list, nil
}

// filesSwitch puts the units in place where they differ, turns the link current
// in one rename, and has systemd read the units.
func (l *lite) filesSwitch() Step {
	return l.s.hostStep(l.v, l.sys, "switch", "point "+l.current()+" to "+l.top()+", with its units in "+systemdDir, func(context.Context) ([]want, error) {
		list, err := l.unitFiles()
		if errors.Is(err, fs.ErrNotExist) { // dry run: not unpacked yet
			err = nil
		}
		return append(list, linkWant(l.current(), l.top())), err
	}, func(ctx context.Context) error {
		if has(l.sys, "systemd-tmpfiles") {
			if _, err := run(ctx, l.sys, Command{Argv: []string{"systemd-tmpfiles", "--create", "--prefix=/run/greengrass"}}); err != nil {
				return err
			}
		}
		return reload(ctx, l.sys)
	})
}

// installed are all names outside of the site that the version put there.
func (l *lite) installed() ([]want, error) {
	units, err := l.unitFiles()
	if err != nil {
		return nil, err
	}
	programs, err := l.programs()
	return append(units, programs...), err
}
