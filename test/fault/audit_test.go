package fault_test

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/shared/pki"
	"github.com/ggfleet/ggfleet/test/internal/world"
)

// ledger is all that a stopped control plane has stored.
type ledger struct {
	records []world.Record
	objects map[string][]byte
}

func readLedger(t *testing.T, w *world.World) *ledger {
	t.Helper()
	return &ledger{w.Dump(t), objects(t, w.Dir)}
}

const root = "/ggfleet/v1/"

// under decodes the records below a prefix by the rest of their keys.
func under[T any](t *testing.T, l *ledger, prefix string) map[string]T {
	t.Helper()
	out := map[string]T{}
	for _, r := range l.records {
		if rest, ok := strings.CutPrefix(r.Key, root+prefix); ok {
			var v T
			require.NoError(t, json.Unmarshal(r.Value, &v), "%s: %s", r.Key, r.Value)
			out[rest] = v
		}
	}
	return out
}

type ref struct {
	Name    string `json:"name"`
	Version int    `json:"version"`
}

type coreRecord struct {
	Desired  ref    `json:"desired"`
	Reported ref    `json:"reported"`
	Status   string `json:"deploymentStatus"`
}

type counter struct {
	Desired    int `json:"desiredInUse"`
	Reported   int `json:"reportedInUse"`
	Success    int `json:"lastDeploymentSuccess"`
	Failed     int `json:"lastDeploymentFailed"`
	InProgress int `json:"lastDeploymentInProgress"`
}

// registry requires that exactly the named cores are registered, each whole, and
// that what lies in the artifact store for a core is what was registered.
func (l *ledger) registry(t *testing.T, names []string) {
	t.Helper()
	things := under[struct{ Principals, Groups []string }](t, l, "iot/thing/")
	certs := under[struct {
		Status           string
		Things, Policies []string
	}](t, l, "iot/cert/")
	fleet := under[coreRecord](t, l, "fleet/core/")
	assert.Equal(t, names, slices.Sorted(maps.Keys(things)), "things")
	assert.Equal(t, names, slices.Sorted(maps.Keys(fleet)), "core records")
	assert.Len(t, certs, len(names), "certificates")
	members := map[string][]string{}
	for _, name := range names {
		thing := things[name]
		for _, g := range thing.Groups {
			members[g] = append(members[g], name)
		}
		if !assert.Len(t, thing.Principals, 1, name) {
			continue
		}
		cert := certs[thing.Principals[0]]
		assert.Equal(t, []string{name}, cert.Things, "attachment of the certificate of %s", name)
		assert.Equal(t, "ACTIVE", cert.Status, name)
		assert.Equal(t, []string{"CDFGreengrass2CorePolicy", "myTokenExchangeRoleAliasPolicy"}, slices.Sorted(slices.Values(cert.Policies)), name)
		pair, err := keyPair(l.objects[artifactKey(name, "certs.zip")])
		if assert.NoError(t, err, "certs.zip of %s", name) {
			assert.Equal(t, thing.Principals[0], pki.ID(pair.Certificate[0]), "certs.zip of %s is not the certificate that is registered", name)
		}
		assert.Contains(t, string(l.objects[artifactKey(name, "installerConfig.yml")]), name)
	}
	got := map[string][]string{}
	for key := range under[any](t, l, "iot/member/") {
		group, thing, _ := strings.Cut(key, "/")
		got[group] = append(got[group], thing)
	}
	for _, m := range got {
		slices.Sort(m)
	}
	assert.Equal(t, members, got, "members of groups, from the groups' side and from the things'")
	for g := range got {
		assert.Contains(t, under[any](t, l, "iot/group/"), g)
	}
}

