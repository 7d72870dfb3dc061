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
	"fmt"
	"io"
	"maps"
	"slices"
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

const name = "ggfleet.SimulatedNucleus"

// files are the content of an archive of a nucleus: its program says content.
func files(version, content string) map[string]string {
	return map[string]string{
		"distribution.json": fmt.Sprintf(`{"name":%q,"version":%q,"runtime":"simulated","entrypoint":"bin/sim"}`, name, version),
		"bin/sim":           content,
	}
}

// classic are the files that tell AWS's distribution of the classic nucleus.
func classic(version string) map[string]string {
	return map[string]string{
		"lib/Greengrass.jar": "jar", "bin/loader": "#!/bin/sh\n", "bin/greengrass.service.template": "[Service]\n",
		"conf/recipe.yaml": "ComponentName: aws.greengrass.Nucleus\nComponentVersion: \"" + version + "\"\n",
	}
}

func tarGz(t *testing.T, files map[string]string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, f := range slices.Sorted(maps.Keys(files)) {
		require.NoError(t, w.WriteHeader(&tar.Header{Name: f, Mode: 0o755, Size: int64(len(files[f]))}))
		_, err := w.Write([]byte(files[f]))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	require.NoError(t, z.Close())
	return b.String()
}

func zipped(t *testing.T, files map[string]string) string {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		f, err := w.Create(name)
		require.NoError(t, err)
		_, err = f.Write([]byte(files[name]))
		require.NoError(t, err)
	}
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
	first, second := tarGz(t, files("2.6.0", "one")), tarGz(t, files("2.7.0", "two"))
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
	_, err = put("2.6.0", tarGz(t, files("2.6.0", "other")))
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
		{"not zip", name, "1.0.0", "zip", strings.NewReader("PK\x03\x04"), fault.Invalid},
		{"name", "other", "1.0.0", "zip", strings.NewReader(zipped(t, files("1.0.0", "x"))), fault.Invalid},
		{"version", name, "1.0.1", "zip", strings.NewReader(zipped(t, files("1.0.0", "x"))), fault.Invalid},
		{"archive", name, "1.0.0", "zip", strings.NewReader(zipped(t, map[string]string{"a": "b"})), fault.Invalid},
		{"not zip", name, "1.0.0", "zip", strings.NewReader(tarGz(t, files("1.0.0", "x"))), fault.Invalid},
		{"gzip", name, "1.0.0", "tar.gz", strings.NewReader(zipped(t, files("1.0.0", "x"))), fault.Invalid},
		{"gzip", name, "1.0.0", "tar.gz", strings.NewReader("\x1f\x8b"), fault.Invalid},
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
		archive := zipped(t, files(v, v))
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

func TestEachDeviceIsOfferedWhatFitsIt(t *testing.T) {
	s := distribution.New(memory.New(), objects.New("bucket"), "distributions/", nil)
	put := func(u distribution.Upload, content map[string]string) distribution.Record {
		t.Helper()
		u.Format = "zip"
		r, err := s.Put(t.Context(), u, strings.NewReader(zipped(t, content)))
		require.NoError(t, err)
		return r
	}
	offer := func(core, runtime, platform string) string {
		t.Helper()
		d, err := s.Offer(t.Context(), core, protocol.AssignmentQuery{Runtime: runtime, Platform: platform})
		require.NoError(t, err)
		if d == nil {
			return ""
		}
		return strings.TrimSpace(d.Runtime + " " + d.Version + " " + d.Platform)
	}
	assert.Empty(t, offer("gw", "classic", "linux/arm64"))
	sim := put(distribution.Upload{}, files("1.0.0", "x"))
	assert.Equal(t, "simulated", sim.Runtime)
	assert.Equal(t, "simulated 1.0.0", offer("gw", "classic", "linux/arm64"), "stands in for a runtime that has none")
	found := put(distribution.Upload{}, classic("2.12.0"))
	assert.Equal(t, []string{"aws.greengrass.Nucleus", "2.12.0", "classic", ""}, []string{found.Name, found.Version, found.Runtime, found.Platform})
	assert.Equal(t, "classic 2.12.0", offer("gw", "classic", "linux/arm64"), "built for any platform")
	assert.Equal(t, "simulated 1.0.0", offer("gw", "lite", "linux/arm64"))
	assert.Equal(t, "simulated 1.0.0", offer("gw", "", ""), "who says nothing gets what any device can run")

	put(distribution.Upload{Platform: "linux/arm64"}, classic("2.13.0"))
	amd := put(distribution.Upload{Platform: "linux/amd64"}, classic("2.13.0"))
	assert.Equal(t, "linux/amd64", amd.Platform)
	assert.Equal(t, "classic 2.13.0 linux/arm64", offer("gw", "classic", "linux/arm64"), "the first of its platform is current")
	assert.Equal(t, "classic 2.12.0", offer("gw", "classic", "linux/riscv64"))

	put(distribution.Upload{Platform: "linux/arm64"}, classic("2.14.0"))
	assert.Equal(t, "classic 2.13.0 linux/arm64", offer("gw", "classic", "linux/arm64"))
	require.NoError(t, s.SetPin(t.Context(), "canary", distribution.Pin{Name: "aws.greengrass.Nucleus", Version: "2.14.0"}))
	assert.Equal(t, "classic 2.14.0 linux/arm64", offer("canary", "classic", "linux/arm64"), "before the others")
	assert.Empty(t, offer("canary", "classic", "linux/amd64"), "there is no such build: it keeps what it has")
	assert.Empty(t, offer("canary", "lite", "linux/arm64"), "not another runtime")
	require.NoError(t, s.Activate(t.Context(), "aws.greengrass.Nucleus", "2.14.0", ""))
	assert.Equal(t, "classic 2.14.0 linux/arm64", offer("gw", "classic", "linux/arm64"))
	assert.Equal(t, "classic 2.13.0 linux/amd64", offer("gw", "classic", "linux/amd64"))
	require.NoError(t, s.Forget(t.Context(), "canary"))
	require.NoError(t, s.Forget(t.Context(), "canary"))
	require.ErrorIs(t, s.SetPin(t.Context(), "gw", distribution.Pin{Name: "aws.greengrass.Nucleus", Version: "9.9.9"}), fault.NotFound)
	require.ErrorIs(t, s.Activate(t.Context(), "aws.greengrass.Nucleus", "2.14.0", "linux/amd64"), fault.NotFound)

	list, err := s.List(t.Context())
	require.NoError(t, err)
	current := 0
	for _, r := range list {
		if r.Current {
			current++
		}
	}
	assert.Equal(t, 4, current, "one for each runtime and platform")
}
