package telemetry_test

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ggfleet/ggfleet/agent/internal/telemetry"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// disk is the content of a spool's folder, by name.
type disk map[string][]byte

func readDisk(t testing.TB, dir string) disk {
	t.Helper()
	d := disk{}
	require.NoError(t, filepath.WalkDir(filepath.Join(dir, "spool"), func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(p)
		d[e.Name()] = b
		return err
	}))
	return d
}

func (d disk) write(t testing.TB) (dir string) {
	t.Helper()
	dir, err := os.MkdirTemp(memory(), "spool") //nolint:usetesting // thousands of them would stay until the end
	require.NoError(t, err)
	require.NoError(t, os.Mkdir(filepath.Join(dir, "spool"), 0o700))
	for name, b := range d {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "spool", name), b, 0o600))
	}
	return dir
}

// memory is where files cost least to sync.
func memory() string {
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		return "/dev/shm"
	}
	return ""
}

// wreck opens a spool on what is left of a disk, says one thing more, and
// returns what comes out with its payloads.
func wreck(t testing.TB, d disk, bound int64) (out map[uint64]string, order []uint64, c telemetry.Condition) {
	t.Helper()
	dir := d.write(t)
	defer func() { _ = os.RemoveAll(dir) }()
	root, err := os.OpenRoot(dir)
	require.NoError(t, err)
	defer func() { _ = root.Close() }()
	s, err := telemetry.OpenSpool(root, "spool", bound)
	require.NoError(t, err)
	defer func() { _ = s.Close() }()
	next := add(t, s, "new")
	out = map[uint64]string{}
	for {
		r, ok, err := s.Next()
		if err != nil {
			require.ErrorIs(t, err, fault.Invalid)
			s.Skip(r.Sequence)
			continue
		}
		if !ok {
			break
		}
		out[r.Sequence] = string(r.Payload)
		order = append(order, r.Sequence)
		s.Ack(r.Sequence)
	}
	require.True(t, slices.IsSorted(order), "%v", order)
	require.Len(t, out, len(order), "none twice")
	require.Equal(t, next, order[len(order)-1], "what is new comes last")
	require.Equal(t, "new", out[next])
	delete(out, next)
	return out, order, s.Condition()
}

// filled is a spool of a few segments, of which the first reports are
// acknowledged.
func filled(t testing.TB, dir string, n int) (s *telemetry.Spool, said map[uint64]string) {
	t.Helper()
	s = openSpool(t, dir, 64<<10)
	said = map[uint64]string{}
	for i := range n {
		body := fmt.Sprintf("report %d %s", i, strings.Repeat("x", 700))
		said[add(t, s, body)] = body
	}
	return s, said
}

// genuine asserts that everything that came out was said.
func genuine(t testing.TB, said, out map[uint64]string) {
	t.Helper()
	for q, body := range out {
		require.Equal(t, said[q], body, "sequence %d", q)
	}
}

func TestAFlippedBitCostsTheReportItIsInAlone(t *testing.T) {
	dir := t.TempDir()
	s, said := filled(t, dir, 20)
	s.Ack(2)
	whole := readDisk(t, dir)
	require.Greater(t, len(whole), 2, "two segments and what is acknowledged")
	for name, content := range whole {
		for at := range content {
			if at%140 != 0 && at > 40 && at%743 > 30 { // each byte of what has meaning, and some of the bodies
				continue
			}
			d := maps.Clone(whole)
			d[name] = slices.Clone(content)
			d[name][at] ^= 1 << (at % 8)
			out, _, c := wreck(t, d, 64<<10)
			genuine(t, said, out)
			if name == "acked" {
				require.Len(t, out, 20, "all is sent again")
				continue
			}
			require.GreaterOrEqual(t, len(out), 17, "%s at %d", name, at)
			if len(out) < 18 && out[20] != "" {
				require.NotZero(t, c.Damaged, "the loss is told; %s at %d", name, at)
			}
		}
	}
}