// tasks requires that so many tasks of each kind exist, each whole and ended, each
// item with exactly one result, and nothing of them left open. The kinds of tasks
// that failed have "failed " before them.
func (l *ledger) tasks(t *testing.T, want map[string]int) {
	t.Helper()
	recs := under[struct{ Kind string }](t, l, "task/rec/")
	states := under[struct {
		Status           string
		Succeeded, Items int
		Failed           int
		BatchesTotal     int
		BatchesComplete  int
		Ended            bool
	}](t, l, "task/state/")
	batches := under[struct{ Items []struct{ Name string } }](t, l, "task/batch/")
	items := under[struct{ Status string }](t, l, "task/item/")
	making := under[any](t, l, "task/making/")
	kinds := map[string]int{}
	for id, rec := range recs {
		st := states[rec.Kind+"/"+id]
		assert.True(t, st.Ended, id)
		assert.Equal(t, st.Items, st.Succeeded+st.Failed, id)
		assert.Equal(t, st.Failed == 0, st.Status == "Success", id)
		if st.Failed == 0 {
			kinds[rec.Kind]++
		} else {
			kinds["failed "+rec.Kind]++
		}
		assert.Equal(t, st.BatchesTotal, st.BatchesComplete, id)
		named, done, failed := 0, 0, 0
		for key, b := range batches {
			if strings.HasPrefix(key, id+"/") {
				named += len(b.Items)
			}
		}
		for key, i := range items {
			if strings.HasPrefix(key, id+"/") {
				done++
				if i.Status == "Failure" {
					failed++
				}
			}
		}
		assert.Equal(t, st.Items, named, "items of task %s", id)
		assert.Equal(t, st.Items, done, "results of task %s", id)
		assert.Equal(t, st.Failed, failed, "failures of task %s", id)
	}
	assert.Equal(t, want, kinds, "tasks")
	assert.Empty(t, under[any](t, l, "task/live/"), "work that is still open")
	for key := range batches { // a create that was killed before it was acknowledged waits for the sweep
		id, _, _ := strings.Cut(key, "/")
		if _, ok := recs[id]; !ok {
			assert.Contains(t, making, id, "batches of no task")
		}
	}
	assert.LessOrEqual(t, len(making), 1)
}

// deployed requires that each core runs the last version and nothing is pending,
// and returns the ids of the deployments, oldest first.
func (l *ledger) deployed(t *testing.T, template string, versions int, names []string) []string {
	t.Helper()
	fleet := under[coreRecord](t, l, "fleet/core/")
	things := under[struct{ Groups []string }](t, l, "iot/thing/")
	last := ref{template, versions}
	group := "cdf_ggv2_deploymentForTemplate_" + template + "_"
	for _, name := range names {
		assert.Equal(t, coreRecord{last, last, "Success"}, fleet[name], name)
		assert.Equal(t, []string{group + string(rune('0'+versions))}, things[name].Groups, name)
	}
	assert.Empty(t, under[any](t, l, "jobs/execution/pending/"), "executions that no core has ended")
	assert.Empty(t, under[any](t, l, "jobs/deadline/"))
	assert.Empty(t, under[any](t, l, "greengrass/rollout/"))
	targets := under[struct{ DeploymentID string }](t, l, "greengrass/target/thinggroup/")
	deployments := under[struct {
		Status string
		Target string
		JobID  string
	}](t, l, "greengrass/deployment/")
	assert.Len(t, deployments, versions, "deployments")
	assert.Len(t, under[any](t, l, "jobs/job/"), versions, "jobs")
	ended := under[struct {
		JobID, Status string
		Number        int
	}](t, l, "jobs/execution/ended/")
	ids := make([]string, versions)
	for i := range ids {
		g := group + string(rune('1'+i))
		ids[i] = targets[g].DeploymentID
		d := deployments[ids[i]]
		assert.Equal(t, "ACTIVE", d.Status, g)
		for _, name := range names {
			e := ended[name+"/thinggroup/"+g]
			assert.Equal(t, d.JobID, e.JobID, "execution of %s on %s", g, name)
			assert.Equal(t, "SUCCEEDED", e.Status, "execution of %s on %s", g, name)
			assert.Equal(t, 1, e.Number, "execution of %s on %s", g, name)
		}
	}
	assert.Len(t, ended, versions*len(names), "executions that ended")
	return ids
}

