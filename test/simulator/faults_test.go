package simulator_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/protocol"
	"github.com/ggfleet/ggfleet/test/internal/standin"
	"github.com/ggfleet/ggfleet/test/simulator"
)

// on answers the requests whose path has part in it.
func on(part, body string, code int) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.EscapedPath(), part) {
			return false
		}
		w.WriteHeader(code)
		_, _ = w.Write([]byte(body))
		return true
	}
}

func TestAnswersOfTheDataPlaneThatARuntimeCannotUse(t *testing.T) {
	good := `{"accessKeyId":"a","secretAccessKey":"b","sessionToken":"c","expiration":"2999-01-01T00:00:00Z"`
	tests := map[string]struct {
		runtime simulator.Runtime
		http    func(http.ResponseWriter, *http.Request) bool
		want    string // empty: it succeeds all the same
	}{
		"thing groups over 2 KB":               {simulator.Lite, on("/thingGroups", `{"thingGroups":[],"x":"`+strings.Repeat("x", 2048)+`"}`, 200), "trap 21"},
		"thing groups over 2 KB, classic":      {simulator.Classic, on("/thingGroups", `{"thingGroups":[],"x":"`+strings.Repeat("x", 2048)+`"}`, 200), ""},
		"thing groups refused":                 {simulator.Lite, on("/thingGroups", ``, 403), "status 403"},
		"thing groups refused, classic":        {simulator.Classic, on("/thingGroups", ``, 403), ""},
		"an artifact URL over 2000 bytes":      {simulator.Lite, on("/artifacts/", `{"preSignedUrl":"http://x/`+strings.Repeat("x", 2000)+`"}`, 200), "trap 21"},
		"an empty answer to resolve":           {simulator.Lite, on("/resolve", `{}`, 200), "want one"},
		"resolve forbidden":                    {simulator.Lite, on("/resolve", ``, 403), "status 403"},
		"resolve always throttled":             {simulator.Lite, on("/resolve", ``, 429), "status 429"},
		"a component of another region":        {simulator.Lite, on("/resolve", `{"resolvedComponentVersions":[{"arn":"arn:aws:greengrass:eu-west-1:123456789012:components:a:versions:1.0.0","componentName":"a","componentVersion":"1.0.0","recipe":""}]}`, 200), "trap 28"},
		"an ARN without account":               {simulator.Classic, on("/resolve", `{"resolvedComponentVersions":[{"arn":"arn:aws:greengrass:us-east-1::components:a:versions:1.0.0","componentName":"a","componentVersion":"1.0.0","recipe":""}]}`, 200), "trap 28"},
		"no credentials":                       {simulator.Lite, on("/role-aliases/", ``, 403), "trap 22"},
		"no credentials, classic":              {simulator.Classic, on("/role-aliases/", ``, 403), ""},
		"a member too many in the credentials": {simulator.Lite, on("/role-aliases/", `{"credentials":`+good+`,"x":"y"}}`, 200), "trap 23"},
		"credentials that are over":            {simulator.Lite, on("/role-aliases/", `{"credentials":{"accessKeyId":"a","secretAccessKey":"b","sessionToken":"c","expiration":"2001-01-01T00:00:00Z"}}`, 200), "expire"},
		"credentials as they should be":        {simulator.Lite, on("/role-aliases/", `{"credentials":`+good+`}}`, 200), ""},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			cloud := standin.Start(t)
			body := []byte("bytes")
			cloud.AddComponent(t, recipe("a", "1.0.0", manifestHead+`[{"Uri":"greengrass:f","Digest":"`+digest(body)+`","Algorithm":"SHA-256"}]}]`), map[string][]byte{"f": body})
			cloud.Fail(standin.Faults{HTTP: tc.http})
			r := newRig(t, cloud, func(c *simulator.Config) { c.Runtime = tc.runtime }).start(t)
			e := r.deploy(t, 1, protocol.DeploymentDocument{Components: roots("a", "1.0.0")})
			if tc.want == "" {
				require.NoError(t, e.Err)
				return
			}
			require.ErrorContains(t, e.Err, tc.want)
		})
	}
}

