package fault_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/test/internal/world"
)

// awsSteps are the steps that an AWS user's calls commit, and what follows from them.
var awsSteps = []string{
	"component", "deployment", "deployment.rollout", "deprovision", "core.delete", "fleet.status", "greengrass.record", "group", "group.move",
	"job.execute", "job.update", "registry",
}

// tellAWS tells the AWS user's story on an empty data directory and audits what is left.
func tellAWS(t *testing.T, env []string, points ...string) (*awsUser, *ledger) {
	t.Helper()
	bin, err := faultBinary()
	require.NoError(t, err)
	s := newStory(t, world.Start(t, world.Options{Bin: bin, Later: true, Flags: []string{"--s3-fsync=false"}}))
	s.points, s.env = points, env
	s.begin()
	u := newAWSUser(s)
	out := u.everything()
	u.finish()
	l := readLedger(t, u.w)
	for range 20 { // nobody outside sees that the last rollout was withdrawn
		if len(under[any](t, l, "greengrass/rollout/")) == 0 {
			break
		}
		u.begin()
		u.get("/cores", &struct{}{})
		u.finish()
		l = readLedger(t, u.w)
	}
	if u.kills == 0 {
		n, first := u.fleet.refusals()
		assert.Zero(t, n, first)
	}
	l.aws(t, out)
	u.fleet.appliedOnce(t, out.running[1:], out.line, out.paced)
	u.fleet.appliedOnce(t, out.running[:1], out.line, out.paced, out.core)
	return u, l
}

// aws requires of a store after the AWS user's story that everybody has exactly the
// executions that he was to get, and that nothing of the rest is left.
func (l *ledger) aws(t *testing.T, out told) {
	t.Helper()
	type deployment struct {
		Status, Target, JobID string
		Revision              int
	}
	type execution struct {
		Status string
		Number int
	}
	all := under[deployment](t, l, "greengrass/deployment/")
	for id, want := range map[string]deployment{
		out.line: {"INACTIVE", "line", "", 1}, out.paced: {"ACTIVE", "line", "", 2}, out.core: {"COMPLETED", out.running[0], "", 1},
		out.last: {"ACTIVE", absent(1), "", 3}, out.halt: {"CANCELED", "halt", "", 1},
	} {
		got := all[id]
		got.JobID = ""
		assert.Equal(t, want, got)
	}
	assert.Len(t, all, 7, "deployments: these, and those of the group and the thing that were removed")
	assert.Empty(t, under[any](t, l, "greengrass/rollout/"), "rollouts that are not done")

	want := map[string]execution{absent(1) + "/" + all[out.last].JobID: {"QUEUED", 1}}
	for i := range 8 {
		if i != 2 { // deleted
			want[absent(i)+"/"+all[out.paced].JobID] = execution{"QUEUED", 1}
		}
	}
	assert.Equal(t, want, under[execution](t, l, "jobs/execution/pending/"), "who is still to carry out what")
	ended := under[execution](t, l, "jobs/execution/ended/")
	for _, name := range out.running {
		assert.Equal(t, execution{"SUCCEEDED", 1}, ended[name+"/thinggroup/line"], name)
	}
	assert.Equal(t, execution{"SUCCEEDED", 1}, ended[out.running[0]+"/thing/"+out.running[0]])
	for i := 8; i < awsAbsent; i++ {
		assert.Equal(t, execution{"CANCELED", 1}, ended[absent(i)+"/thinggroup/halt"], absent(i))
	}
	assert.Len(t, under[any](t, l, "greengrass/token/"), 10+3, "answers that a token repeats")
	l.nothingOf(t, "short-lived", "empty", "unused")

	things := under[struct{ Principals, Groups []string }](t, l, "iot/thing/")
	assert.Len(t, things, awsCores+awsAbsent-1)
	assert.Len(t, under[any](t, l, "iot/cert/"), awsCores+1)
	members := map[string]bool{}
	for name, thing := range things {
		for _, g := range thing.Groups {
			members[g+"/"+name] = true
		}
	}
	assert.Equal(t, slices.Sorted(maps.Keys(members)), slices.Sorted(maps.Keys(under[any](t, l, "iot/member/"))), "members, from both sides")
	assert.ElementsMatch(t, []string{"plant", "line", "halt"}, slices.Collect(maps.Keys(under[any](t, l, "iot/group/"))))
}

// walk is one life of the control plane with a death at every stride-th of the
// steps, from the first-th on, now before and now after it. Counting begins anew with
// each process.
func walk(order []string, first, stride int) []string {
	var out []string
	passed := map[string]int{}
	side := []string{"before", "after"}
	for i, step := range order {
		passed[step]++
		if i < first || (i-first)%stride != 0 {
			continue
		}
		when := side[len(out)%2]
		out = append(out, fmt.Sprintf("%s:%s:%d", step, when, passed[step]))
		clear(passed)
		if when == "before" {
			passed[step] = 1 // it is still to come
		}
	}
	return out
}

