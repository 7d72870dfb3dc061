package nucleus_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/installer/nucleus"
	"github.com/ggfleet/ggfleet/shared/fault"
)

type entry struct {
	name string
	body string
	mode int64
	kind byte // tar type; 0: by name
	link string
}

const manifest = `{"name":"ggfleet.SimulatedNucleus","version":"1.0.0","runtime":"simulated","entrypoint":"bin/sim","args":["nucleus","--root","{root}"],"stateFile":"state.json","readyFile":"run/ready"}`

func program() []entry {
	return []entry{{name: "distribution.json", body: manifest, mode: 0o644}, {name: "bin/", mode: 0o755}, {name: "bin/sim", body: "#!/bin/sh\n", mode: 0o755}}
}

func tarGz(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	gz := gzip.NewWriter(&b)
	tw := tar.NewWriter(gz)
	for _, e := range entries {
		kind := e.kind
		if kind == 0 {
			kind = tar.TypeReg
			if e.name[len(e.name)-1] == '/' {
				kind = tar.TypeDir
			}
		}
		require.NoError(t, tw.WriteHeader(&tar.Header{Name: e.name, Mode: e.mode, Size: int64(len(e.body)), Typeflag: kind, Linkname: e.link}))
		_, err := tw.Write([]byte(e.body))
		require.NoError(t, err)
	}
	require.NoError(t, tw.Close())
	require.NoError(t, gz.Close())
	return b.Bytes()
}

func zipped(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	zw := zip.NewWriter(&b)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.name, Method: zip.Deflate}
		mode := fs.FileMode(e.mode)
		if e.kind == tar.TypeSymlink {
			mode |= fs.ModeSymlink
		}
		if e.name[len(e.name)-1] == '/' {
			mode |= fs.ModeDir
		}
		h.SetMode(mode)
		w, err := zw.CreateHeader(h)
		require.NoError(t, err)
		_, err = w.Write([]byte(e.body))
		require.NoError(t, err)
	}
	require.NoError(t, zw.Close())
	return b.Bytes()
}

func digest(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

func unpack(t testing.TB, archive []byte, format, digest string, lim nucleus.Limits) (string, error) {
	t.Helper()
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	require.NoError(t, err)
	defer root.Close()
	require.NoError(t, root.Mkdir("in", 0o755))
	name := filepath.Join(t.TempDir(), "archive")
	require.NoError(t, os.WriteFile(name, archive, 0o600))
	f, err := os.Open(name)
	require.NoError(t, err)
	defer f.Close()
	return dir, nucleus.Unpack(t.Context(), f, format, digest, root, "in", lim)
}

func TestUnpackBothFormats(t *testing.T) {
	for format, b := range map[string][]byte{"tar.gz": tarGz(t, program()...), "zip": zipped(t, program()...)} {
		t.Run(format, func(t *testing.T) {
			dir, err := unpack(t, b, format, digest(b), nucleus.Limits{})
			require.NoError(t, err)
			info, err := os.Stat(filepath.Join(dir, "in/bin/sim"))
			require.NoError(t, err)
			assert.Equal(t, fs.FileMode(0o755), info.Mode().Perm())
			got, err := os.ReadFile(filepath.Join(dir, "in/distribution.json"))
			require.NoError(t, err)
			assert.JSONEq(t, manifest, string(got))
		})
	}
}

func TestUnpackRefuses(t *testing.T) {
	big := entry{name: "big", body: string(make([]byte, 4096)), mode: 0o644}
	lim := nucleus.Limits{Bytes: 4000, Entries: 5}
	tests := map[string]struct {
		entries []entry
		want    fault.Kind
		tarOnly bool
	}{
		"a path that climbs out":       {[]entry{{name: "../x", body: "x"}}, fault.Invalid, false},
		"a path that climbs out later": {[]entry{{name: "a/../../x", body: "x"}}, fault.Invalid, false},
		"an absolute path":             {[]entry{{name: "/etc/x", body: "x"}}, fault.Invalid, false},
		"a backslash":                  {[]entry{{name: `..\x`, body: "x"}}, fault.Invalid, false},
		"a symbolic link":              {[]entry{{name: "l", kind: tar.TypeSymlink, link: "/etc"}}, fault.Invalid, false},
		"a hard link":                  {[]entry{{name: "l", kind: tar.TypeLink, link: "x"}}, fault.Invalid, true},
		"a device":                     {[]entry{{name: "d", kind: tar.TypeChar}}, fault.Invalid, true},
		"one name twice":               {[]entry{{name: "a", body: "1"}, {name: "a", body: "2"}}, fault.Invalid, false},
		"a file that is also a folder": {[]entry{{name: "a", body: "1"}, {name: "a/b", body: "2"}}, fault.Invalid, false},
		"more bytes than the limit":    {[]entry{big}, fault.TooLarge, false},
		"more entries than the limit":  {[]entry{{name: "1"}, {name: "2"}, {name: "3"}, {name: "4"}, {name: "5"}, {name: "6"}}, fault.TooLarge, false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			b := tarGz(t, tc.entries...)
			_, err := unpack(t, b, "tar.gz", digest(b), lim)
			require.ErrorIs(t, err, tc.want)
			if !tc.tarOnly {
				b = zipped(t, tc.entries...)
				_, err = unpack(t, b, "zip", digest(b), lim)
				require.ErrorIs(t, err, tc.want)
			}
		})
	}
}

func TestAWrongDigestWritesNothing(t *testing.T) {
	b := tarGz(t, program()...)
	dir, err := unpack(t, b, "tar.gz", digest([]byte("other")), nucleus.Limits{})
	require.ErrorIs(t, err, fault.Invalid)
	left, err := os.ReadDir(filepath.Join(dir, "in"))
	require.NoError(t, err)
	assert.Empty(t, left)
	_, err = unpack(t, b, "rar", digest(b), nucleus.Limits{})
	require.ErrorIs(t, err, fault.Unsupported)
}

func FuzzUnpack(f *testing.F) {
	f.Add(tarGz(f, program()...), true)
	f.Add(zipped(f, program()...), false)
	f.Add(zipped(f, entry{name: "../x", body: "y"}), false)
	f.Fuzz(func(t *testing.T, b []byte, isTar bool) {
		format := "zip"
		if isTar {
			format = "tar.gz"
		}
		dir, _ := unpack(t, b, format, digest(b), nucleus.Limits{Bytes: 1 << 16, Entries: 16})
		top, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Len(t, top, 1, "nothing outside the folder")
		require.NoError(t, filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
			require.NoError(t, err)
			require.True(t, d.IsDir() || d.Type().IsRegular())
			return nil
		}))
	})
}
