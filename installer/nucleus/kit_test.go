package nucleus_test

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/installer/nucleus"
	"github.com/ggfleet/ggfleet/installer/nucleus/hosttest"
)

// device is a host with a site on it.
type device struct {
	*hosttest.Host
	t    *testing.T
	dir  string // of the host
	root string // of the site, as the host's programs see it
}

func newDevice(t *testing.T, root string) device {
	t.Helper()
	dir := fastDir(t)
	h, err := hosttest.New(dir)
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(h.Path(root), 0o755))
	d := device{h, t, dir, root}
	for name, text := range map[string]string{
		root + "/cert.pem":          "-----BEGIN CERTIFICATE-----\n",
		root + "/private.key":       "-----BEGIN PRIVATE KEY-----\n",
		root + "/AmazonRootCA1.pem": "-----BEGIN CERTIFICATE-----\n",
	} {
		d.put(name, text, 0o600)
	}
	return d
}

// fastDir is a folder in memory where there is one: each plan syncs a hundred
// times.
func fastDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "ggfleet-") //nolint:usetesting // t.TempDir is on the disk
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func (d device) put(name, text string, mode os.FileMode) {
	d.t.Helper()
	require.NoError(d.t, os.MkdirAll(filepath.Dir(d.Path(name)), 0o755))
	require.NoError(d.t, os.WriteFile(d.Path(name), []byte(text), mode))
}

func (d device) site() *nucleus.Site {
	d.t.Helper()
	s, err := nucleus.OpenSite(d.Path(d.root), nucleus.Limits{})
	require.NoError(d.t, err)
	d.t.Cleanup(func() { _ = s.Close() })
	return s
}

// tree leaves out what differs by nature: records of undo, and logs.
func (d device) tree() map[string]string {
	d.t.Helper()
	tree, err := d.Tree(func(name string) bool {
		return strings.HasPrefix(name, d.root+"/versions/.before") || strings.HasPrefix(name, "/var/lib/dpkg") || strings.Contains(name, ".kept/")
	})
	require.NoError(d.t, err)
	delete(tree, d.root+"/versions") // may stay, empty
	return tree
}

// release is one distribution on the technician's stick.
type release struct {
	v       nucleus.Version
	m       nucleus.Manifest
	archive string
	format  string
}

func newRelease(t *testing.T, archive []byte, format string) release {
	t.Helper()
	name := filepath.Join(t.TempDir(), "archive")
	require.NoError(t, os.WriteFile(name, archive, 0o600))
	f, err := os.Open(name)
	require.NoError(t, err)
	defer f.Close()
	m, err := nucleus.Inspect(f, "")
	require.NoError(t, err)
	return release{nucleus.Version{Name: m.Name, Version: m.Version, Digest: digest(archive)}, m, name, format}
}

func (r release) options(o nucleus.Options) nucleus.Options {
	o.Archive, o.Format = r.archive, r.format
	return o
}

// whole is the plan with its switch at the end.
func whole(t *testing.T, d device, sys nucleus.System, r release, o nucleus.Options) nucleus.Plan {
	t.Helper()
	p, change, err := d.site().Plan(r.v, r.m, r.options(o), sys)
	require.NoError(t, err)
	return append(p, change)
}

var errKilled = errors.New("killed here")

// killAt makes the n-th change of the host the last one of this process: before
// it happens, or after it has. It returns how many changes there were.
func killAt(h *hosttest.Host, n int, after bool) *int {
	count, dead := new(int), false
	h.Change = func(_ string, done bool) error {
		if dead {
			return errKilled
		}
		if done != after {
			return nil
		}
		if *count++; *count == n {
			dead = true
			return errKilled
		}
		return nil
	}
	return count
}

// story is a change of a device that may be killed anywhere.
type story struct {
	setup   func(t *testing.T) device // the same device each time, as it was before
	release release
	options nucleus.Options
}

func killed(t *testing.T, s story) {
	t.Helper()
	s.killedEverywhere(t)
	s.stoppedAfterEachStep(t)
}

// killedEverywhere kills the plan at each change of the host. Run again ends as
// if nothing had happened, and an undo leaves the device as it was found.
func (s story) killedEverywhere(t *testing.T) {
	t.Helper()
	d := s.setup(t)
	found := d.tree()
	count := killAt(d.Host, -1, false)
	require.NoError(t, whole(t, d, d.Host, s.release, s.options).Run(t.Context(), nil))
	total := *count
	d.Change = nil
	made := d.tree()
	require.GreaterOrEqual(t, total, 3)

	for n := 1; n <= total; n++ {
		for _, after := range []bool{false, true} {
			if n%max(1, total/9) != 0 { // many changes are of the same kind
				continue
			}
			for _, undo := range []bool{false, true} {
				d := s.setup(t)
				killAt(d.Host, n, after)
				err := whole(t, d, d.Host, s.release, s.options).Run(t.Context(), nil)
				require.ErrorIs(t, err, errKilled, "change %d", n)
				again := device{d.Again(), t, d.dir, d.root}
				if undo {
					// The undo is killed as well, then done by a third process.
					killAt(again.Host, 1+n%3, after)
					_ = whole(t, again, again.Host, s.release, s.options).Undo(t.Context())
					third := device{again.Again(), t, d.dir, d.root}
					require.NoError(t, whole(t, third, third.Host, s.release, s.options).Undo(t.Context()), "undo after change %d", n)
					same(t, found, third.tree(), "undone after change %d", n)
					continue
				}
				require.NoError(t, whole(t, again, again.Host, s.release, s.options).Run(t.Context(), nil), "again after change %d", n)
				same(t, made, again.tree(), "again after change %d", n)
			}
		}
	}
}

// stoppedAfterEachStep ends the process between two steps, which also covers what
// a step does inside of the site.
func (s story) stoppedAfterEachStep(t *testing.T) {
	t.Helper()
	d := s.setup(t)
	found := d.tree()
	steps, err := whole(t, d, d.Host, s.release, s.options).Pending(t.Context())
	require.NoError(t, err)
	require.NoError(t, whole(t, d, d.Host, s.release, s.options).Run(t.Context(), nil))
	made := d.tree()
	for _, last := range steps {
		for _, undo := range []bool{false, true} {
			d := s.setup(t)
			err := whole(t, d, d.Host, s.release, s.options).Run(t.Context(), func(step string, do func() error) error {
				if err := do(); err != nil || step == last.Name {
					return errors.Join(err, errKilled)
				}
				return nil
			})
			if err == nil {
				continue // once unpacked, the archive showed that there is nothing to do
			}
			require.ErrorIs(t, err, errKilled)
			again := device{d.Again(), t, d.dir, d.root}
			if undo {
				require.NoError(t, whole(t, again, again.Host, s.release, s.options).Undo(t.Context()), last.Name)
				same(t, found, again.tree(), "undone after %s", last.Name)
				continue
			}
			require.NoError(t, whole(t, again, again.Host, s.release, s.options).Run(t.Context(), nil), last.Name)
			same(t, made, again.tree(), "again after %s", last.Name)
		}
	}
}

func same(t *testing.T, want, got map[string]string, msg string, args ...any) {
	t.Helper()
	if maps.Equal(want, got) {
		return
	}
	diff := map[string]string{}
	for name, v := range want {
		if got[name] != v {
			diff[name] = "want " + v + ", have " + got[name]
		}
	}
	for name, v := range got {
		if _, ok := want[name]; !ok {
			diff[name] = "want nothing, have " + v
		}
	}
	require.Empty(t, diff, append([]any{msg}, args...)...)
}
