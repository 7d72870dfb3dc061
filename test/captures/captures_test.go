package captures_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/protocol"
	"github.com/ggfleet/ggfleet/test/captures"
	"github.com/ggfleet/ggfleet/test/internal/standin"
	"github.com/ggfleet/ggfleet/test/simulator/mqttwire"
)

func load(t testing.TB) []captures.Script {
	t.Helper()
	scripts, err := captures.Load()
	require.NoError(t, err)
	require.Len(t, scripts, 9)
	return scripts
}

func TestEveryCaptureIsUnderstoodWhole(t *testing.T) {
	packets, requests, statuses := 0, 0, 0
	for _, s := range load(t) {
		for _, e := range s.Entries {
			switch {
			case e.Packet != nil && e.Core:
				packets++
				if strings.HasSuffix(e.Packet.Topic, "/greengrassv2/health/json") {
					statuses++
					_, err := protocol.ParseFleetStatus(e.Packet.Payload)
					require.NoError(t, err, "%s line %d", s.Name, e.Line)
				}
			case e.Request != nil:
				requests++
			}
		}
	}
	assert.Equal(t, 138, packets, "as many as the files have heads")
	assert.Equal(t, 23, requests)
	t.Logf("%d packets of the core, %d of them fleet statuses, %d HTTP requests", packets, statuses, requests)
}

// The codec of the simulator makes packets of exactly the recorded sizes.
func TestTheCodecMakesTheRecordedSizes(t *testing.T) {
	kinds := map[string]mqttwire.Type{"CONNECT": mqttwire.Connect, "PUBLISH": mqttwire.Publish, "PUBACK": mqttwire.Puback, "SUBSCRIBE": mqttwire.Subscribe, "UNSUBSCRIBE": mqttwire.Unsubscribe, "PINGREQ": mqttwire.Pingreq, "DISCONNECT": mqttwire.Disconnect}
	for _, s := range load(t) {
		for _, e := range s.Entries {
			if e.Packet == nil || !e.Core {
				continue
			}
			p := e.Packet
			b, err := mqttwire.Append(nil, mqttwire.Packet{
				Type: kinds[p.Type], ID: uint16(p.ID), Topic: p.Topic, QoS: byte(p.QoS), Payload: p.Payload, Filters: p.Filters,
				ClientID: p.ClientID, CleanStart: true, KeepAlive: uint16(p.KeepAlive), Props: mqttwire.Properties{MaximumPacketSize: uint32(p.MaxPacket)},
			}, mqttwire.V5)
			require.NoError(t, err)
			require.Len(t, b, p.Size, "%s line %d: %s", s.Name, e.Line, p.Type)
			if p.Raw != nil {
				require.Equal(t, string(p.Raw), fmt.Sprintf("%x", b))
			}
		}
	}
}

// The fixtures are the recorded files, byte for byte.
func TestComponentsOfTheCaptures(t *testing.T) {
	list, err := captures.Components(load(t)...)
	require.NoError(t, err)
	var found []string
	for _, c := range list {
		found = append(found, c.Name+"-"+c.Version)
		assert.Contains(t, string(c.Recipe), c.Name)
	}
	assert.Equal(t, []string{"com.heldout.Hello-1.0.3", "com.heldout.Artifact-1.0.0", "com.heldout.Broken-1.0.0", "com.heldout.OneShot-1.0.0"}, found)
	assert.Len(t, list[1].Artifacts["9c1f5bd2/tool.sh"], 448)
}

type driver struct {
	cloud *standin.Cloud
	tell  bool
	specs []captures.DeploymentSpec
}

func (d *driver) Deploy(_ context.Context, spec captures.DeploymentSpec) (string, error) {
	d.specs = append(d.specs, spec)
	id := d.cloud.Deploy(spec.Kind, spec.Target, protocol.DeploymentDocument{DeploymentName: spec.Name, Components: spec.Components})
	if !d.tell {
		id = ""
	}
	return id, nil
}

func target(t *testing.T, tell bool) (*standin.Cloud, captures.Target, *driver) {
	t.Helper()
	cloud := standin.Start(t)
	d := &driver{cloud: cloud, tell: tell}
	list, err := captures.Components(load(t)...)
	require.NoError(t, err)
	for _, c := range list {
		recipe := string(c.Recipe)
		// The target has other artifact names than the capture.
		files := map[string][]byte{}
		for name, body := range c.Artifacts {
			files["renamed-"+filepath.Base(name)] = body
			recipe = strings.ReplaceAll(recipe, name, "renamed-"+filepath.Base(name))
		}
		cloud.AddComponent(t, recipe, files)
	}
	return cloud, captures.Target{
		MQTT: cloud.MQTT, DataPlane: cloud.HTTPS, Credentials: cloud.HTTPS, Thing: "other-core", RoleAlias: "other-alias", Region: "us-east-1",
		Certificate: cloud.Thing(t, "other-core", "group-a", "group-b"), RootCAs: cloud.Roots, Driver: d, AnswerTimeout: 3 * time.Minute,
		Rewrite: strings.NewReplacer("heldout-group-A", "group-a", "heldout-group-B", "group-b").Replace,
	}, d
}

