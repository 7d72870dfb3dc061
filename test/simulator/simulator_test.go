package simulator_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/protocol"
	"github.com/ggfleet/ggfleet/test/internal/standin"
	"github.com/ggfleet/ggfleet/test/simulator"
	"github.com/ggfleet/ggfleet/test/simulator/mqttwire"
)

// waitLimit bounds a wait for something that must happen; no test measures it.
const waitLimit = 3 * time.Minute

// rig is a core under test with what happened on it.
type rig struct {
	*simulator.Core
	cloud *standin.Cloud
	stop  context.CancelFunc

	mu     sync.Mutex
	events []simulator.Event
	wake   chan struct{}
}

func newRig(t *testing.T, cloud *standin.Cloud, change func(*simulator.Config), groups ...string) *rig {
	t.Helper()
	const thing = "core-1"
	r := &rig{cloud: cloud, wake: make(chan struct{}, 1)}
	cfg := simulator.Config{
		Thing: thing, MQTT: cloud.MQTT, DataPlane: cloud.HTTPS, Credentials: cloud.HTTPS, RoleAlias: "alias",
		Certificate: cloud.Thing(t, thing, groups...), RootCAs: cloud.Roots,
		RetryBase: time.Millisecond, ReconnectMin: time.Millisecond, ReconnectMax: 10 * time.Millisecond,
		OnEvent: r.record,
	}
	if change != nil {
		change(&cfg)
	}
	core, err := simulator.New(cfg)
	require.NoError(t, err)
	r.Core = core
	return r
}

func (r *rig) start(t *testing.T) *rig {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		assert.NoError(t, <-done)
	})
	t.Cleanup(r.stop)
	return r
}

