package fleetapi_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/edge/fleetapi"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/fleetapi/fleetapitest"
	"github.com/ggfleet/ggfleet/controlplane/internal/event"
	"github.com/ggfleet/ggfleet/controlplane/internal/fleet"
	"github.com/ggfleet/ggfleet/controlplane/internal/patching"
)

const deviceBody = `{"type":"Create","devices":[{"name":"gauge-1","provisioningTemplate":"default"}]}`

func TestADeviceTaskTakesBothSpellings(t *testing.T) {
	h := start(t)
	for name, c := range map[string]struct{ body, want string }{
		"D-01: the type as type":          {deviceBody, "Create"},
		"D-01: the type as types":         {strings.Replace(deviceBody, `"type"`, `"types"`, 1), "Create"},
		"D-01: type wins over types":      {`{"type":"Delete","types":"Create","devices":[{"name":"gauge-1"}],"options":{"deprovisionClientDevices":false}}`, "Delete"},
		"coreName in the body is ignored": {strings.Replace(deviceBody, `{"type"`, `{"coreName":"other","type"`, 1), "Create"},
		"options of a Create are kept":    {strings.Replace(deviceBody, `{"type"`, `{"options":{"any":[1]},"type"`, 1), "Create"},
	} {
		t.Run(name, func(t *testing.T) {
			a := h.call(t, "POST", "/cores/press-07/deviceTasks", c.body)
			require.Equal(t, 202, a.status, a.body)
			assert.Equal(t, "press-07", h.LastDeviceTask.Core)
			assert.Equal(t, c.want, h.LastDeviceTask.Type)
			shown := h.call(t, "GET", a.header.Get("Location"), "").json(t)
			assert.Equal(t, a.header.Get("x-taskid"), shown["id"])
			assert.Equal(t, "press-07", shown["devices"].([]any)[0].(map[string]any)["coreName"], "W-30: items name their core")
		})
	}
	assert.Len(t, h.call(t, "GET", "/deviceTasks", "").json(t)["tasks"], 5)
	require.Equal(t, 202, h.call(t, "POST", "/cores/press-07/deviceTasks", deviceBody).status)
	assert.Len(t, h.call(t, "GET", "/cores/press-07/deviceTasks?count=2", "").json(t)["tasks"], 2)
	assert.JSONEq(t, `{"tasks":[]}`, h.call(t, "GET", "/cores/other/deviceTasks", "").body, "W-35: an empty list is there")
	assert.Equal(t, "press-07", h.call(t, "GET", "/devices/gauge-1", "").json(t)["coreName"])
	page := h.call(t, "GET", "/cores/press-07/devices?count=1", "").json(t)
	assert.Len(t, page["devices"], 1)
	assert.JSONEq(t, `{"devices":[]}`, h.call(t, "GET", "/cores/other/devices", "").body)
}

func TestDeletingADeviceReadsTruthValues(t *testing.T) {
	for query, want := range map[string]fleet.DeleteDevice{
		"":                   {Deprovision: true, Disassociate: true},
		"?deprovision=false": {Disassociate: true},
		"?deprovision=0&disassociateDeviceFromCore=false": {},
		"?deprovision=true&disassociateDeviceFromCore=1":  {Deprovision: true, Disassociate: true},
		"?disassociateDeviceFromCore=0":                   {Deprovision: true},
	} {
		t.Run("W-31: the text false is false: "+query, func(t *testing.T) {
			h := populated(t)
			assert.Equal(t, 204, h.call(t, "DELETE", "/devices/gauge-1"+query, "").status)
			assert.Equal(t, want, h.LastDelete)
			assert.Equal(t, 404, h.call(t, "DELETE", "/devices/gauge-1", "").status)
		})
	}
	h := populated(t)
	for _, query := range []string{"deprovision=no", "deprovision=", "deprovision=FALSE", "deprovision=true&deprovision=false", "disassociateDeviceFromCore=2", "deprovison=false"} {
		assert.Equal(t, 400, h.call(t, "DELETE", "/devices/gauge-1?"+query, "").status, query)
	}
	assert.Equal(t, 200, h.call(t, "GET", "/devices/gauge-1", "").status, "nothing happened")
}

