package reconcile_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	process "github.com/ggfleet/ggfleet/agent/internal/nucleus"
	"github.com/ggfleet/ggfleet/agent/internal/reconcile"
	"github.com/ggfleet/ggfleet/installer/nucleus"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// flip changes a bit in the program of each unpacked version that matches, and
// returns how many there were.
func flip(t *testing.T, root, version string) (n int) {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(root, "versions/*-"+version+"-*/bin/sim"))
	require.NoError(t, err)
	for _, f := range list {
		b, err := os.ReadFile(f)
		require.NoError(t, err)
		b[len(b)/2] ^= 1
		require.NoError(t, os.WriteFile(f, b, 0o755))
	}
	return len(list)
}

func TestANucleusThatDoesNotWorkAndIsDamagedIsFetchedAgain(t *testing.T) {
	d := newDevice(t)
	d.offer(t, "1.0.0")
	require.NoError(t, d.loop.Pass(t.Context()))
	file, err := filepath.Glob(filepath.Join(d.root, "versions/*/bin/sim"))
	require.NoError(t, err)
	require.Len(t, file, 1)
	was, err := os.ReadFile(file[0])
	require.NoError(t, err)
	require.Equal(t, 1, flip(t, d.root, "1.0.0"))
	require.NoError(t, d.loop.Pass(t.Context()), "as long as it works nobody reads its files")

	d.sup.fail["1.0.0"] = process.ErrUnproven
	offered := d.cloud.assignment.Nucleus
	d.cloud.assignment.Nucleus = nil
	require.ErrorContains(t, d.loop.Pass(t.Context()), "bin/sim of ggfleet.SimulatedNucleus 1.0.0 is damaged")
	require.NotEmpty(t, d.sup.told)
	assert.Contains(t, d.sup.told[len(d.sup.told)-1].Err, "is damaged", "the control plane learns why")
	assert.FileExists(t, file[0], "there is no other: it stays")

	d.anew(t) // or an hour later
	d.cloud.assignment.Nucleus = offered
	good := d.cloud.archive
	d.cloud.archive = []byte("not that")
	require.Error(t, d.loop.Pass(t.Context()))
	assert.FileExists(t, file[0], "what was fetched is no good: it stays")

	d.anew(t)
	d.cloud.archive = good
	require.NoError(t, d.loop.Pass(t.Context()))
	now, err := os.ReadFile(file[0])
	require.NoError(t, err)
	assert.Equal(t, string(was), string(now))
	assert.True(t, d.sup.again[len(d.sup.again)-1], "and started again")
}

func TestAVersionThatIsDamagedBeforeItRanIsFetchedAgain(t *testing.T) {
	manifest := func(how func(name string) error) func(*testing.T, *device) {
		return func(t *testing.T, d *device) {
			list, err := filepath.Glob(filepath.Join(d.root, "versions/*-2.0.0-*/distribution.json"))
			require.NoError(t, err)
			require.Len(t, list, 1)
			require.NoError(t, how(list[0]))
		}
	}
	for name, spoil := range map[string]func(*testing.T, *device){
		"a flipped bit":         func(t *testing.T, d *device) { require.Equal(t, 1, flip(t, d.root, "2.0.0")) },
		"its manifest is gone":  manifest(os.Remove),
		"its manifest is empty": manifest(func(name string) error { return os.Truncate(name, 0) }),
	} {
		t.Run(name, func(t *testing.T) {
			d := newDevice(t)
			d.offer(t, "1.0.0")
			require.NoError(t, d.loop.Pass(t.Context()))
			d.offer(t, "2.0.0")
			d.onTrial = func() { spoil(t, d) }
			d.kill = true
			require.Error(t, d.loop.Pass(t.Context()))
			d.onTrial, d.kill = nil, false

			// The next agent runs what was there, before it has asked anybody.
			d.anew(t)
			d.loop.Start(t.Context())
			assert.Equal(t, "1.0.0", d.sup.used[len(d.sup.used)-1].Version.Version)
			to, err := os.Readlink(filepath.Join(d.root, "current"))
			require.NoError(t, err)
			assert.Contains(t, to, "1.0.0")
			require.NoError(t, d.loop.Pass(t.Context()))
			assert.Equal(t, "2.0.0", d.sup.used[len(d.sup.used)-1].Version.Version, "nothing is said against it")
		})
	}
}

func TestADamagedOldVersionIsNotGoneBackToByHandAndByTheAgentIsToldOf(t *testing.T) {
	d := newDevice(t)
	for _, v := range []string{"1.0.0", "2.0.0"} {
		d.offer(t, v)
		require.NoError(t, d.loop.Pass(t.Context()))
	}
	require.Equal(t, 1, flip(t, d.root, "1.0.0"))
	require.ErrorContains(t, d.loop.Rollback(t.Context()), "1.0.0 is not gone back to, what runs goes on: bin/sim")

	// A new version fails, and the one that ran until then has been damaged meanwhile.
	require.Equal(t, 1, flip(t, d.root, "2.0.0"))
	d.sup.fail["3.0.0"] = process.ErrUnproven
	d.offer(t, "3.0.0")
	require.NoError(t, d.loop.Pass(t.Context()))
	assert.Equal(t, "2.0.0", d.sup.used[len(d.sup.used)-1].Version.Version, "it ran until now, and runs again")
	assert.Contains(t, d.sup.told[len(d.sup.told)-1].Err, "bin/sim of ggfleet.SimulatedNucleus 2.0.0 is damaged")
}

func TestATechniciansArchiveMendsADamagedVersion(t *testing.T) {
	d := newDevice(t)
	d.offer(t, "1.0.0")
	require.NoError(t, d.loop.Pass(t.Context()))
	file := filepath.Join(t.TempDir(), "a.tar.gz")
	require.NoError(t, os.WriteFile(file, d.cloud.archive, 0o600))
	a, err := reconcile.OpenArchive(t.Context(), file)
	require.NoError(t, err)
	require.Equal(t, 1, flip(t, d.root, "1.0.0"))
	require.NoError(t, d.loop.Install(t.Context(), a, nil))
	s, err := nucleus.OpenSite(d.root, nucleus.Limits{})
	require.NoError(t, err)
	defer s.Close()
	require.NoError(t, s.Verify(t.Context(), a.Version))

	t.Run("of a classic nucleus it says what to do", func(t *testing.T) {
		l := newLife(t, classicOf, "")
		newPairFiles(t, l)
		file := filepath.Join(t.TempDir(), "a.zip")
		require.NoError(t, os.WriteFile(file, classicZip("2.12.0"), 0o600))
		a, err := reconcile.OpenArchive(t.Context(), file)
		require.NoError(t, err)
		l.agent(func(ctx context.Context, loop *reconcile.Loop) {
			require.NoError(t, loop.Install(ctx, a, []byte(classicOf)))
			dir := l.m.Path("/greengrass/v2/" + a.Version.Dir())
			require.NoError(t, os.WriteFile(filepath.Join(dir, "bin/loader"), []byte("x"), 0o755))
			err := loop.Install(ctx, a, nil)
			require.ErrorIs(t, err, fault.Invalid)
			require.ErrorContains(t, err, "remove "+dir)
			require.NoError(t, os.RemoveAll(dir))
			require.NoError(t, loop.Install(ctx, a, nil))
		})
	})
}
