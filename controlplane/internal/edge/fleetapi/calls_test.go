package fleetapi_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/api"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/fleetapi"
	"github.com/ggfleet/ggfleet/controlplane/internal/fleet"
	"github.com/ggfleet/ggfleet/controlplane/internal/telemetry"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

const date = `^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$`

func TestW21ATemplateIsCreatedReadAndReplaced(t *testing.T) {
	h := start(t)
	a := h.call(t, "POST", "/templates", `{"name":"press-line","components":[{"key":"b.Second","version":"1.0.0","configurationUpdate":{"merge":"{\"a\":1}","reset":["/x",""]},"runWith":{"posixUser":"u:g"}},{"key":"a.First","version":"2.0.0"}],"jobConfig":{"timeoutConfig":{"inProgressTimeoutInMinutes":5}}}`)
	assert.Equal(t, 201, a.status)
	assert.Empty(t, a.body)
	assert.Equal(t, "/templates/press-line", a.header.Get("Location"))
	assert.Equal(t, "press-line", a.header.Get("x-name"))
	assert.Equal(t, "1", a.header.Get("x-version"))
	assert.Equal(t, api.MediaType, a.header.Get("Content-Type"))

	a = h.call(t, "GET", "/templates/press-line", "")
	assert.JSONEq(t, `{"name":"press-line","version":1,"components":[{"key":"b.Second","version":"1.0.0","configurationUpdate":{"merge":"{\"a\":1}","reset":["/x",""]},"runWith":{"posixUser":"u:g"}},{"key":"a.First","version":"2.0.0"}],"jobConfig":{"timeoutConfig":{"inProgressTimeoutInMinutes":5}},"createdAt":"2026-03-02T08:00:00.120Z","updatedAt":null}`, a.body)

	// What was read can be sent back, members that the server sets included.
	back := h.call(t, "PUT", "/templates/press-line", a.body)
	assert.Equal(t, 204, back.status, back.body)
	assert.Equal(t, "2", back.header.Get("x-version"))
	patched := h.call(t, "PATCH", "/templates/press-line", `{"components":[{"key":"a.First","version":"2.0.0"}]}`)
	assert.Equal(t, 204, patched.status)
	assert.Equal(t, "3", patched.header.Get("x-version"))

	assert.EqualValues(t, 3, h.call(t, "GET", "/templates/press-line/versions/latest", "").json(t)["version"])
	assert.EqualValues(t, 3, h.call(t, "GET", "/templates/press-line/versions/current", "").json(t)["version"])
	assert.Regexp(t, date, h.call(t, "GET", "/templates/press-line/versions/2", "").json(t)["updatedAt"])
	assert.Equal(t, 404, h.call(t, "GET", "/templates/press-line/versions/9", "").status)

	list := h.call(t, "GET", "/templates", "").body
	assert.JSONEq(t, `{"templates":[{"name":"press-line","version":3,"createdAt":"2026-03-02T08:00:00.120Z","updatedAt":"2026-03-02T08:00:00.120Z"}]}`, list)
	assert.Equal(t, 409, h.call(t, "POST", "/templates", templateBody).status)
	assert.Equal(t, 204, h.call(t, "DELETE", "/templates/press-line", "").status)
	assert.Equal(t, 404, h.call(t, "DELETE", "/templates/press-line", "").status)
	assert.JSONEq(t, `{"templates":[]}`, h.call(t, "GET", "/templates", "").body)
}