func TestWhatAnAWSClientDoesIsAsIfItHadNotBeenKilled(t *testing.T) {
	t.Parallel()
	log := filepath.Join(t.TempDir(), "steps")
	u, unkilled := tellAWS(t, []string{"GGFLEET_FAULT_LOG=" + log})
	require.Zero(t, u.kills)
	b, err := os.ReadFile(log)
	require.NoError(t, err)
	order := slices.DeleteFunc(strings.Fields(string(b)), func(s string) bool { return !slices.Contains(awsSteps, s) })
	passed := map[string]int{}
	for _, step := range order {
		passed[step]++
	}
	t.Logf("steps passed: %v", passed)
	for _, step := range awsSteps {
		assert.Positive(t, passed[step], "no call of the AWS user's story passes the step %s", step)
	}
	var lives [][]string
	// How often these are passed is not the same in each run.
	raced := []string{"deployment.rollout", "fleet.status", "job.execute", "job.update"}
	if full() {
		for step, n := range passed {
			for k := 1; k <= n; k++ {
				lives = append(lives, []string{fmt.Sprintf("%s:before:%d", step, k)}, []string{fmt.Sprintf("%s:after:%d", step, k)})
			}
		}
	} else {
		const stride = 12
		for first := 0; first < stride; first += 2 {
			lives = append(lives, walk(order, first, stride))
		}
	}
	for _, points := range lives {
		t.Run(strings.Join(points, " "), func(t *testing.T) {
			t.Parallel()
			u, l := tellAWS(t, nil, points...)
			t.Logf("%d kills at %d points", u.kills, len(points))
			step, _, _ := strings.Cut(points[0], ":")
			assert.True(t, u.kills > 0 || slices.Contains(raced, step), "not killed")
			assert.Equal(t, unkilled.shape(t), l.shape(t), "the store is not as without the kill")
		})
	}
}

func TestADeploymentForFiveHundredAbsentThingsIsKilledOnItsWay(t *testing.T) {
	t.Parallel()
	const things = 500
	bin, err := faultBinary()
	require.NoError(t, err)
	s := newStory(t, world.Start(t, world.Options{Bin: bin, Later: true, Flags: []string{"--s3-fsync=false"}}))
	s.points = []string{
		"deployment:after:1", "job.execute:after:5", "job.execute:before:9", "deployment.rollout:before:2", "job.execute:after:3",
		"deployment.rollout:after:2",
	}
	s.begin()
	u := newAWSUser(s)
	u.group("line")
	var wg sync.WaitGroup
	name := func(i int) string { return fmt.Sprintf("away-%03d", i) }
	for part := range 4 {
		wg.Go(func() { // nothing is killed here
			for i := part; i < things; i += 4 {
				call(u, u.iot.CreateThing, &iot.CreateThingInput{ThingName: aws.String(name(i))})
				u.join("line", name(i))
			}
		})
	}
	wg.Wait()
	u.plainComponent(awsTool, "1.0.0")
	require.Zero(t, u.kills)
	first := u.deployTo("thinggroup/line", "all", "1.0.0", 0)
	u.carriedOut(first, things, 0)
	u.finish()
	assert.GreaterOrEqual(t, u.kills, 4)

	u.points = []string{"deployment:after:1", "job.execute:after:4", "job.execute:before:20", "job.execute:after:1", "deployment.rollout:after:3"}
	u.begin()
	second := u.deployTo("thinggroup/line", "next", "1.0.0", 0)
	u.carriedOut(second, things, 0)
	u.carriedOut(first, things, 0)
	u.until(func() string {
		if n := aws.ToInt32(u.progressOf(first).NumberOfCanceledThings); n < things {
			return fmt.Sprintf("%d of %d executions of the superseded deployment are withdrawn", n, things)
		}
		return ""
	})
	u.finish()
	assert.GreaterOrEqual(t, u.kills, 7)

	l := readLedger(t, u.w)
	type execution struct {
		JobID, Status string
		Number        int
	}
	deployments := under[struct{ JobID string }](t, l, "greengrass/deployment/")
	assert.Len(t, deployments, 2)
	assert.Len(t, under[any](t, l, "jobs/job/"), 2)
	pending := under[execution](t, l, "jobs/execution/pending/")
	ended := under[execution](t, l, "jobs/execution/ended/")
	assert.Len(t, pending, things)
	assert.Len(t, ended, things)
	for i := range things {
		job := deployments[second].JobID
		assert.Equal(t, execution{job, "QUEUED", 1}, pending[name(i)+"/"+job])
		assert.Equal(t, execution{deployments[first].JobID, "CANCELED", 1}, ended[name(i)+"/thinggroup/line"])
	}
}
