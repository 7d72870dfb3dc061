package telemetry_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// BenchmarkSpool says how many reports of 600 bytes a second are stored, each
// synced, and how many are read and acknowledged in order; its floor is the same
// bytes written to one file, with and without a sync each.
func BenchmarkSpool(b *testing.B) {
	body := strings.Repeat("x", 600)
	b.Run("append", func(b *testing.B) {
		s := openSpool(b, b.TempDir(), 64<<20)
		for b.Loop() {
			add(b, s, body)
		}
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "reports/s")
	})
	floor := func(sync bool) func(b *testing.B) {
		return func(b *testing.B) {
			f, err := os.Create(filepath.Join(b.TempDir(), "floor"))
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = f.Close() }()
			for b.Loop() {
				if _, err := f.WriteString(body); err != nil {
					b.Fatal(err)
				}
				if sync {
					if err := f.Sync(); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "reports/s")
		}
	}
	b.Run("append-floor", floor(true))
	b.Run("drain", func(b *testing.B) {
		dir, err := os.MkdirTemp(memory(), "bench") //nolint:usetesting // memory, not a disk
		if err != nil {
			b.Fatal(err)
		}
		s := openSpool(b, dir, 64<<20)
		b.Cleanup(func() { _ = os.RemoveAll(dir) })
		for range b.N {
			add(b, s, body)
		}
		b.ResetTimer()
		last := uint64(0)
		for {
			r, ok, err := s.Next()
			if err != nil || !ok {
				break
			}
			if r.Sequence <= last {
				b.Fatalf("%d came after %d", r.Sequence, last)
			}
			last = r.Sequence
			s.Ack(r.Sequence)
		}
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "reports/s")
	})
	b.Run("drain-floor", floor(false))
}