func TestPagesAreCutByCountAndStart(t *testing.T) {
	h := start(t)
	for i := range 3 {
		require.Equal(t, 201, h.call(t, "POST", "/templates", fmt.Sprintf(`{"name":"t%d","components":[{"key":"a","version":"1.0.0"}]}`, i)).status)
		require.Equal(t, 204, h.call(t, "PUT", "/templates/t0", `{"components":[{"key":"a","version":"1.0.0"}]}`).status)
	}
	first := h.call(t, "GET", "/templates?count=2", "").json(t)
	assert.Equal(t, map[string]any{"count": 2.0, "lastEvaluated": map[string]any{"name": "t1"}}, first["pagination"])
	second := h.call(t, "GET", "/templates?count=2&exclusiveStartName=t1", "").json(t)
	assert.Equal(t, map[string]any{"count": 2.0}, second["pagination"])
	versions := h.call(t, "GET", "/templates/t0/versions?count=1&exclusiveStartVersion=1", "").json(t)
	assert.Equal(t, map[string]any{"count": 1.0, "lastEvaluated": map[string]any{"version": 2.0}}, versions["pagination"])
	assert.NotContains(t, h.call(t, "GET", "/templates", "").json(t), "pagination")

	h.call(t, "GET", "/cores?count=5000", "")
	assert.Equal(t, fleet.MaxPage, h.LastPage.Count, "more than the largest page is taken as the largest")
	for _, list := range []string{"/deploymentTasks", "/cores/none/deployments", "/deploymentTasks/none/cores", "/deploymentTasks/none/deployments"} {
		assert.Equal(t, map[string]any{}, h.call(t, "GET", list, "").json(t)["pagination"], "%s always has the member", list)
	}
}

func TestACoreTaskIsAcceptedAndShown(t *testing.T) {
	h := start(t)
	a := h.call(t, "POST", "/coreTasks", coreBody, "Idempotency-Key", "import-1")
	require.Equal(t, 202, a.status, a.body)
	id := a.header.Get("x-taskid")
	assert.Regexp(t, `^[A-Za-z0-9_\-]{9}$`, id)
	assert.Equal(t, "/coreTasks/"+id, a.header.Get("Location"))
	assert.Equal(t, fleet.NewCoreTask{Type: "Create", CoreVersion: "2.12.0", Cores: []fleet.NewCore{{
		Name: "press-07", ProvisioningTemplate: "default", ProvisioningParameters: map[string]string{"ThingName": "press-07"}, ConfigFileGenerator: "MANUAL_INSTALL",
	}}}, h.LastNewCoreTask)

	again := h.call(t, "POST", "/coreTasks", coreBody, "Idempotency-Key", "import-1")
	assert.Equal(t, id, again.header.Get("x-taskid"))

	want := `{"id":"` + id + `","type":"Create","coreVersion":"2.12.0","cores":[{"name":"press-07","taskStatus":"Success","createdAt":"2026-03-02T08:00:00.120Z","updatedAt":"2026-03-02T08:00:00.120Z"}],"taskStatus":"Success","createdAt":"2026-03-02T08:00:00.120Z","updatedAt":"2026-03-02T08:00:00.120Z","batchesComplete":1,"batchesTotal":1,"itemsTotal":1,"itemsSucceeded":1,"itemsFailed":0}`
	assert.JSONEq(t, want, h.call(t, "GET", "/coreTasks/"+id, "").body)
	assert.JSONEq(t, want, h.call(t, "GET", "/cores/press-07/coreTasks/"+id, "").body)
	assert.Equal(t, 404, h.call(t, "GET", "/cores/press-08/coreTasks/"+id, "").status, "the core is not part of it")
	assert.Equal(t, []any{}, h.call(t, "GET", "/coreTasks", "").json(t)["tasks"].([]any)[0].(map[string]any)["cores"])

	deletion := h.call(t, "POST", "/coreTasks", `{"type":"Delete","cores":[{"name":"press-07"}],"options":{"deprovisionCores":true}}`)
	assert.Equal(t, 202, deletion.status, deletion.body)
	shown := h.call(t, "GET", deletion.header.Get("Location"), "").json(t)
	assert.Equal(t, "Delete", shown["type"])
	assert.Equal(t, map[string]any{"deprovisionCores": true}, shown["options"])
	assert.Equal(t, 404, h.call(t, "GET", "/cores/press-07", "").status)
}