func (r *rig) record(e simulator.Event) {
	r.mu.Lock()
	r.events = append(r.events, e)
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// await returns the n-th event of a kind (from 1).
func (r *rig) await(t *testing.T, kind simulator.EventKind, n int) simulator.Event {
	t.Helper()
	deadline := time.After(waitLimit)
	for {
		seen := 0
		r.mu.Lock()
		for _, e := range r.events {
			if e.Kind == kind {
				if seen++; seen == n {
					r.mu.Unlock()
					return e
				}
			}
		}
		all := fmt.Sprintf("%+v", r.events)
		r.mu.Unlock()
		select {
		case <-r.wake:
		case <-deadline:
			require.FailNow(t, "event did not happen", "want %s number %d in %s", kind, n, all)
		}
	}
}

// status waits for the cloud to have a fleet status that fits.
func (r *rig) status(t *testing.T, fits func(protocol.FleetStatus) bool) protocol.FleetStatus {
	t.Helper()
	var found protocol.FleetStatus
	require.Eventually(t, func() bool {
		for _, s := range r.cloud.Statuses(r.Thing()) {
			if fits(s) {
				found = s
				return true
			}
		}
		return false
	}, waitLimit, time.Millisecond)
	return found
}

func trigger(want string) func(protocol.FleetStatus) bool {
	return func(s protocol.FleetStatus) bool { return s.Trigger == want }
}

func ofDeployment(id string) func(protocol.FleetStatus) bool {
	return func(s protocol.FleetStatus) bool { return s.Deployment != nil && s.Deployment.DeploymentID == id }
}

func roots(pairs ...string) map[string]protocol.DocumentComponent {
	m := map[string]protocol.DocumentComponent{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = protocol.DocumentComponent{Version: pairs[i+1]}
	}
	return m
}

// deploy sends a document to the core's own thing and waits for the result.
func (r *rig) deploy(t *testing.T, n int, doc protocol.DeploymentDocument) simulator.Event {
	t.Helper()
	id := r.cloud.Deploy(names.TargetThing, r.Thing(), doc)
	e := r.await(t, simulator.EventFinished, n)
	require.Equal(t, id, e.Job)
	r.await(t, simulator.EventReported, n)
	return e
}

const manifestHead = `"Manifests":[{"Platform":{"os":"linux","runtime":"*"},"Lifecycle":{"run":"sleep 1"},"Artifacts":`

func recipe(name, version, more string) string {
	return fmt.Sprintf(`{"RecipeFormatVersion":"2020-01-25","ComponentName":%q,"ComponentVersion":%q,%s}`, name, version, more)
}

func plain(name, version string) string { return recipe(name, version, manifestHead+`[]}]`) }

func TestLiteConnectsAsTheRuntimeDoes(t *testing.T) {
	cloud := standin.Start(t)
	r := newRig(t, cloud, nil).start(t)
	r.await(t, simulator.EventReady, 1)
	require.Equal(t, []standin.Connect{{ClientID: "core-1", Version: 5, Clean: true, KeepAlive: 30, MaxPacket: 5000}}, cloud.Connects())
	s := r.status(t, trigger(protocol.TriggerNucleusLaunch))
	assert.Equal(t, protocol.StatusComplete, s.MessageType)
	assert.Equal(t, int64(1), s.SequenceNumber)
	assert.Equal(t, protocol.RuntimeLite, s.Runtime)
	require.Len(t, s.Components, 1)
	assert.Equal(t, "aws.greengrass.TokenExchangeService", s.Components[0].ComponentName)
	assert.Equal(t, 2, cloud.Queries("core-1"))
}

func TestLiteDeploysAnArtifactAndReportsIt(t *testing.T) {
	cloud := standin.Start(t)
	body := []byte("#!/bin/sh\n")
	cloud.AddComponent(t, recipe("com.example.Tool", "1.2.0", `"ComponentConfiguration":{"DefaultConfiguration":{"level":"info","sink":{"url":""}}},
		"ComponentDependencies":{"com.example.Lib":{"VersionRequirement":"^2.0.0","DependencyType":"HARD"},"aws.greengrass.TokenExchangeService":{"VersionRequirement":">=0.0.0"}},
		`+manifestHead+`[{"Uri":"greengrass:9c/tool.sh","Digest":"`+digest(body)+`","Algorithm":"SHA-256"}]}]`), map[string][]byte{"9c/tool.sh": body})
	cloud.AddComponent(t, plain("com.example.Lib", "2.0.0"), nil)
	cloud.AddComponent(t, plain("com.example.Lib", "2.1.0"), nil)
	r := newRig(t, cloud, nil, "presses").start(t)
	r.await(t, simulator.EventReady, 1)

	doc := protocol.DeploymentDocument{Components: roots("com.example.Tool", "1.2.0")}
	doc.Components["com.example.Tool"] = protocol.DocumentComponent{Version: "1.2.0", ConfigurationUpdate: &protocol.DocumentConfiguration{Merge: json.RawMessage(`{"sink":{"port":8080}}`)}}
	e := r.deploy(t, 1, doc)
	require.NoError(t, e.Err)
	assert.Equal(t, []protocol.LocalComponent{{Name: "com.example.Lib", Version: "2.1.0", State: "RUNNING"}, {Name: "com.example.Tool", Version: "1.2.0", State: "RUNNING"}}, r.Components())
	assert.Equal(t, map[string]any{"level": "info", "sink": map[string]any{"url": "", "port": int64(8080)}}, r.Configuration("com.example.Tool"))
	assert.Equal(t, []string{
		"GET /greengrass/v2/coreDevices/core-1/thingGroups",
		"POST /greengrass/v2/resolveComponentCandidates", "POST /greengrass/v2/resolveComponentCandidates",
		"GET /role-aliases/alias/credentials",
		"GET /greengrass/v2/components/arn:aws:greengrass:us-east-1:123456789012:components:com.example.Tool:versions:1.2.0/artifacts/9c/tool.sh",
	}, cloud.Requests())
	assert.Equal(t, []string{e.Job + " IN_PROGRESS", e.Job + " SUCCEEDED"}, cloud.Updates("core-1"))
	s := r.status(t, ofDeployment(e.Deployment))
	assert.Equal(t, protocol.TriggerThingGroupDeployment, s.Trigger)
	assert.Equal(t, "SUCCESSFUL", s.Deployment.StatusDetails.DetailedStatus)
	arn := []string{standin.Realm.Configuration(names.TargetThing, "core-1", 1)}
	for _, comp := range s.Components {
		assert.Equal(t, arn, comp.FleetConfigARNs, comp.ComponentName)
	}
}

func TestLiteFailsWhatTheRuntimeFails(t *testing.T) {
	body := []byte("x")
	tests := map[string]struct {
		recipe string
		config string
		want   string
	}{
		"no such component":                   {recipe: plain("com.example.Other", "1.0.0"), want: "status 404"},
		"a manifest without runtime":          {recipe: recipe("c", "1.0.0", `"Manifests":[{"Platform":{"os":"linux"},"Lifecycle":{},"Artifacts":[]}]`), want: "trap 32"},
		"a manifest without artifacts":        {recipe: recipe("c", "1.0.0", `"Manifests":[{"Platform":{"os":"linux","runtime":"*"},"Lifecycle":{}}]`), want: "trap 49"},
		"a manifest without lifecycle":        {recipe: recipe("c", "1.0.0", `"Manifests":[{"Platform":{"os":"linux","runtime":"*"},"Artifacts":[]}]`), want: "trap 32"},
		"URI in capitals":                     {recipe: recipe("c", "1.0.0", manifestHead+`[{"URI":"greengrass:a"}]}]`), want: "trap 49"},
		"dependencies null":                   {recipe: recipe("c", "1.0.0", `"ComponentDependencies":null,`+manifestHead+`[]}]`), want: "trap 49"},
		"a capitalised phase":                 {recipe: recipe("c", "1.0.0", `"Manifests":[{"Platform":{"os":"*","runtime":"*"},"Lifecycle":{"Run":"x"},"Artifacts":[]}]`), want: "trap 49"},
		"a wrong digest":                      {recipe: recipe("c", "1.0.0", manifestHead+`[{"Uri":"greengrass:a","Digest":"`+digest([]byte("y"))+`","Algorithm":"SHA-256"}]}]`), want: "digest"},
		"an artifact that is not there":       {recipe: recipe("c", "1.0.0", manifestHead+`[{"Uri":"greengrass:b"}]}]`), want: "status 404"},
		"an s3 artifact":                      {recipe: recipe("c", "1.0.0", manifestHead+`[{"Uri":"s3://b/k"}]}]`), want: "only greengrass:"},
		"a configuration value over 1 KB":     {recipe: plain("c", "1.0.0"), config: `{"a":{"b":"` + strings.Repeat("x", 1100) + `"}}`, want: "trap 37"},
		"a recipe over the size of an answer": {recipe: recipe("c", "1.0.0", `"ComponentDescription":"`+strings.Repeat("x", 13000)+`",`+manifestHead+`[]}]`), want: "trap 21"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			cloud := standin.Start(t)
			cloud.AddComponent(t, tc.recipe, map[string][]byte{"a": body})
			r := newRig(t, cloud, nil).start(t)
			doc := protocol.DeploymentDocument{Components: roots("c", "1.0.0")}
			if tc.config != "" {
				doc.Components["c"] = protocol.DocumentComponent{Version: "1.0.0", ConfigurationUpdate: &protocol.DocumentConfiguration{Merge: json.RawMessage(tc.config)}}
			}
			e := r.deploy(t, 1, doc)
			require.Equal(t, "FAILED", e.Detail)
			require.ErrorContains(t, e.Err, tc.want)
			s := r.status(t, ofDeployment(e.Deployment))
			assert.Equal(t, "FAILED_ROLLBACK_NOT_REQUESTED", s.Deployment.StatusDetails.DetailedStatus)
			assert.Equal(t, protocol.Healthy, s.OverallDeviceStatus)
			assert.Empty(t, r.Components())
		})
	}
}

