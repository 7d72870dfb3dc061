package fault_test

import (
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
	"access":           "tokens and access keys of people, no part of a core task or a deployment",
	"task.item":        "the result of an item that changes nothing else: a core that exists already, or one that failed; the engine's own tests lose its commit",
	"task.sweep":       "removes what a create left that died more than ten minutes ago; the engine's own tests turn the clock",
	"core.complete":    "the certificate of a core that is enrolled with a CSR, no part of a core task or a deployment",
	"job.timeout":      "an execution that took minutes too long; the tests of package jobs turn the clock",
	"activation":       "enrolment of agents, no part of a core task or a deployment",
	"enroll":           "enrolment of agents, no part of a core task or a deployment",
	"patch":            "playbooks on devices have a story of their own (patches_test.go)",
	"put.playbook":     "playbooks on devices have a story of their own (patches_test.go)",
	"put.distribution": "nucleus archives for agents, no part of a core task or a deployment",
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
}

// tell tells the story once on an empty data directory and audits what is left.
func (p plot) tell(t *testing.T, env ...string) (*story, *ledger) {
	t.Helper()
	bin, err := faultBinary()
	require.NoError(t, err)
	s := newStory(t, world.Start(t, world.Options{Bin: bin, Later: true, Flags: []string{"--s3-fsync=false"}}))
	names := coreNames(p.cores)
	running := names[:p.deployed]

	s.begin(env...)
	var deployments []string
	if p.deployed > 0 {
		s.component("com.example.Tool", "1.0.0")
		s.component("com.example.Tool", "2.0.0")
		s.template("press", 1, "com.example.Tool")
		s.template("press", 2, "com.example.Tool")
	}
	s.create(names)
	if p.deployed > 0 {
		s.fleet = runCores(t, s.w, running)
		s.healthy(running)
		s.deploy("press", 1, running)
		s.deploy("press", 2, running)
	}
	summary := s.summary()
	if s.fleet != nil {
		s.fleet.stop()
	}
	s.finish()

	l := readLedger(t, s.w)
	l.registry(t, names)
	want := map[string]int{"core-create": 1}
	if p.deployed > 0 {
		want["deployment"] = 2
		deployments = l.deployed(t, "press", 2, running)
		s.fleet.appliedOnce(t, running, deployments...)
		if stats := s.fleet.Stats(); s.kills == 0 {
			assert.Zero(t, stats.Refused, stats.FirstRefusal)
		}
	}
	l.tasks(t, want)
	assert.Equal(t, l.recount(t), summary, "the summary is not a recount")
	return s, l
}

// passedBy tells the story unkilled and returns how often it passed each step.
func (p plot) passedBy(t *testing.T) (map[string]int, *ledger) {
	t.Helper()
	log := filepath.Join(t.TempDir(), "steps")
	s, l := p.tell(t, "GGFLEET_FAULT_LOG="+log)
	require.Zero(t, s.kills)
	b, err := os.ReadFile(log)
	require.NoError(t, err)
	passed := map[string]int{}
	for step := range strings.FieldsSeq(string(b)) {
		passed[step]++
	}
	return passed, l
}

// points are the fault points to kill at: both sides of every step that was
// passed.
func points(passed map[string]int) []string {
	var out []string
	for _, step := range slices.Sorted(maps.Keys(passed)) {
		n := passed[step]
		first, later := 1, max(1, n/2)
		if full() {
			for _, k := range slices.Compact([]int{first, later, max(1, n*9/10)}) {
				out = append(out, fmt.Sprintf("%s:before:%d", step, k), fmt.Sprintf("%s:after:%d", step, k))
			}
			continue
		}
		out = append(out, fmt.Sprintf("%s:before:%d", step, later), fmt.Sprintf("%s:after:%d", step, first))
	}
	return out
}

func TestKilledAtAnyStepAllIsAsIfItHadNotBeenKilled(t *testing.T) {
	t.Parallel()
	p := plot{cores: 110, deployed: 10}
	passed, unkilled := p.passedBy(t)
	t.Logf("steps passed: %v", passed)
	for _, step := range steps(t) {
		why, allowed := unreached[step]
		assert.True(t, passed[step] > 0 || allowed, "step %s is in the table, but no story passes it; tell one that does, or say in unreached why not", step)
		assert.False(t, passed[step] > 0 && allowed, "step %s is passed; take it from unreached (%s)", step, why)
	}
	p.killedAt(t, unkilled, points(passed)...)
}

// killedAt tells the story once for each point, with a kill there, and requires
// that the store is as without it.
func (p plot) killedAt(t *testing.T, unkilled *ledger, points ...string) {
	t.Helper()
	want := unkilled.shape(t)
	for _, point := range points {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			s, l := p.tell(t, "GGFLEET_FAULT="+point)
			assert.Equal(t, 1, s.kills, "the process was not killed")
			assert.Equal(t, want, l.shape(t), "the store is not as without the kill")
		})
	}
}

func TestATaskOfAThousandCoresIsKilledOnItsWay(t *testing.T) {
	t.Parallel()
	p := plot{cores: 1000}
	_, unkilled := p.passedBy(t)
	p.killedAt(t, unkilled,
		"task.items:after:11", "task.create:after:1", "put.config:before:200", "core.register:before:500", "core.register:after:501",
		"task.batch:after:5", "task.finish:before:1")
}

func TestADeploymentToConnectedCoresIsKilledOnItsWay(t *testing.T) {
	t.Parallel()
	p := plot{cores: 60, deployed: 60} // more than a worker claims at once
	_, unkilled := p.passedBy(t)
	p.killedAt(t, unkilled,
		"task.expand:after:1", "deployment:after:2", "group.move:before:90", "group.move:after:30", "task.batch:before:1",
		"job.update:before:60", "job.update:after:150", "core.report:after:40", "fleet.status:after:100")
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