func TestACoreShowsTemplateAndDevice(t *testing.T) {
	h := populated(t)
	require.Equal(t, 202, h.call(t, "POST", "/coreTasks", strings.ReplaceAll(coreBody, "press-07", "press-08")).status)
	fresh := h.call(t, "GET", "/cores/press-08", "").json(t)
	assert.Equal(t, map[string]any{"installedComponents": []any{}, "effectiveDeployments": []any{}, "status": "UNKNOWN", "connected": false}, fresh["device"])
	assert.Equal(t, map[string]any{"desired": map[string]any{"name": "None", "version": 0.0}, "reported": map[string]any{"name": "None", "version": 0.0, "deploymentStatus": "None"}}, fresh["template"])
	assert.Equal(t, "greengrass2/artifacts/press-08/press-08/certs.zip", fresh["artifacts"].(map[string]any)["certs"].(map[string]any)["key"])

	at := time.Date(2026, 3, 9, 17, 45, 12, 0, time.UTC)
	h.SetDevice("press-07", fleet.CoreDevice{
		Status: "HEALTHY", CoreVersion: "2.12.0", Connected: true, LastSeen: at, LastStatusUpdate: at,
		Installed:            []fleet.InstalledComponent{{Name: "com.example.Press", Version: "1.0.0", State: "RUNNING", IsRoot: true}},
		EffectiveDeployments: []fleet.EffectiveDeployment{{DeploymentID: "d", TargetARN: "arn", Status: "COMPLETED", CreatedAt: at, UpdatedAt: at}},
	})
	device := h.call(t, "GET", "/cores/press-07", "").json(t)["device"].(map[string]any)
	assert.Equal(t, "HEALTHY", device["status"])
	assert.Equal(t, "2026-03-09T17:45:12.000Z", device["lastSeen"])
	assert.Equal(t, []any{map[string]any{"name": "com.example.Press", "version": "1.0.0", "lifecycleState": "RUNNING", "isRoot": true}}, device["installedComponents"])

	list := h.call(t, "GET", "/cores?templateName=press-line&templateVersion=1&failedOnly=TRUE", "").json(t)["cores"].([]any)
	assert.Len(t, list, 1)
	assert.NotContains(t, list[0], "device")
	assert.Equal(t, fleet.CoreFilter{TemplateName: "press-line", TemplateVersion: 1, FailedOnly: true}, h.LastFilter)
}

func TestACoreShowsWhatItsAgentReported(t *testing.T) {
	h := populated(t)
	assert.NotContains(t, h.call(t, "GET", "/cores/press-07", "").json(t), "agent", "none ever reported")
	assert.NotContains(t, h.call(t, "GET", "/cores", "").json(t)["cores"].([]any)[0], "agent")

	at := time.Date(2026, 3, 9, 17, 45, 58, 0, time.UTC)
	h.SetAgent("press-07", fleet.AgentReport{Connected: true, Version: "1.2.0", LastReport: at})
	agent := func() map[string]any {
		return h.call(t, "GET", "/cores/press-07", "").json(t)["agent"].(map[string]any)
	}
	assert.Equal(t, map[string]any{
		"connected": true, "version": "1.2.0", "lastReport": "2026-03-09T17:45:58.000Z", "components": []any{}, "droppedReports": 0.0,
	}, agent(), "what was not told is absent")

	load, used := 0.0, uint64(42)
	h.SetAgent("press-07", fleet.AgentReport{
		LastReport: at, DroppedReports: 3, Components: []protocol.LocalComponent{{Name: "com.example.Press", Version: "1.0.0", State: "RUNNING"}},
		Nucleus: &telemetry.Nucleus{State: protocol.NucleusFailed, Name: "aws.greengrass.Nucleus", Version: "2.12.0", Restarts: 2, LastError: "exit status 1"},
		Host:    &telemetry.Host{UptimeSeconds: 7, Load1: &load, MemoryUsedBytes: &used},
	})
	assert.Equal(t, map[string]any{
		"connected": false, "lastReport": "2026-03-09T17:45:58.000Z", "droppedReports": 3.0,
		"components": []any{map[string]any{"name": "com.example.Press", "version": "1.0.0", "state": "RUNNING"}},
		"nucleus":    map[string]any{"state": "failed", "name": "aws.greengrass.Nucleus", "version": "2.12.0", "restarts": 2.0, "lastError": "exit status 1"},
		"host":       map[string]any{"uptimeSeconds": 7.0, "load1": 0.0, "memoryUsedBytes": 42.0},
	}, agent())
	listed := func() map[string]any {
		return h.call(t, "GET", "/cores", "").json(t)["cores"].([]any)[0].(map[string]any)
	}
	assert.Equal(t, map[string]any{"connected": false, "lastReport": "2026-03-09T17:45:58.000Z"}, listed()["agent"], "the list has little of it")
	h.SetAgent("press-07", fleet.AgentReport{Connected: true, Version: "1.2.0", LastReport: at, Warnings: []telemetry.Warning{telemetry.LowDisk}})
	assert.Equal(t, map[string]any{"connected": true, "version": "1.2.0", "lastReport": "2026-03-09T17:45:58.000Z", "warnings": []any{"lowDisk"}}, listed()["agent"])
}

