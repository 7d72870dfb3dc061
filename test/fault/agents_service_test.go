package fault_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/shared/protocol"
)

// upload stores a release with binaries for two platforms, and returns these.
func (l *lineage) upload(version string) map[string][]byte {
	l.t.Helper()
	out := map[string][]byte{}
	path := "/agentReleases/" + version + "/files/"
	for _, platform := range []string{amd, arm} {
		binary := []byte("the agent " + version + " for " + platform)
		name := "ggfleet-agent_" + version + "_" + strings.Replace(platform, "/", "_", 1)
		l.put(http.MethodPut, path+name, binary)
		l.put(http.MethodPut, path+name+".minisig", l.sign(version, platform, binary))
		out[platform] = binary
	}
	l.put(http.MethodPut, path+"install.sh", []byte("#!/bin/sh\n"))
	return out
}

// offered asks until the device is offered a version, "" for none.
func (l *lineage) offered(device, platform, runs, version string) *protocol.AgentRelease {
	l.t.Helper()
	var got *protocol.AgentRelease
	l.until(func() string {
		got = l.units[device].assignment(platform, runs, protocol.AgentUpdate{}).Agent
		is := ""
		if got != nil {
			is = got.Version
		}
		if is == version {
			return ""
		}
		return fmt.Sprintf("%s is offered %q, not %q", device, is, version)
	})
	return got
}

// releases offers one that fails on too many devices, and then another one.
func (l *lineage) releases() {
	binaries := l.upload("1.1.0")
	everybody := object{"percentage": 100, "spreadSeconds": 0, "maxFailures": 2}
	l.post("/agentReleases/1.1.0/activate", "", everybody, http.StatusOK)
	for device, platform := range map[string]string{"unit-1": amd, "unit-2": arm} {
		o := l.offered(device, platform, "1.0.0", "1.1.0")
		assert.Equal(l.t, digestOf(binaries[platform]), o.Digest)
		status, b := l.units[device].call(http.MethodGet, protocol.PathReleases+o.Digest, nil)
		assert.Equal(l.t, http.StatusOK, status)
		assert.Equal(l.t, binaries[platform], b)
	}
	says := func(device, platform, runs string, state protocol.UpdateState) {
		l.units[device].assignment(platform, runs, protocol.AgentUpdate{Version: "1.1.0", State: state, Reason: "as it went"})
	}
	says("unit-1", amd, "1.0.0", protocol.UpdateTrial)
	says("unit-1", amd, "1.1.0", protocol.UpdateCommitted)
	says("unit-2", arm, "1.0.0", protocol.UpdateFailed)
	says("unit-2", arm, "1.0.0", protocol.UpdateFailed)
	l.state("1.1.0", "active")
	says("core-0001", amd, "1.0.0", protocol.UpdateRefused)
	l.state("1.1.0", "stopped")
	l.offered("unit-4", amd, "1.0.0", "")

	l.upload("1.2.0")
	l.post("/agentReleases/1.2.0/activate", "", object{"percentage": 100, "spreadSeconds": 0, "namePattern": "unit-*"}, http.StatusOK)
	l.offered("unit-2", arm, "1.0.0", "1.2.0")
	l.offered("core-0001", amd, "1.0.0", "")
	l.post("/agentReleases/1.2.0/pause", "", nil, http.StatusOK)
	l.post("/agentReleases/1.2.0/activate", "", everybody, http.StatusOK)
	l.gone("/agentReleases/1.1.0")
	l.until(func() string {
		if status, b := (&unit{s: l.story}).call(http.MethodGet, protocol.PathInstall+"1.1.0/install.sh", nil); status != http.StatusNotFound {
			return "a file of what is removed: " + string(b)
		}
		return ""
	})
	status, b := (&unit{s: l.story}).call(http.MethodGet, protocol.PathInstall+"install.sh", nil)
	assert.Equal(l.t, http.StatusOK, status, "%s", b)
}

// state waits until a release is in a state.
func (l *lineage) state(version, state string) {
	l.t.Helper()
	l.until(func() string {
		var r struct{ State string }
		l.get("/agentReleases/"+version, &r)
		if r.State == state {
			return ""
		}
		return version + " is " + r.State
	})
}

// asked asks something of a device and returns the id of the request.
func (l *lineage) asked(what, of string, ask object) string {
	l.t.Helper()
	var made struct{ RequestID string }
	require.NoError(l.t, json.Unmarshal(l.post(of+"/helpRequests", what, ask, http.StatusCreated).Body, &made))
	return made.RequestID
}

