package load_test

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/test/internal/world"
)

// TestFleet lets a fleet grow through its sizes. At each it measures creation,
// memory, records, start and reads; then, on the largest, deployment tasks of each
// size and deletion.
func TestFleet(t *testing.T) {
	sizes := fleetSizes(t)
	floorBin := program(t, "controlplane", "ggfleet-floor")
	w, profiles := start(t)
	atRest := rss(t, w.PID())
	startTimes(t, w, "empty")
	names := coreNames(sizes[len(sizes)-1])
	made := 0
	for i, n := range sizes {
		before := used(t, w.PID())
		var after usage
		var took time.Duration
		profile(t, profiles, "create-"+strconv.Itoa(n), func() { took, after = provision(t, w, names[made:n]), used(t, w.PID()) })
		perSecond, cpu := float64(n-made)/took.Seconds(), ms(after.cpu-before.cpu)/float64(n-made)
		made = n
		fresh := startTimes(t, w, strconv.Itoa(n)+" cores")
		reads(t, w, n)
		row(t, "memory with "+strconv.Itoa(n)+" cores", fmt.Sprintf("%.0f MB after a start, %.1f KB a core; %.0f MB after creating them",
			fresh, (fresh-atRest)*1024/float64(n), float64(after.rss)/mb), fmt.Sprintf("%.0f MB empty", atRest), "", "")
		w.Stop(t)
		records(t, floorBin, w.Dir, n)
		what, figure := "create cores, up to "+strconv.Itoa(n), fmt.Sprintf("%.0f/s, %.2f ms CPU a core", perSecond, cpu)
		if n <= floorCores && (i == len(sizes)-1 || sizes[i+1] > floorCores) {
			best, bestCPU := floors(t, floorBin, w.Dir, n)
			row(t, what, figure, fmt.Sprintf("%.0f/s, %.2f ms CPU", best, bestCPU), fmt.Sprintf("%.2f, by CPU %.2f", perSecond/best, bestCPU/cpu), "0.7")
		} else {
			row(t, what, figure, "", "", "")
		}
		w.Restart(t)
	}
	deployments(t, w, profiles, sizes)
	startTimes(t, w, strconv.Itoa(made)+" cores with a deployment each")
	names = names[:len(names)/10]
	costs(t, w, profiles, "delete a tenth of "+strconv.Itoa(made)+" cores with a deployment", len(names), func() {
		for part := range slices.Chunk(names, taskSize) {
			a := w.Call(t, http.MethodPost, "/coreTasks", deletion(part), nil)
			awaitTask(t, w, a.Header.Get("Location"))
		}
	})
}

// floorCores is the largest size that creation is compared with its floor at.
const floorCores = 10_000

// fleetSizes are the sizes that the fleet grows through.
func fleetSizes(t *testing.T) []int {
	t.Helper()
	switch {
	case os.Getenv("GGFLEET_BENCH_CORES") != "":
		return []int{size(t, "CORES", 0, 0)}
	case os.Getenv("GGFLEET_BENCH_LARGE") != "":
		return []int{1000, floorCores, 100_000}
	case full():
		return []int{1000, floorCores}
	}
	return []int{30, 60}
}

// records tells what a stopped control plane keeps of its cores.
func records(t *testing.T, bin, dir string, cores int) {
	t.Helper()
	f := measured(t, bin, "--like", dir, "--cores", strconv.Itoa(cores))
	all, names := 0, slices.Collect(maps.Keys(f.Kinds))
	slices.SortFunc(names, func(a, b string) int {
		return f.Kinds[b].Values + f.Kinds[b].Keys - f.Kinds[a].Values - f.Kinds[a].Keys
	})
	for _, name := range names {
		k := f.Kinds[name]
		all += k.Keys + k.Values
		if k.Records >= cores/10 { // the others do not grow with the fleet
			say(t, "records of "+strconv.Itoa(cores)+" cores", "| `%s` | %.2f | %.0f | %.0f |",
				name, float64(k.Records)/float64(cores), float64(k.Keys)/float64(cores), float64(k.Values)/float64(cores))
		}
	}
	row(t, "records of "+strconv.Itoa(cores)+" cores", fmt.Sprintf("%.1f of %.1f KB a core, keys included; database %.1f KB, objects %.1f KB a core on the disk",
		f.RecordsPerCore, float64(all)/1024/float64(cores), onDisk(t, dir, "etcd/member/snap")/1024/float64(cores), onDisk(t, dir, "s3")/1024/float64(cores)), "", "", "4-6 KB")
}

// onDisk is how many bytes the files under dir/sub hold.
func onDisk(t *testing.T, dir, sub string) float64 {
	t.Helper()
	sum := 0.0
	err := filepath.Walk(filepath.Join(dir, sub), func(_ string, fi os.FileInfo, err error) error {
		if err == nil && fi.Mode().IsRegular() {
			sum += float64(fi.Size())
		}
		return err
	})
	require.NoError(t, err)
	return sum
}