func TestAChangeNamesWhatItChanges(t *testing.T) {
	h := populated(t)
	for _, c := range []struct{ path, method, body string }{
		{"/templates/press-line", "PUT", templateBody},
		{"/templates/press-line", "PATCH", templateBody},
		{"/provisioningTemplates/default", "PUT", `{"Parameters":{},"Resources":{"a":{}}}`},
		{"/patchTemplates/set-clock", "PATCH", `{"description":"new"}`},
		{"/webhooks/hook-1", "PATCH", `{"active":false}`},
	} {
		t.Run(c.method+" "+c.path, func(t *testing.T) {
			read := h.call(t, "GET", c.path, "").header.Get("ETag")
			require.Regexp(t, `^"[^"]+"$`, read)
			assert.Equal(t, 412, h.call(t, c.method, c.path, c.body, "If-Match", `"99"`).status)
			assert.Equal(t, 412, h.call(t, c.method, c.path, c.body, "If-Match", `"absent"`).status)
			assert.Equal(t, 400, h.call(t, c.method, c.path, c.body, "If-Match", `2`).status, "no ETag")
			written := h.call(t, c.method, c.path, c.body, "If-Match", read)
			require.Less(t, written.status, 300, written.body)
			assert.Equal(t, h.call(t, "GET", c.path, "").header.Get("ETag"), written.header.Get("ETag"))
			assert.Equal(t, 412, h.call(t, c.method, c.path, c.body, "If-Match", read).status, "someone else was faster")
			assert.Less(t, h.call(t, c.method, c.path, c.body, "If-Match", "*").status, 300)
			assert.Equal(t, 412, h.call(t, "DELETE", c.path, "", "If-Match", read).status)
		})
	}
	doc := `{"Parameters":{},"Resources":{}}`
	assert.Equal(t, 412, h.call(t, "PUT", "/provisioningTemplates/default", doc, "If-None-Match", "*").status)
	assert.Equal(t, 204, h.call(t, "PUT", "/provisioningTemplates/new", doc, "If-None-Match", "*").status)
	assert.Equal(t, 400, h.call(t, "PUT", "/provisioningTemplates/new", doc, "If-None-Match", "*", "If-Match", `"a"`).status)
	for _, path := range []string{"/provisioningTemplates/new", "/templates/press-line", "/patchTemplates/set-clock", "/webhooks/hook-1"} {
		assert.Equal(t, 204, h.call(t, "DELETE", path, "", "If-Match", h.call(t, "GET", path, "").header.Get("ETag")).status, path)
		assert.Equal(t, 404, h.call(t, "DELETE", path, "").status, path)
	}
}

func TestAThingIsShownWithWhatIsAttached(t *testing.T) {
	h := start(t)
	a := h.call(t, "POST", "/things", `{"provisioningTemplateId":"default","parameters":{"ThingName":"gauge 1"},"cdfProvisioningParameters":{"certInfo":{"country":"DE"}}}`)
	require.Equal(t, 201, a.status, a.body)
	assert.Equal(t, "/things/gauge%201", a.header.Get("Location"))
	assert.Equal(t, "key of gauge 1", a.json(t)["privateKey"])
	assert.JSONEq(t, `{"certInfo":{"country":"DE"}}`, string(h.LastThing.CDF))
	thing := h.call(t, "GET", a.header.Get("Location"), "").json(t)
	assert.IsType(t, map[string]any{}, thing["policies"].([]any)[0].(map[string]any)["policyDocument"], "an object, not text")
	assert.Equal(t, map[string]any{}, thing["attributes"])
	for sent, shown := range map[string]string{"ACTIVE": "ACTIVE", "INACTIVE": "INACTIVE", "IN_ACTIVE": "INACTIVE", "REVOKED": "INACTIVE"} {
		assert.Equal(t, 204, h.call(t, "PATCH", "/things/gauge%201/certificates", `{"certificateStatus":"`+sent+`"}`).status)
		thing := h.call(t, "GET", "/things/gauge%201", "").json(t)
		assert.Equal(t, shown, thing["certificates"].([]any)[0].(map[string]any)["certificateStatus"], sent)
	}
	assert.Equal(t, 400, h.call(t, "PATCH", "/things/gauge%201/certificates", `{"certificateStatus":"PENDING_TRANSFER"}`).status)
	assert.Contains(t, h.call(t, "POST", "/things", `{"provisioningTemplateId":"none"}`).json(t)["message"], "INVALID_PROVISIONING_TEMPLATE: none")
	assert.Equal(t, 204, h.call(t, "DELETE", "/things/gauge%201", "").status)
	assert.Equal(t, 404, h.call(t, "GET", "/things/gauge%201", "").status)

	bulk := h.call(t, "POST", "/bulkthings", `{"provisioningTemplateId":"default","parameters":[{"ThingName":"a"},{"ThingName":"b"}]}`)
	require.Equal(t, 201, bulk.status, bulk.body)
	assert.JSONEq(t, `{"taskId":"bulk-0001","status":"Completed","creationDate":"2026-03-02T08:00:00.120Z","lastModifiedDate":"2026-03-02T08:00:00.120Z","successCount":2,"failureCount":0,"percentageProgress":100}`,
		h.call(t, "GET", "/bulkthings/"+bulk.json(t)["taskId"].(string), "").body)
	assert.Equal(t, 404, h.call(t, "GET", "/bulkthings/other", "").status)
}