func TestAPowerCutLeavesAnyPrefixOfTheNewestFile(t *testing.T) {
	dir := t.TempDir()
	_, said := filled(t, dir, 15)
	whole := readDisk(t, dir)
	names := slices.Sorted(maps.Keys(whole))
	newest := names[slices.Index(names, "acked")-1]
	older := 0
	for name, b := range whole {
		if name != newest {
			older += strings.Count(string(b), "report ")
		}
	}
	for cut := range whole[newest] {
		if cut > 60 && cut%743 > 40 && cut%150 != 0 { // each byte that has meaning, and some of the bodies
			continue
		}
		d := maps.Clone(whole)
		d[newest] = whole[newest][:cut]
		out, _, _ := wreck(t, d, 64<<10)
		genuine(t, said, out)
		require.GreaterOrEqual(t, len(out), older, "cut at %d", cut)

		d[newest] = append(slices.Clone(whole[newest][:cut]), make([]byte, len(whole[newest])-cut)...) // blocks that were never written
		out, _, _ = wreck(t, d, 64<<10)
		genuine(t, said, out)
		require.GreaterOrEqual(t, len(out), older, "zeros from %d", cut)
	}
}

func TestFilesThatAreGoneComeBackOrChangePlacesCostNothingElse(t *testing.T) {
	dir := t.TempDir()
	s, said := filled(t, dir, 30)
	before := readDisk(t, dir)
	s.Ack(12)
	after := readDisk(t, dir)
	segments := slices.Sorted(maps.Keys(after))
	segments = segments[:slices.Index(segments, "acked")]
	require.Greater(t, len(before), len(after), "a segment went")
	require.Greater(t, len(segments), 1)

	t.Run("a removal that was lost", func(t *testing.T) {
		d := maps.Clone(before)
		d["acked"] = after["acked"]
		out, _, _ := wreck(t, d, 64<<10)
		genuine(t, said, out)
		assert.Len(t, out, 18)
	})
	t.Run("the note of what is acknowledged was lost", func(t *testing.T) {
		d := maps.Clone(after)
		delete(d, "acked")
		out, _, _ := wreck(t, d, 64<<10)
		genuine(t, said, out)
		assert.GreaterOrEqual(t, len(out), 18)
	})
	t.Run("the creation of the newest was lost", func(t *testing.T) {
		d := maps.Clone(after)
		delete(d, segments[len(segments)-1])
		out, _, _ := wreck(t, d, 64<<10)
		genuine(t, said, out)
		assert.NotEmpty(t, out)
	})
	t.Run("two change places", func(t *testing.T) {
		d := maps.Clone(after)
		d[segments[0]], d[segments[1]] = d[segments[1]], d[segments[0]]
		out, _, _ := wreck(t, d, 64<<10)
		genuine(t, said, out)
		assert.Len(t, out, 18)
	})
	t.Run("one is there twice", func(t *testing.T) {
		d := maps.Clone(after)
		d["99999999999999999999.seg"] = d[segments[0]]
		out, _, _ := wreck(t, d, 64<<10)
		genuine(t, said, out)
		assert.Len(t, out, 18)
	})
	t.Run("all is gone but what is acknowledged", func(t *testing.T) {
		_, order, _ := wreck(t, disk{"acked": after["acked"]}, 64<<10)
		assert.Equal(t, []uint64{13}, order, "no sequence is used twice")
	})
}

// failing is a disk that takes nothing while err is set.
type failing struct{ err error }

func (f *failing) fail() error { return f.err }

func TestADiskThatTakesNothingCostsNoReportOfTheNextHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, cause := range []error{syscall.ENOSPC, syscall.EROFS, syscall.EIO} {
			dir := t.TempDir()
			s := openSpool(t, dir, 0)
			d := &failing{}
			s.FailWrites(d.fail)
			add(t, s, "on disk")
			d.err = cause
			var want []uint64
			for range 60 {
				want = append(want, add(t, s, "in memory"))
				time.Sleep(time.Minute)
			}
			require.ErrorIs(t, s.Condition().Trouble, cause)
			assert.True(t, s.Waiting(want[59]))
			r, _, err := s.Next()
			require.NoError(t, err)
			assert.Equal(t, uint64(1), r.Sequence, "order is kept")
			s.Ack(1)
			r, _, err = s.Next()
			require.NoError(t, err)
			assert.Equal(t, "in memory", string(r.Payload))
			s.Ack(2)

			d.err = nil
			time.Sleep(time.Hour)
			last := add(t, s, "on disk again")
			require.NoError(t, s.Condition().Trouble)
			assert.Equal(t, append(want[1:], last), drain(t, openSpool(t, dir, 0)), "all of it is on disk now")
			assert.Zero(t, s.Condition().Dropped)
		}
	})
}

