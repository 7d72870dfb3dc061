package fault_test

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/test/internal/world"
)

// unreached are the steps of the table that no story here passes, and why.
var unreached = map[string]string{
	"job.timeout": "an execution that took minutes too long; the tests of package jobs turn the clock",
	"session":     "a replica among others, and only while it lives: TestADeviceIsConnectedToOneReplicaAndAllKnow kills one",
}

// faultBinary is a ggfleet that can be told where to die; GGFLEET_FAULT_BIN names
// one that is built already.
var faultBinary = sync.OnceValues(func() (string, error) {
	if bin := os.Getenv("GGFLEET_FAULT_BIN"); bin != "" {
		return filepath.Abs(bin)
	}
	return world.Build(context.Background(), "controlplane", "ggfleet", "faults")
})

func full() bool { return os.Getenv("GGFLEET_FAULT_FULL") != "" }

// plot is what one story does.
type plot struct {
	cores, deployed int // how many are created, and how many of them run and are deployed to
	env             []string
	all             bool // everything else as well: then the roles of cores are those of people
}

// tell tells the story once on an empty data directory and audits what is left.
func (p plot) tell(t *testing.T, points ...string) (*story, *ledger) {
	t.Helper()
	bin, err := faultBinary()
	require.NoError(t, err)
	s := newStory(t, world.Start(t, world.Options{Bin: bin, Later: true, Flags: []string{"--s3-fsync=false"}}))
	s.points, s.env = points, p.env
	names := coreNames(p.cores)
	s.begin()
	if p.all {
		s.all(names)
	} else {
		p.plain(s, names)
	}
	summary := s.summary()
	s.finish()
	if s.fleet != nil && s.kills == 0 {
		n, first := s.fleet.refusals()
		assert.Zero(t, n, first)
	}
	l := readLedger(t, s.w)
	if p.all {
		l.whole(t, s)
	} else {
		p.audit(t, s, l)
	}
	assert.Equal(t, l.recount(t), summary, "the summary is not a recount")
	return s, l
}

// plain creates cores and deploys twice to some of them.
func (p plot) plain(s *story, names []string) {
	running := names[:p.deployed]
	if p.deployed > 0 {
		s.component("com.example.Tool", "1.0.0")
		s.component("com.example.Tool", "2.0.0")
		s.template("press", 1, "com.example.Tool")
		s.template("press", 2, "com.example.Tool")
	}
	s.create(names)
	if p.deployed > 0 {
		s.fleet = runCores(s.t, s.w, running)
		s.healthy(running)
		s.deploy("press", 1, running, nil)
		s.deploy("press", 2, running, nil)
		s.fleet.stop()
	}
}

func (p plot) audit(t *testing.T, s *story, l *ledger) {
	t.Helper()
	names := coreNames(p.cores)
	running := names[:p.deployed]
	l.registry(t, names)
	want := map[string]int{"core": 1}
	if p.deployed > 0 {
		want["deployment"] = 2
		s.fleet.appliedOnce(t, running, l.deployed(t, "press", 2, running)...)
	}
	l.tasks(t, want)
}

// passedBy tells the story unkilled and returns the steps that it passed, in order.
func (p plot) passedBy(t *testing.T) ([]string, *ledger) {
	t.Helper()
	log := filepath.Join(t.TempDir(), "steps")
	p.env = []string{"GGFLEET_FAULT_LOG=" + log}
	s, l := p.tell(t)
	require.Zero(t, s.kills)
	b, err := os.ReadFile(log)
	require.NoError(t, err)
	return strings.Fields(string(b)), l
}

// points are the fault points to kill at: both sides of every step that was
// passed.
func points(passed map[string]int) []string {
	var out []string
	for _, step := range slices.Sorted(maps.Keys(passed)) {
		n := passed[step]
		for _, k := range slices.Compact([]int{1, max(1, n/2), max(1, n*9/10)}) {
			out = append(out, fmt.Sprintf("%s:before:%d", step, k), fmt.Sprintf("%s:after:%d", step, k))
		}
	}
	return out
}