func TestACoresDeploymentsNameTheirTemplate(t *testing.T) {
	h := populated(t)
	list := h.call(t, "GET", "/cores/press-07/deployments", "").json(t)["deployments"].([]any)
	require.Len(t, list, 1)
	assert.Equal(t, map[string]any{"name": "press-line", "version": 1.0}, list[0].(map[string]any)["template"])
}

func TestADeploymentTaskTakesEverySpelling(t *testing.T) {
	h := populated(t)
	for name, c := range map[string]struct {
		body    string
		version int
		things  []string
		groups  []string
	}{
		"the version as a number":         {`{"template":{"name":"press-line","version":2},"targets":{"thingNames":["a","b"]}}`, 2, []string{"a", "b"}, nil},
		"the version as text":             {`{"template":{"name":"press-line","version":"2"},"targets":{"thingNames":["a"]}}`, 2, []string{"a"}, nil},
		"no version":                      {`{"template":{"name":"press-line"},"targets":{"thingNames":["a"]}}`, 0, []string{"a"}, nil},
		"groups in both spellings, once":  {`{"template":{"name":"press-line"},"targets":{"thingGroupNames":["g","h"],"thingGroups":["h","i"]}}`, 0, nil, []string{"g", "h", "i"}},
		"a member of targets nobody uses": {`{"template":{"name":"press-line"},"targets":{"thingNames":["a"],"note":{"x":[1]}}}`, 0, []string{"a"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			a := h.call(t, "POST", "/deploymentTasks", c.body)
			require.Equal(t, 202, a.status, a.body)
			assert.Equal(t, c.version, h.LastDeployment.TemplateVersion)
			assert.Equal(t, c.things, h.LastDeployment.Targets.ThingNames)
			assert.Equal(t, c.groups, h.LastDeployment.Targets.ThingGroupNames)
			shown := h.call(t, "GET", a.header.Get("Location"), "").json(t)
			assert.IsType(t, 0.0, shown["template"].(map[string]any)["version"], "shown as a number")
		})
	}
	assert.Equal(t, 404, h.call(t, "POST", "/deploymentTasks", `{"template":{"name":"none"},"targets":{"thingNames":["a"]}}`).status)
	assert.Equal(t, 400, h.call(t, "POST", "/deploymentTasks", `{"template":{"name":"press-line"},"targets":{"assetLibraryQuery":{}}}`).status, "it would find everything")

	cores := h.call(t, "GET", "/deploymentTasks/depl-0001/cores", "").body
	assert.Equal(t, cores, h.call(t, "GET", "/deploymentTasks/depl-0001/deployments", "").body)
	assert.Equal(t, "Success", h.call(t, "GET", "/deploymentTasks/depl-0001/cores/press-07", "").json(t)["deploymentStatus"])
	assert.Equal(t, 404, h.call(t, "GET", "/deploymentTasks/depl-0001/cores/press-99", "").status)
	assert.Equal(t, "depl-0001", h.call(t, "GET", "/cores/press-07/deployments", "").json(t)["deployments"].([]any)[0].(map[string]any)["taskId"])
}

