package load_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/test/internal/world"
)

const benchRecipe = `RecipeFormatVersion: '2020-01-25'
ComponentName: com.example.Bench
ComponentVersion: %s
ComponentPublisher: Bench
Manifests:
  - Platform:
      os: linux
      runtime: "*"
    Artifacts:
      - URI: greengrass:hello.sh
    Lifecycle:
      run: sh {artifacts:path}/hello.sh
`

// TestDeployment measures a deployment to many connected cores until all have
// reported, and the memory that connected cores take.
func TestDeployment(t *testing.T) {
	n := size(t, "CONNECTED", 2000, 30)
	w, profiles := start(t)
	atRest := rss(t, w.PID())
	names := coreNames(n)
	provision(t, w, names)
	dir, list := identities(t, w, names)
	const version = "1.0.0"
	w.PutComponent(t, []byte(fmt.Sprintf(benchRecipe, version)), map[string][]byte{"hello.sh": []byte("sleep 1\n")})
	template := w.PutTemplate(t, "bench", world.TemplateComponent{Name: "com.example.Bench", Version: version})

	provisioned := rss(t, w.PID())
	fleet := startFleet(t, w, dir)
	fleet.await(t, "connected", n)
	connected := rss(t, w.PID())
	row(t, "memory with "+strconv.Itoa(n)+" simulated cores connected", fmt.Sprintf("%.0f MB at rest, %.0f MB with them created, %.0f MB connected: %.0f KB a session",
		atRest, provisioned, connected, (connected-provisioned)*1024/float64(n)), "", "", "80 KB idle")

	began := time.Now()
	before := used(t, w.PID())
	var posted, moved, notified, reported, seen time.Duration
	profile(t, profiles, "deploy", func() {
		task := w.Deploy(t, "bench", template, names...)
		posted = time.Since(began)
		awaitTask(t, w, task)
		moved = time.Since(began)
		notified = fleet.await(t, "jobs", n).Sub(began)
		reported = fleet.await(t, "succeeded", n).Sub(began)
		world.Eventually(t, func() string {
			if done := deployed(t, w, template); done < n {
				return fmt.Sprintf("the summary shows %d of %d cores deployed", done, n)
			}
			return ""
		})
		seen = time.Since(began)
	})
	after := used(t, w.PID())
	fleet.stop(t)

	raw := rawCalls(t, w, list)
	what := "deploy to " + strconv.Itoa(n) + " connected cores"
	row(t, what+" until the summary shows all", fmt.Sprintf("%.0f/s, %.2f ms CPU a core", float64(n)/seen.Seconds(), ms(after.cpu-before.cpu)/float64(n)),
		fmt.Sprintf("%.0f/s: %d mTLS connections with one request each", float64(n)/raw.Seconds(), n*callsPerCore), fmt.Sprintf("%.2f", raw.Seconds()/seen.Seconds()), "the handshakes")
	row(t, "– step by step", fmt.Sprintf("accepted %.2f s, all moved %.2f s, last job taken up %.2f s, last result sent %.2f s, summary complete %.2f s",
		posted.Seconds(), moved.Seconds(), notified.Seconds(), reported.Seconds(), seen.Seconds()), "", "", "notified 10 s for 10,000")
}

// deployed is how many cores the summary counts as done.
func deployed(t *testing.T, w *world.World, version int) int {
	t.Helper()
	var s struct {
		Templates map[string]struct {
			Versions map[string]struct {
				Success int `json:"lastDeploymentSuccess"`
				Failed  int `json:"lastDeploymentFailed"`
			} `json:"versions"`
		} `json:"templates"`
	}
	w.Call(t, http.MethodGet, "/fleet/summary", nil, &s)
	v := s.Templates["bench"].Versions[strconv.Itoa(version)]
	require.Zero(t, v.Failed, "cores whose deployment failed")
	return v.Success
}

// identity is a core as the raw clients need it.
type identity struct {
	name string
	tls  *tls.Config
}

// identities fetches what cores need into folders for ggfleet-sim.
func identities(t *testing.T, w *world.World, names []string) (dir string, list []identity) {
	t.Helper()
	dir = t.TempDir()
	for _, name := range names {
		c := w.FetchCore(t, name)
		certs := filepath.Join(dir, name, "certs")
		require.NoError(t, os.MkdirAll(certs, 0o700))
		for file, content := range map[string][]byte{
			"certs/cert.pem": c.CertPEM, "certs/private.key": c.KeyPEM, "installerConfig.yml": c.Config,
		} {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name, file), content, 0o600))
		}
		list = append(list, identity{name, w.TLS(c.Certificate)})
	}
	return dir, list
}

