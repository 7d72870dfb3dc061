package fault_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/installer/signed"
	"github.com/ggfleet/ggfleet/test/internal/world"
)

// agentSteps are the steps that agents' calls commit, and what operators do about
// agents.
var agentSteps = []string{
	"activation", "core.complete", "distribution", "enroll", "enroll.request", "enroll.rule", "help", "put.distribution", "put.help", "put.release", "registry",
	"release", "renew", "renew.confirm",
}

// tellAgents tells the story of agents on an empty data directory and audits what
// is left.
func tellAgents(t *testing.T, env []string, points ...string) (*lineage, *ledger) {
	t.Helper()
	bin, err := faultBinary()
	require.NoError(t, err)
	s := newStory(t, world.Start(t, world.Options{Bin: bin, Later: true, Flags: []string{"--s3-fsync=false", "--public-host=localhost"}}))
	s.points, s.env = points, env
	l := &lineage{story: s, units: map[string]*unit{}}
	_, l.signer, err = signed.NewKey("")
	require.NoError(t, err)
	s.begin()
	l.everything()
	s.finish()
	d := readLedger(t, s.w)
	for range 20 { // what happened last may wait for its place in the log
		if len(under[any](t, d, "event/outbox/")) == 0 {
			break
		}
		s.begin()
		s.get("/cores", &struct{}{})
		wait(t, time.Second)
		s.finish()
		d = readLedger(t, s.w)
	}
	d.agents(t)
	return l, d
}

// agents requires that each device has the certificates that it is to have, and that
// of what was removed nothing is left.
func (l *ledger) agents(t *testing.T) {
	t.Helper()
	things := under[struct{ Principals []string }](t, l, "iot/thing/")
	certs := under[struct {
		Status string
		Things []string
	}](t, l, "iot/cert/")
	held := map[string]map[string]int{}
	for name, thing := range things {
		held[name] = map[string]int{}
		for _, id := range thing.Principals {
			assert.Contains(t, certs[id].Things, name)
			held[name][certs[id].Status]++
		}
	}
	one := map[string]int{"ACTIVE": 1}
	assert.Equal(t, map[string]map[string]int{
		"core-0000": one, "core-0001": one, "core-0002": one, "core-0003": one, "unit-1": one, "unit-4": {}, "sensor-1": one,
		"unit-1:agent":    {"ACTIVE": 1, "REVOKED": 3}, // of its first key, its second, and what the factory made
		"core-0001:agent": {"ACTIVE": 1, "REVOKED": 1},
		"core-0002:agent": {"REVOKED": 1}, // thrown out
		"sensor-1:agent":  {"ACTIVE": 1, "REVOKED": 1},
		"unit-4:agent":    one,
	}, held, "certificates of each thing")
	statuses := map[string]string{}
	for _, r := range under[struct{ Name, Serial, Status string }](t, l, "enrollment/request/") {
		statuses[r.Name+" "+r.Serial+" "+r.Status] = ""
	}
	assert.ElementsMatch(t, []string{"unit-1 S-1 enrolled", "unit-2 GW-2 enrolled", "unit-4  enrolled", "unit-3 S-3 denied", "core-0002  denied", "sensor-1  enrolled"},
		slices.Collect(maps.Keys(statuses)), "requests")
	assert.Len(t, under[any](t, l, "enrollment/request/"), len(statuses))
	assert.Empty(t, under[any](t, l, "enrollment/waiting/"), "devices that wait")
	assert.Empty(t, under[any](t, l, "help/waiting/"), "help that waits")
	assert.Len(t, under[any](t, l, "help/request/"), 6)
	assert.Len(t, under[any](t, l, "release/file/"), 5)
	assert.Empty(t, under[any](t, l, "distribution/pin/"))
	l.nothingOf(t, "unit-2")
	l.tasks(t, map[string]int{"core": 5, "device": 1})
}

// trim takes out what is removed later than at once: parts of help requests that
// are gone, and lists of serials that no rule names.
func (l *ledger) trim(t *testing.T) {
	t.Helper()
	requests := under[any](t, l, "help/request/")
	for key := range l.objects {
		if rest, ok := strings.CutPrefix(key, "help/"); ok {
			if id, _, _ := strings.Cut(rest, "/"); requests[id] == nil {
				delete(l.objects, key)
			}
		}
	}
	lists := map[string]bool{}
	for _, r := range under[struct{ SerialList string }](t, l, "enrollment/rule/") {
		lists[r.SerialList] = true
	}
	l.records = slices.DeleteFunc(l.records, func(r world.Record) bool {
		rest, ok := strings.CutPrefix(r.Key, root+"enrollment/serials/")
		return ok && !lists[strings.Split(rest, "/")[1]]
	})
}

func TestWhatAgentsAndOperatorsDoIsAsIfItHadNotBeenKilled(t *testing.T) {
	t.Parallel()
	log := filepath.Join(t.TempDir(), "steps")
	first, unkilled := tellAgents(t, []string{"GGFLEET_FAULT_LOG=" + log})
	require.Zero(t, first.kills)
	unkilled.trim(t)
	b, err := os.ReadFile(log)
	require.NoError(t, err)
	order := slices.DeleteFunc(strings.Fields(string(b)), func(s string) bool { return !slices.Contains(agentSteps, s) })
	passed := map[string]int{}
	for _, step := range order {
		passed[step]++
	}
	t.Logf("steps passed: %v", passed)
	for _, step := range agentSteps {
		assert.Positive(t, passed[step], "no call of the agents' story passes the step %s", step)
	}
	var lives [][]string
	if full() {
		for step, n := range passed {
			for k := 1; k <= n; k++ {
				lives = append(lives, []string{fmt.Sprintf("%s:before:%d", step, k)}, []string{fmt.Sprintf("%s:after:%d", step, k)})
			}
		}
	} else {
		const stride = 24
		for first := 0; first < stride; first += stride / 4 {
			lives = append(lives, walk(order, first, stride))
		}
	}
	for _, points := range lives {
		t.Run(strings.Join(points, " "), func(t *testing.T) {
			t.Parallel()
			l, d := tellAgents(t, nil, points...)
			t.Logf("%d kills at %d points", l.kills, len(points))
			assert.Positive(t, l.kills, "not killed")
			d.trim(t)
			assert.Equal(t, unkilled.shape(t), d.shape(t), "the store is not as without the kill")
			assert.Equal(t, what(unkilled.events(t)), what(d.events(t)), "other events happened than without the kill")
			assert.Equal(t, first.views, l.views, "the API does not show what it shows without the kill")
		})
	}
}
