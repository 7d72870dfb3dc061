package load_test

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/test/internal/world"
)

// floors measures the floor of creation with few and with many at once and
// returns the best of each figure.
func floors(t *testing.T, bin, like string, cores int) (perSecond, cpu float64) {
	t.Helper()
	cpu = math.Inf(1)
	for _, workers := range []int{16, 64} {
		f := floor(t, bin, like, cores, workers)
		say(t, "floor of creating", "%.0f/s with %d at once, %.2f ms CPU a core (%.1f records of together %.0f bytes a core, %d commits)",
			f.perSecond(), workers, f.cpuPerCore(), f.RecordsPerCore, f.BytesPerCore, f.Commits)
		perSecond, cpu = max(perSecond, f.perSecond()), min(cpu, f.cpuPerCore())
	}
	return perSecond, cpu
}

// floorResult is what ggfleet-floor prints.
type floorResult struct {
	Cores          int     `json:"cores"`
	Seconds        float64 `json:"seconds"`
	Commits        int     `json:"commits"`
	RecordsPerCore float64 `json:"recordsPerCore"`
	BytesPerCore   float64 `json:"bytesPerCore"`
	Kinds          map[string]struct {
		Records int `json:"records"`
		Keys    int `json:"keys"`   // bytes
		Values  int `json:"values"` // bytes
	} `json:"kinds"`

	cpu time.Duration
}

func (f floorResult) cpuPerCore() float64 { return ms(f.cpu) / float64(f.Cores) }

func (f floorResult) perSecond() float64 { return float64(f.Cores) / f.Seconds }

// floor does the work of provisioning without us: see controlplane/cmd/ggfleet-floor.
func floor(t *testing.T, bin, like string, cores, workers int) floorResult {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "floor"+strconv.Itoa(workers))
	f := measured(t, bin, "--like", like, "--dir", dir, "--cores", strconv.Itoa(cores), "--workers", strconv.Itoa(workers))
	require.NoError(t, os.RemoveAll(dir))
	return f
}

// measured runs ggfleet-floor.
func measured(t *testing.T, bin string, args ...string) floorResult {
	t.Helper()
	var f floorResult
	out, cpu := output(t, bin, args...)
	require.NoError(t, json.Unmarshal(out, &f), "%s", out)
	f.cpu = cpu
	return f
}

// startTimes restarts w a few times and returns how much memory the last one took,
// in MB.
func startTimes(t *testing.T, w *world.World, what string) float64 {
	t.Helper()
	rounds := 5
	if !full() {
		rounds = 1
	}
	var ready, cpu, bare []time.Duration
	bin, err := world.Binary()
	require.NoError(t, err)
	for range rounds {
		began := time.Now()
		require.NoError(t, exec.CommandContext(t.Context(), bin, "--help").Run())
		bare = append(bare, time.Since(began))
		w.Stop(t)
		began = time.Now()
		w.Restart(t)
		ready, cpu = append(ready, time.Since(began)), append(cpu, used(t, w.PID()).cpu)
	}
	row(t, "start to ready, "+what, fmt.Sprintf("%d ms, %d ms CPU", quantile(ready, 0.5).Milliseconds(), quantile(cpu, 0.5).Milliseconds()),
		fmt.Sprintf("%d ms, `ggfleet --help`", quantile(bare, 0.5).Milliseconds()), "", "1 s empty, 10 s with 100,000")
	return rss(t, w.PID())
}

// reads measures what people and scripts ask most. The floor is the smallest
// answer of the same server.
func reads(t *testing.T, w *world.World, cores int) {
	t.Helper()
	rounds := 500
	if !full() {
		rounds = 20
	}
	middle := coreNames(cores)[cores/2]
	measure := func(path string) (p50, p99 time.Duration) {
		took := make([]time.Duration, rounds)
		tick := time.NewTicker(4 * time.Millisecond) // below the rate that one token may ask at
		defer tick.Stop()
		for i := range took {
			<-tick.C
			began := time.Now()
			a, err := w.Do(t.Context(), http.MethodGet, path, nil)
			took[i] = time.Since(began)
			require.NoError(t, err)
			require.Equal(t, http.StatusOK, a.Status, "%s: %s", path, a.Body)
		}
		return quantile(took, 0.5), quantile(took, 0.99)
	}
	bare50, bare99 := measure("/healthz")
	for _, r := range []struct{ what, path string }{
		{"a page of 100", "/cores?count=100&exclusiveStartThingName=" + middle},
		{"a filter that finds none", "/cores?count=100&templateName=nobody-has-it"},
		{"a filter that all pass", "/cores?count=100&templateName=None"},
		{"one core", "/cores/" + middle},
		{"fleet summary", "/fleet/summary"},
	} {
		p50, p99 := measure(r.path)
		row(t, r.what+" of "+strconv.Itoa(cores)+" cores", fmt.Sprintf("p50 %.2f, p99 %.2f ms", ms(p50), ms(p99)),
			fmt.Sprintf("p50 %.2f, p99 %.2f ms, `/healthz`", ms(bare50), ms(bare99)), "", "p99 10 ms")
	}
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// TestBinaries reports how large the programs are.
func TestBinaries(t *testing.T) {
	if !full() {
		t.Skip("links three binaries; make bench does")
	}
	dir := t.TempDir()
	root, err := world.Root()
	require.NoError(t, err)
	for _, p := range []struct{ module, name, aim string }{
		{"agent", "ggfleet-agent", "15 MB"}, {"controlplane", "ggfleet", ""}, {"test", "ggfleet-sim", ""},
	} {
		out := filepath.Join(dir, p.name)
		cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-tags=nomsgpack", "-buildvcs=false", "-ldflags=-s -w", "-o", out, "./cmd/"+p.name)
		cmd.Dir = filepath.Join(root, p.module)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
		text, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", text)
		fi, err := os.Stat(out)
		require.NoError(t, err)
		row(t, "binary of "+p.name+", stripped", fmt.Sprintf("%.1f MB", float64(fi.Size())/mb), "", "", p.aim)
	}
}