func TestTheSummaryHidesCoresWithoutTemplate(t *testing.T) {
	h := populated(t)
	assert.JSONEq(t, `{"templates":{"press-line":{"latestVersion":2,"versions":{
		"1":{"desiredInUse":1,"reportedInUse":1,"lastDeploymentSuccess":1,"lastDeploymentFailed":0,"lastDeploymentInProgress":0},
		"2":{"desiredInUse":0,"reportedInUse":0,"lastDeploymentSuccess":0,"lastDeploymentFailed":0,"lastDeploymentInProgress":0}}}}}`,
		h.call(t, "GET", "/fleet/summary", "").body)
}

func TestAComponentIsMadeOfRecipeAndArtifacts(t *testing.T) {
	h := start(t)
	h.AddStub("aws.greengrass.Cli", "2.5.0")
	recipe := "---\nComponentName: com.example.Press\nComponentVersion: 1.0.0\n  - URI: greengrass:press.tar.gz\n  - URI: greengrass:model.bin\n"
	for i, contentType := range []string{"application/yaml", "text/yaml; charset=utf-8", "application/x-yaml", "text/x-yaml", "application/json", api.MediaType} {
		a := h.call(t, "POST", "/components", strings.ReplaceAll(recipe, "Press", fmt.Sprintf("Press%d", i)), "Content-Type", contentType)
		assert.Equal(t, 201, a.status, "%s: %s", contentType, a.body)
	}
	a := h.call(t, "POST", "/components", recipe, "Content-Type", "application/yaml")
	assert.Equal(t, recipe, string(h.LastRecipe), "every byte, as written")
	assert.Equal(t, "/components/com.example.Press/versions/1.0.0", a.header.Get("Location"))
	assert.Equal(t, []any{"press.tar.gz", "model.bin"}, a.json(t)["missingArtifacts"])

	up := h.call(t, "PUT", "/components/com.example.Press/versions/1.0.0/artifacts/press.tar.gz", "bytes", "Content-Type", "", "Accept", "*/*")
	assert.Equal(t, 200, up.status, up.body)
	assert.Equal(t, []any{"model.bin"}, up.json(t)["missingArtifacts"])
	assert.Equal(t, "bytes", h.Artifact("press.tar.gz"))
	assert.Equal(t, 200, h.call(t, "PUT", "/components/com.example.Press/versions/1.0.0/artifacts/linux/arm64/model.bin", "x", "Content-Type", "application/octet-stream").status)
	assert.Equal(t, "x", h.Artifact("linux/arm64/model.bin"), "slashes may stand in the path")

	stub := h.call(t, "GET", "/components", "").json(t)["components"].([]any)[0].(map[string]any)
	assert.Equal(t, "aws.greengrass.Cli", stub["name"])
	assert.Equal(t, true, stub["stub"])
	assert.Equal(t, true, h.call(t, "GET", "/components/aws.greengrass.Cli/versions", "").json(t)["components"].([]any)[0].(map[string]any)["stub"])
	assert.Equal(t, true, h.call(t, "GET", "/components/aws.greengrass.Cli/versions/2.5.0", "").json(t)["stub"])
	assert.Equal(t, 204, h.call(t, "DELETE", "/components/com.example.Press/versions/1.0.0", "").status)
}

func TestAnActivationHasTheDefaultsOfTheOriginal(t *testing.T) {
	h := start(t)
	a := h.call(t, "POST", "/activations", `{"deviceId":"press 07/ü"}`)
	require.Equal(t, 200, a.status, a.body)
	assert.Equal(t, fleetapi.NewActivation{DeviceID: "press 07/ü", ValidFor: 24 * time.Hour, Registrations: 1}, h.LastActivation)
	id := a.json(t)["activationId"].(string)
	assert.JSONEq(t, `{"activationId":"`+id+`","activationCode":"Kq7Wn2Zx5Rt8Yb3Mf6Hd","activationRegion":"us-east-1","enrollment":"ggf1.example"}`, a.body)
	shown := h.call(t, "GET", "/activations/"+id, "").json(t)
	assert.Equal(t, "press 07/ü", shown["deviceId"])
	assert.NotContains(t, shown, "activationCode")
	assert.Equal(t, 204, h.call(t, "DELETE", "/activations/"+id, "").status)
	assert.Equal(t, 204, h.call(t, "DELETE", "/activations/"+id, "").status, "an unknown one is no error")
	assert.Equal(t, 400, h.call(t, "DELETE", "/activations/no-uuid", "").status)
	assert.Equal(t, 404, h.call(t, "GET", "/activations/"+id, "").status)
}