// helpers are requests of each kind, each with another end.
func (l *lineage) helpers() {
	u, core := l.units["unit-1"], "/cores/unit-1"
	log := bytes.Repeat([]byte("a line of the log\n"), 2*protocol.HelpPart/18+1)
	id := l.asked("tail", core, object{"kind": "logs.tail", "of": "agent"})
	u.help(id, log, protocol.HelpResult{Outcome: protocol.HelpDone, Digest: digestOf(log), Next: "AAAA"})
	l.content(id, log)

	id = l.asked("range", core, object{"kind": "logs.range", "of": "nucleus"})
	u.help(id, log[:100], protocol.HelpResult{Outcome: protocol.HelpDone, Digest: digestOf(log[:100]), Next: "BBBB", More: true})
	next := l.asked("follow", core, object{"kind": "logs.range", "of": "nucleus", "follows": id})
	u.help(next, log[100:], protocol.HelpResult{Outcome: protocol.HelpDone, Digest: digestOf(log[100:]), Next: "CCCC"})
	l.content(next, log[100:])

	u.help(l.asked("bundle", core, object{"kind": "bundle"}), nil, protocol.HelpResult{Outcome: protocol.HelpRefused, Message: "the owner does not allow it"})
	u.help(l.asked("diagnose", core, object{"kind": "diagnose", "diagnostic": "disk"}), log[:10], protocol.HelpResult{Outcome: protocol.HelpFailed, Message: "no disk"})

	id = l.asked("restart", core, object{"kind": "restart"})
	u.must(http.MethodPost, protocol.HelpPathOf(id, protocol.HelpTakePath), protocol.HelpTake{Run: "run-1"}, nil)
	u.refused(http.StatusConflict, http.MethodPost, protocol.HelpPathOf(id, protocol.HelpTakePath), protocol.HelpTake{Run: "run-2"})

	id = l.asked("again", core, object{"kind": "logs.tail", "of": "agent"}) // taken by a run that came to an end
	u.must(http.MethodPost, protocol.HelpPathOf(id, protocol.HelpTakePath), protocol.HelpTake{Run: "run-0"}, nil)
	u.must(http.MethodPut, protocol.HelpPathOf(id, protocol.HelpContentPath)+"?run=run-0&part=0", log[:10], nil)
	u.help(id, log[:20], protocol.HelpResult{Outcome: protocol.HelpDone, Digest: digestOf(log[:20])})
	l.content(id, log[:20])

	l.gone("/helpRequests/" + l.asked("withdrawn", core, object{"kind": "logs.tail"}))
	id = l.asked("sensor", "/devices/sensor-1", object{"kind": "logs.tail", "of": "agent"})
	u.refused(http.StatusNotFound, http.MethodPost, protocol.HelpPathOf(id, protocol.HelpTakePath), protocol.HelpTake{Run: "run-1"})
	l.units["sensor-1"].help(id, log, protocol.HelpResult{Outcome: protocol.HelpDone, Digest: digestOf(log)})
	l.gone("/helpRequests/" + id)
	l.asked("deleted", "/cores/unit-2", object{"kind": "logs.tail"})
}

func (l *lineage) content(id string, want []byte) {
	l.t.Helper()
	a := l.insist(http.MethodGet, "/helpRequests/"+id+"/content", "", nil)
	assert.Equal(l.t, http.StatusOK, a.Status)
	assert.Equal(l.t, want, a.Body)
}

// pins keeps a core on a version of the nucleus, twice, and deletes it.
func (l *lineage) pins() {
	nucleus := func(want string) {
		l.t.Helper()
		got := l.units["unit-2"].assignment(arm, "1.0.0", protocol.AgentUpdate{}).Nucleus
		require.NotNil(l.t, got)
		assert.Equal(l.t, want, got.Version)
	}
	pin := func() {
		l.t.Helper()
		l.put(http.MethodPut, "/cores/unit-2/nucleus", object{"name": testNucleus, "version": "1.0.0"})
		nucleus("1.0.0")
	}
	nucleus("1.1.0")
	pin()
	l.put(http.MethodDelete, "/cores/unit-2/nucleus", nil)
	nucleus("1.1.0")
	pin()
	l.done(l.start("/coreTasks", "delete", object{"type": "Delete", "cores": named("unit-2"), "options": object{"deprovisionCores": true}}), "Success")
	l.units["unit-2"].refused(http.StatusForbidden, http.MethodGet, protocol.PathAgentCore, nil)
}

var (
	varies  = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}|[0-9a-f]{64}|[0-9A-F]{16}|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z|"(taskId|id)":"[A-Za-z0-9_-]+"`)
	version = regexp.MustCompile(`"version":[0-9]+,?`) // of a rule: one more for each PUT that was repeated
)

// look notes what the API shows at the end, without what differs from run to run.
func (l *lineage) look() {
	for _, path := range []string{
		"/enrollmentRequests", "/enrollmentRules", "/agentReleases", "/agentReleases/1.2.0", "/agentReleases/1.2.0/devices", "/cores/unit-1/helpRequests",
		"/distributions", "/cores?count=100", "/devices/sensor-1", "/coreTasks?count=100",
	} {
		var v map[string]json.RawMessage
		l.get(path, &v)
		for member, raw := range v {
			var list []json.RawMessage
			if json.Unmarshal(raw, &list) != nil {
				list = []json.RawMessage{raw}
			}
			for _, one := range list {
				l.views = append(l.views, path+" "+member+" "+version.ReplaceAllString(varies.ReplaceAllString(string(one), "*"), ""))
			}
		}
	}
	slices.Sort(l.views)
}
