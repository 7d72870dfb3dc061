package objecttest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/object"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// Run checks every promise of object.Store. open is called once per test; all
// its stores may share one bucket, each test keeps to a prefix of its own.
func Run(t *testing.T, open func(t *testing.T) object.Store) {
	tests := []struct {
		name string
		run  func(t *testing.T, s object.Store)
	}{
		{"what was put is read back with its description", putOpenStat},
		{"a second put replaces the first", replace},
		{"an absent key is not found", absent},
		{"deleting is final and may be repeated", deletes},
		{"the reader seeks", seeks},
		{"an empty object is an object", empty},
		{"a large object comes back whole", large},
		{"listing is in key order, by prefix, after a key, up to a limit", lists},
		{"a listing is longer than one page of the protocol", listsPages},
		{"keys may hold any printable character", oddKeys},
		{"a key that leaves its place is refused and nothing is stored", badKeys},
		{"a step outside the table is refused", badStep},
		{"a reader shorter than announced stores nothing", shortReader},
		{"many puts at once all arrive", parallel},
		{"a cancelled context ends the call", cancelled},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { tt.run(t, open(t)) })
	}
}

func put(t *testing.T, s object.Store, key, data string) {
	t.Helper()
	require.NoError(t, s.Put(t.Context(), state.PutArtifact, key, strings.NewReader(data), int64(len(data)), "text/plain"))
}

func get(t *testing.T, s object.Store, key string) string {
	t.Helper()
	r, _, err := s.Open(t.Context(), key)
	require.NoError(t, err)
	defer func() { assert.NoError(t, r.Close()) }()
	b, err := io.ReadAll(r)
	require.NoError(t, err)
	return string(b)
}

func putOpenStat(t *testing.T, s object.Store) {
	before := time.Now().Add(-2 * time.Second) // S3 dates have whole seconds
	put(t, s, "pos/a/b.txt", "hello")
	assert.NotEmpty(t, s.Bucket())
	assert.Equal(t, "hello", get(t, s, "pos/a/b.txt"))

	info, err := s.Stat(t.Context(), "pos/a/b.txt")
	require.NoError(t, err)
	r, opened, err := s.Open(t.Context(), "pos/a/b.txt")
	require.NoError(t, err)
	require.NoError(t, r.Close())
	for _, i := range []object.Info{info, opened} {
		assert.Equal(t, "pos/a/b.txt", i.Key)
		assert.EqualValues(t, 5, i.Size)
		assert.Equal(t, "text/plain", i.ContentType)
		assert.WithinRange(t, i.ModTime, before, time.Now().Add(2*time.Second))
	}
}

func replace(t *testing.T, s object.Store) {
	put(t, s, "replace/k", "first, longer than the second")
	put(t, s, "replace/k", "second")
	assert.Equal(t, "second", get(t, s, "replace/k"))
	all, err := s.List(t.Context(), "replace/", "", 0)
	require.NoError(t, err)
	assert.Len(t, all, 1)
}

func absent(t *testing.T, s object.Store) {
	put(t, s, "absent/dir/file", "x")
	for _, key := range []string{"absent/none", "absent/dir", "absent/dir/file/below"} {
		_, err := s.Stat(t.Context(), key)
		assert.ErrorIs(t, err, fault.NotFound, "stat %s", key)
		_, _, err = s.Open(t.Context(), key)
		assert.ErrorIs(t, err, fault.NotFound, "open %s", key)
	}
}

func deletes(t *testing.T, s object.Store) {
	put(t, s, "del/d/k", "x")
	put(t, s, "del/d/other", "y")
	require.NoError(t, s.Delete(t.Context(), "del/d/k"))
	_, err := s.Stat(t.Context(), "del/d/k")
	require.ErrorIs(t, err, fault.NotFound)
	require.NoError(t, s.Delete(t.Context(), "del/d/k"), "an absent key is no error")
	require.NoError(t, s.Delete(t.Context(), "del/never/was"), "nor is one that never was")
	assert.Equal(t, "y", get(t, s, "del/d/other"))
	require.NoError(t, s.Delete(t.Context(), "del/d/other"))
	put(t, s, "del/d/k", "again")
	assert.Equal(t, "again", get(t, s, "del/d/k"))
}

func seeks(t *testing.T, s object.Store) {
	put(t, s, "seek/k", "0123456789")
	r, _, err := s.Open(t.Context(), "seek/k")
	require.NoError(t, err)
	defer r.Close()
	read := func(n int) string {
		b := make([]byte, n)
		_, err := io.ReadFull(r, b)
		require.NoError(t, err)
		return string(b)
	}
	seek := func(off int64, whence int) int64 {
		at, err := r.Seek(off, whence)
		require.NoError(t, err)
		return at
	}
	assert.Equal(t, "01", read(2))
	assert.EqualValues(t, 5, seek(5, io.SeekStart))
	assert.Equal(t, "567", read(3))
	assert.EqualValues(t, 4, seek(-4, io.SeekCurrent))
	assert.Equal(t, "4", read(1))
	assert.EqualValues(t, 10, seek(0, io.SeekEnd), "the size, as net/http asks for it")
	_, err = r.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	assert.EqualValues(t, 8, seek(-2, io.SeekEnd))
	assert.Equal(t, "89", read(2))
	_, err = r.Seek(-1, io.SeekStart)
	require.Error(t, err)
	assert.EqualValues(t, 0, seek(0, io.SeekStart))
	assert.Equal(t, "0123456789", read(10))
}

func empty(t *testing.T, s object.Store) {
	put(t, s, "empty/k", "")
	assert.Empty(t, get(t, s, "empty/k"))
	info, err := s.Stat(t.Context(), "empty/k")
	require.NoError(t, err)
	assert.Zero(t, info.Size)
}