func TestMemoryIsBoundedAndDropsTheOldest(t *testing.T) {
	s := openSpool(t, t.TempDir(), 0)
	s.FailWrites(func() error { return syscall.ENOSPC })
	const size = 1000
	for range 1000 {
		add(t, s, strings.Repeat("x", size))
	}
	got := drain(t, s)
	assert.Len(t, got, telemetry.MemoryBytes/size)
	assert.Equal(t, uint64(1000), got[len(got)-1])
	assert.Equal(t, uint64(1000-len(got)), s.Condition().Dropped)
}

func TestASpoolOnADiskThatCannotBeWrittenWorksFromTheStart(t *testing.T) {
	dir := t.TempDir()
	s, _ := filled(t, dir, 3)
	require.NoError(t, s.Close())
	require.NoError(t, os.Chmod(filepath.Join(dir, "spool"), 0o500))
	t.Cleanup(func() { _ = os.Chmod(filepath.Join(dir, "spool"), 0o700) })
	if f, err := os.Create(filepath.Join(dir, "spool", "probe")); err == nil {
		_ = f.Close()
		t.Skip("this user may write anything")
	}
	s = openSpool(t, dir, 0)
	q := add(t, s, "x")
	assert.Equal(t, []uint64{1, 2, 3, q}, drain(t, s))
}

func TestASmallDiskThatIsReallyFull(t *testing.T) {
	dir := t.TempDir()
	if err := mount(dir); err != nil {
		t.Skipf("may not mount: %v", err)
	}
	defer unmount(dir)
	s := openSpool(t, dir, 1<<20) // more than there is
	said := 0
	for s.Condition().Trouble == nil {
		add(t, s, strings.Repeat("x", 1000))
		said++
	}
	require.ErrorIs(t, s.Condition().Trouble, syscall.ENOSPC)
	require.Less(t, said, 1000)
	add(t, s, "and on")
	assert.Len(t, drain(t, s), said+1, "none is lost")
	require.NoError(t, s.Close())
	assert.NotEmpty(t, drain(t, openSpool(t, dir, 1<<20)))
}

// TestTheSpoolAgainstAModel walks any way of appending, acknowledging, killing
// and starting, with a disk that takes nothing at times.
func TestTheSpoolAgainstAModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp(memory(), "spool") //nolint:usetesting // memory, not a disk
		require.NoError(t, err)
		defer func() { _ = os.RemoveAll(dir) }()
		root, err := os.OpenRoot(dir)
		require.NoError(t, err)
		defer func() { _ = root.Close() }()
		d := &failing{}
		open := func() *telemetry.Spool {
			s, err := telemetry.OpenSpool(root, "spool", 64<<10)
			require.NoError(t, err)
			s.FailWrites(d.fail)
			return s
		}
		s := open()
		defer func() { _ = s.Close() }()
		said := map[uint64]string{}
		var last, acked uint64
		killed := false
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				body := strings.Repeat(rapid.StringMatching(`[a-z]`).Draw(t, "letter"), rapid.IntRange(0, 9000).Draw(t, "size"))
				require.NoError(t, s.Append("health", func(q uint64, _ telemetry.Condition) ([]byte, error) {
					if !killed {
						require.Equal(t, last+1, q, "no gap")
					}
					require.Greater(t, q, acked)
					said[q], last, killed = body, q, false
					return []byte(body), nil
				}))
			},
			"send": func(t *rapid.T) {
				r, ok, err := s.Next()
				require.NoError(t, err)
				if !ok {
					return
				}
				require.Greater(t, r.Sequence, acked)
				require.Equal(t, said[r.Sequence], string(r.Payload))
				s.Ack(r.Sequence)
				acked = r.Sequence
			},
			"break or mend the disk": func(*rapid.T) {
				if d.err = syscall.ENOSPC; rapid.Bool().Draw(t, "mended") {
					d.err = nil
				}
			},
			"kill": func(*rapid.T) {
				d.err = nil
				s = open() // the one before is never closed
				acked = 0  // the note of it may be lost with a disk that takes nothing
				killed, last = true, 0
			},
		})
		order := []uint64{}
		for {
			r, ok, err := s.Next()
			require.NoError(t, err)
			if !ok {
				break
			}
			order = append(order, r.Sequence)
			require.Equal(t, said[r.Sequence], string(r.Payload))
			s.Ack(r.Sequence)
		}
		require.True(t, slices.IsSorted(order))
		require.Zero(t, s.Condition().Damaged)
	})
}
