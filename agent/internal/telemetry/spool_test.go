package telemetry_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/agent/internal/telemetry"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

func openSpool(t testing.TB, dir string, maxBytes int64) *telemetry.Spool {
	t.Helper()
	root, err := os.OpenRoot(dir)
	require.NoError(t, err)
	s, err := telemetry.OpenSpool(root, "spool", maxBytes)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close(); _ = root.Close() })
	return s
}

func add(t testing.TB, s *telemetry.Spool, body string) (sequence uint64) {
	t.Helper()
	require.NoError(t, s.Append("health", func(q uint64, _ telemetry.Condition) ([]byte, error) {
		sequence = q
		return []byte(body), nil
	}))
	return sequence
}

// drain acknowledges everything and returns the sequences it saw.
func drain(t testing.TB, s *telemetry.Spool) (out []uint64) {
	t.Helper()
	for {
		r, ok, err := s.Next()
		require.NoError(t, err)
		if !ok {
			return out
		}
		out = append(out, r.Sequence)
		s.Ack(r.Sequence)
	}
}

func TestReportsComeBackInOrderAfterAKill(t *testing.T) {
	dir := t.TempDir()
	s := openSpool(t, dir, 0)
	for i := range 5 {
		assert.Equal(t, uint64(i+1), add(t, s, fmt.Sprint("r", i)))
	}
	r, ok, err := s.Next()
	require.NoError(t, err)
	require.True(t, ok)
	assert.Equal(t, telemetry.Record{Sequence: 1, Kind: "health", Payload: []byte("r0")}, r)
	s.Ack(2)

	again := openSpool(t, dir, 0) // the first was never closed: that is a kill
	assert.Equal(t, []uint64{3, 4, 5}, drain(t, again))
	assert.Equal(t, uint64(6), add(t, again, "x"))
	assert.Equal(t, []uint64{6}, drain(t, openSpool(t, dir, 0)))
	assert.Equal(t, uint64(7), add(t, openSpool(t, dir, 0), "y"), "sequence numbers outlive what they numbered")
}

func TestLosingTheAcknowledgementsSendsTwiceAndLosesNothing(t *testing.T) {
	dir := t.TempDir()
	s := openSpool(t, dir, 0)
	add(t, s, "a")
	add(t, s, "b")
	s.Ack(1)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "spool/acked"), []byte("torn"), 0o600))
	assert.Equal(t, []uint64{1, 2}, drain(t, openSpool(t, dir, 0)))
}

func TestATornTailCostsTheTornReportAlone(t *testing.T) {
	dir := t.TempDir()
	s := openSpool(t, dir, 0)
	add(t, s, "first")
	add(t, s, "second")
	name, whole := onlySegment(t, dir)
	first := len(whole) - (len(whole)-28)/2 - 1 // 28 bytes of header, then two records, the second one byte longer
	for cut := range len(whole) {
		require.NoError(t, os.RemoveAll(filepath.Join(dir, "spool")))
		require.NoError(t, os.Mkdir(filepath.Join(dir, "spool"), 0o700))
		require.NoError(t, os.WriteFile(name, whole[:cut], 0o600))
		s := openSpool(t, dir, 0)
		var want []uint64
		if cut >= first {
			want = []uint64{1}
		}
		next := add(t, s, "again")
		assert.Equal(t, append(want, next), drain(t, s), "cut at %d of %d", cut, len(whole))
		assert.Equal(t, cut < 28, s.Condition().Damaged > 0, "a torn tail is no damage; cut at %d", cut)
	}
}

func onlySegment(t *testing.T, dir string) (string, []byte) {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "spool/*.seg"))
	require.NoError(t, err)
	require.Len(t, list, 1)
	b, err := os.ReadFile(list[0])
	require.NoError(t, err)
	return list[0], b
}

func TestAFullSpoolDropsTheOldestAndCounts(t *testing.T) {
	dir := t.TempDir()
	const bound = 64 << 10
	s := openSpool(t, dir, bound)
	body := strings.Repeat("x", 1000)
	for range 200 {
		add(t, s, body)
	}
	var size int64
	require.NoError(t, filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			info, err := d.Info()
			size += info.Size()
			return err
		}
		return err
	}))
	assert.LessOrEqual(t, size, int64(bound))
	dropped := s.Condition().Dropped
	seen := drain(t, s)
	require.NotEmpty(t, seen)
	assert.Equal(t, uint64(200), seen[len(seen)-1], "the newest stays")
	assert.Equal(t, seen[0], dropped+1, "the gap is what was dropped")
	again := openSpool(t, dir, bound)
	assert.NotZero(t, again.Condition().Dropped, "the count outlives the process")
}

func TestAReportThatCannotBeStoredLeavesAGap(t *testing.T) {
	s := openSpool(t, t.TempDir(), 0)
	err := s.Append("health", func(uint64, telemetry.Condition) ([]byte, error) {
		return make([]byte, protocol.MaxAgentMessage+1), nil
	})
	require.ErrorIs(t, err, fault.TooLarge)
	assert.Equal(t, uint64(2), add(t, s, "next"))
	assert.Equal(t, uint64(1), s.Condition().Dropped)
	assert.Equal(t, []uint64{2}, drain(t, s))
}

func FuzzSpoolFiles(f *testing.F) {
	dir := f.TempDir()
	s := openSpool(f, dir, 0)
	add(f, s, `{"v":1}`)
	add(f, s, `{"v":2}`)
	list, err := filepath.Glob(filepath.Join(dir, "spool/*.seg"))
	require.NoError(f, err)
	good, err := os.ReadFile(list[0])
	require.NoError(f, err)
	f.Add(good, []byte("acked"))
	f.Add(good[:40], []byte{})
	f.Fuzz(func(t *testing.T, segment, acked []byte) {
		dir := t.TempDir()
		require.NoError(t, os.Mkdir(filepath.Join(dir, "spool"), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "spool", fmt.Sprintf("%020d.seg", 1)), segment, 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "spool/acked"), acked, 0o600))
		s := openSpool(t, dir, 0)
		next := add(t, s, "new")
		seen := drain(t, s)
		require.NotEmpty(t, seen)
		for i := 1; i < len(seen); i++ {
			require.Less(t, seen[i-1], seen[i])
		}
		require.Equal(t, next, seen[len(seen)-1], "what is appended to any wreck comes out")
	})
}

func FuzzParseSegment(f *testing.F) {
	dir := f.TempDir()
	s := openSpool(f, dir, 0)
	add(f, s, `{"v":1}`)
	add(f, s, strings.Repeat("x", 300))
	list, err := filepath.Glob(filepath.Join(dir, "spool/*.seg"))
	require.NoError(f, err)
	good, err := os.ReadFile(list[0])
	require.NoError(f, err)
	f.Add(good)
	f.Add(good[:50])
	f.Add(append(good[:28:28], 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 1))
	f.Fuzz(func(t *testing.T, b []byte) { require.True(t, telemetry.SegmentIsSound(b)) })
}