func large(t *testing.T, s object.Store) {
	const size = 20 << 20
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(i * 7 >> (i % 5))
	}
	require.NoError(t, s.Put(t.Context(), state.PutDistribution, "large/k", bytes.NewReader(data), size, "application/zip"))
	r, info, err := s.Open(t.Context(), "large/k")
	require.NoError(t, err)
	defer r.Close()
	assert.EqualValues(t, size, info.Size)
	back, err := io.ReadAll(r)
	require.NoError(t, err)
	require.True(t, bytes.Equal(data, back), "the bytes differ")

	// A source that cannot seek must do as well: uploads come from the network.
	require.NoError(t, s.Put(t.Context(), state.PutDistribution, "large/k2", io.MultiReader(bytes.NewReader(data)), size, ""))
	info, err = s.Stat(t.Context(), "large/k2")
	require.NoError(t, err)
	assert.EqualValues(t, size, info.Size)
}

func keys(infos []object.Info) []string {
	out := []string{}
	for _, i := range infos {
		out = append(out, i.Key)
	}
	return out
}

func lists(t *testing.T, s object.Store) {
	for _, k := range []string{"list/b/2", "list/a-b", "list/a/1", "list/b/1", "list/a.b", "list/c", "listing"} {
		put(t, s, k, k)
	}
	for _, tt := range []struct {
		name, prefix, after string
		limit               int
		want                []string
	}{
		{"all, the dash before the slash", "list/", "", 0, []string{"list/a-b", "list/a.b", "list/a/1", "list/b/1", "list/b/2", "list/c"}},
		{"a prefix need not end at a slash", "list/a", "", 0, []string{"list/a-b", "list/a.b", "list/a/1"}},
		{"a limit", "list/", "", 2, []string{"list/a-b", "list/a.b"}},
		{"after a key", "list/", "list/a/1", 2, []string{"list/b/1", "list/b/2"}},
		{"after a key that is absent", "list/", "list/b", 0, []string{"list/b/1", "list/b/2", "list/c"}},
		{"after the last", "list/", "list/c", 0, []string{}},
		{"nothing", "list/none/", "", 0, []string{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := s.List(t.Context(), tt.prefix, tt.after, tt.limit)
			require.NoError(t, err)
			assert.Equal(t, tt.want, keys(got))
			for _, i := range got {
				assert.EqualValues(t, len(i.Key), i.Size)
				assert.False(t, i.ModTime.IsZero())
			}
		})
	}
}

func listsPages(t *testing.T, s object.Store) {
	const n = 1005 // S3 pages have 1000
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := w; i < n; i += 16 {
				assert.NoError(t, s.Put(t.Context(), state.PutArtifact, fmt.Sprintf("pages/%04d", i), strings.NewReader("x"), 1, ""))
			}
		})
	}
	wg.Wait()
	got, err := s.List(t.Context(), "pages/", "", 0)
	require.NoError(t, err)
	require.Len(t, got, n)
	assert.Equal(t, "pages/0000", got[0].Key)
	assert.Equal(t, "pages/1004", got[n-1].Key)
}

func oddKeys(t *testing.T, s object.Store) {
	for _, key := range []string{"odd/a b+c", "odd/ü/ñ", "odd/a%2Fb", "odd/a&b=c?d#e", "odd/'q\"", "odd/com.example.Hello/1.0.0-rc.1+x/~f"} {
		put(t, s, key, key)
		assert.Equal(t, key, get(t, s, key))
	}
	got, err := s.List(t.Context(), "odd/", "", 0)
	require.NoError(t, err)
	assert.Len(t, got, 6)
	for _, i := range got {
		assert.Equal(t, i.Key, get(t, s, i.Key))
	}
}

func badKeys(t *testing.T, s object.Store) {
	for _, key := range []string{"", "/bad", "bad/", "bad/../../x", "bad//x", "bad\x00", strings.Repeat("k", 300)} {
		err := s.Put(t.Context(), state.PutArtifact, key, strings.NewReader("x"), 1, "")
		assert.ErrorIs(t, err, fault.Invalid, "%q", key)
	}
	got, err := s.List(t.Context(), "bad", "", 0)
	require.NoError(t, err)
	assert.Empty(t, got)
}

func badStep(t *testing.T, s object.Store) {
	require.Error(t, s.Put(t.Context(), "no.such.step", "step/k", strings.NewReader("x"), 1, ""))
	_, err := s.Stat(t.Context(), "step/k")
	require.ErrorIs(t, err, fault.NotFound)
}

func shortReader(t *testing.T, s object.Store) {
	require.Error(t, s.Put(t.Context(), state.PutArtifact, "short/k", strings.NewReader("abc"), 10, ""))
	_, err := s.Stat(t.Context(), "short/k")
	require.ErrorIs(t, err, fault.NotFound)
}

func parallel(t *testing.T, s object.Store) {
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := range 8 {
				key := fmt.Sprintf("par/%d/%d", w, i)
				assert.NoError(t, s.Put(t.Context(), state.PutCerts, key, strings.NewReader(key), int64(len(key)), ""))
			}
		})
	}
	wg.Wait()
	got, err := s.List(t.Context(), "par/", "", 0)
	require.NoError(t, err)
	assert.Len(t, got, 128)
}

func cancelled(t *testing.T, s object.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, s.Put(ctx, state.PutArtifact, "cancel/k", strings.NewReader("x"), 1, ""), context.Canceled)
	_, err := s.Stat(ctx, "cancel/k")
	require.ErrorIs(t, err, context.Canceled)
	_, err = s.List(ctx, "cancel/", "", 0)
	require.ErrorIs(t, err, context.Canceled)
}
