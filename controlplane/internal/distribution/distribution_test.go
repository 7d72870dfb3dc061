package distribution_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/distribution"
	objects "github.com/ggfleet/ggfleet/controlplane/internal/object/memory"
	"github.com/ggfleet/ggfleet/controlplane/internal/state/memory"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

const name = "aws.greengrass.NucleusLite"

// tarGz and zipped are archives of one file.
func tarGz(t *testing.T, content string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	require.NoError(t, w.WriteHeader(&tar.Header{Name: "nucleus", Mode: 0o755, Size: int64(len(content))}))
	_, err := w.Write([]byte(content))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	require.NoError(t, z.Close())
	return b.String()
}

func zipped(t *testing.T, content string) string {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	f, err := w.Create("nucleus")
	require.NoError(t, err)
	_, err = f.Write([]byte(content))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return b.String()
}

func digest(s string) string {
	h := sha256.Sum256([]byte(s))
	return hex.EncodeToString(h[:])
}

func TestArchivesAreKeptUnderTheirDigest(t *testing.T) {
	objects := objects.New("bucket")
	s := distribution.New(memory.New(), objects, "distributions/", nil)
	put := func(version, content string) (distribution.Record, error) {
		return s.Put(t.Context(), distribution.Upload{Name: name, Version: version, Format: "tar.gz"}, strings.NewReader(content))
	}
	first, second := tarGz(t, "one"), tarGz(t, "two")
	none, err := s.Offer(t.Context(), "gw", protocol.AssignmentQuery{})
	require.NoError(t, err)
	assert.Nil(t, none)

	one, err := put("2.6.0", first)
	require.NoError(t, err)
	assert.Equal(t, digest(first), one.Digest)
	assert.EqualValues(t, len(first), one.Size)
	_, err = put("2.7.0", second)
	require.NoError(t, err)
	c, err := s.Offer(t.Context(), "gw", protocol.AssignmentQuery{})
	require.NoError(t, err)
	assert.Equal(t, "2.6.0", c.Version, "the first stays until another is chosen")
	again, err := put("2.6.0", first)
	require.NoError(t, err)
	assert.Equal(t, one, again)
	_, err = put("2.6.0", tarGz(t, "other"))
	require.ErrorIs(t, err, fault.Exists)

	require.NoError(t, s.Activate(t.Context(), name, "2.7.0", ""))
	require.ErrorIs(t, s.Activate(t.Context(), name, "3.0.0", ""), fault.NotFound)
	list, err := s.List(t.Context())
	require.NoError(t, err)
	require.Len(t, list, 2)
	assert.False(t, list[0].Current)
	assert.True(t, list[1].Current)

	r, info, err := s.Open(t.Context(), digest(second))
	require.NoError(t, err)
	b, err := io.ReadAll(r)
	require.NoError(t, err)
	assert.Equal(t, second, string(b))
	assert.EqualValues(t, len(second), info.Size)
	for _, d := range []string{digest("none"), "", "../x", strings.Repeat("0", 63)} {
		_, _, err = s.Open(t.Context(), d)
		require.ErrorIs(t, err, fault.NotFound)
	}
	for _, n := range []string{"none", "a/b", ""} {
		_, err = s.Get(t.Context(), n, "1", "")
		require.ErrorIs(t, err, fault.NotFound)
	}
}

func TestAnArchiveThatCannotBe(t *testing.T) {
	broken := errors.New("broken pipe")
	for _, c := range []struct {
		says, name, version, format string
		r                           io.Reader
		kind                        error
	}{
		{"name", "a b", "1.0.0", "zip", strings.NewReader("x"), fault.Invalid},
		{"version", name, "1/0", "zip", strings.NewReader("x"), fault.Invalid},
		{"format", name, "1.0.0", "rar", strings.NewReader("x"), fault.Invalid},
		{"empty", name, "1.0.0", "zip", strings.NewReader(""), fault.Invalid},
		{"no zip", name, "1.0.0", "zip", strings.NewReader("PK\x03\x04"), fault.Invalid},
		{"no zip", name, "1.0.0", "zip", strings.NewReader(tarGz(t, "x")), fault.Invalid},
		{"no tar.gz", name, "1.0.0", "tar.gz", strings.NewReader(zipped(t, "x")), fault.Invalid},
		{"no tar.gz", name, "1.0.0", "tar.gz", strings.NewReader("\x1f\x8b"), fault.Invalid},
		{"broken", name, "1.0.0", "zip", io.MultiReader(strings.NewReader("x"), failing{broken}), broken},
	} {
		t.Run(c.says, func(t *testing.T) {
			objects := objects.New("bucket")
			s := distribution.New(memory.New(), objects, "distributions/", nil)
			_, err := s.Put(t.Context(), distribution.Upload{Name: c.name, Version: c.version, Format: c.format}, c.r)
			require.ErrorIs(t, err, c.kind)
			assert.ErrorContains(t, err, c.says)
			all, err := objects.List(t.Context(), "", "", 0)
			require.NoError(t, err)
			assert.Empty(t, all)
			list, err := s.List(t.Context())
			require.NoError(t, err)
			assert.Empty(t, list)
		})
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestFirstArchivesPutAtOnceAreAllKept(t *testing.T) {
	s := distribution.New(memory.New(), objects.New("bucket"), "distributions/", nil)
	var wg sync.WaitGroup
	for _, v := range []string{"1.0.0", "2.0.0", "3.0.0", "4.0.0"} {
		archive := zipped(t, v)
		wg.Go(func() {
			_, err := s.Put(context.WithoutCancel(t.Context()), distribution.Upload{Name: name, Version: v, Format: "zip"}, strings.NewReader(archive))
			assert.NoError(t, err)
		})
	}
	wg.Wait()
	list, err := s.List(t.Context())
	require.NoError(t, err)
	assert.Len(t, list, 4)
	c, err := s.Offer(t.Context(), "gw", protocol.AssignmentQuery{})
	require.NoError(t, err)
	require.NotNil(t, c)
}