func TestLiteReportsAComponentThatDies(t *testing.T) {
	cloud := standin.Start(t)
	cloud.AddComponent(t, plain("good", "1.0.0"), nil)
	cloud.AddComponent(t, plain("bad", "1.0.0"), nil)
	r := newRig(t, cloud, func(c *simulator.Config) { c.Fail = map[string]simulator.Failure{"bad": simulator.FailDies} }).start(t)
	e := r.deploy(t, 1, protocol.DeploymentDocument{Components: roots("good", "1.0.0", "bad", "1.0.0")})
	require.Equal(t, "FAILED", e.Detail)
	s := r.status(t, ofDeployment(e.Deployment))
	assert.Equal(t, protocol.Unhealthy, s.OverallDeviceStatus)
	assert.Equal(t, "FAILED_ROLLBACK_NOT_REQUESTED", s.Deployment.StatusDetails.DetailedStatus)
	assert.Contains(t, r.Components(), protocol.LocalComponent{Name: "bad", Version: "1.0.0", State: "BROKEN"})

	e = r.deploy(t, 2, protocol.DeploymentDocument{Components: roots("good", "1.0.0")})
	s = r.status(t, ofDeployment(e.Deployment))
	assert.Equal(t, protocol.Healthy, s.OverallDeviceStatus)
	last := s.Components[len(s.Components)-1]
	assert.Equal(t, protocol.ComponentStatus{ComponentName: "bad", FleetConfigARNs: []string{}, IsRoot: true, Status: "UNINSTALLED"}, last)
}

