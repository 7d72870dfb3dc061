package load_test

import (
	"encoding/json"
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

// TestProvisioning measures one task that creates many cores, then, on the same
// data, how long a start takes and what reads cost.
func TestProvisioning(t *testing.T) {
	n := size(t, "CORES", 10_000, 100)
	floorBin := program(t, "controlplane", "ggfleet-floor")
	w, profiles := start(t)
	atRest := rss(t, w.PID())
	startTimes(t, w, "empty")

	var took time.Duration
	before := used(t, w.PID())
	profile(t, profiles, "provision", func() { took = provision(t, w, coreNames(n)) })
	after := used(t, w.PID())
	perSecond := float64(n) / took.Seconds()

	startTimes(t, w, strconv.Itoa(n)+" cores")
	reads(t, w, n)
	w.Stop(t)
	best, bestCPU := 0.0, math.Inf(1)
	for _, workers := range []int{16, 64} {
		f := floor(t, floorBin, w.Dir, n, workers)
		say(t, "floor of provisioning", "%.0f/s with %d at once, %.2f ms CPU a core (%.1f records of together %.0f bytes a core, %d commits)",
			f.perSecond(), workers, f.cpuPerCore(), f.RecordsPerCore, f.BytesPerCore, f.Commits)
		best, bestCPU = max(best, f.perSecond()), min(bestCPU, f.cpuPerCore())
	}
	cpu := ms(after.cpu-before.cpu) / float64(n)
	say(t, "provision "+strconv.Itoa(n)+" cores in one task", "%.0f/s in %.1f s, %.2f ms CPU a core; floor %.0f/s, %.2f ms CPU; ratio %.2f (aim 0.7), by CPU %.2f",
		perSecond, took.Seconds(), cpu, best, bestCPU, perSecond/best, bestCPU/cpu)
	say(t, "memory of the control plane", "%.0f MB at rest, %.0f MB after provisioning %d cores", atRest, float64(after.rss)/mb, n)
}

// floorResult is what ggfleet-floor prints.
type floorResult struct {
	Cores          int     `json:"cores"`
	Seconds        float64 `json:"seconds"`
	Commits        int     `json:"commits"`
	RecordsPerCore float64 `json:"recordsPerCore"`
	BytesPerCore   float64 `json:"bytesPerCore"`

	cpu time.Duration
}

func (f floorResult) cpuPerCore() float64 { return ms(f.cpu) / float64(f.Cores) }

func (f floorResult) perSecond() float64 { return float64(f.Cores) / f.Seconds }

// floor does the work of provisioning without us: see controlplane/cmd/ggfleet-floor.
func floor(t *testing.T, bin, like string, cores, workers int) floorResult {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "floor"+strconv.Itoa(workers))
	var f floorResult
	out, cpu := output(t, bin, "--like", like, "--dir", dir, "--cores", strconv.Itoa(cores), "--workers", strconv.Itoa(workers))
	require.NoError(t, json.Unmarshal(out, &f), "%s", out)
	f.cpu = cpu
	require.NoError(t, os.RemoveAll(dir))
	return f
}

// startTimes restarts w a few times.
func startTimes(t *testing.T, w *world.World, what string) {
	t.Helper()
	rounds := 5
	if !full() {
		rounds = 1
	}
	var ready, bare []time.Duration
	bin, err := world.Binary()
	require.NoError(t, err)
	for range rounds {
		began := time.Now()
		require.NoError(t, exec.CommandContext(t.Context(), bin, "--help").Run())
		bare = append(bare, time.Since(began))
		w.Stop(t)
		began = time.Now()
		w.Restart(t)
		ready = append(ready, time.Since(began))
	}
	say(t, "start to ready, "+what, "%d ms (median of %d); floor %d ms (process start of ggfleet --help); aim 1 s empty, 10 s with 100,000",
		quantile(ready, 0.5).Milliseconds(), rounds, quantile(bare, 0.5).Milliseconds())
}

// reads measures what people and scripts ask most. The floor is the smallest
// answer of the same server.
func reads(t *testing.T, w *world.World, cores int) {
	t.Helper()
	rounds := 1000
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
		say(t, r.what+" of "+strconv.Itoa(cores)+" cores", "p50 %.2f ms, p99 %.2f ms; floor (healthz) p50 %.2f ms, p99 %.2f ms; aim p99 10 ms",
			ms(p50), ms(p99), ms(bare50), ms(bare99))
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
		{"agent", "ggfleet-agent", "; aim 15 MB"}, {"controlplane", "ggfleet", ""}, {"test", "ggfleet-sim", ""},
	} {
		out := filepath.Join(dir, p.name)
		cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-tags=nomsgpack", "-buildvcs=false", "-ldflags=-s -w", "-o", out, "./cmd/"+p.name)
		cmd.Dir = filepath.Join(root, p.module)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
		text, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", text)
		fi, err := os.Stat(out)
		require.NoError(t, err)
		say(t, "binary of "+p.name+", stripped", "%.1f MB%s", float64(fi.Size())/mb, p.aim)
	}
}
