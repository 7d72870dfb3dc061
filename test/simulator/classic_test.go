package simulator_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/protocol"
	"github.com/ggfleet/ggfleet/test/internal/standin"
	"github.com/ggfleet/ggfleet/test/simulator"
	"github.com/ggfleet/ggfleet/test/simulator/mqttwire"
)

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return base64.StdEncoding.EncodeToString(sum[:])
}

func classic(c *simulator.Config) { c.Runtime = simulator.Classic }

func merged(version, merge string) map[string]protocol.DocumentComponent {
	return map[string]protocol.DocumentComponent{"a": {Version: version, ConfigurationUpdate: &protocol.DocumentConfiguration{Merge: json.RawMessage(merge)}}}
}

func TestClassicConnectsAndDeploysInBothVersionsOfMQTT(t *testing.T) {
	for name, version := range map[string]byte{"MQTT 5": mqttwire.V5, "MQTT 3.1.1": mqttwire.V311} {
		t.Run(name, func(t *testing.T) {
			cloud := standin.Start(t)
			body := []byte("payload")
			cloud.AddComponent(t, recipe("a", "1.0.0", manifestHead+`[{"Uri":"greengrass:a b.zip","Digest":"`+digest(body)+`","Algorithm":"SHA-256"}]}]`), map[string][]byte{"a b.zip": body})
			r := newRig(t, cloud, func(c *simulator.Config) { classic(c); c.MQTTVersion = version }, "g1", "g2").start(t)
			r.await(t, simulator.EventReady, 1)
			last := cloud.Connects()[len(cloud.Connects())-1]
			assert.Equal(t, standin.Connect{ClientID: "core-1", Username: "?SDK=JavaV2&Version=1.31.0", Version: version, Clean: version == mqttwire.V5, KeepAlive: 60}, last)
			s := r.status(t, trigger(protocol.TriggerNucleusLaunch))
			assert.Zero(t, s.SequenceNumber)
			assert.Empty(t, s.Runtime)
			assert.Len(t, s.Components, 6)
			assert.False(t, s.Components[0].IsRoot)

			e := r.deploy(t, 1, protocol.DeploymentDocument{Components: merged("1.0.0", `{"port":8080}`)})
			require.NoError(t, e.Err)
			s = r.status(t, ofDeployment(e.Deployment))
			require.Len(t, s.Components, 1, "a PARTIAL message lists what changed")
			assert.Contains(t, cloud.Requests(), "GET /greengrass/v2/components/arn%3Aaws%3Agreengrass%3Aus-east-1%3A123456789012%3Acomponents%3Aa%3Aversions%3A1.0.0/artifacts/a%20b.zip")
			b, err := json.Marshal(r.Configuration("a"))
			require.NoError(t, err)
			assert.Equal(t, `{"port":8080.0}`, string(b), "trap 15")
		})
	}
}

func TestClassicMergesConfigurationByTime(t *testing.T) {
	cloud := standin.Start(t)
	cloud.AddComponent(t, plain("a", "1.0.0"), nil)
	r := newRig(t, cloud, classic, "g1", "g2").start(t)
	cloud.Deploy(names.TargetThingGroup, "g2", protocol.DeploymentDocument{CreationTimestamp: 2000, Components: merged("1.0.0", `{"mode":"new"}`)})
	r.await(t, simulator.EventReported, 1)
	cloud.SetGroups("core-1", "g1")
	cloud.Deploy(names.TargetThingGroup, "g1", protocol.DeploymentDocument{CreationTimestamp: 1000, Components: merged("1.0.0", `{"mode":"old","extra":"1"}`)})
	e := r.await(t, simulator.EventFinished, 2)
	r.await(t, simulator.EventReported, 2)
	assert.Equal(t, "SUCCEEDED", e.Detail)
	assert.Equal(t, map[string]any{"mode": "new", "extra": "1"}, r.Configuration("a"), "trap 47: the newer leaf stays")
}

func TestClassicRejectsAStaleDocumentOfTheSameTarget(t *testing.T) {
	cloud := standin.Start(t)
	cloud.AddComponent(t, plain("a", "1.0.0"), nil)
	r := newRig(t, cloud, classic).start(t)
	r.deploy(t, 1, protocol.DeploymentDocument{CreationTimestamp: 2000, Components: roots("a", "1.0.0")})
	e := r.deploy(t, 2, protocol.DeploymentDocument{CreationTimestamp: 1000, Components: roots()})
	assert.Equal(t, "REJECTED", e.Detail)
	assert.Len(t, r.Components(), 1)
}