func TestPatchesKeepTheOriginalsShapes(t *testing.T) {
	h := populated(t)
	created := h.call(t, "POST", "/patchTemplates", `{"name":"größe/1","patchType":"agentbased","playbookFileContent":"LS0tCg==","enabled":false,"versionNo":7}`)
	require.Equal(t, 201, created.status, created.body)
	assert.Equal(t, "/patchTemplates/gr%C3%B6%C3%9Fe%2F1", created.header.Get("Location"))
	assert.Equal(t, false, created.json(t)["enabled"])
	assert.Equal(t, created.body, h.call(t, "GET", created.header.Get("Location"), "").body)
	assert.Equal(t, 204, h.call(t, "PATCH", "/patchTemplates/set-clock", `{"extraVars":{"zone":null,"ntp":"a"}}`).status)
	assert.Equal(t, map[string]any{"ntp": "a"}, h.call(t, "GET", "/patchTemplates/set-clock", "").json(t)["extraVars"])

	task := h.call(t, "POST", "/patchTasks", `{"patches":[{"deviceId":"a","patchTemplateName":"set-clock"},{"deviceId":"a","patchTemplateName":"set-clock"},{"deviceId":"b","patchTemplateName":"set-clock"}]}`)
	require.Equal(t, 202, task.status, task.body)
	first := h.call(t, "GET", task.header.Get("Location")+"/patches?count=2", "").json(t)
	token := first["pagination"].(map[string]any)["lastEvaluated"].(map[string]any)["nextToken"].(string)
	rest := h.call(t, "GET", task.header.Get("Location")+"/patches?count=2&exclusiveStartToken="+url.QueryEscape(token), "").json(t)
	assert.Len(t, rest["patches"], 1)
	assert.Equal(t, map[string]any{"count": 2.0}, rest["pagination"])
	assert.Len(t, h.call(t, "GET", "/devices/a/patches?patchStatus=created", "").json(t)["patches"], 2, "W-108")
	assert.Empty(t, h.call(t, "GET", "/devices/a/patches?patchStatus=failed", "").json(t)["patches"])
	assert.Equal(t, 400, h.call(t, "GET", "/devices/a/patches?exclusiveStartToken=_", "").status)

	patch := first["patches"].([]any)[0].(map[string]any)
	assert.Contains(t, patch, "associationId")
	assert.Nil(t, patch["associationId"])
	path := "/patches/" + patch["patchId"].(string)
	assert.Equal(t, 404, h.call(t, "GET", "/patches/none", "").status, "W-107")
	assert.Equal(t, 204, h.call(t, "PATCH", path, `{"patchStatus":"retry","extraVars":{"a":"b"},"associationId":null}`).status)
	assert.Equal(t, patching.Retry{ExtraVars: map[string]string{"a": "b"}}, h.LastRetry)
	assert.Equal(t, 400, h.call(t, "PATCH", path, `{"patchStatus":"success"}`).status)
	assert.Equal(t, 400, h.call(t, "PATCH", path, `{}`).status)
	assert.Equal(t, 204, h.call(t, "DELETE", path, "").status)
	assert.Equal(t, 404, h.call(t, "DELETE", path, "").status)

	tooLarge := base64.StdEncoding.EncodeToString(make([]byte, patching.MaxPlaybook+3))
	for body, field := range map[string]string{
		`{"name":"x","patchType":"agentbased"}`: "playbookFileContents",
		`{"name":"x","patchType":"agentbased","playbookFileContents":"LS0t","playbookFileContent":"LQ=="}`: "playbookFileContent",
		`{"name":"x","patchType":"agentbased","playbookFileContents":"` + tooLarge + `"}`:                  "playbookFileContents",
		`{"name":"a\u0000b","patchType":"agentbased","playbookFileContents":"LS0t"}`:                       "name",
		`{"name":"x","patchType":"agentbased","playbookFileContents":"LS0t","extraVars":"a"}`:              "extraVars",
	} {
		a := h.call(t, "POST", "/patchTemplates", body)
		assert.Equal(t, 400, a.status, field)
		assert.Equal(t, field, a.json(t)["field"])
	}
}

