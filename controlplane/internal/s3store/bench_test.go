package s3store_test

import (
	"bytes"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/s3store"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/logx"
)

// BenchmarkPut puts objects of the size of a core's certs.zip, each in a folder
// of its own, sixteen at a time.
func BenchmarkPut(b *testing.B) {
	for _, noFsync := range []bool{false, true} {
		b.Run(fmt.Sprintf("fsync=%v", !noFsync), func(b *testing.B) {
			b.Chdir(b.TempDir())
			e, err := s3store.StartEmbedded(s3store.EmbeddedConfig{
				Dir: b.TempDir(), Region: region, RootKey: rootKey, RootSecret: logx.NewSecret(rootSecret), NoFsync: noFsync,
			})
			require.NoError(b, err)
			s, err := e.Store("artifacts")
			require.NoError(b, err)
			require.NoError(b, s.EnsureBucket(b.Context()))
			data := bytes.Repeat([]byte("certificate"), 400)
			var n atomic.Int64
			b.SetParallelism(8)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					key := fmt.Sprintf("cores/gw-%d/certs.zip", n.Add(1))
					if err := s.Put(b.Context(), state.PutCerts, key, bytes.NewReader(data), int64(len(data)), "application/zip"); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.StopTimer()
			require.NoError(b, e.Close())
		})
	}
}
