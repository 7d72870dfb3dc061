package fault_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/test/internal/world"
)

// offerSimulated makes w offer the simulated nucleus as a version.
func offerSimulated(t *testing.T, w *world.World, version string) {
	t.Helper()
	sim, err := world.Build(t.Context(), "test", "ggfleet-sim")
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "nucleus.tar.gz")
	out, err := exec.CommandContext(t.Context(), sim, "pack", "--out", file, "--version", version).CombinedOutput()
	require.NoError(t, err, "%s", out)
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	path := "/distributions/ggfleet.SimulatedNucleus/" + version
	w.Call(t, http.MethodPut, path+"?format=tar.gz", content, nil)
	w.Call(t, http.MethodPost, path+"/activate", nil, nil)
}

// TestEverythingIsKilledAgainAndAgain kills agents, nuclei and the control plane at
// any moment, while devices enrol, install and update. GGFLEET_FAULT_FULL=1 takes
// more seeds and a minute for each.
func TestEverythingIsKilledAgainAndAgain(t *testing.T) {
	t.Parallel()
	seeds, long := []uint64{1}, 12*time.Second
	if full() {
		seeds, long = []uint64{1, 2, 3, 4, 5}, time.Minute
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) { killAll(t, rand.New(rand.NewPCG(seed, 0)), long) })
	}
}

func killAll(t *testing.T, dice *rand.Rand, long time.Duration) {
	w := world.Start(t, world.Options{})
	names := []string{"killed-0", "killed-1"}
	w.CreateCores(t, names...)
	offerSimulated(t, w, "2.12.0")
	var devices []*device
	for _, name := range names {
		devices = append(devices, newDevice(t, w, name, ""))
	}
	// keep is what a service manager does.
	ended := map[*device]chan struct{}{}
	keep := func(d *device) {
		if gone := ended[d]; gone != nil {
			select {
			case <-gone:
			default:
				return
			}
		}
		if _, err := os.Stat(filepath.Join(d.root, "agent", "identity.json")); err != nil {
			_, _ = d.run("enroll", "-") // may fail, and is done again
		}
		d.start()
		cmd, gone := d.cmd, make(chan struct{})
		ended[d] = gone
		go func() {
			defer close(gone)
			_ = cmd.Wait()
		}()
	}
	kills := map[string]int{}
	updated := false
	for end := time.Now().Add(long); time.Now().Before(end); {
		for _, d := range devices {
			keep(d)
		}
		wait(t, time.Duration(50+dice.IntN(700))*time.Millisecond)
		d := devices[dice.IntN(len(devices))]
		switch n := dice.IntN(10); {
		case n < 5:
			kills["agent"]++
			_ = d.cmd.Process.Kill()
			<-ended[d]
		case n < 8:
			for _, pid := range d.nuclei() {
				kills["nucleus"]++
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		default:
			kills["control plane"]++
			w.Kill9(t)
			wait(t, time.Duration(dice.IntN(500))*time.Millisecond)
			w.Restart(t)
		}
		if !updated && time.Until(end) < long/2 {
			updated = true
			offerSimulated(t, w, "2.13.0")
		}
	}
	t.Logf("killed: %v", kills)
	for _, d := range devices {
		keep(d)
	}
	for _, d := range devices {
		d.runs("2.13.0")
		world.Eventually(t, func() string {
			if s, healthy := d.shown(); !healthy {
				return fmt.Sprintf("%s is not healthy: %+v", d.core, s)
			}
			return ""
		})
		out, err := d.run("status")
		require.NoError(t, err, out)
		require.NoError(t, d.cmd.Process.Signal(syscall.SIGTERM))
		<-ended[d]
		d.cmd = nil
		assert.Empty(t, d.nuclei(), "an orderly stop stops the nucleus")
		d.clean()
	}
	w.Stop(t)
	l := readLedger(t, w)
	active := map[string]int{}
	for _, c := range under[struct {
		Status string
		Things []string
	}](t, l, "iot/cert/") {
		for _, thing := range c.Things {
			if c.Status == "ACTIVE" {
				active[thing]++
			}
		}
	}
	for _, name := range names {
		assert.Equal(t, 1, active[name], "active certificates of %s", name)
		assert.Equal(t, 1, active[name+":agent"], "active certificates of its agent")
	}
	assert.Len(t, active, 2*len(names))
}

// wait lets time pass in which others work.
func wait(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
		require.Fail(t, "the test ended")
	}
}
