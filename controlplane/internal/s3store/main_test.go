package s3store_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/s3store"
	"github.com/ggfleet/ggfleet/controlplane/internal/s3store/s3test"
	"github.com/ggfleet/ggfleet/shared/logx"
)

func TestMain(m *testing.M) {
	s3test.Helper()
	os.Exit(m.Run())
}

const (
	rootKey    = "GGFAROOTROOTROOTROOT"
	rootSecret = "root-secret-0123456789-abcdefghijklmnopq"
	region     = "eu-central-1"
)

// startEmbedded runs a server in this process: one test at a time can.
func startEmbedded(t *testing.T, change ...func(*s3store.EmbeddedConfig)) *s3store.Embedded {
	t.Helper()
	t.Chdir(t.TempDir()) // the server changes it; this restores it
	cfg := s3store.EmbeddedConfig{
		Dir: filepath.Join(t.TempDir(), "s3"), Region: region,
		RootKey: rootKey, RootSecret: logx.NewSecret(rootSecret),
	}
	for _, c := range change {
		c(&cfg)
	}
	e, err := s3store.StartEmbedded(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	return e
}

func bucketOf(t *testing.T, e *s3store.Embedded, bucket string) *s3store.Store {
	t.Helper()
	s, err := e.Store(bucket)
	require.NoError(t, err)
	require.NoError(t, s.EnsureBucket(t.Context()))
	return s
}