// simFleet is a ggfleet-sim with many cores, in a process of its own.
type simFleet struct {
	cmd   *exec.Cmd
	errs  strings.Builder // what it said beside its progress; read after end
	out   strings.Builder // its report; read after end
	ended chan struct{}

	mu     sync.Mutex // guards all below
	counts map[string]int
	at     map[string]time.Time // when each count last grew
}

var progress = regexp.MustCompile(`connected (\d+)/\d+  jobs (\d+)  succeeded (\d+)  failed (\d+)  refused (\d+)`)

func startFleet(t *testing.T, w *world.World, dir string) *simFleet {
	t.Helper()
	ctx, _ := background(t)
	f := &simFleet{ended: make(chan struct{}), counts: map[string]int{}, at: map[string]time.Time{}}
	f.cmd = exec.CommandContext(ctx, program(t, "test", "ggfleet-sim"), "fleet", "--dir", dir, "--ca", w.CAFile, "--rate", "400",
		"--progress", "50ms", "--pause-scale", "0", "--log-level", "error")
	f.cmd.Stdout = &f.out
	pipe, err := f.cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, f.cmd.Start())
	go func() {
		defer close(f.ended)
		for lines := bufio.NewScanner(pipe); lines.Scan(); {
			f.line(lines.Text())
		}
	}()
	return f
}

func (f *simFleet) line(s string) {
	m := progress.FindStringSubmatch(s)
	f.mu.Lock()
	defer f.mu.Unlock()
	if m == nil {
		if f.errs.Len() < 8<<10 {
			f.errs.WriteString(s + "\n")
		}
		return
	}
	for i, name := range []string{"connected", "jobs", "succeeded", "failed", "refused"} {
		n, _ := strconv.Atoi(m[i+1]) // digits by the pattern
		if n > f.counts[name] {
			f.at[name] = time.Now()
		}
		f.counts[name] = n
	}
}

// await waits until the count is n and returns since when it is.
func (f *simFleet) await(t *testing.T, name string, n int) time.Time {
	t.Helper()
	var at time.Time
	world.Within(t, 10*time.Minute, func() string {
		f.mu.Lock()
		defer f.mu.Unlock()
		at = f.at[name]
		if f.counts[name] >= n {
			return ""
		}
		return fmt.Sprintf("%s: %d of %d; %v\n%s", name, f.counts[name], n, f.counts, f.errs.String())
	})
	return at
}

func (f *simFleet) stop(t *testing.T) {
	t.Helper()
	require.NoError(t, f.cmd.Process.Signal(os.Interrupt))
	<-f.ended
	require.NoError(t, f.cmd.Wait())
	require.Zero(t, f.counts["failed"]+f.counts["refused"], "%v\n%s%s", f.counts, f.errs.String(), f.out.String())
}

// callsPerCore is what lite asks in a deployment with one artifact, each on a
// connection of its own: its groups, the resolution, the artifact's address.
const callsPerCore = 3

// rawCalls makes as many connections with one small request each to the data
// plane as a deployment does and returns how long that takes.
func rawCalls(t *testing.T, w *world.World, cores []identity) time.Duration {
	t.Helper()
	began := time.Now()
	var failed atomic.Int64
	parallel(len(cores)*callsPerCore, 64, func(n int) {
		c := cores[n%len(cores)]
		client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: c.tls.Clone(), DisableKeepAlives: true, ForceAttemptHTTP2: true}}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+w.Device+"/greengrass/v2/coreDevices/"+c.name+"/thingGroups", nil)
		if err != nil {
			failed.Add(1)
			return
		}
		res, err := client.Do(req)
		if err != nil || res.StatusCode != http.StatusOK {
			failed.Add(1)
		}
		if err == nil {
			_ = res.Body.Close()
		}
	})
	took := time.Since(began)
	require.Zero(t, failed.Load(), "calls that failed")
	return took
}

// parallel calls work for 0 to n-1, several at a time.
func parallel(n, workers int, work func(int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(n, workers) {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				work(int(i - 1))
			}
		})
	}
	wg.Wait()
}
