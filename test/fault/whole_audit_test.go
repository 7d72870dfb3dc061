package fault_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/ggfleet/ggfleet/shared/pki"
)

// whole requires of a store after the whole story that it holds what the operator
// left there, each record with those that belong to it, and nothing else.
func (l *ledger) whole(t *testing.T, s *story) {
	t.Helper()
	l.tasks(t, map[string]int{"core": 3, "device": 4, "deployment": 3, "failed deployment": 2, "bulk-things": 1})
	l.remaining(t)
	l.executions(t)
	l.nothingOf(t, alone, ended, queued, "gauge-0-0", "gauge-0-1", "gauge-4-0", "gauge-4-1", "lamp-1")
	s.receiver.audit(t, l.events(t), s.kills)
}

// remaining requires that exactly the things that were not deleted are there, each
// with its one certificate, its memberships, associations and artifacts.
func (l *ledger) remaining(t *testing.T) {
	t.Helper()
	cores := slices.DeleteFunc(coreNames(allCores), func(name string) bool { return slices.Contains([]string{released, alone, ended, queued}, name) })
	devices := []string{"gauge-0-2", "gauge-3-0", "gauge-3-1"}
	bare := []string{} // without certificate
	for name := range under[any](t, l, "iot/thing/") {
		if strings.HasPrefix(name, "bulk-") {
			bare = append(bare, name)
		}
	}
	assert.Len(t, bare, bulkThings)
	certified := slices.Sorted(slices.Values(slices.Concat(cores, devices, []string{released, "lamp-2"})))

	things := under[struct{ Principals, Groups []string }](t, l, "iot/thing/")
	certs := under[struct {
		Status           string
		Things, Policies []string
	}](t, l, "iot/cert/")
	assert.Equal(t, slices.Sorted(slices.Values(slices.Concat(certified, bare))), slices.Sorted(maps.Keys(things)), "things")
	assert.Equal(t, slices.Sorted(slices.Values(cores)), slices.Sorted(maps.Keys(under[any](t, l, "fleet/core/"))), "core records")
	records := under[struct{ CoreName string }](t, l, "fleet/device/")
	assert.Equal(t, devices, slices.Sorted(maps.Keys(records)), "device records")
	assert.Len(t, certs, len(certified), "certificates")
	members := map[string]bool{}
	for _, name := range certified {
		for _, g := range things[name].Groups {
			members[g+"/"+name] = true
		}
		if !assert.Len(t, things[name].Principals, 1, name) {
			continue
		}
		cert := certs[things[name].Principals[0]]
		assert.Equal(t, []string{name}, cert.Things, "attachment of the certificate of %s", name)
		want := "ACTIVE"
		if name == "lamp-2" {
			want = "INACTIVE"
		}
		assert.Equal(t, want, cert.Status, name)
		assert.Len(t, cert.Policies, 2, name)
	}
	assert.Equal(t, slices.Sorted(maps.Keys(members)), slices.Sorted(maps.Keys(under[any](t, l, "iot/member/"))), "members of groups")

	artifacts := 0
	for key, content := range l.objects {
		if rest, ok := strings.CutPrefix(key, "greengrass2/artifacts/"); ok {
			artifacts++
			name, _, _ := strings.Cut(rest, "/")
			assert.Contains(t, slices.Concat(cores, devices), name, "artifact of nobody")
			if strings.HasSuffix(key, "/certs.zip") {
				pair, err := keyPair(content)
				if assert.NoError(t, err, key) && assert.Len(t, things[name].Principals, 1) {
					assert.Equal(t, things[name].Principals[0], pki.ID(pair.Certificate[0]), "%s is not the certificate that is registered", key)
				}
			}
		}
	}
	assert.Equal(t, 2*len(cores)+len(devices), artifacts, "artifacts")

	assert.Equal(t, []string{kept + "/gauge-0-2"}, slices.Collect(maps.Keys(under[any](t, l, "greengrass/assoc/"))), "associations")
	assert.Equal(t, []string{"gauge-0-2/" + kept}, slices.Collect(maps.Keys(under[any](t, l, "greengrass/assoc-of/"))))
	assert.Equal(t, kept, records["gauge-0-2"].CoreName)
	assert.Empty(t, records["gauge-3-0"].CoreName)
}

// executions requires that nothing waits for a core, that each deployment was one
// for all cores, and that what was asked for again was done again.
func (l *ledger) executions(t *testing.T) {
	t.Helper()
	assert.Empty(t, under[any](t, l, "jobs/execution/pending/"), "executions that no core has ended")
	assert.Empty(t, under[any](t, l, "greengrass/rollout/"))
	assert.Len(t, under[any](t, l, "greengrass/deployment/"), 2)
	assert.Len(t, under[any](t, l, "jobs/job/"), 2)
	assert.Len(t, under[any](t, l, "iot/group/"), 2)
	ended := under[struct {
		Status string
		Number int
	}](t, l, "jobs/execution/ended/")
	const group = "/thinggroup/cdf_ggv2_deploymentForTemplate_press_"
	for name, number := range map[string]int{"core-0000": 2, "core-0001": 2, "core-0002": 1, late: 1} {
		e := ended[name+group+"2"]
		assert.Equal(t, "SUCCEEDED", e.Status, name)
		assert.Equal(t, number, e.Number, "executions of the last deployment on %s", name)
	}
}

// nothingOf requires that what was deleted is named nowhere but in what tells of
// the past.
func (l *ledger) nothingOf(t *testing.T, names ...string) {
	t.Helper()
	past := []string{"event/", "task/", "jobs/latest/", "jobs/deadline/", "fleet/device-task/", "patching/"}
	for _, r := range l.records {
		key := strings.TrimPrefix(r.Key, root)
		if slices.ContainsFunc(past, func(p string) bool { return strings.HasPrefix(key, p) }) {
			continue
		}
		for part := range strings.SplitSeq(key, "/") {
			assert.NotContains(t, names, strings.TrimSuffix(part, ":agent"), "%s is left", key)
		}
	}
}