// deployments measures, for the first cores of the fleet in each size, a task that
// names them and one for the thing group that they are in then. None of them is
// connected.
func deployments(t *testing.T, w *world.World, profiles string, sizes []int) {
	t.Helper()
	w.PutComponent(t, []byte(fmt.Sprintf(benchRecipe, "1.0.0")), map[string][]byte{"hello.sh": []byte("sleep 1\n")})
	component := world.TemplateComponent{Name: "com.example.Bench", Version: "1.0.0"}
	for _, n := range sizes {
		template := "fleet-" + strconv.Itoa(n)
		named := w.PutTemplate(t, template, component)
		deployTask(t, w, profiles, n, "by name", template, named, map[string]any{"thingNames": coreNames(n)})
		grouped := w.PutTemplate(t, template, component)
		group := fmt.Sprintf("cdf_ggv2_deploymentForTemplate_%s_%d", template, named)
		deployTask(t, w, profiles, n, "by thing group", template, grouped, map[string]any{"thingGroupNames": []string{group}})
	}
}

func deployTask(t *testing.T, w *world.World, profiles string, n int, how, template string, version int, targets any) {
	t.Helper()
	var accepted, known, moved, cpu time.Duration
	profile(t, profiles, fmt.Sprintf("deploy-%d-%s", n, strings.ReplaceAll(how, " ", "-")), func() {
		before, began := used(t, w.PID()).cpu, time.Now()
		a := w.Call(t, http.MethodPost, "/deploymentTasks", map[string]any{
			"template": map[string]any{"name": template, "version": version}, "targets": targets, "preStage": true,
		}, nil)
		accepted = time.Since(began)
		location := a.Header.Get("Location")
		world.Eventually(t, func() string {
			var page struct {
				Cores []world.TaskItem `json:"cores"`
			}
			if w.Call(t, http.MethodGet, location+"/cores?count=1", nil, &page); len(page.Cores) == 0 {
				return "the items are not known yet"
			}
			return ""
		})
		known = time.Since(began)
		awaitTaskEach(t, w, location, max(50*time.Millisecond, time.Duration(n)*10*time.Microsecond))
		moved, cpu = time.Since(began), used(t, w.PID()).cpu-before
	})
	row(t, "deployment task for "+strconv.Itoa(n)+" cores, "+how, fmt.Sprintf("accepted %.2f s, items known %.2f s, all moved %.1f s: %.0f/s, %.2f ms CPU a core",
		accepted.Seconds(), known.Seconds(), moved.Seconds(), float64(n)/(moved-known).Seconds(), ms(cpu)/float64(n)), "", "", "")
}

// deletion is the body of a task that deletes cores with all that is of them.
func deletion(names []string) map[string]any {
	cores := make([]map[string]string, len(names))
	for i, n := range names {
		cores[i] = map[string]string{"name": n}
	}
	return map[string]any{"type": "Delete", "cores": cores, "options": map[string]bool{"deprovisionCores": true, "deprovisionClientDevices": true}}
}

// costs prints how fast work does n things and the CPU time of each.
func costs(t *testing.T, w *world.World, profiles, what string, n int, work func()) {
	t.Helper()
	var took, cpu time.Duration
	profile(t, profiles, strings.ReplaceAll(what, " ", "-"), func() {
		before, began := used(t, w.PID()).cpu, time.Now()
		work()
		took, cpu = time.Since(began), used(t, w.PID()).cpu-before
	})
	row(t, what, fmt.Sprintf("%.0f/s, %.2f ms CPU each", float64(n)/took.Seconds(), ms(cpu)/float64(n)), "", "", "")
}

// TestClientDevices measures tasks that create and delete client devices of a
// core, and how long the deletion of a core with many takes.
func TestClientDevices(t *testing.T) {
	n := size(t, "DEVICES", 2000, 20)
	w, profiles := start(t)
	provision(t, w, coreNames(1))
	_, list := identities(t, w, coreNames(1))
	connectOnce(t, w, list[0])
	core := list[0].name
	devices := make([]map[string]any, n)
	for i := range devices {
		name := deviceName(i)
		devices[i] = map[string]any{
			"name": name, "provisioningTemplate": "default", "provisioningParameters": map[string]string{"ThingName": name},
			"cdfProvisioningParameters": map[string]any{"certInfo": map[string]string{"country": "DE"}},
		}
	}
	costs(t, w, profiles, "create "+strconv.Itoa(n)+" client devices of a core", n, func() {
		a := w.Call(t, http.MethodPost, "/cores/"+core+"/deviceTasks", map[string]any{"type": "Create", "devices": devices}, nil)
		awaitTask(t, w, a.Header.Get("Location"))
	})
	devices = devices[:n/2]
	costs(t, w, profiles, "delete half of them", len(devices), func() {
		for i := range devices {
			devices[i] = map[string]any{"name": deviceName(i)}
		}
		a := w.Call(t, http.MethodPost, "/cores/"+core+"/deviceTasks", map[string]any{
			"type": "Delete", "devices": devices, "options": map[string]bool{"deprovisionClientDevices": true},
		}, nil)
		awaitTask(t, w, a.Header.Get("Location"))
	})
	costs(t, w, profiles, "delete their core and with it the other half", n-len(devices), func() {
		a := w.Call(t, http.MethodPost, "/coreTasks", deletion(coreNames(1)), nil)
		awaitTask(t, w, a.Header.Get("Location"))
	})
}

func deviceName(n int) string { return fmt.Sprintf("device-%06d", n) }