// recount is the fleet summary counted from the records of cores.
func (l *ledger) recount(t *testing.T) map[ref]counter {
	t.Helper()
	out := map[ref]counter{}
	for _, c := range under[coreRecord](t, l, "fleet/core/") {
		if c.Desired.Name != "" {
			n := out[c.Desired]
			n.Desired++
			switch c.Status {
			case "Success":
				n.Success++
			case "Failure":
				n.Failed++
			case "InProgress":
				n.InProgress++
			}
			out[c.Desired] = n
		}
		if c.Reported.Name != "" {
			n := out[c.Reported]
			n.Reported++
			out[c.Reported] = n
		}
	}
	return out
}

// summary is the fleet summary without the rows of versions that nobody uses.
func (s *story) summary() map[ref]counter {
	s.t.Helper()
	var got struct {
		Templates map[string]struct{ Versions map[int]counter }
	}
	s.get("/fleet/summary", &got)
	out := map[ref]counter{}
	for name, v := range got.Templates {
		for n, c := range v.Versions {
			if c != (counter{}) {
				out[ref{name, n}] = c
			}
		}
	}
	return out
}

var (
	longID = regexp.MustCompile(`^([0-9a-f]{64}|enrollment-[0-9a-f]{64}-[0-9]|[0-9a-f]{76}|[0-9a-f-]{36}|[0-9a-f]{32}|[A-Za-z0-9_-]{9}|[A-Za-z0-9_-]{43})$`)
	order  = regexp.MustCompile(`^[0-9]{10,}(-[0-9]{6})?(-[0-9a-f-]{36})?$|^[0-9a-f]{16}$`)
	// passes is not the same in two runs that went well.
	passes = []string{
		"task/making/", "fleet/results-cursor", "fleet/status-cursor", "access/", "event/outbox/", "event/dead/",
		"event/leader", "fleet/status-leader", "greengrass/component-checker", "greengrass/rollout-leader",
		"jobs/deadline/", "jobs/discarded/", "patching/once/", "patching/template-gone/", "patching/open/", "iot/changed/", "iot/made-complete", "once/",
		"event/log/", "event/history/", // see events
	}
)

// shape is the set of keys with their ids taken out, and how often each occurs:
// two runs of the same story have the same shape, killed or not.
func (l *ledger) shape(t *testing.T) map[string]int {
	t.Helper()
	out := map[string]int{}
	known := under[any](t, l, "task/rec/")
	discarded := under[any](t, l, "jobs/discarded/") // and their jobs go with the next start, or within the hour
	for _, r := range l.records {
		key := strings.TrimPrefix(r.Key, root)
		if _, ok := discarded[strings.TrimPrefix(key, "jobs/job/")]; ok {
			continue
		}
		if slices.ContainsFunc(passes, func(p string) bool { return strings.HasPrefix(key, p) }) {
			continue
		}
		if parts := strings.Split(key, "/"); len(parts) > 3 && parts[0] == "task" && (parts[1] == "batch" || parts[1] == "name") {
			id := parts[2]
			if parts[1] == "name" {
				id = parts[len(parts)-1]
			}
			if _, ok := known[id]; !ok {
				continue // of a create that was killed; see tasks
			}
		}
		out[nameless(key)]++
	}
	leaving := under[any](t, l, "patching/template-gone/") // what a killed create left is swept later
	for key := range l.objects {
		of := func(id string) bool { return strings.Contains(key, "/"+id+"/") }
		if !slices.ContainsFunc(slices.Collect(maps.Keys(leaving)), of) {
			out["s3:"+nameless(key)]++
		}
	}
	return out
}

// nameless is a key without what differs from run to run.
func nameless(key string) string {
	parts := strings.Split(key, "/")
	for i, p := range parts[1:] {
		switch {
		case strings.HasPrefix(p, "core-"):
			if slices.Contains(waiting, p) {
				parts[i+1] = "one that waits"
			}
		case order.MatchString(p), longID.MatchString(p) && !strings.HasPrefix(p, "gauge-"):
			parts[i+1] = "*"
		}
	}
	return strings.Join(parts, "/")
}