func TestSecretsAreShownOnce(t *testing.T) {
	h := start(t)
	assert.JSONEq(t, `{"accessKeyId":"AKIAEXAMPLE00001","secretAccessKey":"secret/example+key","role":"admin","region":"us-east-1","endpointUrl":"http://127.0.0.1:4566"}`, h.call(t, "POST", "/accessKeys", `{"description":"ci"}`).body)
	assert.Equal(t, "viewer", h.call(t, "POST", "/accessKeys", `{"role":"viewer"}`).json(t)["role"])
	assert.Equal(t, 400, h.call(t, "POST", "/accessKeys", `{"role":"operator"}`).status)
	listed := h.call(t, "GET", "/accessKeys", "").body
	assert.NotContains(t, listed, "secret")
	assert.Contains(t, listed, `"role":"viewer"`)
	assert.Contains(t, h.call(t, "POST", "/tokens", `{"name":"dash","role":"viewer"}`).body, "text-of-dash")
	assert.NotContains(t, h.call(t, "GET", "/tokens", "").body, "text-of-dash")
	assert.Equal(t, 204, h.call(t, "DELETE", "/tokens/dash", "").status)
	assert.Equal(t, 204, h.call(t, "DELETE", "/accessKeys/AKIAEXAMPLE00001", "").status)
	assert.Equal(t, 404, h.call(t, "DELETE", "/accessKeys/AKIAEXAMPLE00001", "").status)
}

func TestDocumentsAndArchivesAreKeptAsTheyCame(t *testing.T) {
	h := start(t)
	doc := `{ "Parameters": {"ThingName": {"Type": "String"}}, "CDF": {"createDeviceCertificate": true} }`
	require.Equal(t, 204, h.call(t, "PUT", "/provisioningTemplates/default", doc).status)
	assert.Equal(t, doc, h.call(t, "GET", "/provisioningTemplates/default", "").body)
	a := h.call(t, "PUT", "/distributions/aws.greengrass.NucleusLite/2.3.0?format=zip", "abc", "Content-Type", "application/octet-stream")
	require.Equal(t, 201, a.status, a.body)
	assert.Equal(t, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", a.json(t)["digest"])
	assert.Equal(t, true, h.call(t, "POST", "/distributions/aws.greengrass.NucleusLite/2.3.0/activate", "").json(t)["current"])
	assert.Equal(t, 400, h.call(t, "PUT", "/distributions/a/1.0.0", "abc").status, "the format is missing")
	assert.Equal(t, 404, h.call(t, "POST", "/distributions/a/1.0.0/activate", "").status)
}

func TestTheServerDescribesItself(t *testing.T) {
	h := start(t)
	none := []string{"Authorization", ""}
	assert.Contains(t, h.call(t, "GET", "/ca.pem", "", none...).body, "BEGIN CERTIFICATE")
	assert.Equal(t, "ca-1", h.call(t, "GET", "/ca", "", none...).json(t)["caId"])
	assert.Equal(t, 200, h.call(t, "GET", "/healthz", "", none...).status)
	assert.Equal(t, 200, h.call(t, "GET", "/readyz", "", none...).status)
	assert.Equal(t, "up 1\n", h.call(t, "GET", "/metrics", "", "Accept", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5").body)
	assert.Equal(t, "1.2.3", h.call(t, "GET", "/system", "").json(t)["version"])
}