func TestEventsArePagedAndSelected(t *testing.T) {
	h := populated(t)
	first := h.call(t, "GET", "/events?count=1", "").json(t)
	assert.Equal(t, map[string]any{"count": 1.0, "lastEvaluated": map[string]any{"sequence": 1.0}}, first["pagination"])
	assert.EqualValues(t, 2, h.call(t, "GET", "/events?count=1&after=1", "").json(t)["events"].([]any)[0].(map[string]any)["sequence"])
	assert.Len(t, h.call(t, "GET", "/events?type=Device+Created+Event", "").json(t)["events"], 1)
	assert.Len(t, h.call(t, "GET", "/events?core=press-07", "").json(t)["events"], 1)
	assert.Equal(t, 400, h.call(t, "GET", "/events?type=Core", "").status)
	assert.Len(t, h.call(t, "GET", "/cores/press-07/history", "").json(t)["events"], 1)
	h.Prune(2)
	assert.Equal(t, 200, h.call(t, "GET", "/events", "").status)
}

func TestAWebhookShowsItsSecretOnce(t *testing.T) {
	h := start(t)
	a := h.call(t, "POST", "/webhooks", `{"url":"https://a.example/x","types":["Core Created Event"],"secret":"0123456789abcdef","active":false}`)
	require.Equal(t, 201, a.status, a.body)
	assert.Equal(t, "0123456789abcdef", a.json(t)["secret"])
	assert.Equal(t, false, a.json(t)["active"])
	assert.NotContains(t, h.call(t, "GET", "/webhooks/hook-1", "").body, "secret")
	assert.NotContains(t, h.call(t, "GET", "/webhooks", "").body, "0123456789abcdef")
	assert.Equal(t, 200, h.call(t, "PATCH", "/webhooks/hook-1", `{"types":[]}`).status)
	assert.Equal(t, 202, h.call(t, "POST", "/webhooks/hook-1/replay", `{"fromSequence":3}`).status)
	assert.Equal(t, event.ReplayRequest{FromSequence: 3}, h.LastReplay)
	for path, bodies := range map[string][]string{
		"/webhooks":               {`{"url":"ftp://a"}`, `{"url":"https://a.example","types":["Core"]}`, `{"url":"https://a.example","secret":"short"}`, `{}`},
		"/webhooks/hook-1/replay": {`{}`, `{"fromSequence":0}`, `{"deadLetters":false}`, `{"fromSequence":1,"deadLetters":true}`},
	} {
		for _, body := range bodies {
			assert.Equal(t, 400, h.call(t, "POST", path, body).status, body)
		}
	}
}

func TestADeploymentTaskIsSteered(t *testing.T) {
	h := populated(t)
	a := h.call(t, "POST", "/deploymentTasks", `{"template":{"name":"press-line"},"targets":{"assetLibraryDeviceIds":["d","d"],"assetLibraryGroupPaths":["/a"],"assetLibraryQuery":{"types":["x"]}},"force":true,"preStage":false,"iotJobConfig":{"jobExecutionRolloutConfig":{"maximumPerMinute":5}}}`)
	require.Equal(t, 202, a.status, a.body)
	d := h.LastDeployment
	assert.Equal(t, []string{"d"}, d.Targets.DeviceIDs)
	assert.Equal(t, []string{"/a"}, d.Targets.GroupPaths)
	assert.JSONEq(t, `{"types":["x"]}`, string(d.Targets.Query))
	assert.True(t, d.Force)
	require.NotNil(t, d.PreStage)
	assert.False(t, *d.PreStage, "false is not the same as absent")
	shown := h.call(t, "GET", a.header.Get("Location"), "").json(t)
	assert.Equal(t, map[string]any{"jobExecutionRolloutConfig": map[string]any{"maximumPerMinute": 5.0}}, shown["iotJobConfig"], "W-32: as it was sent")
	assert.NotContains(t, shown, "rollout")

	h.SetDeployment(fleet.DeploymentTask{TaskState: fleet.TaskState{ID: "run", Status: fleet.TaskInProgress, CreatedAt: fleetapitest.Now()}, Targets: []byte(`{}`), Rollout: &fleet.RolloutState{}, RetryOf: "depl-0001"})
	shown = h.call(t, "GET", "/deploymentTasks/run", "").json(t)
	assert.Contains(t, shown, "rollout")
	assert.Equal(t, "depl-0001", shown["retryOf"])
	assert.Equal(t, 409, h.call(t, "DELETE", "/deploymentTasks/run", "").status)
	assert.Equal(t, 202, h.call(t, "POST", "/deploymentTasks/run/cancel", "").status)
	assert.Equal(t, 409, h.call(t, "POST", "/deploymentTasks/run/cancel", "").status)
	again := h.call(t, "POST", "/deploymentTasks/run/retry", "")
	require.Equal(t, 202, again.status, again.body)
	assert.Equal(t, "run", h.call(t, "GET", again.header.Get("Location"), "").json(t)["retryOf"])
	assert.Equal(t, 204, h.call(t, "DELETE", "/deploymentTasks/run", "").status)
	assert.Equal(t, 404, h.call(t, "GET", "/deploymentTasks/run", "").status)
}