func TestLiteTriesAgainWhatMayPassAndNeedsNoCredentialsForConfigurationAlone(t *testing.T) {
	cloud := standin.Start(t)
	cloud.AddComponent(t, plain("a", "1.0.0"), nil)
	var calls atomic.Int32
	cloud.Fail(standin.Faults{HTTP: func(w http.ResponseWriter, _ *http.Request) bool {
		if calls.Add(1)%2 == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}
		return false
	}})
	r := newRig(t, cloud, nil).start(t)
	require.NoError(t, r.deploy(t, 1, protocol.DeploymentDocument{Components: roots("a", "1.0.0")}).Err)
	assert.Equal(t, int32(6), calls.Load(), "three requests, each twice")
	cloud.Fail(standin.Faults{HTTP: on("/role-aliases/", "", 403)})
	doc := protocol.DeploymentDocument{Components: map[string]protocol.DocumentComponent{"a": {Version: "1.0.0", ConfigurationUpdate: &protocol.DocumentConfiguration{Merge: json.RawMessage(`{"x":"y"}`)}}}}
	require.NoError(t, r.deploy(t, 2, doc).Err)
	assert.Equal(t, map[string]any{"x": "y"}, r.Configuration("a"))
}

func TestClassicIgnoresAJobThatIsOlderThanTheLast(t *testing.T) {
	cloud := standin.Start(t)
	cloud.AddComponent(t, plain("a", "1.0.0"), nil)
	r := newRig(t, cloud, classic)
	first := cloud.Deploy(names.TargetThing, "core-1", protocol.DeploymentDocument{Components: roots("a", "1.0.0")})
	cloud.Deploy(names.TargetThing, "core-1", protocol.DeploymentDocument{Components: roots()})
	cloud.Fail(standin.Faults{Answer: func(topic string, b []byte) []byte {
		var a protocol.JobAnswer
		if strings.HasSuffix(topic, "/get/accepted") && json.Unmarshal(b, &a) == nil && a.Execution != nil && a.Execution.JobID != first {
			a.Execution.QueuedAt = 1
			b, _ = json.Marshal(a)
		}
		return b
	}})
	r.start(t)
	e := r.await(t, simulator.EventIgnored, 1)
	assert.Contains(t, e.Detail, "trap 12")
	assert.Len(t, r.Components(), 1)
}

func TestClassicAsksAtOnceWhenAnAnnouncedJobIsNotThere(t *testing.T) {
	cloud := standin.Start(t)
	cloud.AddComponent(t, plain("a", "1.0.0"), nil)
	r := newRig(t, cloud, classic).start(t)
	r.await(t, simulator.EventReady, 1)
	cloud.Fail(standin.Faults{NoPromise: true})
	cloud.Deploy(names.TargetThing, "core-1", protocol.DeploymentDocument{Components: roots("a", "1.0.0")})
	assert.Contains(t, r.await(t, simulator.EventRefused, 3).Detail, "trap 11")
	cloud.Fail(standin.Faults{})
	r.await(t, simulator.EventReported, 1)
}

func TestClassicRefusesACapabilityThatItDoesNotHave(t *testing.T) {
	cloud := standin.Start(t)
	r := newRig(t, cloud, classic).start(t)
	e := r.deploy(t, 1, protocol.DeploymentDocument{RequiredCapabilities: []string{"LARGE_CONFIGURATION"}})
	require.ErrorContains(t, e.Err, "trap 18")
}

func TestAComponentThatDiesByItselfIsReported(t *testing.T) {
	cloud := standin.Start(t)
	cloud.AddComponent(t, plain("a", "1.0.0"), nil)
	r := newRig(t, cloud, nil).start(t)
	r.deploy(t, 1, protocol.DeploymentDocument{Components: roots("a", "1.0.0")})
	require.True(t, r.SetComponentState(t.Context(), "a", "BROKEN"))
	require.False(t, r.SetComponentState(t.Context(), "b", "BROKEN"))
	s := r.status(t, trigger(protocol.TriggerComponentStatusChange))
	assert.Equal(t, protocol.Unhealthy, s.OverallDeviceStatus)
	assert.Equal(t, protocol.StatusPartial, s.MessageType)
}