func TestLiteKeepsRootsOfOtherTargetsOnlyWhenTheyAreListed(t *testing.T) {
	cloud := standin.Start(t)
	for _, n := range []string{"a", "b", "c"} {
		cloud.AddComponent(t, plain(n, "1.0.0"), nil)
	}
	r := newRig(t, cloud, nil, "g1", "g2").start(t)
	r.deploy(t, 1, protocol.DeploymentDocument{Components: roots("a", "1.0.0")})
	cloud.Deploy(names.TargetThingGroup, "g1", protocol.DeploymentDocument{Components: roots("b", "1.0.0")})
	r.await(t, simulator.EventReported, 2)
	assert.Len(t, r.Components(), 2, "the thing's own name is in the list")
	cloud.SetGroups("core-1", "g2")
	cloud.Deploy(names.TargetThingGroup, "g2", protocol.DeploymentDocument{Components: roots("c", "1.0.0")})
	r.await(t, simulator.EventReported, 3)
	assert.Equal(t, []protocol.LocalComponent{{Name: "a", Version: "1.0.0", State: "RUNNING"}, {Name: "c", Version: "1.0.0", State: "RUNNING"}}, r.Components())
}

func TestLiteRefusesTheSameRootInTwoVersions(t *testing.T) {
	cloud := standin.Start(t)
	cloud.AddComponent(t, plain("a", "1.0.0"), nil)
	cloud.AddComponent(t, plain("a", "2.0.0"), nil)
	r := newRig(t, cloud, nil, "g1").start(t)
	r.deploy(t, 1, protocol.DeploymentDocument{Components: roots("a", "1.0.0")})
	cloud.Deploy(names.TargetThingGroup, "g1", protocol.DeploymentDocument{Components: roots("a", "2.0.0")})
	require.ErrorContains(t, r.await(t, simulator.EventFinished, 2).Err, "trap 48")
}

func TestLiteTakesUpWhatWasQueuedWhileItWasAway(t *testing.T) {
	cloud := standin.Start(t)
	cloud.AddComponent(t, plain("a", "1.0.0"), nil)
	cloud.AddComponent(t, plain("b", "1.0.0"), nil)
	r := newRig(t, cloud, nil, "g1", "g2")
	cloud.Deploy(names.TargetThingGroup, "g1", protocol.DeploymentDocument{Components: roots("a", "1.0.0")})
	cloud.Deploy(names.TargetThingGroup, "g2", protocol.DeploymentDocument{Components: roots("b", "1.0.0")})
	r.start(t)
	r.await(t, simulator.EventReported, 2)
	assert.Len(t, r.Components(), 2)
}

func TestACoreComesBackAfterTheConnectionIsLost(t *testing.T) {
	cloud := standin.Start(t)
	cloud.AddComponent(t, plain("a", "1.0.0"), nil)
	r := newRig(t, cloud, nil).start(t)
	r.await(t, simulator.EventReady, 1)
	cloud.Kick("core-1")
	r.await(t, simulator.EventReady, 2)
	s := r.status(t, trigger(protocol.TriggerReconnect))
	assert.Equal(t, protocol.StatusPartial, s.MessageType)
	assert.Equal(t, int64(2), s.SequenceNumber)
	r.Drop()
	r.await(t, simulator.EventReady, 3)
	r.deploy(t, 1, protocol.DeploymentDocument{Components: roots("a", "1.0.0")})
}

func TestLiteDropsTheConnectionOnAnUnsubackThatItDoesNotKnow(t *testing.T) {
	cloud := standin.Start(t)
	cloud.Fail(standin.Faults{Unsuback: 0x11})
	r := newRig(t, cloud, nil).start(t)
	require.ErrorContains(t, r.await(t, simulator.EventDisconnected, 1).Err, "trap 6")
	cloud.Fail(standin.Faults{})
	r.await(t, simulator.EventReady, 1)
}

