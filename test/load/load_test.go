package load_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/test/internal/world"
)

// full tells whether the sizes are those of docs/benchmarks.md.
func full() bool { return os.Getenv("GGFLEET_BENCH") != "" }

// size is how large a benchmark is: the environment's word, or one of two.
func size(t *testing.T, name string, bench, smoke int) int {
	t.Helper()
	if s := os.Getenv("GGFLEET_BENCH_" + name); s != "" {
		n, err := strconv.Atoi(s)
		require.NoError(t, err, "GGFLEET_BENCH_%s", name)
		return n
	}
	if full() {
		return bench
	}
	return smoke
}

// say prints one line of the report.
func say(t *testing.T, what, format string, args ...any) {
	t.Helper()
	t.Logf("BENCH %-44s %s", what, fmt.Sprintf(format, args...))
}

// row prints one line of the table in docs/benchmarks.md.
func row(t *testing.T, what, figure, floor, ratio, aim string) {
	t.Helper()
	cells := []string{what, figure, floor, ratio, aim}
	for i, c := range cells {
		if c == "" {
			cells[i] = "–"
		}
	}
	t.Logf("BENCH | %s |", strings.Join(cells, " | "))
}

// program builds a command of the workspace, as `make build` does.
func program(t *testing.T, module, name string) string {
	t.Helper()
	bin, err := world.Build(t.Context(), module, name)
	require.NoError(t, err)
	return bin
}

// start starts a ggfleet with flags that logs warnings and serves profiles.
func start(t *testing.T, more ...string) (w *world.World, profiles string) {
	t.Helper()
	profiles = world.Port(t)
	flags := append([]string{"--pprof-addr", profiles}, strings.Fields(os.Getenv("GGFLEET_BENCH_FLAGS"))...)
	return world.Start(t, world.Options{Flags: append(flags, more...)}), profiles
}

// profile takes a CPU profile while work runs, if profiles are wanted.
func profile(t *testing.T, addr, name string, work func()) {
	t.Helper()
	dir := os.Getenv("GGFLEET_BENCH_PROFILES")
	if dir == "" {
		work()
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/debug/pprof/profile?seconds=10", nil)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return
		}
		defer func() { _ = res.Body.Close() }()
		b, _ := io.ReadAll(res.Body)
		_ = os.WriteFile(filepath.Join(dir, name+".pb.gz"), b, 0o600)
	}()
	work()
	<-done
}

// coreNames are the names of n cores in order.
func coreNames(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("bench-%06d", i)
	}
	return names
}

// awaitTask waits until the task at location has ended. It reads lists, which have
// no items: an answer with ten thousand of them would be work to measure.
func awaitTask(t *testing.T, w *world.World, location string) {
	t.Helper()
	awaitTaskEach(t, w, location, 50*time.Millisecond)
}

// awaitTaskEach is awaitTask with a look at the task each interval: the answer of
// one with many targets holds them all.
func awaitTaskEach(t *testing.T, w *world.World, location string, interval time.Duration) {
	t.Helper()
	list, id := path.Split(location)
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		var page struct {
			Core       []world.Task `json:"tasks"`
			Deployment []world.Task `json:"deploymentTasks"`
		}
		w.Call(t, http.MethodGet, strings.TrimSuffix(list, "/"), nil, &page)
		tasks := append(page.Core, page.Deployment...)
		i := slices.IndexFunc(tasks, func(x world.Task) bool { return x.ID == id })
		require.GreaterOrEqual(t, i, 0, "task %s is not listed", id)
		require.NotEqual(t, "Failure", tasks[i].Status, tasks[i].Message)
		if tasks[i].Status == "Success" {
			return
		}
		select {
		case <-tick.C:
		case <-t.Context().Done():
			require.Fail(t, "the test ended before the task did")
		}
	}
}

// taskSize is how many cores one request creates.
const taskSize = 10_000

// provision creates cores, by one task each ten thousand, and returns how long
// that took.
func provision(t *testing.T, w *world.World, names []string) time.Duration {
	t.Helper()
	began := time.Now()
	for part := range slices.Chunk(names, taskSize) {
		a := w.Call(t, http.MethodPost, "/coreTasks", world.NewCores(part...), nil)
		awaitTask(t, w, a.Header.Get("Location"))
	}
	return time.Since(began)
}

// usage is what a process took so far.
type usage struct {
	cpu time.Duration
	rss int64 // bytes
}

// used reads /proc; elsewhere there is nothing to report.
func used(t *testing.T, pid int) usage {
	t.Helper()
	if runtime.GOOS != "linux" {
		return usage{}
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	require.NoError(t, err)
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+2:]))
	ticks := func(i int) time.Duration {
		n, err := strconv.ParseInt(fields[i], 10, 64)
		require.NoError(t, err)
		return time.Duration(n) * 10 * time.Millisecond
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(t, err)
	u := usage{cpu: ticks(11) + ticks(12)}
	if _, after, ok := strings.Cut(string(status), "VmRSS:"); ok {
		kb, err := strconv.ParseInt(strings.Fields(after)[0], 10, 64)
		require.NoError(t, err)
		u.rss = kb << 10
	}
	return u
}

const mb = 1 << 20

// rss is the memory of a process in MB.
func rss(t *testing.T, pid int) float64 {
	t.Helper()
	return float64(used(t, pid).rss) / mb
}

// quantile of durations, which it sorts.
func quantile(d []time.Duration, q float64) time.Duration {
	slices.Sort(d)
	return d[min(len(d)-1, int(q*float64(len(d))))]
}

// output runs a program and returns what it printed and the CPU time it took.
func output(t *testing.T, bin string, args ...string) ([]byte, time.Duration) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), bin, args...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	require.NoError(t, err, "%s %v: %s", bin, args, errs.String())
	return out, cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
}

// background ties a child to the test.
func background(t *testing.T) (context.Context, context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	t.Cleanup(cancel)
	return ctx, cancel
}
