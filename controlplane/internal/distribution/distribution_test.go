package distribution_test

import (
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
)

const name = "aws.greengrass.NucleusLite"

func digest(s string) string {
	h := sha256.Sum256([]byte(s))
	return hex.EncodeToString(h[:])
}

func TestArchivesAreKeptUnderTheirDigest(t *testing.T) {
	objects := objects.New("bucket")
	s := distribution.New(memory.New(), objects, "distributions/", nil)
	put := func(version, content string) (distribution.Record, error) {
		return s.Put(t.Context(), name, version, "tar.gz", strings.NewReader(content))
	}
	none, err := s.Current(t.Context())
	require.NoError(t, err)
	assert.Nil(t, none)

	one, err := put("2.6.0", "one")
	require.NoError(t, err)
	assert.Equal(t, digest("one"), one.Digest)
	assert.EqualValues(t, 3, one.Size)
	_, err = put("2.7.0", "two")
	require.NoError(t, err)
	c, err := s.Current(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "2.6.0", c.Version, "the first stays until another is chosen")
	again, err := put("2.6.0", "one")
	require.NoError(t, err)
	assert.Equal(t, one, again)
	_, err = put("2.6.0", "other")
	require.ErrorIs(t, err, fault.Exists)

	require.NoError(t, s.Activate(t.Context(), name, "2.7.0"))
	require.ErrorIs(t, s.Activate(t.Context(), name, "3.0.0"), fault.NotFound)
	list, err := s.List(t.Context())
	require.NoError(t, err)
	require.Len(t, list, 2)
	assert.False(t, list[0].Current)
	assert.True(t, list[1].Current)

	r, info, err := s.Open(t.Context(), digest("two"))
	require.NoError(t, err)
	b, err := io.ReadAll(r)
	require.NoError(t, err)
	assert.Equal(t, "two", string(b))
	assert.EqualValues(t, 3, info.Size)
	for _, d := range []string{digest("none"), "", "../x", strings.Repeat("0", 63)} {
		_, _, err = s.Open(t.Context(), d)
		require.ErrorIs(t, err, fault.NotFound)
	}
	for _, n := range []string{"none", "a/b", ""} {
		_, err = s.Get(t.Context(), n, "1")
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
		{"broken", name, "1.0.0", "zip", io.MultiReader(strings.NewReader("x"), failing{broken}), broken},
	} {
		t.Run(c.says, func(t *testing.T) {
			objects := objects.New("bucket")
			s := distribution.New(memory.New(), objects, "distributions/", nil)
			_, err := s.Put(t.Context(), c.name, c.version, c.format, c.r)
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
		wg.Go(func() {
			_, err := s.Put(context.WithoutCancel(t.Context()), name, v, "zip", strings.NewReader(v))
			assert.NoError(t, err)
		})
	}
	wg.Wait()
	list, err := s.List(t.Context())
	require.NoError(t, err)
	assert.Len(t, list, 4)
	c, err := s.Current(t.Context())
	require.NoError(t, err)
	require.NotNil(t, c)
}