func TestLiteAsksAgainAfterAnAnswerThatItCannotRead(t *testing.T) {
	tests := map[string]string{
		"an empty execution":            `{"timestamp":1,"clientToken":"jobs-nucleus-lite","execution":{}}`,
		"a time with a fraction":        `{"timestamp":1.5,"clientToken":"jobs-nucleus-lite"}`,
		"no queuedAt":                   `{"timestamp":1,"clientToken":"jobs-nucleus-lite","execution":{"jobId":"j","status":"QUEUED","jobDocument":{}}}`,
		"a status that does not exist":  `{"timestamp":1,"clientToken":"jobs-nucleus-lite","execution":{"jobId":"j","status":"NEW","queuedAt":1,"jobDocument":{}}}`,
		"a waiting job without content": `{"timestamp":1,"clientToken":"jobs-nucleus-lite","execution":{"jobId":"j","status":"QUEUED","queuedAt":1}}`,
	}
	for name, bad := range tests {
		t.Run(name, func(t *testing.T) {
			cloud := standin.Start(t)
			cloud.Fail(standin.Faults{Answer: func(topic string, b []byte) []byte {
				if strings.HasSuffix(topic, "/get/accepted") {
					return []byte(bad)
				}
				return b
			}})
			r := newRig(t, cloud, nil).start(t)
			r.await(t, simulator.EventRefused, 3) // asks again and again
			cloud.Fail(standin.Faults{})
			r.await(t, simulator.EventReady, 1)
		})
	}
}

func TestAPacketOverTheAnnouncedMaximumNeverArrives(t *testing.T) {
	cloud := standin.Start(t)
	r := newRig(t, cloud, nil).start(t)
	r.await(t, simulator.EventReady, 1)
	cloud.Announce(protocol.JobsNotifyNext("core-1"), `{"timestamp":1,"x":"`+strings.Repeat("x", 5000)+`"}`)
	cloud.Announce(protocol.JobsNotifyNext("core-1"), `{"timestamp":1.5}`)
	// The broker obeys the announced maximum and drops it, so that only the second arrives.
	require.ErrorContains(t, r.await(t, simulator.EventRefused, 1).Err, "trap 13")
}

func TestAResultIsSentAgainAfterARestart(t *testing.T) {
	cloud := standin.Start(t)
	cloud.AddComponent(t, plain("a", "1.0.0"), nil)
	dir := t.TempDir()
	withState := func(c *simulator.Config) { c.StateDir = dir }
	r := newRig(t, cloud, withState).start(t)
	r.await(t, simulator.EventReady, 1)
	var updates atomic.Int32
	cloud.Fail(standin.Faults{Answer: func(topic string, b []byte) []byte {
		if strings.Contains(topic, "/update/") && updates.Add(1) > 1 { // the one to IN_PROGRESS passes
			return []byte(`{"clientToken":"another"}`)
		}
		return b
	}})
	id := cloud.Deploy(names.TargetThing, "core-1", protocol.DeploymentDocument{Components: roots("a", "1.0.0")})
	r.await(t, simulator.EventFinished, 1)
	r.stop()
	cloud.Fail(standin.Faults{})

	again := newRig(t, cloud, withState)
	id2 := cloud.Deploy(names.TargetThing, "core-1", protocol.DeploymentDocument{Components: roots("a", "1.0.0")})
	again.start(t)
	assert.Equal(t, id, again.await(t, simulator.EventReported, 1).Job, "refused as ended, and so settled")
	assert.Equal(t, id2, again.await(t, simulator.EventReported, 2).Job)
	s := again.status(t, ofDeployment("deployment-of-"+id2))
	assert.Greater(t, s.SequenceNumber, int64(2), "the sequence goes on after a restart")
	assert.FileExists(t, dir+"/state/ready")
	assert.FileExists(t, dir+"/config/effectiveConfig.yaml")
}

func TestConfigIsChecked(t *testing.T) {
	cloud := standin.Start(t)
	good := simulator.Config{Thing: "t", MQTT: "h:1", DataPlane: "h:1", Credentials: "h:1", RoleAlias: "r", Certificate: cloud.Thing(t, "t"), RootCAs: cloud.Roots}
	tests := map[string]func(*simulator.Config){
		"Thing":       func(c *simulator.Config) { c.Thing = "" },
		"MQTT":        func(c *simulator.Config) { c.MQTT = "host" },
		"Certificate": func(c *simulator.Config) { c.Certificate.PrivateKey = nil },
		"RootCAs":     func(c *simulator.Config) { c.RootCAs = nil },
		"Runtime":     func(c *simulator.Config) { c.Runtime = "java" },
		"MQTTVersion": func(c *simulator.Config) { c.MQTTVersion = 3 },
	}
	for field, change := range tests {
		t.Run(field, func(t *testing.T) {
			cfg := good
			change(&cfg)
			_, err := simulator.New(cfg)
			require.ErrorContains(t, err, field)
		})
	}
	good.MQTTVersion = mqttwire.V311
	_, err := simulator.New(good)
	require.NoError(t, err)
}