// chains are lives of the control plane with a death at each point: both sides of
// every step that was passed stand in one of them. Points of a chain are in the
// order in which their steps are passed for the last time, so that each one still
// comes after the deaths before it.
func chains(order []string, n int) [][]string {
	last := map[string]int{}
	for i, step := range order {
		last[step] = i
	}
	steps := slices.SortedFunc(maps.Keys(last), func(a, b string) int { return cmp.Compare(last[a], last[b]) })
	out := make([][]string, n)
	for i, step := range steps {
		out[i%n] = append(out[i%n], step+":before:1")
		out[(i+n/2)%n] = append(out[(i+n/2)%n], step+":after:1")
	}
	return out
}

func TestKilledAtAnyStepAllIsAsIfItHadNotBeenKilled(t *testing.T) {
	t.Parallel()
	p := plot{cores: allCores, all: true}
	order, unkilled := p.passedBy(t)
	passed := map[string]int{}
	for _, step := range order {
		passed[step]++
	}
	t.Logf("steps passed: %v", passed)
	for _, step := range steps(t) {
		why, allowed := unreached[step]
		assert.True(t, passed[step] > 0 || allowed || slices.Contains(awsSteps, step) || slices.Contains(agentSteps, step), "step %s is in the table, but no story passes it; tell one that does, or say in unreached why not", step)
		assert.False(t, passed[step] > 0 && allowed, "step %s is passed; take it from unreached (%s)", step, why)
	}
	if full() {
		for _, point := range points(passed) {
			p.killedAt(t, unkilled, point)
		}
		return
	}
	for _, chain := range chains(order, 12) {
		p.killedAt(t, unkilled, chain...)
	}
}

// killedAt tells the story once more, with a process that is killed at the first
// of the points, a second one that is killed at the next, and so on; once again
// if the story ended before the last of them. It requires that what is left is as
// without the kills.
func (p plot) killedAt(t *testing.T, unkilled *ledger, points ...string) {
	t.Helper()
	t.Run(strings.Join(points, " "), func(t *testing.T) {
		t.Parallel()
		for left := points; len(left) > 0; {
			s, l := p.tell(t, left...)
			require.Positive(t, s.kills, "not killed at %s", left[0])
			assert.Equal(t, unkilled.shape(t), l.shape(t), "the store is not as without the kill")
			if p.all {
				assert.Equal(t, what(unkilled.events(t)), what(l.events(t)), "other events happened than without the kill")
			}
			left = left[s.kills:]
		}
	})
}

// few is every third of the points, unless all are asked for.
func few(points ...string) []string {
	if full() {
		return points
	}
	var out []string
	for i := 1; i < len(points); i += 3 {
		out = append(out, points[i])
	}
	return out
}

func TestATaskOfAThousandCoresIsKilledOnItsWay(t *testing.T) {
	t.Parallel()
	p := plot{cores: 1000}
	_, unkilled := p.passedBy(t)
	for _, point := range few(
		"task.items:after:11", "task.create:after:1", "put.config:before:200", "core.register:before:500", "core.register:after:501",
		"task.batch:after:5", "task.finish:before:1",
	) {
		p.killedAt(t, unkilled, point)
	}
}

func TestADeploymentToConnectedCoresIsKilledOnItsWay(t *testing.T) {
	t.Parallel()
	p := plot{cores: 60, deployed: 60} // more than a worker claims at once
	_, unkilled := p.passedBy(t)
	for _, point := range few(
		"task.expand:after:1", "deployment:after:2", "group.move:before:90", "group.move:after:30", "task.batch:before:1",
		"job.update:before:60", "job.update:after:150", "core.report:after:40", "fleet.status:after:100",
	) {
		p.killedAt(t, unkilled, point)
	}
}

// steps are all steps of the table, as the binary itself names them.
func steps(t *testing.T) []string {
	t.Helper()
	bin, err := faultBinary()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), bin, "serve", "--data-dir", t.TempDir(), "--http-addr", "127.0.0.1:0", "--aws-addr", "127.0.0.1:0",
		"--mqtt-addr", "127.0.0.1:0", "--device-addr", "127.0.0.1:0", "--artifact-addr", "127.0.0.1:0")
	cmd.Env = append(os.Environ(), "GGFLEET_FAULT=no.such.step:before")
	out, err := cmd.CombinedOutput()
	require.Error(t, err)
	_, list, found := strings.Cut(string(out), "the steps are [")
	require.True(t, found, "%s", out)
	list, _, _ = strings.Cut(list, "]")
	return strings.Fields(list)
}