func TestACloudThatKeepsTheContractPassesEveryReplay(t *testing.T) {
	for _, tell := range []bool{true, false} {
		for _, s := range load(t) {
			if !s.Replayable() {
				continue
			}
			t.Run(fmt.Sprintf("%s, driver tells job ids: %v", s.Name, tell), func(t *testing.T) {
				cloud, to, d := target(t, tell)
				res, err := captures.Replay(t.Context(), s, to)
				t.Log(res)
				require.NoError(t, err)
				assert.Empty(t, res.Violations)
				assert.Equal(t, res.Awaited, res.Answered)
				assert.Len(t, cloud.Statuses("other-core"), res.Statuses)
				for _, got := range cloud.Statuses("other-core") {
					assert.Equal(t, "other-core", got.Thing)
					if got.Deployment != nil {
						assert.True(t, strings.HasPrefix(got.Deployment.DeploymentID, "deployment-of-job-"), got.Deployment.DeploymentID)
						assert.NotContains(t, got.Deployment.FleetConfigurationARN, "heldout")
					}
				}
				if strings.HasPrefix(s.Name, "10-") {
					require.Len(t, d.specs, 2)
					assert.Equal(t, names.TargetThingGroup, d.specs[0].Kind)
					assert.Equal(t, "group-a", d.specs[0].Target)
				}
			})
		}
	}
}

func TestACloudThatBreaksTheContractIsFound(t *testing.T) {
	scripts := map[string]captures.Script{}
	for _, s := range load(t) {
		scripts[s.Name[:2]] = s
	}
	on := func(suffix string, change func([]byte) []byte) standin.Faults {
		return standin.Faults{Answer: func(topic string, b []byte) []byte {
			if strings.HasSuffix(topic, suffix) {
				return change(b)
			}
			return b
		}}
	}
	replace := func(old, now string) func([]byte) []byte {
		return func(b []byte) []byte { return bytes.ReplaceAll(b, []byte(old), []byte(now)) }
	}
	tests := map[string]struct {
		script string
		faults standin.Faults
		want   string
	}{
		"UNSUBACK 0x11":               {"01", standin.Faults{Unsuback: 0x11}, "trap 6"},
		"a token of its own":          {"01", on("/get/accepted", replace("jobs-nucleus-lite", "mine")), "trap 7"},
		"time in milliseconds":        {"05", on("/notify-next-namespace-aws-gg-deployment", replace(`"queuedAt":`, `"queuedAt":1000`)), "trap 13"},
		"an answer that is too big":   {"05", on("/update/accepted", replace(`{`, `{"x":"`+strings.Repeat("x", 1100)+`",`)), "trap 21"},
		"a document without revision": {"05", on("/notify-next-namespace-aws-gg-deployment", replace(`:1","creationTimestamp"`, `","creationTimestamp"`)), "trap 19"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			cloud, to, _ := target(t, true)
			cloud.Fail(tc.faults)
			res, err := captures.Replay(t.Context(), scripts[tc.script], to)
			require.NoError(t, err)
			require.Contains(t, strings.Join(res.Violations, "\n"), tc.want)
		})
	}
}

func TestProvisioningByClaimIsNotReplayed(t *testing.T) {
	all := load(t)
	_, err := captures.Replay(t.Context(), all[len(all)-1], captures.Target{})
	require.ErrorIs(t, err, fault.Unsupported)
}

func TestRecipeProblemsNamesWhatIsNotNormal(t *testing.T) {
	tests := map[string]struct{ recipe, want string }{
		"URI in capitals":      {`{"Manifests":[{"Lifecycle":{},"Artifacts":[{"URI":"greengrass:a"}]}]}`, "Uri is"},
		"no artifacts":         {`{"Manifests":[{"Lifecycle":{}}]}`, "Artifacts is missing"},
		"no lifecycle":         {`{"Manifests":[{"Artifacts":[]}]}`, "Lifecycle is missing"},
		"a capitalised phase":  {`{"Manifests":[{"Lifecycle":{"Run":"x"},"Artifacts":[]}]}`, "capitalised"},
		"null":                 {`{"ComponentDependencies":null,"Manifests":[{"Lifecycle":{},"Artifacts":[]}]}`, "is null"},
		"an artifact from S3":  {`{"Manifests":[{"Lifecycle":{},"Artifacts":[{"Uri":"s3://b/k"}]}]}`, "greengrass:"},
		"no digest":            {`{"Manifests":[{"Lifecycle":{},"Artifacts":[{"Uri":"greengrass:k"}]}]}`, "Digest"},
		"no manifests":         {`{}`, "Manifests"},
		"a list for an object": {`[]`, "JSON object"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			assert.Contains(t, strings.Join(captures.RecipeProblems([]byte(tc.recipe)), "; "), tc.want)
		})
	}
	assert.Empty(t, captures.RecipeProblems([]byte(`{"ComponentConfiguration":{"DefaultConfiguration":{"a":null}},"Manifests":[{"Lifecycle":{"run":"x","Setenv":{}},"Artifacts":[]}]}`)))
}

func FuzzParse(f *testing.F) {
	list, err := filepath.Glob("testdata/*.txt")
	require.NoError(f, err)
	for _, name := range list {
		b, err := os.ReadFile(name)
		require.NoError(f, err)
		f.Add(b[:min(len(b), 2000)])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := captures.Parse("fuzz", b)
		if err != nil {
			require.NotEmpty(t, fault.KindOf(err))
			return
		}
		_, _ = captures.Components(s)
		_ = s.Replayable()
	})
}
