package s3store_test

import (
	"context"
	"io/fs"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/s3store"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
)

func put(t *testing.T, s *s3store.Store, key, data string) error {
	t.Helper()
	return s.Put(t.Context(), state.PutCerts, key, strings.NewReader(data), int64(len(data)), "")
}

func TestNothingOfTheStoreIsReadableByOthers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s3")
	e := startEmbedded(t, func(c *s3store.EmbeddedConfig) { c.Dir = dir })
	s := bucketOf(t, e, "artifacts")
	require.NoError(t, put(t, s, "cores/gw-1/certs.zip", "secret"))
	seen := 0
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		require.NoError(t, err)
		fi, err := d.Info()
		require.NoError(t, err)
		assert.Zero(t, fi.Mode().Perm()&0o077, "%s is %s", path, fi.Mode())
		seen++
		return nil
	}))
	assert.Greater(t, seen, 6)
}

func TestAListingKnowsItsFoldersByTheirWholeName(t *testing.T) {
	e := startEmbedded(t, func(*s3store.EmbeddedConfig) {})
	s := bucketOf(t, e, "artifacts")
	require.NoError(t, put(t, s, "cores/gw-1/gw-1/certs.zip", "1"))
	require.NoError(t, put(t, s, "cores/gw-10/gw-10/certs.zip", "10"))
	for prefix, want := range map[string]int{
		"": 2, "cores/": 2, "cores/gw-1": 2, "cores/gw-1/": 1, "cores/gw-1/gw-1/c": 1, "cores/gw-1/gw-1/certs.zip": 1,
		"cores/gw-2/": 0, "cores/gw-2": 0, "nobody/": 0, "cores/gw-1/gw-1/certs.zip/": 0, "cores/gw-1/gw-1/certs.zip/x/": 0,
	} {
		list, err := s.List(t.Context(), prefix, "", 0)
		require.NoError(t, err, prefix)
		assert.Len(t, list, want, "%q", prefix)
	}
}

func TestTheServerStartsAgainInTheSameProcessAndFindsItsObjects(t *testing.T) {
	t.Chdir(t.TempDir())
	cfg := s3store.EmbeddedConfig{Dir: filepath.Join(t.TempDir(), "s3"), Region: region, RootKey: rootKey, RootSecret: logx.NewSecret(rootSecret)}
	e, err := s3store.StartEmbedded(cfg)
	require.NoError(t, err)
	s := bucketOf(t, e, "artifacts")
	require.NoError(t, put(t, s, "k", "kept"))

	_, err = s3store.StartEmbedded(s3store.EmbeddedConfig{Dir: t.TempDir(), Region: region, RootKey: rootKey, RootSecret: logx.NewSecret(rootSecret)})
	require.Error(t, err, "one server in a process")

	proxy := e.Proxy()
	require.NoError(t, e.Close())
	require.NoError(t, e.Close(), "closing again does nothing")
	require.ErrorIs(t, put(t, s, "k2", "lost"), fault.Unavailable)
	w := httptest.NewRecorder()
	proxy.ServeHTTP(w, httptest.NewRequest("GET", "/artifacts/k", nil))
	assert.Equal(t, 503, w.Code)
	assert.Contains(t, w.Body.String(), "<Code>ServiceUnavailable</Code>")

	// What a kill leaves behind: the file of the socket.
	require.NoError(t, os.WriteFile(filepath.Join(cfg.Dir, "s3.sock"), nil, 0o600))
	cfg.NoFsync = true
	e, err = s3store.StartEmbedded(cfg)
	require.NoError(t, err)
	s = bucketOf(t, e, "artifacts")
	info, err := s.Stat(t.Context(), "k")
	require.NoError(t, err)
	assert.EqualValues(t, 4, info.Size)
	require.NoError(t, put(t, s, "k2", "unsynced"))

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, e.Run(ctx))
	assert.NoFileExists(t, filepath.Join(cfg.Dir, "s3.sock"))
}

func TestAFolderTooDeepForASocketIsNoObstacle(t *testing.T) {
	deep := filepath.Join(t.TempDir(), strings.Repeat("d", 120), "s3")
	e := startEmbedded(t, func(c *s3store.EmbeddedConfig) { c.Dir = deep })
	s := bucketOf(t, e, "artifacts")
	require.NoError(t, put(t, s, "k", "x"))
	assert.NoFileExists(t, filepath.Join(deep, "s3.sock"))
}

func TestARelativeFolderMeansWhereTheProcessStarted(t *testing.T) {
	before := t.TempDir()
	t.Chdir(before)
	e, err := s3store.StartEmbedded(s3store.EmbeddedConfig{Dir: "data", Region: region, RootKey: rootKey, RootSecret: logx.NewSecret(rootSecret)})
	require.NoError(t, err)
	defer func() { require.NoError(t, e.Close()) }()
	require.NoError(t, put(t, bucketOf(t, e, "artifacts"), "k", "x"))
	assert.FileExists(t, filepath.Join(before, "data", "objects", "artifacts", "k"))
}

func TestStartNamesWhatIsWrong(t *testing.T) {
	_, err := s3store.StartEmbedded(s3store.EmbeddedConfig{Dir: t.TempDir()})
	require.ErrorContains(t, err, "required")
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err = s3store.StartEmbedded(s3store.EmbeddedConfig{Dir: filepath.Join(file, "s3"), Region: region, RootKey: rootKey, RootSecret: logx.NewSecret(rootSecret)})
	require.ErrorContains(t, err, file)
}