func TestABasePathIsTakenOffTheFront(t *testing.T) {
	h := populated(t, func(c *fleetapi.Config) { c.BasePath = "fleet/" })
	for path, status := range map[string]int{
		"/fleet/templates":                           200,
		"/templates":                                 200,
		"/fleet/cores/press-07":                      200,
		"/fleetx/templates":                          404,
		"/fleet":                                     404,
		"/a/fleet/templates":                         404,
		"/fleet/fleet/templates":                     404,
		"/cores/fleet/deployments":                   200,
		"/fleet/fleet/summary":                       200,
		"/fleet/summary":                             404,
		"/fleet/patchTemplates/gr%C3%B6%C3%9Fe%2F1":  404,
		"/fleet/provisioningTemplates/default?x=%2F": 400,
	} {
		assert.Equal(t, status, h.call(t, "GET", path, "").status, "W-04: %s", path)
	}
}

func TestNamesInPathsAreDecodedOnce(t *testing.T) {
	h := start(t)
	for _, name := range []string{"a/b", "größe", "a b", "a%2Fb", "a+b", "?", "#", "..", ".", "a;b"} {
		a := h.call(t, "POST", "/patchTemplates", fmt.Sprintf(`{"name":%q,"patchType":"agentbased","playbookFileContents":"LS0t"}`, name))
		require.Equal(t, 201, a.status, a.body)
		if name == "." || name == ".." { // clients take these out of paths
			continue
		}
		assert.Equal(t, name, h.call(t, "GET", "/patchTemplates/"+url.PathEscape(name), "").json(t)["name"])
	}
}

func TestUnknownParametersAreRefused(t *testing.T) {
	h := populated(t)
	for target, text := range map[string]string{
		"/cores?pageSize=3":          "known here: count, exclusiveStartThingName, templateName, templateVersion, failedOnly",
		"/fleet/summary?x=1":         "no query parameters",
		"/cores?count=1&count=2":     "more than once",
		"/events?exclusiveStart=a":   "known here: count, after, core, type",
		"/templates?Count=1":         "is unknown",
		"/devices/gauge-1?verbose":   "is unknown",
		"/patchTemplates?count=zero": "want a whole number",
	} {
		a := h.call(t, "GET", target, "")
		assert.Equal(t, 400, a.status, target)
		assert.Contains(t, a.json(t)["message"], text, "W-06: %s", target)
	}
}

func TestEveryCountIsChecked(t *testing.T) {
	h := populated(t)
	for path, item := range h.spec.Paths.Map() {
		if item.Get == nil || item.Get.Parameters.GetByInAndName("query", "count") == nil {
			continue
		}
		target := exampleURL(t, path, item, item.Get)
		target = strings.ReplaceAll(target, "count=25", "count=0")
		require.Contains(t, target, "count=0")
		a := h.call(t, http.MethodGet, target, "")
		assert.Equal(t, 400, a.status, "W-06: %s", target)
		assert.Equal(t, "count", a.json(t)["field"])
	}
}

func TestABodyOfTenMegabytesIsRead(t *testing.T) {
	h := start(t)
	var b strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&b, `,{"ThingName":"gauge-%05d","note":%q}`, i, strings.Repeat("ü", 510))
	}
	body := `{"provisioningTemplateId":"default","parameters":[` + b.String()[1:] + `]}`
	require.Greater(t, len(body), 10<<20)
	a := h.call(t, "POST", "/bulkthings", body)
	require.Equal(t, 201, a.status, "W-02: "+a.body)
	assert.EqualValues(t, 10_000, h.call(t, "GET", a.header.Get("Location"), "").json(t)["successCount"])
}