func TestClassicGoesBackWhenAComponentBreaks(t *testing.T) {
	tests := map[string]struct {
		policy string
		detail string
		left   []protocol.LocalComponent
	}{
		"with rollback":    {"ROLLBACK", "FAILED_ROLLBACK_COMPLETE", []protocol.LocalComponent{{Name: "a", Version: "1.0.0", State: "RUNNING"}}},
		"without rollback": {"DO_NOTHING", "FAILED_ROLLBACK_NOT_REQUESTED", []protocol.LocalComponent{{Name: "a", Version: "1.0.0", State: "RUNNING"}, {Name: "bad", Version: "1.0.0", State: "BROKEN"}}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			cloud := standin.Start(t)
			cloud.AddComponent(t, plain("a", "1.0.0"), nil)
			cloud.AddComponent(t, plain("bad", "1.0.0"), nil)
			r := newRig(t, cloud, func(c *simulator.Config) {
				classic(c)
				c.Fail = map[string]simulator.Failure{"bad": simulator.FailInstall}
			}).start(t)
			r.deploy(t, 1, protocol.DeploymentDocument{Components: roots("a", "1.0.0")})
			e := r.deploy(t, 2, protocol.DeploymentDocument{Components: roots("a", "1.0.0", "bad", "1.0.0"), FailureHandling: tc.policy})
			assert.Equal(t, "FAILED", e.Detail)
			s := r.status(t, ofDeployment(e.Deployment))
			assert.Equal(t, tc.detail, s.Deployment.StatusDetails.DetailedStatus)
			assert.Equal(t, []string{"DEPLOYMENT_FAILURE", "COMPONENT_UPDATE_ERROR", "COMPONENT_BROKEN"}, s.Deployment.StatusDetails.ErrorStack)
			assert.Equal(t, tc.left, r.Components())
			broke := r.status(t, trigger(protocol.TriggerComponentStatusChange))
			assert.Equal(t, []string{"INSTALL_ERROR"}, broke.Components[0].Details.StatusCodes)
		})
	}
}

func TestClassicCancelsWhatRunsWhenNothingIsPending(t *testing.T) {
	cloud := standin.Start(t)
	cloud.AddComponent(t, plain("a", "1.0.0"), nil)
	r := newRig(t, cloud, func(c *simulator.Config) { classic(c); c.PauseScale = 100 }).start(t)
	r.await(t, simulator.EventReady, 1)
	cloud.Deploy(names.TargetThing, "core-1", protocol.DeploymentDocument{Components: roots("a", "1.0.0")})
	r.await(t, simulator.EventJob, 1)
	cloud.CancelJobs("core-1")
	r.await(t, simulator.EventCanceled, 1)
	assert.Empty(t, r.Components())
}

func TestClassicNeedsADigestAndAsksTheCloudEvenForWhatItHas(t *testing.T) {
	cloud := standin.Start(t)
	cloud.AddComponent(t, recipe("a", "1.0.0", manifestHead+`[{"Uri":"greengrass:a"}]}]`), nil)
	cloud.AddComponent(t, plain("b", "1.0.0"), nil)
	r := newRig(t, cloud, classic).start(t)
	e := r.deploy(t, 1, protocol.DeploymentDocument{Components: roots("a", "1.0.0")})
	require.ErrorContains(t, e.Err, "trap 27")
	s := r.status(t, ofDeployment(e.Deployment))
	assert.Equal(t, "FAILED_NO_STATE_CHANGE", s.Deployment.StatusDetails.DetailedStatus)
	r.deploy(t, 2, protocol.DeploymentDocument{Components: roots("b", "1.0.0")})
	before := len(cloud.Requests())
	r.deploy(t, 3, protocol.DeploymentDocument{Components: roots("b", "1.0.0")})
	assert.Contains(t, cloud.Requests()[before:], "POST /greengrass/v2/resolveComponentCandidates")
}

func TestClassicResumesItsSession(t *testing.T) {
	cloud := standin.Start(t)
	cloud.AddComponent(t, plain("a", "1.0.0"), nil)
	r := newRig(t, cloud, classic).start(t)
	r.await(t, simulator.EventReady, 1)
	cloud.Kick("core-1")
	e := r.await(t, simulator.EventConnected, 2)
	assert.Equal(t, "resumed", e.Detail)
	r.await(t, simulator.EventReady, 2)
	r.deploy(t, 1, protocol.DeploymentDocument{Components: roots("a", "1.0.0")})
}
