package nucleus_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/installer/nucleus"
	"github.com/ggfleet/ggfleet/shared/fault"
)

func open(t *testing.T) *nucleus.Site {
	t.Helper()
	s, err := nucleus.OpenSite(t.TempDir(), nucleus.Limits{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func archive(t *testing.T, version string) (nucleus.Version, string) {
	t.Helper()
	e := program()
	e[0].body = strings.Replace(manifest, "1.0.0", version, 1)
	b := tarGz(t, e...)
	name := filepath.Join(t.TempDir(), "a.tar.gz")
	require.NoError(t, os.WriteFile(name, b, 0o600))
	return nucleus.Version{Name: "ggfleet.SimulatedNucleus", Version: version, Digest: digest(b)}, name
}

func install(s *nucleus.Site, v nucleus.Version, archive string, previous *nucleus.Version) nucleus.Plan {
	return nucleus.Plan{
		s.UnpackStep(v, archive, "tar.gz"),
		s.WriteStep(nucleus.File{Name: nucleus.ConfigFile, Data: []byte("system: {}\n"), Mode: 0o600}),
		s.SwitchStep(v, previous),
	}
}

func current(t *testing.T, s *nucleus.Site) string {
	t.Helper()
	to, err := os.Readlink(filepath.Join(s.Path(), "current"))
	if errors.Is(err, os.ErrNotExist) {
		return ""
	}
	require.NoError(t, err)
	return to
}

func stepNames(steps []nucleus.Step) []string {
	out := make([]string, len(steps))
	for i, s := range steps {
		out[i] = s.Name
	}
	return out
}

func TestAPlanRunsOnceShowsWhatIsPendingAndRepairs(t *testing.T) {
	s := open(t)
	v, a := archive(t, "1.0.0")
	p := install(s, v, a, nil)
	pending, err := p.Pending(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []string{"unpack", "write config/config.yaml", "switch"}, stepNames(pending))

	require.NoError(t, p.Run(t.Context(), nil))
	assert.Equal(t, v.Dir(), current(t, s))
	pending, err = p.Pending(t.Context())
	require.NoError(t, err)
	assert.Empty(t, pending)

	require.NoError(t, os.Remove(filepath.Join(s.Path(), nucleus.ConfigFile)))
	require.NoError(t, os.Remove(a)) // the archive is not needed for what is unpacked
	require.NoError(t, p.Run(t.Context(), nil))
	info, err := os.Stat(filepath.Join(s.Path(), nucleus.ConfigFile))
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	m, err := s.Manifest(v)
	require.NoError(t, err)
	program, args := s.Command(v, m)
	assert.Equal(t, filepath.Join(s.Path(), v.Dir(), "bin/sim"), program)
	assert.Equal(t, []string{"nucleus", "--root", s.Path()}, args)
}

func TestUndoGoesBackToTheOldVersion(t *testing.T) {
	s := open(t)
	v1, a1 := archive(t, "1.0.0")
	v2, a2 := archive(t, "2.0.0")
	require.NoError(t, install(s, v1, a1, nil).Run(t.Context(), nil))
	p := install(s, v2, a2, &v1)
	require.NoError(t, p.Run(t.Context(), nil))
	assert.Equal(t, v2.Dir(), current(t, s))
	_, err := s.Manifest(v1)
	require.NoError(t, err, "the old version stays beside")

	require.NoError(t, p.Undo(t.Context()))
	require.NoError(t, p.Undo(t.Context()), "undo may be repeated")
	assert.Equal(t, v1.Dir(), current(t, s))
	_, err = s.Manifest(v2)
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestPruneKeepsTheCurrentVersion(t *testing.T) {
	s := open(t)
	v1, a1 := archive(t, "1.0.0")
	v2, a2 := archive(t, "2.0.0")
	require.NoError(t, install(s, v1, a1, nil).Run(t.Context(), nil))
	require.NoError(t, install(s, v2, a2, &v1).Run(t.Context(), nil))
	require.NoError(t, os.Mkdir(filepath.Join(s.Path(), "versions/x.tmp-LEFT"), 0o755))
	require.NoError(t, s.Prune())
	list, err := os.ReadDir(filepath.Join(s.Path(), "versions"))
	require.NoError(t, err)
	require.Len(t, list, 1)
	assert.Equal(t, filepath.Base(v2.Dir()), list[0].Name())
}

func TestAnArchiveThatIsNotWhatWasOfferedLeavesNothing(t *testing.T) {
	s := open(t)
	v, a := archive(t, "1.0.0")
	v.Version = "1.0.1"
	err := s.UnpackStep(v, a, "tar.gz").Do(t.Context())
	require.ErrorIs(t, err, fault.Invalid)
	require.ErrorContains(t, err, "1.0.0")
	list, err := os.ReadDir(filepath.Join(s.Path(), "versions"))
	require.NoError(t, err)
	assert.Empty(t, list)
}

func TestRunStopsAtAFailureAndGoesOnFromThere(t *testing.T) {
	s := open(t)
	v, a := archive(t, "1.0.0")
	p := install(s, v, a, nil)
	broken := errors.New("disk gone")
	err := p.Run(t.Context(), func(step string, do func() error) error {
		if step == "switch" {
			return broken
		}
		return do()
	})
	require.ErrorIs(t, err, broken)
	pending, err := p.Pending(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []string{"switch"}, stepNames(pending))
}

func TestManifestChecks(t *testing.T) {
	good, err := nucleus.ParseManifest([]byte(manifest))
	require.NoError(t, err)
	assert.Equal(t, "bin/sim", good.Entrypoint)
	tests := map[string]struct{ old, bad, field string }{
		"a name with a slash":        {`"ggfleet.SimulatedNucleus"`, `"a/b"`, "name"},
		"no version":                 {`"1.0.0"`, `""`, "version"},
		"an entrypoint outside":      {`"bin/sim"`, `"../sim"`, "entrypoint"},
		"an absolute entrypoint":     {`"bin/sim"`, `"/bin/sh"`, "entrypoint"},
		"a state file outside":       {`"state.json"`, `"../../etc/passwd"`, "stateFile"},
		"a ready file that is a dir": {`"run/ready"`, `"run/"`, "readyFile"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := nucleus.ParseManifest([]byte(strings.Replace(manifest, tc.old, tc.bad, 1)))
			require.ErrorIs(t, err, fault.Invalid)
			assert.Equal(t, tc.field, fault.FieldOf(err))
		})
	}
}

func FuzzParseManifest(f *testing.F) {
	f.Add([]byte(manifest))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := nucleus.ParseManifest(b)
		if err != nil {
			require.ErrorIs(t, err, fault.Invalid)
			return
		}
		program, _ := m.Command("/r", "/d")
		require.True(t, strings.HasPrefix(program, "/d/"), program)
	})
}

func FuzzParseState(f *testing.F) {
	f.Add([]byte(`{"components":[{"name":"a.b","version":"1.0.0","state":"RUNNING"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := nucleus.ParseState(b); err != nil {
			require.NotEmpty(t, fault.KindOf(err))
		}
	})
}

func TestDamageAfterUnpackingIsFound(t *testing.T) {
	tests := map[string]struct {
		spoil func(t *testing.T, dir string)
		kind  fault.Kind
		says  string
	}{
		"nothing is wrong": {func(*testing.T, string) {}, "", ""},
		"a flipped bit": {func(t *testing.T, dir string) {
			b, err := os.ReadFile(filepath.Join(dir, "bin/sim"))
			require.NoError(t, err)
			b[len(b)/2] ^= 1
			require.NoError(t, os.WriteFile(filepath.Join(dir, "bin/sim"), b, 0o755))
		}, fault.Invalid, "bin/sim of ggfleet.SimulatedNucleus 1.0.0 is damaged"},
		"a file that is cut":  {func(t *testing.T, dir string) { require.NoError(t, os.Truncate(filepath.Join(dir, "bin/sim"), 1)) }, fault.Invalid, "bin/sim of"},
		"a file that is gone": {func(t *testing.T, dir string) { require.NoError(t, os.Remove(filepath.Join(dir, "bin/sim"))) }, fault.Invalid, "is gone"},
		"a list that is garbage": {func(t *testing.T, dir string) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, "files.sha256"), []byte("x"), 0o600))
		}, fault.Invalid, "files.sha256"},
		"a list that climbs out": {func(t *testing.T, dir string) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, "files.sha256"), []byte(strings.Repeat("0", 64)+"  ../../x\n"), 0o600))
		}, fault.Invalid, "files.sha256"},
		"no list, of an older agent": {func(t *testing.T, dir string) { require.NoError(t, os.Remove(filepath.Join(dir, "files.sha256"))) }, fault.Unsupported, "older agent"},
		"a file that is more": {func(t *testing.T, dir string) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, "more"), nil, 0o600))
		}, "", ""},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			v, a := archive(t, "1.0.0")
			require.NoError(t, install(s, v, a, nil).Run(t.Context(), nil))
			tc.spoil(t, filepath.Join(s.Path(), v.Dir()))
			err := s.Verify(t.Context(), v)
			if tc.says == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, tc.kind)
			assert.ErrorContains(t, err, tc.says)
		})
	}
}
